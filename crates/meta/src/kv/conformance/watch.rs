//! Watches.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::{StoreFixture, delete, put};
use crate::kv::store::{Revision, Store, Txn, WatchBatch, WatchError, WatchEvent, WatchStream};

/// Reads until all changes up to `revision` were reported.
async fn read_until(watch: &mut WatchStream, revision: Revision) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    let mut last = Revision::default();
    while last < revision {
        let WatchBatch {
            events: new,
            revision,
        } = watch.next().await.unwrap().unwrap();
        assert!(revision > last, "batches go forward");
        assert!(
            new.iter()
                .all(|e| e.revision() > last && e.revision() <= revision)
        );
        events.extend(new);
        last = revision;
    }
    events
}

/// `key=value@revision` or `-key@revision`.
fn shown(events: &[WatchEvent]) -> Vec<String> {
    let show = |e: &WatchEvent| match e {
        WatchEvent::Put(entry) => {
            let value = String::from_utf8_lossy(&entry.value);
            format!("{}={value}@{}", entry.key, entry.mod_revision)
        }
        WatchEvent::Delete { key, revision } => format!("-{key}@{revision}"),
    };
    events.iter().map(show).collect()
}

pub async fn changes_arrive_in_order_with_their_values(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut watch = store.watch("w/", Revision(1)).await.unwrap();
    put(&store, "w/a", "1").await;
    put(&store, "x", "other").await;
    put(&store, "w/a", "2").await;
    put(&store, "w/b", "3").await;
    let last = delete(&store, "w/a").await;
    let events = read_until(&mut watch, last).await;
    assert_eq!(shown(&events), ["w/a=1@1", "w/a=2@3", "w/b=3@4", "-w/a@5"]);
    let WatchEvent::Put(second) = &events[1] else {
        panic!("a put")
    };
    assert_eq!(second.create_revision, Revision(1));
}

pub async fn a_watch_starts_in_the_past(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    for i in 1..=5 {
        put(&store, "w", &i.to_string()).await;
    }
    let mut watch = store.watch("w", Revision(3)).await.unwrap();
    let events = read_until(&mut watch, Revision(5)).await;
    assert_eq!(shown(&events), ["w=3@3", "w=4@4", "w=5@5"]);
    let next = put(&store, "w", "6").await;
    assert_eq!(shown(&read_until(&mut watch, next).await), ["w=6@6"]);
}

/// From a future revision: nothing before it is reported.
pub async fn a_watch_starts_in_the_future(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut watch = store.watch("w", Revision(3)).await.unwrap();
    for i in 1..=3 {
        put(&store, "w", &i.to_string()).await;
    }
    assert_eq!(shown(&read_until(&mut watch, Revision(3)).await), ["w=3@3"]);
}

pub async fn a_transaction_is_in_one_batch(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut watch = store.watch("w/", Revision(1)).await.unwrap();
    for round in 0..20 {
        let mut txn = Txn::new();
        for i in 0..100 {
            txn.put(format!("w/{i}"), round.to_string());
        }
        store.txn(txn).await.unwrap();
    }
    let mut seen = 0;
    while seen < 2000 {
        let batch = watch.next().await.unwrap().unwrap();
        assert_eq!(batch.events.len() % 100, 0);
        seen += batch.events.len();
    }
}

pub async fn unrelated_changes_advance_the_watch(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut watch = store.watch("w/", Revision(1)).await.unwrap();
    let other = put(&store, "x", "").await;
    assert_eq!(read_until(&mut watch, other).await, []);
}

/// The future of `next` may be dropped, as `select!` does.
pub async fn dropping_next_loses_nothing(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut watch = store.watch("w", Revision(1)).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    let last = put(&store, "w", "1").await;
    assert_eq!(shown(&read_until(&mut watch, last).await), ["w=1@1"]);
    assert!(watch.next().now_or_never().is_none());
    let last = put(&store, "w", "2").await;
    assert_eq!(shown(&read_until(&mut watch, last).await), ["w=2@2"]);
}

/// The error has the first revision that can be watched.
pub async fn a_watch_from_a_compacted_revision_is_rejected(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    put(&store, "w", "1").await;
    fixture.compact().await;
    let head = store.range("", None, 1).await.unwrap().revision;
    let error = first_error(&store, Revision(1)).await;
    let WatchError::Compacted { oldest } = error else {
        panic!("{error}")
    };
    assert!(oldest > Revision(1) && oldest <= head.next());
    drop(store.watch("w", oldest).await.unwrap());
    let mut watch = store.watch("w", head.next()).await.unwrap();
    let last = put(&store, "w", "2").await;
    let events = read_until(&mut watch, last).await;
    assert_eq!(shown(&events), [format!("w=2@{last}")]);
}

/// A backend returns the error at once or as the first item.
async fn first_error(store: &Arc<dyn Store>, from: Revision) -> WatchError {
    match store.watch("w", from).await {
        Err(e) => e,
        Ok(mut watch) => {
            let first = tokio::time::timeout(Duration::from_secs(10), watch.next());
            first.await.unwrap().unwrap().unwrap_err()
        }
    }
}

/// A watch that started in time, and was then not polled. A backend may retain its batches; it must
/// not skip one.
pub async fn a_slow_watch_never_skips_a_batch(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut watch = store.watch("w", Revision(1)).await.unwrap();
    let first = put(&store, "w", "1").await;
    fixture.compact().await;
    match watch.next().await.unwrap() {
        Err(WatchError::Compacted { oldest }) => {
            assert!(oldest > first);
            assert!(watch.next().await.is_none());
        }
        Err(e) => panic!("{e}"),
        Ok(batch) => assert_eq!(shown(&batch.events)[0], "w=1@1"),
    }
}

pub async fn watches_are_independent(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut all = store.watch("", Revision(1)).await.unwrap();
    let mut one = store.watch("w/1", Revision(1)).await.unwrap();
    put(&store, "w/1", "a").await;
    drop(store.watch("w", Revision(1)).await.unwrap());
    let last = put(&store, "w/2", "b").await;
    assert_eq!(shown(&read_until(&mut one, last).await), ["w/1=a@1"]);
    assert_eq!(
        shown(&read_until(&mut all, last).await),
        ["w/1=a@1", "w/2=b@2"]
    );
}
