//! Sources and sinks switched off and on again.
//!
//! A source that is switched off takes its sinks with it: those that were on are marked as switched
//! off with their parent, and only those come back with it. Their files are closed and opened in
//! the same transaction, so a sink has an open file if and only if it and its source take records;
//! of a source with many sinks in several (`portions`).

use forebay_model::{Disabled, Sink, SinkKey, Source, SourceKey, Stamp, VolumeId};

use super::audit::Action;
use super::definitions::{Counted, DefinitionError};
use super::portions::{Portion, SinkPages};
use super::sinks::put_sink;
use super::sources::put_source;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};
use crate::stored::book::Book;

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
        stamp: &Stamp,
    ) -> Result<Revised<Source>, DefinitionError> {
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
        stamp: &Stamp,
    ) -> Result<Revised<Source>, DefinitionError> {
        self.switch_source(key, None, volumes, stamp).await
    }

    async fn switch_source(
        &self,
        key: &SourceKey,
        to: Option<Disabled>,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Revised<Source>, DefinitionError> {
        let mut portion = Portion::new(self.room);
        loop {
            let read = self.source(key).await?;
            let change = Switch {
                to: to.as_ref(),
                volumes,
                stamp,
            };
            let done = if read.disabled.is_some() == to.is_some() {
                self.switch_strays(read, &change, &mut portion).await?
            } else {
                self.try_switch(read, &change, &mut portion).await?
            };
            match done {
                Some(done) => return Ok(done),
                None => portion.again().await?,
            }
        }
    }

    /// `None` when something that it relies upon has changed; then it may have got a part of the way.
    async fn try_switch(
        &self,
        read: Revised<Source>,
        change: &Switch<'_>,
        portion: &mut Portion,
    ) -> Result<Option<Revised<Source>>, DefinitionError> {
        let mut source = read.value.clone();
        source.disabled = change.to.cloned();
        let mut sinks = SinkPages::new(keys::below(keys::SINKS, &source.key));
        // As the store has it.
        let mut kept = read;
        let (mut is_written, mut is_first) = (false, true);
        loop {
            let mut draft = Draft::default();
            let is_last = self
                .draft_switches(&mut draft, &mut sinks, portion, (&source, change))
                .await?;
            let writes = !is_written && (change.to.is_none() || is_last);
            if writes {
                self.draft_source(&mut draft, &kept, &mut source, change.stamp)?;
            } else {
                draft.unchanged(Key::Source(&source.key), &kept);
            }
            let Some(revision) = self.commit(draft).await? else {
                return Ok(None);
            };
            portion.succeeded();
            if writes {
                is_written = true;
                let value = source.clone();
                kept = Revised { value, revision };
            }
            if !is_last {
                is_first = false;
                continue;
            }
            if is_first || change.to.is_none() {
                kept.revision = revision;
                return Ok(Some(kept));
            }
            // A sink may have been switched on by itself before its source was off.
            return self.switch_strays(kept, change, portion).await;
        }
    }

    /// Sinks of the source, switched with it, until there are no more (`true`) or the transaction is
    /// full.
    async fn draft_switches(
        &self,
        draft: &mut Draft,
        sinks: &mut SinkPages,
        portion: &mut Portion,
        (source, change): (&Source, &Switch<'_>),
    ) -> Result<bool, DefinitionError> {
        loop {
            let Some(read) = sinks.next(self).await? else {
                return Ok(true);
            };
            let with_parent = read.disabled.as_ref().map(|d| d.with_parent);
            // Also of one that is left as it is: it may be switched on meanwhile.
            draft.unchanged(Key::Sink(&read.key), &read);
            let is_done = change.to.is_some() && with_parent == Some(true);
            if with_parent != Some(false) && !is_done {
                // One that was made while its source was off is on and has no file yet.
                self.draft_switch(draft, read.value, source, change).await?;
            }
            if portion.is_full(draft) {
                return Ok(false);
            }
        }
    }

    async fn draft_switch(
        &self,
        draft: &mut Draft,
        mut sink: Sink,
        source: &Source,
        change: &Switch<'_>,
    ) -> Result<(), DefinitionError> {
        let Switch { to, volumes, stamp } = *change;
        sink.disabled = to.map(|_| disabled(stamp, WITH_PARENT, true));
        if to.is_none() {
            self.draft_hold_or_disable(draft, &mut sink, stamp).await?;
        }
        draft.put(Key::Sink(&sink.key), &sink)?;
        self.draft_turn(draft, source, &sink, volumes, stamp)
            .await?;
        Ok(())
    }

    /// Switches what was left behind when a source with many sinks was switched: it is as it should
    /// be, a sink of it is not. There is none unless a process ended in the middle of it.
    async fn switch_strays(
        &self,
        source: Revised<Source>,
        change: &Switch<'_>,
        portion: &mut Portion,
    ) -> Result<Option<Revised<Source>>, DefinitionError> {
        let mut sinks = SinkPages::new(keys::below(keys::SINKS, &source.key));
        let mut revision = source.revision;
        let mut is_last = false;
        while !is_last {
            let mut draft = Draft::default();
            while !portion.is_full(&draft) {
                match sinks.next(self).await? {
                    None => {
                        is_last = true;
                        break;
                    }
                    Some(read) if self.is_stray(&read, change.to.is_some()).await? => {
                        draft.unchanged(Key::Sink(&read.key), &read);
                        self.draft_switch(&mut draft, read.value, &source, change)
                            .await?;
                    }
                    Some(_) => {}
                }
            }
            if draft.txn.ops.is_empty() {
                continue;
            }
            draft.unchanged(Key::Source(&source.key), &source);
            match self.commit(draft).await? {
                Some(committed) => {
                    portion.succeeded();
                    revision = committed;
                }
                None => return Ok(None),
            }
        }
        let value = source.value;
        Ok(Some(Revised { value, revision }))
    }

    async fn is_stray(&self, sink: &Sink, source_is_off: bool) -> Result<bool, DefinitionError> {
        match &sink.disabled {
            Some(disabled) => return Ok(!source_is_off && disabled.with_parent),
            None if sink.target.table().is_none() => return Ok(false),
            None => {}
        }
        let book: Option<Revised<Book>> = self.read(Key::Book(&sink.key)).await?;
        let has_file = book.is_some_and(|b| b.writing.is_some());
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
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
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
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        self.switch_sink(key, None, volumes, stamp).await
    }

    async fn switch_sink(
        &self,
        key: &SinkKey,
        to: Option<Disabled>,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        let mut attempts = Attempts::default();
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
            let what = Counted::SinkVersions;
            sink.version = self.next_version(what, number, hash, description(action), stamp)?;
            let mut draft = Draft::default();
            draft.unchanged(Key::Source(&key.source), &source);
            draft.unchanged(Key::Sink(key), &read);
            put_sink(&mut draft, &sink)?;
            let versions = (Some(&read.version), Some(&sink.version));
            draft.audit_sink(key, action, versions, stamp)?;
            if to.is_none() {
                self.draft_hold(&mut draft, &sink, stamp).await?;
            }
            self.draft_turn(&mut draft, &source, &sink, volumes, stamp)
                .await?;
            if let Some(revision) = self.commit(draft).await? {
                let value = sink;
                return Ok(Revised { value, revision });
            }
            attempts.again().await?;
        }
    }

    /// The switched source as its next version. It is written under the condition that it was not:
    /// sinks that are made meanwhile write it too.
    fn draft_source(
        &self,
        draft: &mut Draft,
        read: &Revised<Source>,
        source: &mut Source,
        stamp: &Stamp,
    ) -> Result<(), DefinitionError> {
        let action = action(source.disabled.as_ref());
        let (number, hash) = (source.version.number, source.version.hash.clone());
        let what = Counted::SourceVersions;
        source.version = self.next_version(what, number, hash, description(action), stamp)?;
        let versions = (Some(&read.version), Some(&source.version));
        draft.audit_source(&source.key, action, versions, stamp)?;
        draft.unchanged(Key::Source(&source.key), read);
        put_source(draft, source)
    }
}

/// How a source is switched.
struct Switch<'c> {
    /// Off, and why; on without it.
    to: Option<&'c Disabled>,
    /// For files that are opened.
    volumes: &'c [VolumeId],
    stamp: &'c Stamp,
}

fn action(to: Option<&Disabled>) -> Action {
    match to {
        Some(_) => Action::Disable,
        None => Action::Enable,
    }
}

fn description(action: Action) -> &'static str {
    if action == Action::Disable {
        "Disabled."
    } else {
        "Enabled."
    }
}

fn disabled(stamp: &Stamp, reason: &str, with_parent: bool) -> Disabled {
    Disabled {
        stamp: stamp.clone(),
        reason: reason.to_owned(),
        with_parent,
    }
}
