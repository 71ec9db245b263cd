//! Leases of the embedded store: only in memory, because they end with the process.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::kv::store::{LeaseId, StoreError};

/// Monotonic clock for leases: a step of the wall clock must not expire them.
pub trait MonotonicClock: Send + Sync + fmt::Debug {
    /// Time since a fixed moment.
    fn elapsed(&self) -> Duration;
}

#[derive(Debug)]
pub struct TokioMonotonicClock(tokio::time::Instant);

impl TokioMonotonicClock {
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl MonotonicClock for TokioMonotonicClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that is advanced by tests.
#[derive(Debug, Default)]
pub struct ManualMonotonicClock(std::sync::atomic::AtomicU64);

impl ManualMonotonicClock {
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0
            .fetch_add(millis, std::sync::atomic::Ordering::SeqCst);
    }
}

impl MonotonicClock for ManualMonotonicClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

struct ActiveLease {
    ttl: Duration,
    ends: Duration,
}

/// Active leases.
pub(super) struct LeaseTable {
    /// Number of times that the store was opened before: keeps lease ids unique across runs.
    run: u64,
    granted: u64,
    active: HashMap<LeaseId, ActiveLease>,
}

impl LeaseTable {
    pub(super) fn new(run: u64) -> Self {
        Self {
            run,
            granted: 0,
            active: HashMap::new(),
        }
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Duration) -> LeaseId {
        self.granted += 1;
        let id = LeaseId((self.run << 32) | self.granted);
        self.active.insert(
            id,
            ActiveLease {
                ttl,
                ends: now.saturating_add(ttl),
            },
        );
        id
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Result<(), StoreError> {
        match self.active.get_mut(&id) {
            Some(lease) => {
                lease.ends = now.saturating_add(lease.ttl);
                Ok(())
            }
            None => Err(StoreError::LeaseNotFound(id)),
        }
    }

    pub(super) fn check(&self, id: LeaseId) -> Result<(), StoreError> {
        if self.active.contains_key(&id) {
            Ok(())
        } else {
            Err(StoreError::LeaseNotFound(id))
        }
    }

    pub(super) fn end(&mut self, id: LeaseId) -> bool {
        self.active.remove(&id).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Returns the expired leases. They stay active until [`Self::end`].
    pub(super) fn expired(&self, now: Duration) -> Vec<LeaseId> {
        let over = self.active.iter().filter(|(_, l)| l.ends <= now);
        let mut ids: Vec<_> = over.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
