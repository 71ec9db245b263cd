//! Quotas that operators set for projects, overriding the server's configuration.

use std::ops::ControlFlow;

use forebay_model::quota::QuotaOverrides;
use forebay_model::{AuditStamp, ProjectId};

use super::audit::{AuditAction, AuditEvent, AuditSubject};
use super::{Repo, Versioned};
use crate::catalog::keys::StoreKey;
use crate::kv::store::StoreError;

/// Error of setting a quota.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Too many concurrent changes; may be retried.
    #[error("too many concurrent changes, try again")]
    Conflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Repo {
    /// Reads the overrides of a project; empty if none were set.
    pub async fn quota(&self, project: ProjectId) -> Result<QuotaOverrides, StoreError> {
        let read: Option<Versioned<QuotaOverrides>> = self.read(StoreKey::Quota(project)).await?;
        Ok(read.map(|r| r.value).unwrap_or_default())
    }

    /// Replaces the overrides of a project; with an empty value, the server's configuration applies
    /// again. No effect if nothing differs.
    pub async fn set_quota(
        &self,
        project: ProjectId,
        quota: &QuotaOverrides,
        stamp: &AuditStamp,
    ) -> Result<(), QuotaError> {
        let key = StoreKey::Quota(project);
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let read: Option<Versioned<QuotaOverrides>> = txn.read(key).await?;
                let before = read.map(|r| r.value).unwrap_or_default();
                if before == *quota {
                    return Ok(ControlFlow::Break(()));
                }
                if *quota == QuotaOverrides::default() {
                    txn.delete(key);
                } else {
                    txn.put(key, quota)?;
                }
                let change = AuditEvent {
                    project,
                    what: AuditSubject::Quota,
                    action: AuditAction::Update,
                    description: describe_change(&before, quota),
                    old_version: None,
                    new_version: None,
                    stamp: stamp.clone(),
                };
                self.add_unversioned_audit(txn, change).await?;
                Ok(ControlFlow::Continue(()))
            })
        });
        done.await.map(drop)
    }
}

/// Describes each value that differs, for the audit.
fn describe_change(before: &QuotaOverrides, after: &QuotaOverrides) -> String {
    let texts = |quota: &QuotaOverrides| {
        [
            ("requestsPerSecond", value_text(quota.requests_per_second)),
            ("bytesPerSecond", value_text(quota.bytes_per_second)),
            ("connections", value_text(quota.connections)),
            ("diskBytes", value_text(quota.disk_bytes)),
            (
                "sourceRequestsPerSecond",
                value_text(quota.source_requests_per_second),
            ),
            (
                "sourceBytesPerSecond",
                value_text(quota.source_bytes_per_second),
            ),
        ]
    };
    let pairs = texts(before).into_iter().zip(texts(after));
    let differing = pairs.filter(|(a, b)| a != b);
    let named: Vec<_> = differing
        .map(|((name, a), (_, b))| format!("{name}: {a} to {b}"))
        .collect();
    named.join(", ")
}

fn value_text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "default".to_owned(), |v| v.to_string())
}
