//! Replays whose transaction the metadata store commits without a response: the rows have one copy,
//! in the stream of their slice, and that stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use forebay_delivery::dead_letter::SinkDeadLetters;
use forebay_meta::Repo;
use forebay_meta::kv::store::{
    EntryPage, LeaseId, Revision, Store, StoreEntry, StoreError, Txn, TxnError, WatchError,
    WatchStream,
};
use forebay_model::{DeadLetterSelection, SinkSettings};

use crate::dead_letters::{fix_mapping, node, reconciliation, replayed, sink_dead_letters};
use crate::node::{Machine, Node, sink_key};
use crate::world::stream;

/// What is lost after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// Its response.
    Answer,
    /// All reads after it.
    Connection,
    /// Its response, and all reads after it: its outcome can't be looked up.
    Both,
}

/// A store whose connection breaks with the first transaction.
#[derive(Debug)]
struct Breaking {
    inner: Arc<dyn Store>,
    lost: Lost,
    broken: AtomicBool,
}

impl Breaking {
    fn check(&self) -> Result<(), StoreError> {
        if self.lost != Lost::Answer && self.broken.load(SeqCst) {
            return Err(StoreError::Unavailable("no connection".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Breaking {
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        self.check()?;
        self.inner.get(key).await
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, StoreError> {
        self.check()?;
        self.inner.range(prefix, after, limit).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        self.check()?;
        let revision = self.inner.txn(txn).await?;
        let first = !self.broken.swap(true, SeqCst);
        if first && self.lost != Lost::Connection {
            return Err(StoreError::Uncertain("no answer".to_owned()).into());
        }
        Ok(revision)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError> {
        self.inner.watch(prefix, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }
}

/// Three dead letters, to be replayed over a connection that breaks.
async fn three_dead_letters(machine: &Machine, lost: Lost) -> (Node, SinkDeadLetters) {
    let mut node = node(machine).await;
    let mut client = node.client().await;
    for i in 0..3 {
        let body = format!("{{\"m\":{i}}}");
        assert_eq!(client.post(&stream(), &body).await.status, 200);
    }
    fix_mapping(&mut node).await;
    let store = Breaking {
        inner: Arc::clone(node.repo.store()),
        lost,
        broken: AtomicBool::default(),
    };
    let dead_letters = SinkDeadLetters {
        repo: Repo::new(Arc::new(store), SinkSettings::default()),
        ..sink_dead_letters(machine, &node)
    };
    (node, dead_letters)
}

#[tokio::test]
async fn rows_stay_when_it_is_unknown_whether_their_slice_was_created() {
    let machine = Machine::new();
    let (node, dead_letters) = three_dead_letters(&machine, Lost::Both).await;
    let key = sink_key("k");
    let uncertain = dead_letters
        .replay(&key, &DeadLetterSelection::ALL.into())
        .await
        .unwrap_err();
    assert!(
        uncertain.to_string().contains("did not confirm the write"),
        "{uncertain}"
    );
    assert_eq!(replayed(&machine, &node).await.len(), 3);
    // It was done, so it is not done again.
    let again = sink_dead_letters(&machine, &node)
        .replay(&key, &DeadLetterSelection::ALL.into())
        .await
        .unwrap();
    assert_eq!(again.replayed, 0);
    assert_eq!(replayed(&machine, &node).await.len(), 3);
    assert_eq!(reconciliation(&node).await, [3, 0, 0, 3]);
    machine.stop(node).await;
}

/// Replays three dead letters while the store loses something; each is replayed once.
async fn replays_once(lost: Lost) {
    let machine = Machine::new();
    let (node, dead_letters) = three_dead_letters(&machine, lost).await;
    let done = dead_letters
        .replay(&sink_key("k"), &DeadLetterSelection::ALL.into())
        .await;
    assert_eq!(done.unwrap().replayed, 3);
    assert_eq!(replayed(&machine, &node).await.len(), 3);
    assert_eq!(reconciliation(&node).await, [3, 0, 0, 3]);
    machine.stop(node).await;
}

#[tokio::test]
async fn a_lost_response_is_looked_up() {
    replays_once(Lost::Answer).await;
}

#[tokio::test]
async fn rows_stay_when_the_store_fails_just_after_it_has_created_their_slice() {
    replays_once(Lost::Connection).await;
}
