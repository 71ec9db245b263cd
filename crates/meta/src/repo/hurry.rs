//! What waits after a failure is tried now, because somebody says that its cause is mended.

use forebay_model::{File, SinkKey, Slice, Stamp};

use super::audit::{Action, Change, What};
use super::files::FileError;
use super::{Attempts, Draft, Repo};
use crate::keys::Key;
use crate::stored::Stored;

/// What waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hurried {
    /// Files whose import had failed.
    pub files: u64,
    /// Slices whose upload had failed.
    pub slices: u64,
}

impl Repo {
    /// Has everything of a sink tried now that waits after a failure.
    ///
    /// # Errors
    /// The store's; then some of it may be tried.
    pub async fn retry_sink(&self, sink: &SinkKey, stamp: &Stamp) -> Result<Hurried, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = Draft::default();
            let change = Change {
                project: sink.source.branch.project,
                what: What::Sink(sink.clone()),
                action: Action::Retry,
                description: String::new(),
                old_version: None,
                new_version: None,
                stamp: stamp.clone(),
            };
            self.draft_unversioned(&mut draft, change).await?;
            if self.commit(draft).await?.is_some() {
                break;
            }
            attempts.again().await?;
        }
        let mut hurried = Hurried::default();
        for active in self.active_files(Some(sink)).await? {
            let key = &active.file.key;
            let hurry = |file: &mut File| file.retry.hurry();
            if active.file.retry.attempt > 0 && self.change(Key::File(key), hurry).await? {
                hurried.files += 1;
            }
            for slice in active.slices.iter().map(|s| &s.slice) {
                let hurry = |slice: &mut Slice| slice.retry.hurry();
                if slice.retry.attempt > 0 && self.change(Key::Slice(&slice.key), hurry).await? {
                    hurried.slices += 1;
                }
            }
        }
        Ok(hurried)
    }

    /// Changes it, if it is still there.
    async fn change<T: Stored + Clone>(
        &self,
        key: Key<'_>,
        change: impl Fn(&mut T) + Send + Sync,
    ) -> Result<bool, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let Some(read) = self.read::<T>(key).await? else {
                return Ok(false);
            };
            let mut value = read.value.clone();
            change(&mut value);
            let mut draft = Draft::default();
            draft.unchanged(key, &read);
            draft.put(key, &value)?;
            if self.commit(draft).await?.is_some() {
                return Ok(true);
            }
            attempts.again().await?;
        }
    }
}
