//! Cache of rows.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::row::RenderedRow;
use crate::definition::LookupCacheConfig;

/// Cache of rows, bounded in number and age.
pub(super) struct LookupCache {
    config: LookupCacheConfig,
    rows: Mutex<CachedRows>,
}

#[derive(Default)]
struct CachedRows {
    by_key: HashMap<String, (Instant, Arc<RenderedRow>)>,
    /// Keys in insertion order, each with its time; the oldest is evicted first.
    order: VecDeque<(Instant, String)>,
}

impl LookupCache {
    pub(super) fn new(config: LookupCacheConfig) -> Self {
        Self {
            config,
            rows: Mutex::default(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<RenderedRow>> {
        if self.config.rows == 0 {
            return None;
        }
        let rows = self.rows.lock();
        let (at, found) = rows.by_key.get(key)?;
        (at.elapsed() < self.config.ttl.0).then(|| Arc::clone(found))
    }

    pub(super) fn put(&self, key: String, found: &Arc<RenderedRow>) {
        if self.config.rows == 0 {
            return;
        }
        let now = Instant::now();
        let mut rows = self.rows.lock();
        rows.by_key.insert(key.clone(), (now, Arc::clone(found)));
        rows.order.push_back((now, key));
        while rows.order.len() as u64 > self.config.rows {
            let Some((at, key)) = rows.order.pop_front() else {
                return;
            };
            // A row that was inserted again since has a later entry too.
            if rows
                .by_key
                .get(&key)
                .is_some_and(|(cached_at, _)| *cached_at == at)
            {
                rows.by_key.remove(&key);
            }
        }
    }
}
