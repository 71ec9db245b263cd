//! Watch cache of a prefix of the store.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forebay_meta::catalog::stored::Stored;
use forebay_meta::kv::embedded::HistoryLimits;
use forebay_meta::kv::store::{
    EntryPage, LeaseId, StoreEntry, Txn, TxnError, WatchError, WatchStream,
};
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Revision, Store, StoreError, WatchCache};
use forebay_model::Statistics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn counted(records: u64) -> Statistics {
    Statistics {
        records,
        ..Statistics::default()
    }
}

async fn put(store: &Arc<dyn Store>, key: &str, records: u64) -> Revision {
    let mut txn = Txn::new();
    txn.put(key, counted(records).encode().unwrap());
    store.txn(txn).await.unwrap()
}

struct Running {
    cache: WatchCache<Statistics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(store: &Arc<dyn Store>) -> Running {
    let (cache, task) = WatchCache::new(Arc::clone(store), "m/");
    let stop = CancellationToken::new();
    let task = tokio::spawn(task.run(stop.clone()));
    Running { cache, stop, task }
}

async fn shown(cache: &WatchCache<Statistics>, at: Revision) -> Vec<(String, u64)> {
    let snapshot = cache.wait_for(at).await.unwrap();
    let entries = snapshot.entries.iter();
    entries.map(|(k, v)| (k.clone(), v.records)).collect()
}

fn store() -> (Arc<dyn Store>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (common::open(dir.path()), dir)
}

#[tokio::test]
async fn the_cache_shows_existing_and_new_entries() {
    let (store, _dir) = store();
    put(&store, "m/a", 1).await;
    put(&store, "other", 9).await;
    let running = start(&store);
    running.cache.ready().await.unwrap();
    let last = put(&store, "m/b", 2).await;
    let all = shown(&running.cache, last).await;
    assert_eq!(all, [("m/a".to_owned(), 1), ("m/b".to_owned(), 2)]);
    let mut txn = Txn::new();
    txn.delete("m/a").put("m/b", counted(3).encode().unwrap());
    let last = store.txn(txn).await.unwrap();
    assert_eq!(shown(&running.cache, last).await, [("m/b".to_owned(), 3)]);
    // An unrelated change advances the revision, and wakes no subscriber.
    let unrelated = put(&store, "other", 10).await;
    let snapshot = running.cache.wait_for(unrelated).await.unwrap();
    assert_eq!((snapshot.revision, snapshot.changed_at), (unrelated, last));
    assert_eq!(snapshot.get("m/b").unwrap().revision, last);
    assert_eq!(snapshot.below("m/").count(), 1);
}

#[tokio::test]
async fn changes_are_reported_once_and_only_if_an_entry_differs() {
    let (store, _dir) = store();
    put(&store, "m/a", 1).await;
    let running = start(&store);
    let mut changes = running.cache.changes();
    assert_eq!(changes.next().await.unwrap().entries.len(), 1);
    let unrelated = put(&store, "other", 9).await;
    running.cache.wait_for(unrelated).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(10), changes.next()).await;
    assert!(silent.is_err());
    put(&store, "m/b", 2).await;
    assert_eq!(changes.next().await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn the_cache_ends_with_its_token_and_readers_get_an_error() {
    let (store, _dir) = store();
    let running = start(&store);
    running.cache.ready().await.unwrap();
    let mut changes = running.cache.changes();
    changes.next().await.unwrap();
    running.stop.cancel();
    running.task.await.unwrap();
    assert!(changes.next().await.is_err());
    assert!(running.cache.wait_for(Revision(99)).await.is_err());
    assert!(running.cache.snapshot().entries.is_empty());
}

#[tokio::test]
async fn deletions_before_the_start_count_as_seen() {
    let (store, _dir) = store();
    put(&store, "m/a", 1).await;
    put(&store, "m/b", 1).await;
    let mut txn = Txn::new();
    txn.delete("m/b");
    let removed = store.txn(txn).await.unwrap();
    let running = start(&store);
    running.cache.ready().await.unwrap();
    assert_eq!(running.cache.snapshot().changed_at, removed);
}

#[tokio::test]
async fn undecodable_entries_are_skipped_and_counted() {
    let (store, _dir) = store();
    put(&store, "m/a", 1).await;
    put(&store, "m/b", 1).await;
    let running = start(&store);
    running.cache.ready().await.unwrap();
    let mut txn = Txn::new();
    txn.put("m/a", r#"{"v":99}"#);
    let last = store.txn(txn).await.unwrap();
    assert_eq!(shown(&running.cache, last).await, [("m/b".to_owned(), 1)]);
    assert_eq!(running.cache.snapshot().undecodable, 1);
}

/// A store that fails, and breaks its watches, on demand.
#[derive(Debug)]
struct Flaky {
    store: EmbeddedStore,
    down: tokio::sync::watch::Sender<bool>,
}

impl Flaky {
    fn check(&self) -> Result<(), StoreError> {
        if *self.down.borrow() {
            return Err(StoreError::Unavailable("down".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Flaky {
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, p: &str, after: Option<&str>, n: usize) -> Result<EntryPage, StoreError> {
        self.check()?;
        // Small pages, so that writes happen between them.
        self.store.range(p, after, n.min(2)).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        self.store.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError> {
        use futures::StreamExt;
        self.check()?;
        let mut down = self.down.subscribe();
        let broken = async move {
            drop(down.wait_for(|d| *d).await);
        };
        let watch = self.store.watch(prefix, from).await?;
        let error = WatchError::Store(StoreError::Unavailable("broken".to_owned()));
        let end = futures::stream::once(async move { Err(error) });
        Ok(watch.take_until(broken).chain(end).boxed())
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }
}

fn flaky() -> (Arc<Flaky>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        history: HistoryLimits {
            revisions: 5,
            ..HistoryLimits::default()
        },
        ..EmbeddedOptions::default()
    };
    let flaky = Flaky {
        store: EmbeddedStore::open(dir.path(), options).unwrap(),
        down: tokio::sync::watch::Sender::new(false),
    };
    (Arc::new(flaky), dir)
}

#[tokio::test]
async fn the_cache_reloads_after_an_outage() {
    let (flaky, _dir) = flaky();
    let store: Arc<dyn Store> = flaky.clone();
    put(&store, "m/a", 1).await;
    put(&store, "m/b", 1).await;
    let running = start(&store);
    running.cache.ready().await.unwrap();
    flaky.down.send_replace(true);
    // More transactions than are retained, with a deletion that no watch reports.
    let mut txn = Txn::new();
    txn.delete("m/a");
    store.txn(txn).await.unwrap();
    let mut last = Revision::default();
    for i in 0..20 {
        last = put(&store, "m/c", i).await;
    }
    assert_eq!(running.cache.snapshot().entries.len(), 2);
    flaky.down.send_replace(false);
    let all = shown(&running.cache, last).await;
    assert_eq!(all, [("m/b".to_owned(), 1), ("m/c".to_owned(), 19)]);
    assert_eq!(running.cache.snapshot().changed_at, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inconsistent_pages_are_never_shown() {
    let (flaky, _dir) = flaky();
    let store: Arc<dyn Store> = flaky.clone();
    let all = |n: u64| {
        let mut txn = Txn::new();
        for key in ["m/a", "m/b", "m/c", "m/d", "m/e"] {
            txn.put(key, counted(n).encode().unwrap());
        }
        txn
    };
    store.txn(all(0)).await.unwrap();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 1..300 {
                store.txn(all(n)).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let running = start(&store);
        let snapshot = running.cache.ready().await.unwrap();
        let mut values: Vec<u64> = snapshot.entries.values().map(|v| v.records).collect();
        assert_eq!(values.len(), 5);
        values.dedup();
        assert_eq!(values.len(), 1, "{values:?}");
        running.stop.cancel();
        running.task.await.unwrap();
    }
    writer.await.unwrap();
}
