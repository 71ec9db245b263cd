//! Locks by key.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// In-process locks that serialize changes which would conflict: each creation below a source or
/// branch writes it. They save attempts; correctness depends on the preconditions only.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyedLocks(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

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
