//! Changes of a source with all of its sinks. They are one transaction as long as that has room
//! ([`TxnLimits`]); a source of more sinks is changed in several, in an order in which every state in
//! between is a valid one and the same call, made again, goes on where one before has stopped:
//!
//! | change   | order                                                                      |
//! | -------- | -------------------------------------------------------------------------- |
//! | delete   | sinks, then the source with the last of them                                |
//! | disable  | sinks, then the source with the last of them, then what was enabled meanwhile |
//! | enable   | the source with the first sinks, then the others                            |
//! | undelete | the source with the first sinks, then the others                            |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use forebay_model::Sink;
use tokio::sync::OwnedMutexGuard;

use super::{Repo, TxnAttempts, TxnBuilder, TxnContention, Versioned, decode};
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError};

/// How much goes into a transaction before the next sink goes into another one. What one sink adds is
/// far less than what the store has left ([`crate::kv::store::TXN_OPS_MAX`],
/// [`crate::kv::store::TXN_BYTES_MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnLimits {
    /// Operations, and preconditions.
    pub ops: usize,
    /// Bytes of values.
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

/// The room of the next transaction. One that meets others again and again gets less: the fewer sinks
/// are changed at a time, the likelier it is that nobody else changes one of their files meanwhile.
#[derive(Debug)]
pub(super) struct BatchSizer {
    limits: TxnLimits,
    /// Operations at most, as it was begun.
    most: usize,
    attempts: TxnAttempts,
    conflicts: u32,
}

/// Conflicts after which a transaction gets less room.
const CONFLICTS_BEFORE_SHRINK: u32 = 4;
/// Operations of a transaction when there have to be several anyway: some 30 sinks.
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

    /// Another sink belongs into another transaction. Then it is not one for all of them, and the
    /// next ones are small.
    pub(super) fn is_full(&mut self, builder: &TxnBuilder) -> bool {
        let is_full = builder.is_full(self.limits);
        if is_full {
            self.limits.ops = self.limits.ops.min(SMALL_TXN_OPS);
        }
        is_full
    }

    /// A transaction has succeeded: what comes next has as many attempts as it had, and room again.
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

    /// One has met another one: lets it be begun anew.
    pub(super) async fn retry(&mut self) -> Result<(), TxnContention> {
        self.conflicts += 1;
        if self.conflicts >= CONFLICTS_BEFORE_SHRINK {
            self.limits.ops = (self.limits.ops / 4).max(1);
        }
        self.attempts.retry().await
    }
}

impl TxnBuilder {
    /// Whether another sink belongs into another transaction.
    pub(super) fn is_full(&self, limits: TxnLimits) -> bool {
        let ops = self.txn.ops.len().max(self.txn.preconditions.len());
        ops >= limits.ops || self.bytes >= limits.bytes
    }
}

/// Sinks below a prefix, a page at a time, so that memory does not depend on how many there are.
pub(super) struct SinkPages {
    prefix: String,
    after: Option<String>,
    page: std::vec::IntoIter<Versioned<Sink>>,
    /// The page is not the last one.
    more: bool,
}

impl SinkPages {
    /// All of them.
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            after: None,
            page: Vec::new().into_iter(),
            more: true,
        }
    }

    /// The next one. It may be as it was when its page was read, which is no error: whoever changes
    /// it has its revision as a condition.
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

/// Changes of this process that would only get into each other's way wait in line: what many of them
/// create below one source or branch, each writes it. It saves attempts; what is right is decided by
/// the transactions' conditions.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyedLocks(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

/// The place at the head of a line.
pub(super) struct KeyedLockGuard {
    locks: KeyedLocks,
    key: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedLocks {
    /// Waits until all who came before are done.
    pub(super) async fn lock(&self, key: String) -> KeyedLockGuard {
        let mutex = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the map has it: nobody waits.
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
    async fn who_meets_others_again_and_again_gets_less_room() {
        let mut portion = BatchSizer::new(TxnLimits::default());
        for _ in 1..CONFLICTS_BEFORE_SHRINK {
            portion.retry().await.unwrap();
        }
        assert_eq!(portion.limits, TxnLimits::default());
        for _ in 0..10 {
            portion.retry().await.unwrap();
        }
        assert_eq!(portion.limits.ops, 1);
        for _ in 0..10 {
            portion.succeeded();
        }
        assert_eq!(portion.limits.ops, SMALL_TXN_OPS);
    }

    #[tokio::test]
    async fn one_at_a_time_is_at_the_head_and_nothing_is_left_behind() {
        let lines = KeyedLocks::default();
        let first = lines.lock("a".to_owned()).await;
        let other = lines.lock("b".to_owned()).await;
        let second = lines.lock("a".to_owned());
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        assert_eq!(lines.0.lock().unwrap().len(), 2);
        drop((second, other));
        assert!(lines.0.lock().unwrap().is_empty());
    }
}
