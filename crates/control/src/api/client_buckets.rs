//! Token buckets of recent clients, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::{Mutex, MutexGuard};

use forebay_model::HumanDuration;
use forebay_model::quota::{BucketLevel, TokenBucket};
use tokio::time::Instant;

/// Burst: requests of this time at the full rate.
const WINDOW: HumanDuration = HumanDuration::secs(10);

/// A bucket for each client, all of the same rate.
#[derive(Debug)]
pub(super) struct ClientBuckets<K> {
    /// Units per second; zero is no limit.
    pub(super) rate: u64,
    /// Number of clients above which full buckets are removed.
    max: usize,
    start: Instant,
    levels: Mutex<HashMap<K, BucketLevel>>,
}

impl<K: Eq + Hash> ClientBuckets<K> {
    pub(super) fn new(rate: u64, max: usize) -> Self {
        Self {
            rate,
            max,
            start: Instant::now(),
            levels: Mutex::default(),
        }
    }

    /// Time of the buckets, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// The bucket of a client that has one. [`None`] also without a limit.
    pub(super) fn existing(&self, client: &K) -> Option<TokenBucket> {
        let level = self.lock().get(client).cloned();
        level.and_then(|level| self.bucket(level))
    }

    /// The bucket of a client; [`None`] without a limit. A new client gets `overflow`, if there is one, when
    /// all buckets are in use.
    pub(super) fn of(&self, client: K, overflow: Option<&BucketLevel>) -> Option<TokenBucket> {
        let mut levels = self.lock();
        if levels.len() >= self.max && !levels.contains_key(&client) {
            let now = self.now();
            levels.retain(|_, level| level.load(Relaxed) > now);
        }
        let level = match overflow {
            Some(overflow) if levels.len() >= self.max && !levels.contains_key(&client) => overflow,
            _ => levels.entry(client).or_default(),
        };
        self.bucket(Arc::clone(level))
    }

    fn bucket(&self, level: BucketLevel) -> Option<TokenBucket> {
        TokenBucket::new(self.rate, WINDOW, level)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, BucketLevel>> {
        self.levels.lock()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}
