//! Changes of a source with all of its sinks. They are one transaction if they fit ([`TxnLimits`]);
//! for a source with more sinks there are several, in an order in which every intermediate state is
//! valid and a repeated call continues an interrupted one:
//!
//! | change   | order                                                                      |
//! | -------- | -------------------------------------------------------------------------- |
//! | delete   | sinks, then the source with the last of them                                |
//! | disable  | sinks, then the source with the last of them, then what was enabled meanwhile |
//! | enable   | the source with the first sinks, then the others                            |
//! | undelete | the source with the first sinks, then the others                            |

use std::collections::HashMap;
use std::sync::Arc;

use forebay_model::Sink;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::transaction::{TxnAttempts, TxnBuilder, TxnContention};
use super::{Repo, Versioned, decode};
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError};

/// How much goes into a transaction before the next sink goes into another one. What one sink adds is
/// far less than what the store has left ([`crate::kv::store::TXN_OPS_MAX`],
/// [`crate::kv::store::TXN_BYTES_MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnLimits {
    /// Maximum operations, and preconditions.
    pub ops: usize,
    /// Maximum bytes of values.
    pub bytes: usize,
}

impl Default for TxnLimits {
    fn default() -> Self {
        Self {
            ops: 2400,
            bytes: 8 << 20,
        }
    }
}

/// Sizes the next transaction. After repeated conflicts the size shrinks: the fewer sinks are
/// changed at a time, the less likely is a conflict on one of their files.
#[derive(Debug)]
pub(super) struct BatchSizer {
    limits: TxnLimits,
    /// Operations of the present transaction at its start.
    most: usize,
    attempts: TxnAttempts,
    conflicts: u32,
}

/// Conflicts after which the size shrinks.
const CONFLICTS_BEFORE_SHRINK: u32 = 4;
/// Maximum operations of a transaction if there are several anyway: some 30 sinks.
const SMALL_TXN_OPS: usize = 200;

impl BatchSizer {
    pub(super) fn new(limits: TxnLimits) -> Self {
        Self {
            limits,
            most: limits.ops,
            attempts: TxnAttempts::default(),
            conflicts: 0,
        }
    }

    /// Whether the next sink goes into another transaction. If so, the following ones are small.
    pub(super) fn is_full(&mut self, txn: &TxnBuilder<'_>) -> bool {
        let is_full = txn.is_full(self.limits);
        if is_full {
            self.limits.ops = self.limits.ops.min(SMALL_TXN_OPS);
        }
        is_full
    }

    /// Records a success: resets the attempts and restores the size.
    pub(super) fn succeeded(&mut self) {
        self.attempts = TxnAttempts::default();
        if self.limits.ops < SMALL_TXN_OPS {
            self.limits.ops = self
                .limits
                .ops
                .saturating_mul(2)
                .min(self.most)
                .min(SMALL_TXN_OPS);
        }
    }

    /// Records a conflict and allows another attempt.
    pub(super) async fn retry(&mut self) -> Result<(), TxnContention> {
        self.conflicts += 1;
        if self.conflicts >= CONFLICTS_BEFORE_SHRINK {
            self.limits.ops = (self.limits.ops / 4).max(1);
        }
        self.attempts.retry().await
    }
}

impl TxnBuilder<'_> {
    /// Whether the next sink goes into another transaction.
    pub(super) fn is_full(&self, limits: TxnLimits) -> bool {
        self.len() >= limits.ops || self.bytes >= limits.bytes
    }
}

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
    async fn repeated_conflicts_shrink_the_transaction() {
        let mut sizer = BatchSizer::new(TxnLimits::default());
        for _ in 1..CONFLICTS_BEFORE_SHRINK {
            sizer.retry().await.unwrap();
        }
        assert_eq!(sizer.limits, TxnLimits::default());
        for _ in 0..10 {
            sizer.retry().await.unwrap();
        }
        assert_eq!(sizer.limits.ops, 1);
        for _ in 0..10 {
            sizer.succeeded();
        }
        assert_eq!(sizer.limits.ops, SMALL_TXN_OPS);
    }

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
