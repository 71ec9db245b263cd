//! Help for changes that concern all sinks of a source.

use std::collections::HashMap;
use std::sync::Arc;

use forebay_model::Sink;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::{Repo, Versioned, decode};
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError};

/// Pages through the sinks below a prefix, so that memory doesn't depend on their number.
pub(super) struct SinkPages {
    prefix: String,
    after: Option<String>,
    page: std::vec::IntoIter<Versioned<Sink>>,
    /// The page is not the last one.
    more: bool,
}

impl SinkPages {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            after: None,
            page: Vec::new().into_iter(),
            more: true,
        }
    }

    /// Returns the next sink. It may be outdated, which is harmless: a change has its revision as a
    /// precondition.
    pub(super) async fn next(
        &mut self,
        repo: &Repo,
    ) -> Result<Option<Versioned<Sink>>, StoreError> {
        loop {
            if let Some(sink) = self.page.next() {
                return Ok(Some(sink));
            }
            if !self.more {
                return Ok(None);
            }
            let after = self.after.as_deref();
            let page = repo.store.range(&self.prefix, after, RANGE_ENTRIES_MAX);
            let page = page.await?;
            self.more = page.more;
            if let Some(last) = page.entries.last() {
                self.after = Some(last.key.clone());
            }
            let sinks: Result<Vec<_>, _> = page.entries.iter().map(decode).collect();
            self.page = sinks?.into_iter();
        }
    }
}

/// In-process locks that serialize changes which would conflict: each creation below a source or
/// branch writes it. They save attempts; correctness depends on the preconditions only.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyedLocks(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

/// Guard of a lock by key.
pub(super) struct KeyedLockGuard {
    locks: KeyedLocks,
    key: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedLocks {
    /// Waits for the lock of the key.
    pub(super) async fn lock(&self, key: String) -> KeyedLockGuard {
        let mutex = {
            let mut locks = self.0.lock();
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        KeyedLockGuard {
            locks: self.clone(),
            key,
            guard: Some(mutex.lock_owned().await),
        }
    }
}

impl Drop for KeyedLockGuard {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.0.lock();
        // Only the map has a reference: no task waits.
        if locks
            .get(&self.key)
            .is_some_and(|l| Arc::strong_count(l) == 1)
        {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_locked_once_and_removed_when_unlocked() {
        let locks = KeyedLocks::default();
        let first = locks.lock("a".to_owned()).await;
        let other = locks.lock("b".to_owned()).await;
        let second = locks.lock("a".to_owned());
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        assert_eq!(locks.0.lock().len(), 2);
        drop((second, other));
        assert!(locks.0.lock().is_empty());
    }
}
