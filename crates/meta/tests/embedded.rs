//! The embedded store passes the conformance suite.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use forebay_meta::kv::conformance::StoreFixture;
use forebay_meta::kv::embedded::{
    EmbeddedOptions, EmbeddedStore, HistoryLimits, ManualMonotonicClock,
};
use forebay_meta::kv::store::{Store, Txn};

/// Transactions that the store retains in these tests.
const HISTORY: usize = 50;

struct Embedded {
    store: Arc<dyn Store>,
    clock: Arc<ManualMonotonicClock>,
    _dir: tempfile::TempDir,
}

impl Embedded {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualMonotonicClock::default());
        let options = EmbeddedOptions {
            history: HistoryLimits {
                revisions: HISTORY,
                ..HistoryLimits::default()
            },
            clock: clock.clone(),
            ..EmbeddedOptions::default()
        };
        let store = EmbeddedStore::open(dir.path(), options).unwrap();
        Self {
            store: Arc::new(store),
            clock,
            _dir: dir,
        }
    }
}

#[async_trait::async_trait]
impl StoreFixture for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn advance_time(&self, time: Duration) {
        self.clock.advance(time);
    }

    async fn compact(&self) {
        for _ in 0..=HISTORY {
            let mut txn = Txn::new();
            txn.put("compact", "");
            self.store.txn(txn).await.unwrap();
        }
    }
}

forebay_meta::conformance_tests!(Embedded::new());
