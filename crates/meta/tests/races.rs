//! What one operation finds when another one was faster: it came between the last read and the
//! commit, each time exactly there.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use common::{sink_key, source_key, stamp, volumes, with_sink};
use forebay_meta::store::{Entry, LeaseId, Page, Txn, TxnError, Watch, WatchError};
use forebay_meta::{Repo, Revision, Store, StoreError};
use forebay_model::{FileState, SinkKey, SinkSettings, SourceKey};
use futures::future::BoxFuture;

/// Lets something else happen right before the next transaction.
#[derive(Debug)]
struct Meddled {
    store: Arc<dyn Store>,
    first: Mutex<Option<Meddler>>,
}

struct Meddler(BoxFuture<'static, ()>);

impl std::fmt::Debug for Meddler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddler")
    }
}

#[async_trait]
impl Store for Meddled {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, p: &str, after: Option<&str>, n: usize) -> Result<Page, StoreError> {
        self.store.range(p, after, n).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        let first = self.first.lock().unwrap().take();
        if let Some(Meddler(first)) = first {
            first.await;
        }
        self.store.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, WatchError> {
        self.store.watch(prefix, from).await
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

/// A source with one sink in one store, as two see it: `slow`, and `fast`, who comes between.
struct Two {
    slow: Arc<Meddled>,
    fast: Repo,
    source: SourceKey,
    sink: SinkKey,
    _dir: tempfile::TempDir,
}

impl Two {
    async fn new() -> Self {
        let (fast, dir) = with_sink().await;
        let slow = Meddled {
            store: fast.store().clone(),
            first: Mutex::default(),
        };
        Self {
            slow: Arc::new(slow),
            fast,
            source: source_key("src"),
            sink: sink_key("src", "snk"),
            _dir: dir,
        }
    }

    fn slow_after(&self, first: impl Future<Output = ()> + Send + 'static) -> Repo {
        *self.slow.first.lock().unwrap() = Some(Meddler(Box::pin(first)));
        Repo::new(self.slow.clone(), SinkSettings::default())
    }

    async fn open_files(&self) -> usize {
        let files = self.fast.active_files(Some(&self.sink)).await.unwrap();
        let open = files.iter().filter(|f| f.file.state == FileState::Writing);
        assert!(self.slow.first.lock().unwrap().is_none(), "it came between");
        open.count()
    }

    fn enable_sink_between(&self) -> Repo {
        let (fast, sink) = (self.fast.clone(), self.sink.clone());
        self.slow_after(async move {
            fast.enable_sink(&sink, &volumes(1), &stamp(9))
                .await
                .unwrap();
        })
    }
}

#[tokio::test]
async fn a_sink_switched_on_while_its_source_goes_off_is_closed_with_it() {
    let two = Two::new().await;
    let off = two.fast.disable_sink(&two.sink, "API", &stamp(2)).await;
    off.unwrap();
    let slow = two.enable_sink_between();
    let off = slow.disable_source(&two.source, "API", &stamp(3)).await;
    off.unwrap();
    assert_eq!(two.open_files().await, 0);
    let sink = two.fast.sink(&two.sink).await.unwrap();
    assert!(sink.disabled.as_ref().unwrap().with_parent);
}

#[tokio::test]
async fn a_sink_switched_on_while_its_source_comes_back_has_an_open_file() {
    let two = Two::new().await;
    let off = two.fast.disable_sink(&two.sink, "API", &stamp(2)).await;
    off.unwrap();
    let off = two.fast.disable_source(&two.source, "API", &stamp(3)).await;
    off.unwrap();
    let slow = two.enable_sink_between();
    let on = slow
        .enable_source(&two.source, &volumes(1), &stamp(4))
        .await;
    on.unwrap();
    assert_eq!(two.open_files().await, 1);
}
