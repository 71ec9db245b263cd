//! Leases.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{StoreFixture, keys, put};
use crate::kv::store::{LeaseId, Revision, Store, StoreError, Txn, TxnError, WatchEvent};

const TTL: Duration = Duration::from_secs(10);

async fn put_leased(store: &Arc<dyn Store>, key: &str, lease: LeaseId) -> Revision {
    let mut txn = Txn::new();
    txn.put_leased(key, "", lease);
    store.txn(txn).await.unwrap()
}

/// The keys of the next deletion, in one transaction.
async fn next_removed_keys(store: &Arc<dyn Store>, from: Revision) -> Vec<String> {
    let mut watch = store.watch("", from).await.unwrap();
    loop {
        let batch = watch.next().await.unwrap().unwrap();
        let mut removed: Vec<(String, Revision)> = Vec::new();
        for event in batch.events {
            if let WatchEvent::Delete { key, revision } = event {
                removed.push((key, revision));
            }
        }
        if let Some((_, first)) = removed.first().cloned() {
            assert!(removed.iter().all(|(_, revision)| *revision == first));
            let mut names: Vec<String> = removed.into_iter().map(|(key, _)| key).collect();
            names.sort_unstable();
            return names;
        }
    }
}

pub async fn keys_are_deleted_when_their_lease_expires(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let (short, long) = (
        store.grant(TTL).await.unwrap(),
        store.grant(TTL * 100).await.unwrap(),
    );
    put_leased(&store, "l/1", short).await;
    put_leased(&store, "l/2", short).await;
    put_leased(&store, "m", long).await;
    let last = put(&store, "n", "").await;
    let entry = store.get("l/1").await.unwrap().unwrap();
    assert_eq!(entry.lease, Some(short));
    fixture.advance_time(TTL * 2).await;
    assert_eq!(next_removed_keys(&store, last.next()).await, ["l/1", "l/2"]);
    assert_eq!(keys(&store, "").await, ["m", "n"]);
}

pub async fn a_lease_that_is_kept_alive_does_not_expire(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let lease = store.grant(TTL).await.unwrap();
    let put = put_leased(&store, "l", lease).await;
    for _ in 0..4 {
        fixture.advance_time(TTL / 2).await;
        store.keep_alive(lease).await.unwrap();
    }
    assert_eq!(keys(&store, "").await, ["l"]);
    fixture.advance_time(TTL * 2).await;
    assert_eq!(next_removed_keys(&store, put.next()).await, ["l"]);
}

pub async fn revoking_a_lease_deletes_its_keys_in_one_transaction(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let lease = store.grant(TTL).await.unwrap();
    put_leased(&store, "l/1", lease).await;
    let last = put_leased(&store, "l/2", lease).await;
    store.revoke(lease).await.unwrap();
    assert_eq!(keys(&store, "").await, Vec::<String>::new());
    assert_eq!(next_removed_keys(&store, last.next()).await, ["l/1", "l/2"]);
    store.revoke(lease).await.unwrap();
}

/// It can't be kept alive, and no key can be attached to it.
pub async fn an_ended_lease_is_not_found(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let lease = store.grant(TTL).await.unwrap();
    store.revoke(lease).await.unwrap();
    let unknown = StoreError::LeaseNotFound(lease);
    assert_eq!(store.keep_alive(lease).await, Err(unknown.clone()));
    let mut txn = Txn::new();
    txn.put("a", "").put_leased("l", "", lease);
    assert_eq!(store.txn(txn).await, Err(TxnError::Store(unknown)));
    assert_eq!(keys(&store, "").await, Vec::<String>::new());
}

/// As in etcd.
pub async fn a_key_written_without_its_lease_is_detached(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let lease = store.grant(TTL).await.unwrap();
    put_leased(&store, "l", lease).await;
    put(&store, "l", "stays").await;
    store.revoke(lease).await.unwrap();
    assert_eq!(keys(&store, "").await, ["l"]);
}
