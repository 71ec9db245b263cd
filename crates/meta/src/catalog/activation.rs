//! Disabling and enabling of sources and sinks.
//!
//! A sink of a disabled source is shown as disabled with its parent; what is stored of it does not
//! change. So a source is disabled or enabled in one transaction, and [`super::settle`] closes and
//! opens the files of its sinks.

use std::ops::ControlFlow;

use forebay_model::{AuditStamp, DisableInfo, Sink, SinkKey, Source, SourceKey, VolumeId};

use super::audit::AuditAction;
use super::definitions::{DefinitionError, LimitedResource};
use super::sinks::{effective, put_sink};
use super::sources::put_source;
use super::transaction::either;
use super::{Repo, Versioned};

impl Repo {
    /// Disables a source, and with it its sinks. No effect if it is disabled. Accepted records are
    /// still delivered. Its sinks have open files until they are settled.
    pub async fn disable_source(
        &self,
        key: &SourceKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let to = Some(disabled(stamp, reason));
        self.switch_source(key, to, stamp).await
    }

    /// Enables a source, and with it the sinks that are not disabled on their own. No effect if it
    /// is enabled. Its sinks have no open files until they are settled.
    pub async fn enable_source(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        self.switch_source(key, None, stamp).await
    }

    async fn switch_source(
        &self,
        key: &SourceKey,
        to: Option<DisableInfo>,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let to = to.as_ref();
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let read = txn.source(key).await?;
                if read.disabled.is_some() == to.is_some() {
                    return Ok(ControlFlow::Break(read));
                }
                let mut source = read.value.clone();
                source.disabled = to.cloned();
                let action = action(to);
                let (number, hash) = (source.version.number, source.version.hash);
                let what = LimitedResource::SourceVersions;
                source.version =
                    self.next_version(what, number, hash, description(action), stamp)?;
                put_source(txn, &source)?;
                let versions = (Some(&read.version), Some(&source.version));
                txn.put_source_audit(key, action, versions, stamp)?;
                Ok(ControlFlow::Continue(source))
            })
        });
        done.await.map(either)
    }

    /// Disables a sink and closes its file. No effect if it is disabled, on its own or with its
    /// source.
    pub async fn disable_sink(
        &self,
        key: &SinkKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let to = Some(disabled(stamp, reason));
        self.switch_sink(key, to, &[], stamp).await
    }

    /// Enables a sink and opens its file, if its source is active. No effect if the sink is not
    /// disabled on its own: a sink that is disabled with its source is enabled with it.
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
                let (source, read) = txn.source_and_sink(key).await?;
                let is_done = match to {
                    Some(_) => effective(&source, read.value.clone()).disabled.is_some(),
                    None => read.disabled.is_none(),
                };
                if is_done {
                    return Ok(ControlFlow::Break(Versioned {
                        value: effective(&source, read.value),
                        revision: read.revision,
                    }));
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
                Ok::<_, DefinitionError>(ControlFlow::Continue(effective(&source, sink)))
            })
        });
        let sink = done.await.map(either)?;
        if to.is_none() {
            self.settle_large_sink(&sink, volumes, stamp).await?;
        }
        Ok(sink)
    }
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

fn disabled(stamp: &AuditStamp, reason: &str) -> DisableInfo {
    DisableInfo {
        stamp: stamp.clone(),
        reason: reason.to_owned(),
    }
}
