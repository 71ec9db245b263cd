//! The delivery of topics stopped and begun again. Records are taken all the same.

use forebay_model::{Paused, Sink, SinkKey, Stamp};

use super::audit::Action;
use super::definitions::{Counted, DefinitionError};
use super::sinks::put_sink;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::Key;

impl Repo {
    /// Stops the delivery of a topic. One that is stopped stays as it is.
    ///
    /// # Errors
    /// [`DefinitionError::SinkNotFound`], [`DefinitionError::NotATopic`], a limit, or the store.
    pub async fn pause_sink(
        &self,
        key: &SinkKey,
        reason: &str,
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        let paused = Paused {
            stamp: stamp.clone(),
            reason: reason.to_owned(),
        };
        self.set_paused(key, Some(paused), stamp).await
    }

    /// Begins the delivery of a topic again. One that is not stopped stays as it is.
    ///
    /// # Errors
    /// As [`Self::pause_sink`].
    pub async fn resume_sink(
        &self,
        key: &SinkKey,
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        self.set_paused(key, None, stamp).await
    }

    async fn set_paused(
        &self,
        key: &SinkKey,
        to: Option<Paused>,
        stamp: &Stamp,
    ) -> Result<Revised<Sink>, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.sink(key).await?;
            if read.target.topic().is_none() {
                return Err(DefinitionError::NotATopic(key.clone()));
            }
            if read.paused.is_some() == to.is_some() {
                return Ok(read);
            }
            let mut sink = read.value.clone();
            sink.paused.clone_from(&to);
            let (action, description) = match to {
                Some(_) => (Action::Pause, "Paused."),
                None => (Action::Resume, "Resumed."),
            };
            let (number, hash) = (sink.version.number, sink.version.hash);
            let what = Counted::SinkVersions;
            sink.version = self.next_version(what, number, hash, description, stamp)?;
            let mut draft = Draft::default();
            draft.unchanged(Key::Sink(key), &read);
            put_sink(&mut draft, &sink)?;
            let versions = (Some(&read.version), Some(&sink.version));
            draft.audit_sink(key, action, versions, stamp)?;
            if let Some(revision) = self.commit(draft).await? {
                let value = sink;
                return Ok(Revised { value, revision });
            }
            attempts.again().await?;
        }
    }
}
