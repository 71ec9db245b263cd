//! Disabling and enabling of sources and sinks.
//!
//! A disabled source disables its active sinks; they are marked as disabled with their parent, and
//! only those are enabled with it again. Their files are closed and opened in the same transaction,
//! so a sink has an open file if and only if it and its source are active; for a source with many
//! sinks there are several transactions (`bulk_changes`).

use std::ops::ControlFlow;

use forebay_model::{AuditStamp, DisableInfo, Sink, SinkKey, Source, SourceKey, VolumeId};

use super::audit::AuditAction;
use super::bulk_changes::{BatchSizer, SinkPages};
use super::definitions::{DefinitionError, LimitedResource};
use super::sinks::put_sink;
use super::sources::put_source;
use super::transaction::{TxnBuilder, either};
use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::SinkState;

/// Reason of a sink that was disabled with its source.
const WITH_PARENT: &str = "Auto-disabled with the parent source.";

impl Repo {
    /// Disables a source with its active sinks, and closes their files. No effect if it is
    /// disabled. Accepted records are still delivered.
    pub async fn disable_source(
        &self,
        key: &SourceKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let to = Some(disabled(stamp, reason, false));
        self.switch_source(key, to, &[], stamp).await
    }

    /// Enables a source, with the sinks that were disabled with it, and opens their files. No
    /// effect if it is enabled.
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

    /// Returns `None` if a precondition failed; part of the sinks may be switched then.
    async fn try_switch(
        &self,
        read: Versioned<Source>,
        change: &ActivationChange<'_>,
        sizer: &mut BatchSizer,
    ) -> Result<Option<Versioned<Source>>, DefinitionError> {
        let mut source = read.value.clone();
        source.disabled = change.to.cloned();
        let mut sinks = SinkPages::new(keys::below(keys::SINKS, &source.key));
        // As stored.
        let mut current = read;
        let (mut is_written, mut is_first) = (false, true);
        loop {
            let mut txn = self.begin();
            let is_last = self
                .fill_with_switched_sinks(&mut txn, &mut sinks, sizer, (&source, change))
                .await?;
            let writes = !is_written && (change.to.is_none() || is_last);
            if writes {
                self.add_switched_source(&mut txn, &current, &mut source, change.stamp)?;
            } else {
                txn.expect_unchanged(StoreKey::Source(&source.key), &current);
            }
            let Some(revision) = self.commit(txn).await? else {
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
            // A sink may have been enabled on its own before its source was disabled.
            return self.switch_strays(current, change, sizer).await;
        }
    }

    /// Adds sinks of the source until there are no more (`true`) or the transaction is full.
    async fn fill_with_switched_sinks(
        &self,
        txn: &mut TxnBuilder<'_>,
        sinks: &mut SinkPages,
        sizer: &mut BatchSizer,
        (source, change): (&Source, &ActivationChange<'_>),
    ) -> Result<bool, DefinitionError> {
        loop {
            let Some(read) = sinks.next(self).await? else {
                return Ok(true);
            };
            let with_parent = read.disabled.as_ref().map(|d| d.with_parent);
            // A precondition also for a sink that is left as it is: it may be enabled meanwhile.
            txn.expect_unchanged(StoreKey::Sink(&read.key), &read);
            let is_done = change.to.is_some() && with_parent == Some(true);
            if with_parent != Some(false) && !is_done {
                // A sink created while its source was disabled is enabled and has no file yet.
                self.add_switched_sink(txn, read.value, source, change)
                    .await?;
            }
            if sizer.is_full(txn) {
                return Ok(false);
            }
        }
    }

    async fn add_switched_sink(
        &self,
        txn: &mut TxnBuilder<'_>,
        mut sink: Sink,
        source: &Source,
        change: &ActivationChange<'_>,
    ) -> Result<(), DefinitionError> {
        let ActivationChange { to, volumes, stamp } = *change;
        sink.disabled = to.map(|_| disabled(stamp, WITH_PARENT, true));
        if to.is_none() {
            self.add_table_holder_or_disable(txn, &mut sink, stamp)
                .await?;
        }
        txn.put(StoreKey::Sink(&sink.key), &sink)?;
        self.add_sink_rotation(txn, source, &sink, volumes, stamp)
            .await?;
        Ok(())
    }

    /// Switches the remaining sinks of a source whose own state is as requested. There are none
    /// unless a process ended in the middle of a change of many sinks.
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
            let mut txn = self.begin();
            while !sizer.is_full(&txn) {
                match sinks.next(self).await? {
                    None => {
                        is_last = true;
                        break;
                    }
                    Some(read) if self.is_stray(&read, change.to.is_some()).await? => {
                        txn.expect_unchanged(StoreKey::Sink(&read.key), &read);
                        self.add_switched_sink(&mut txn, read.value, &source, change)
                            .await?;
                    }
                    Some(_) => {}
                }
            }
            if txn.is_empty() {
                continue;
            }
            txn.expect_unchanged(StoreKey::Source(&source.key), &source);
            match self.commit(txn).await? {
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

    /// Disables a sink and closes its file. No effect if it is disabled, on its own or with its
    /// source.
    pub async fn disable_sink(
        &self,
        key: &SinkKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let to = Some(disabled(stamp, reason, false));
        self.switch_sink(key, to, &[], stamp).await
    }

    /// Enables a sink and opens its file, if its source is active. No effect if the sink is
    /// enabled, or disabled with its source: then it is enabled with the source.
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
        let to = to.as_ref();
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let source = txn.source(&key.source).await?;
                let read = txn.sink(key).await?;
                let with_parent = read.disabled.as_ref().is_some_and(|d| d.with_parent);
                if with_parent || read.disabled.is_some() == to.is_some() {
                    return Ok(ControlFlow::Break(read));
                }
                let mut sink = read.value.clone();
                sink.disabled = to.cloned();
                let action = action(to);
                let (number, hash) = (sink.version.number, sink.version.hash);
                let what = LimitedResource::SinkVersions;
                sink.version = self.next_version(what, number, hash, description(action), stamp)?;
                put_sink(txn, &sink)?;
                let versions = (Some(&read.version), Some(&sink.version));
                txn.put_sink_audit(key, action, versions, stamp)?;
                if to.is_none() {
                    self.add_table_holder(txn, &sink, stamp).await?;
                }
                self.add_sink_rotation(txn, &source, &sink, volumes, stamp)
                    .await?;
                Ok(ControlFlow::Continue(sink))
            })
        });
        done.await.map(either)
    }

    /// Adds the next version of the switched source, with the precondition that it is unchanged,
    /// since concurrent sink creations write it too.
    fn add_switched_source(
        &self,
        txn: &mut TxnBuilder<'_>,
        read: &Versioned<Source>,
        source: &mut Source,
        stamp: &AuditStamp,
    ) -> Result<(), DefinitionError> {
        let action = action(source.disabled.as_ref());
        let (number, hash) = (source.version.number, source.version.hash.clone());
        let what = LimitedResource::SourceVersions;
        source.version = self.next_version(what, number, hash, description(action), stamp)?;
        let versions = (Some(&read.version), Some(&source.version));
        txn.put_source_audit(&source.key, action, versions, stamp)?;
        txn.expect_unchanged(StoreKey::Source(&source.key), read);
        put_source(txn, source)
    }
}

/// A change of a source's activation.
struct ActivationChange<'c> {
    /// `Some` disables, `None` enables.
    to: Option<&'c DisableInfo>,
    /// Volumes of files that are opened.
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
