//! Sources and sinks switched off and on again.
//!
//! A source that is switched off takes its sinks with it: those that were on are marked as switched
//! off with their parent, and only those come back with it. Their files are closed and opened in
//! the same transaction, so a sink has an open file if and only if it and its source take records.

use forebay_model::{Disabled, Sink, SinkKey, Source, SourceKey, Stamp, VolumeId};

use super::audit::Action;
use super::definitions::{DefinitionError, next_version};
use super::sinks::put_sink;
use super::sources::put_source;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};

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
        let mut attempts = Attempts::default();
        loop {
            let read = self.source(key).await?;
            if read.disabled.is_some() == to.is_some() {
                return Ok(read);
            }
            let mut source = read.value.clone();
            source.disabled.clone_from(&to);
            let mut draft = Draft::default();
            draft_source(&mut draft, &read, &mut source, stamp)?;
            for read in self.sinks_of(key).await? {
                // Also of one that is left as it is: it may be switched on meanwhile.
                draft.unchanged(Key::Sink(&read.key), &read);
                if read.disabled.as_ref().is_some_and(|d| !d.with_parent) {
                    continue;
                }
                // One that was made while its source was off is on and has no file yet.
                let mut sink = read.value;
                sink.disabled = to.as_ref().map(|_| disabled(stamp, WITH_PARENT, true));
                if to.is_none() {
                    self.draft_hold_or_disable(&mut draft, &mut sink, stamp)
                        .await?;
                }
                draft.put(Key::Sink(&sink.key), &sink)?;
                self.draft_turn(&mut draft, &source, &sink, volumes, stamp)
                    .await?;
            }
            if let Some(revision) = self.commit(draft).await? {
                let value = source;
                return Ok(Revised { value, revision });
            }
            attempts.again().await?;
        }
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
            sink.version = next_version(number, hash, description(action), stamp)?;
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

    async fn sinks_of(&self, key: &SourceKey) -> Result<Vec<Revised<Sink>>, DefinitionError> {
        Ok(self.read_all(&keys::below(keys::SINKS, key)).await?)
    }
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

/// The switched source as its next version. It is written under the condition that it was not:
/// sinks that are made meanwhile write it too.
fn draft_source(
    draft: &mut Draft,
    read: &Revised<Source>,
    source: &mut Source,
    stamp: &Stamp,
) -> Result<(), DefinitionError> {
    let action = action(source.disabled.as_ref());
    let hash = source.version.hash.clone();
    source.version = next_version(source.version.number, hash, description(action), stamp)?;
    let versions = (Some(&read.version), Some(&source.version));
    draft.audit_source(&source.key, action, versions, stamp)?;
    draft.unchanged(Key::Source(&source.key), read);
    put_source(draft, source)
}
