//! What operators have set for projects, in place of the server's configuration.

use forebay_model::quota::OwnQuota;
use forebay_model::{ProjectId, Stamp};

use super::audit::{Action, Change, What};
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::Key;
use crate::store::StoreError;

/// Why a quota was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Others changed it again and again at the same time; it may be tried again.
    #[error("it is being changed by others at the same time, try again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Repo {
    /// What a project has of its own; nothing, when nobody has set anything.
    ///
    /// # Errors
    /// The store's.
    pub async fn quota(&self, project: ProjectId) -> Result<OwnQuota, StoreError> {
        let read: Option<Revised<OwnQuota>> = self.read(Key::Quota(project)).await?;
        Ok(read.map(|r| r.value).unwrap_or_default())
    }

    /// Sets what a project has of its own, all of it; without anything, the server's configuration
    /// holds again. Setting what is already so changes nothing.
    ///
    /// # Errors
    /// See [`QuotaError`].
    pub async fn set_quota(
        &self,
        project: ProjectId,
        quota: &OwnQuota,
        stamp: &Stamp,
    ) -> Result<(), QuotaError> {
        let mut attempts = Attempts::default();
        let key = Key::Quota(project);
        loop {
            let read: Option<Revised<OwnQuota>> = self.read(key).await?;
            let before = read.as_ref().map(|r| r.value).unwrap_or_default();
            if before == *quota {
                return Ok(());
            }
            let mut draft = Draft::default();
            draft.as_read(key, read.as_ref());
            if *quota == OwnQuota::default() {
                draft.delete(key);
            } else {
                draft.put(key, quota)?;
            }
            let change = Change {
                project,
                what: What::Quota,
                action: Action::Update,
                description: changed(&before, quota),
                old_version: None,
                new_version: None,
                stamp: stamp.clone(),
            };
            self.draft_unversioned(&mut draft, change).await?;
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }
}

/// Each value that differs, for people.
fn changed(before: &OwnQuota, after: &OwnQuota) -> String {
    let texts = |quota: &OwnQuota| {
        [
            ("requestsPerSecond", text(quota.requests_per_second)),
            ("bytesPerSecond", text(quota.bytes_per_second)),
            ("connections", text(quota.connections)),
            ("diskBytes", text(quota.disk_bytes)),
            (
                "sourceRequestsPerSecond",
                text(quota.source_requests_per_second),
            ),
            ("sourceBytesPerSecond", text(quota.source_bytes_per_second)),
        ]
    };
    let pairs = texts(before).into_iter().zip(texts(after));
    let differing = pairs.filter(|(a, b)| a != b);
    let named: Vec<_> = differing
        .map(|((name, a), (_, b))| format!("{name}: {a} to {b}"))
        .collect();
    named.join(", ")
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "default".to_owned(), |v| v.to_string())
}
