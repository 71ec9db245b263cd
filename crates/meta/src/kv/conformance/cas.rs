//! Concurrent transactions.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{StoreFixture, put, value};
use crate::kv::store::{KeyCondition, Store, Txn, TxnError};

const ACTORS: usize = 8;
const STEPS: usize = 25;

async fn increment(store: &Arc<dyn Store>, key: &str) {
    loop {
        let read = store.get(key).await.unwrap().unwrap();
        let number: u64 = String::from_utf8_lossy(&read.value).parse().unwrap();
        let mut txn = Txn::new();
        txn.expect(key, KeyCondition::Revision(read.mod_revision))
            .put(key, (number + 1).to_string());
        match store.txn(txn).await {
            Ok(_) => return,
            Err(TxnError::Conflict(0)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

pub async fn concurrent_increments_lose_nothing(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    put(&store, "n", "0").await;
    let mut actors = JoinSet::new();
    for _ in 0..ACTORS {
        let store = Arc::clone(&store);
        actors.spawn(async move {
            for _ in 0..STEPS {
                increment(&store, "n").await;
            }
        });
    }
    while let Some(done) = actors.join_next().await {
        done.unwrap();
    }
    let expected = (ACTORS * STEPS).to_string();
    assert_eq!(value(&store, "n").await, Some(expected));
}

pub async fn one_of_many_creators_wins(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut actors = JoinSet::new();
    for i in 0..ACTORS {
        let store = Arc::clone(&store);
        actors.spawn(async move {
            let mut txn = Txn::new();
            txn.expect("one", KeyCondition::Absent)
                .put("one", i.to_string());
            store.txn(txn).await.ok().map(|_| i)
        });
    }
    let mut winners = Vec::new();
    while let Some(done) = actors.join_next().await {
        winners.extend(done.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(value(&store, "one").await, Some(winners[0].to_string()));
}

/// A page is consistent: what is written together is read together.
pub async fn readers_see_whole_transactions(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for i in 0..STEPS * 4 {
                let mut txn = Txn::new();
                for key in ["p/a", "p/b", "p/c"] {
                    txn.put(key, i.to_string());
                }
                store.txn(txn).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let page = store.range("p/", None, 10).await.unwrap();
        let mut values: Vec<_> = page.entries.iter().map(|e| e.value.clone()).collect();
        values.dedup();
        assert!(values.len() <= 1, "{values:?}");
        assert!(page.entries.iter().all(|e| e.mod_revision <= page.revision));
    }
    writer.await.unwrap();
}
