//! Transactions.

use std::sync::Arc;

use super::{StoreFixture, delete, keys, put, value};
use crate::kv::store::{KeyCondition, Revision, Store, Txn, TxnError};

async fn head(store: &Arc<dyn Store>) -> Revision {
    store.range("", None, 1).await.unwrap().revision
}

pub async fn preconditions_are_checked(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    for (key, expect, holds) in [
        ("a", KeyCondition::Revision(second), true),
        ("a", KeyCondition::Revision(first), false),
        ("a", KeyCondition::Exists, true),
        ("a", KeyCondition::Absent, false),
        ("b", KeyCondition::Revision(second), false),
        ("b", KeyCondition::Revision(Revision::default()), false),
        ("b", KeyCondition::Exists, false),
        ("b", KeyCondition::Absent, true),
    ] {
        let mut txn = Txn::new();
        txn.expect(key, expect).put("c", "x");
        match store.txn(txn).await {
            Ok(_) => assert!(holds, "{key} {expect:?}"),
            Err(e) => assert_eq!((e, holds), (TxnError::Conflict(0), false)),
        }
    }
}

pub async fn the_first_failed_precondition_is_reported(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    put(&store, "a", "1").await;
    let mut txn = Txn::new();
    txn.expect("a", KeyCondition::Exists)
        .expect("b", KeyCondition::Exists)
        .expect("c", KeyCondition::Exists)
        .put("d", "");
    assert_eq!(store.txn(txn).await, Err(TxnError::Conflict(1)));
}

/// A prefix as a whole was written after a revision if one of its present keys was.
pub async fn a_write_below_a_prefix_is_newer(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let first = put(&store, "p/1", "1").await;
    let second = put(&store, "p/2", "1").await;
    let other = put(&store, "p", "1").await;
    put(&store, "p0", "1").await;
    let none = Revision::default();
    for (prefix, revision, holds) in [
        ("p/", first, false),
        ("p/", second, true),
        ("p/", other, true),
        ("p/1", first, true),
        ("p/", none, false),
        ("q/", none, true),
    ] {
        let mut txn = Txn::new();
        txn.expect_not_newer(prefix, revision).put("c", "x");
        match store.txn(txn).await {
            Ok(_) => assert!(holds, "{prefix} {revision}"),
            Err(e) => assert_eq!((e, holds), (TxnError::Conflict(0), false), "{prefix}"),
        }
    }
    // A key that is written again, or created, is newer; one that is deleted is not noticed.
    delete(&store, "p/1").await;
    let mut txn = Txn::new();
    txn.expect("c", KeyCondition::Exists)
        .expect_not_newer("p/", second)
        .put("p/3", "1");
    store.txn(txn.clone()).await.unwrap();
    assert_eq!(store.txn(txn).await, Err(TxnError::Conflict(1)));
}

pub async fn a_failed_transaction_changes_nothing(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    put(&store, "a", "1").await;
    put(&store, "p/1", "1").await;
    let before = head(&store).await;
    let mut txn = Txn::new();
    txn.expect("a", KeyCondition::Absent)
        .put("a", "2")
        .put("b", "2")
        .delete_prefix("p/");
    assert_eq!(store.txn(txn).await, Err(TxnError::Conflict(0)));
    assert_eq!(keys(&store, "").await, ["a", "p/1"]);
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
    assert_eq!(head(&store).await, before);
}

pub async fn a_transaction_has_one_revision(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let before = put(&store, "x", "").await;
    let mut txn = Txn::new();
    txn.put("a", "1").put("b", "2").delete("x");
    let revision = store.txn(txn).await.unwrap();
    assert_eq!(revision, before.next());
    for entry in store.range("", None, 10).await.unwrap().entries {
        assert_eq!(entry.mod_revision, revision);
    }
    assert_eq!(head(&store).await, revision);
}

/// Deletions of absent keys, and a transaction of preconditions only.
pub async fn a_transaction_without_changes_has_no_revision(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let before = put(&store, "a", "1").await;
    let mut nothing = Txn::new();
    nothing.delete("b").delete_prefix("c/");
    assert_eq!(store.txn(nothing).await, Ok(before));
    let mut conditions = Txn::new();
    conditions.expect("a", KeyCondition::Exists);
    assert_eq!(store.txn(conditions).await, Ok(before));
    assert_eq!(put(&store, "a", "2").await, before.next());
}

pub async fn deleting_a_prefix_deletes_nothing_else(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    for key in ["p", "p/", "p/1", "p/1/2", "p/\u{10ffff}", "p0", "q"] {
        put(&store, key, "").await;
    }
    let mut txn = Txn::new();
    txn.delete_prefix("p/");
    store.txn(txn).await.unwrap();
    assert_eq!(keys(&store, "").await, ["p", "p0", "q"]);
}
