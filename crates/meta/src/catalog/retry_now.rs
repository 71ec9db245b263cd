//! Immediate retry of failed steps, for an operator who has fixed their cause.

use std::ops::ControlFlow;

use forebay_model::{AuditStamp, File, SinkKey, Slice};

use super::Repo;
use super::audit::{AuditAction, AuditEvent, AuditSubject};
use super::files::FileError;
use crate::catalog::keys::StoreKey;
use crate::catalog::stored::Stored;

/// Number of retried items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryCounts {
    /// Files whose import had failed.
    pub files: u64,
    /// Slices whose upload had failed.
    pub slices: u64,
}

impl Repo {
    /// Retries all failed steps of a sink now. On an error some of them may be retried.
    pub async fn retry_sink(
        &self,
        sink: &SinkKey,
        stamp: &AuditStamp,
    ) -> Result<RetryCounts, FileError> {
        let change = AuditEvent {
            project: sink.source.branch.project,
            what: AuditSubject::Sink(sink.clone()),
            action: AuditAction::Retry,
            description: String::new(),
            old_version: None,
            new_version: None,
            stamp: stamp.clone(),
        };
        let change = &change;
        self.transact::<_, FileError>(|txn| {
            Box::pin(async move { Ok(self.add_unversioned_audit(txn, change.clone()).await?) })
        })
        .await?;
        let mut retried = RetryCounts::default();
        for active in self.active_files(Some(sink)).await? {
            let key = &active.file.key;
            let retry_now = |file: &mut File| file.retry.retry_now();
            if active.file.retry.attempt > 0
                && self
                    .change_entry_if_present(StoreKey::File(key), retry_now)
                    .await?
            {
                retried.files += 1;
            }
            for slice in active.slices.iter().map(|s| &s.slice) {
                let retry_now = |slice: &mut Slice| slice.retry.retry_now();
                if slice.retry.attempt > 0
                    && self
                        .change_entry_if_present(StoreKey::Slice(&slice.key), retry_now)
                        .await?
                {
                    retried.slices += 1;
                }
            }
        }
        Ok(retried)
    }

    /// Changes the entry, if it exists.
    async fn change_entry_if_present<T: Stored + Clone>(
        &self,
        key: StoreKey<'_>,
        change: impl Fn(&mut T) + Send + Sync,
    ) -> Result<bool, FileError> {
        let change = &change;
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let Some(read) = txn.read::<T>(key).await? else {
                    return Ok(ControlFlow::Break(()));
                };
                let mut value = read.value;
                change(&mut value);
                txn.put(key, &value)?;
                Ok(ControlFlow::Continue(()))
            })
        });
        done.await.map(|done| done.is_continue())
    }
}
