//! Pause and resume of topic delivery. Records are accepted meanwhile.

use std::ops::ControlFlow;

use forebay_model::{AuditStamp, PauseInfo, Sink, SinkKey};

use super::audit::AuditAction;
use super::definitions::{DefinitionError, LimitedResource};
use super::sinks::{effective, put_sink};
use super::transaction::either;
use super::{Repo, Versioned};

impl Repo {
    /// Pauses the delivery of a topic. No effect if it is paused.
    pub async fn pause_sink(
        &self,
        key: &SinkKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let paused = PauseInfo {
            stamp: stamp.clone(),
            reason: reason.to_owned(),
        };
        self.set_paused(key, Some(paused), stamp).await
    }

    /// Resumes the delivery of a topic. No effect if it is not paused.
    pub async fn resume_sink(
        &self,
        key: &SinkKey,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        self.set_paused(key, None, stamp).await
    }

    async fn set_paused(
        &self,
        key: &SinkKey,
        to: Option<PauseInfo>,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let to = to.as_ref();
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let (source, read) = txn.source_and_sink(key).await?;
                if read.target.topic().is_none() {
                    return Err(DefinitionError::NotATopic(key.clone()));
                }
                if read.paused.is_some() == to.is_some() {
                    return Ok(ControlFlow::Break(Versioned {
                        value: effective(&source, read.value),
                        revision: read.revision,
                    }));
                }
                let mut sink = read.value.clone();
                sink.paused = to.cloned();
                let (action, description) = match to {
                    Some(_) => (AuditAction::Pause, "Paused."),
                    None => (AuditAction::Resume, "Resumed."),
                };
                let (number, hash) = (sink.version.number, sink.version.hash);
                let what = LimitedResource::SinkVersions;
                sink.version = self.next_version(what, number, hash, description, stamp)?;
                put_sink(txn, &sink)?;
                let versions = (Some(&read.version), Some(&sink.version));
                txn.put_sink_audit(key, action, versions, stamp)?;
                Ok(ControlFlow::Continue(effective(&source, sink)))
            })
        });
        done.await.map(either)
    }
}
