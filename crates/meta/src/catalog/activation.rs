//! Sources and sinks switched off and on again.
//!
//! A source that is switched off takes its sinks with it: those that were on are marked as switched
//! off with their parent, and only those come back with it. Their files are closed and opened in
//! the same transaction, so a sink has an open file if and only if it and its source take records;
//! of a source with many sinks in several (`portions`).

use forebay_model::{AuditStamp, DisableInfo, Sink, SinkKey, Source, SourceKey, VolumeId};

use super::audit::AuditAction;
use super::bulk_changes::{BatchSizer, SinkPages};
use super::definitions::{DefinitionError, LimitedResource};
use super::sinks::put_sink;
use super::sources::put_source;
use super::{Repo, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::SinkState;

/// Why a sink is off that was switched off with its source.
const WITH_PARENT: &str = "Auto-disabled with the parent source.";

impl Repo {
    /// Switches a source off, with those of its sinks that are on, and closes their files. One that
    /// is off stays as it is. What was accepted goes on its way to the tables.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], a limit, or the store.
    pub async fn disable_source(
        &self,
        key: &SourceKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let to = Some(disabled(stamp, reason, false));
        self.switch_source(key, to, &[], stamp).await
    }

    /// Switches a source on, with the sinks that were switched off with it, and opens their files.
    /// One that is on stays as it is.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], a limit, no volumes, or the store.
    pub async fn enable_source(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        self.switch_source(key, None, volumes, stamp).await
    }

    async fn switch_source(
        &self,
        key: &SourceKey,
        to: Option<DisableInfo>,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let mut sizer = BatchSizer::new(self.txn_limits);
        loop {
            let read = self.source(key).await?;
            let change = ActivationChange {
                to: to.as_ref(),
                volumes,
                stamp,
            };
            let done = if read.disabled.is_some() == to.is_some() {
                self.switch_strays(read, &change, &mut sizer).await?
            } else {
                self.try_switch(read, &change, &mut sizer).await?
            };
            match done {
                Some(done) => return Ok(done),
                None => sizer.retry().await?,
            }
        }
    }

    /// `None` when something that it relies upon has changed; then it may have got a part of the way.
    async fn try_switch(
        &self,
        read: Versioned<Source>,
        change: &ActivationChange<'_>,
        sizer: &mut BatchSizer,
    ) -> Result<Option<Versioned<Source>>, DefinitionError> {
        let mut source = read.value.clone();
        source.disabled = change.to.cloned();
        let mut sinks = SinkPages::new(keys::below(keys::SINKS, &source.key));
        // As the store has it.
        let mut current = read;
        let (mut is_written, mut is_first) = (false, true);
        loop {
            let mut builder = TxnBuilder::default();
            let is_last = self
                .fill_with_switched_sinks(&mut builder, &mut sinks, sizer, (&source, change))
                .await?;
            let writes = !is_written && (change.to.is_none() || is_last);
            if writes {
                self.add_switched_source(&mut builder, &current, &mut source, change.stamp)?;
            } else {
                builder.expect_unchanged(StoreKey::Source(&source.key), &current);
            }
            let Some(revision) = self.commit(builder).await? else {
                return Ok(None);
            };
            sizer.succeeded();
            if writes {
                is_written = true;
                let value = source.clone();
                current = Versioned { value, revision };
            }
            if !is_last {
                is_first = false;
                continue;
            }
            if is_first || change.to.is_none() {
                current.revision = revision;
                return Ok(Some(current));
            }
            // A sink may have been switched on by itself before its source was off.
            return self.switch_strays(current, change, sizer).await;
        }
    }

    /// Sinks of the source, switched with it, until there are no more (`true`) or the transaction is
    /// full.
    async fn fill_with_switched_sinks(
        &self,
        builder: &mut TxnBuilder,
        sinks: &mut SinkPages,
        sizer: &mut BatchSizer,
        (source, change): (&Source, &ActivationChange<'_>),
    ) -> Result<bool, DefinitionError> {
        loop {
            let Some(read) = sinks.next(self).await? else {
                return Ok(true);
            };
            let with_parent = read.disabled.as_ref().map(|d| d.with_parent);
            // Also of one that is left as it is: it may be switched on meanwhile.
            builder.expect_unchanged(StoreKey::Sink(&read.key), &read);
            let is_done = change.to.is_some() && with_parent == Some(true);
            if with_parent != Some(false) && !is_done {
                // One that was made while its source was off is on and has no file yet.
                self.add_switched_sink(builder, read.value, source, change)
                    .await?;
            }
            if sizer.is_full(builder) {
                return Ok(false);
            }
        }
    }

    async fn add_switched_sink(
        &self,
        builder: &mut TxnBuilder,
        mut sink: Sink,
        source: &Source,
        change: &ActivationChange<'_>,
    ) -> Result<(), DefinitionError> {
        let ActivationChange { to, volumes, stamp } = *change;
        sink.disabled = to.map(|_| disabled(stamp, WITH_PARENT, true));
        if to.is_none() {
            self.add_table_holder_or_disable(builder, &mut sink, stamp)
                .await?;
        }
        builder.put(StoreKey::Sink(&sink.key), &sink)?;
        self.add_sink_rotation(builder, source, &sink, volumes, stamp)
            .await?;
        Ok(())
    }

    /// Switches what was left behind when a source with many sinks was switched: it is as it should
    /// be, a sink of it is not. There is none unless a process ended in the middle of it.
    async fn switch_strays(
        &self,
        source: Versioned<Source>,
        change: &ActivationChange<'_>,
        sizer: &mut BatchSizer,
    ) -> Result<Option<Versioned<Source>>, DefinitionError> {
        let mut sinks = SinkPages::new(keys::below(keys::SINKS, &source.key));
        let mut revision = source.revision;
        let mut is_last = false;
        while !is_last {
            let mut builder = TxnBuilder::default();
            while !sizer.is_full(&builder) {
                match sinks.next(self).await? {
                    None => {
                        is_last = true;
                        break;
                    }
                    Some(read) if self.is_stray(&read, change.to.is_some()).await? => {
                        builder.expect_unchanged(StoreKey::Sink(&read.key), &read);
                        self.add_switched_sink(&mut builder, read.value, &source, change)
                            .await?;
                    }
                    Some(_) => {}
                }
            }
            if builder.txn.ops.is_empty() {
                continue;
            }
            builder.expect_unchanged(StoreKey::Source(&source.key), &source);
            match self.commit(builder).await? {
                Some(committed) => {
                    sizer.succeeded();
                    revision = committed;
                }
                None => return Ok(None),
            }
        }
        let value = source.value;
        Ok(Some(Versioned { value, revision }))
    }

    async fn is_stray(&self, sink: &Sink, source_is_off: bool) -> Result<bool, DefinitionError> {
        match &sink.disabled {
            Some(disabled) => return Ok(!source_is_off && disabled.with_parent),
            None if sink.target.table().is_none() => return Ok(false),
            None => {}
        }
        let sink_state: Option<Versioned<SinkState>> =
            self.read(StoreKey::SinkState(&sink.key)).await?;
        let has_file = sink_state.is_some_and(|b| b.writing.is_some());
        Ok(has_file == source_is_off)
    }

    /// Switches a sink off and closes its file. One that is off stays as it is, also when it is off
    /// with its source.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], a limit, or the store.
    pub async fn disable_sink(
        &self,
        key: &SinkKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let to = Some(disabled(stamp, reason, false));
        self.switch_sink(key, to, &[], stamp).await
    }

    /// Switches a sink on and opens its file, if its source takes records. One that is on stays as
    /// it is, and so does one that is off with its source: it comes back with it.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], a limit, no volumes, or the store.
    pub async fn enable_sink(
        &self,
        key: &SinkKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        self.switch_sink(key, None, volumes, stamp).await
    }

    async fn switch_sink(
        &self,
        key: &SinkKey,
        to: Option<DisableInfo>,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let source = self.source(&key.source).await?;
            let read = self.sink(key).await?;
            let with_parent = read.disabled.as_ref().is_some_and(|d| d.with_parent);
            if with_parent || read.disabled.is_some() == to.is_some() {
                return Ok(read);
            }
            let mut sink = read.value.clone();
            sink.disabled.clone_from(&to);
            let action = action(to.as_ref());
            let (number, hash) = (sink.version.number, sink.version.hash);
            let what = LimitedResource::SinkVersions;
            sink.version = self.next_version(what, number, hash, description(action), stamp)?;
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::Source(&key.source), &source);
            builder.expect_unchanged(StoreKey::Sink(key), &read);
            put_sink(&mut builder, &sink)?;
            let versions = (Some(&read.version), Some(&sink.version));
            builder.put_sink_audit(key, action, versions, stamp)?;
            if to.is_none() {
                self.add_table_holder(&mut builder, &sink, stamp).await?;
            }
            self.add_sink_rotation(&mut builder, &source, &sink, volumes, stamp)
                .await?;
            if let Some(revision) = self.commit(builder).await? {
                let value = sink;
                return Ok(Versioned { value, revision });
            }
            attempts.retry().await?;
        }
    }

    /// The switched source as its next version. It is written under the condition that it was not:
    /// sinks that are made meanwhile write it too.
    fn add_switched_source(
        &self,
        builder: &mut TxnBuilder,
        read: &Versioned<Source>,
        source: &mut Source,
        stamp: &AuditStamp,
    ) -> Result<(), DefinitionError> {
        let action = action(source.disabled.as_ref());
        let (number, hash) = (source.version.number, source.version.hash.clone());
        let what = LimitedResource::SourceVersions;
        source.version = self.next_version(what, number, hash, description(action), stamp)?;
        let versions = (Some(&read.version), Some(&source.version));
        builder.put_source_audit(&source.key, action, versions, stamp)?;
        builder.expect_unchanged(StoreKey::Source(&source.key), read);
        put_source(builder, source)
    }
}

/// How a source is switched.
struct ActivationChange<'c> {
    /// Off, and why; on without it.
    to: Option<&'c DisableInfo>,
    /// For files that are opened.
    volumes: &'c [VolumeId],
    stamp: &'c AuditStamp,
}

fn action(to: Option<&DisableInfo>) -> AuditAction {
    match to {
        Some(_) => AuditAction::Disable,
        None => AuditAction::Enable,
    }
}

fn description(action: AuditAction) -> &'static str {
    if action == AuditAction::Disable {
        "Disabled."
    } else {
        "Enabled."
    }
}

fn disabled(stamp: &AuditStamp, reason: &str, with_parent: bool) -> DisableInfo {
    DisableInfo {
        stamp: stamp.clone(),
        reason: reason.to_owned(),
        with_parent,
    }
}
