//! Limits: the same for all backends; a transaction beyond them has no effect.

use std::sync::Arc;

use super::{StoreFixture, keys, put};
use crate::kv::store::{
    KEY_BYTES_MAX, KeyCondition, Revision, Store, StoreError, TXN_BYTES_MAX, TXN_OPS_MAX, Txn,
    TxnError, VALUE_BYTES_MAX,
};

async fn assert_rejected(store: &Arc<dyn Store>, txn: Txn) {
    let error = store.txn(txn).await.unwrap_err();
    assert!(
        matches!(error, TxnError::Store(StoreError::Limit(_))),
        "{error}"
    );
    assert!(keys(store, "").await.iter().all(|k| k.starts_with("ok")));
}

pub async fn keys_are_limited(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    put(&store, &format!("ok{}", "k".repeat(KEY_BYTES_MAX - 2)), "").await;
    for key in [
        "k".repeat(KEY_BYTES_MAX + 1),
        String::new(),
        "a\0b".to_owned(),
    ] {
        let mut txn = Txn::new();
        txn.put(key.clone(), "");
        assert_rejected(&store, txn).await;
        let mut txn = Txn::new();
        txn.expect(key.clone(), KeyCondition::Absent).put("b", "");
        assert_rejected(&store, txn).await;
        assert!(matches!(store.get(&key).await, Err(StoreError::Limit(_))));
    }
}

pub async fn values_are_limited(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let most = vec![7u8; VALUE_BYTES_MAX];
    let mut txn = Txn::new();
    txn.put("ok", most.clone());
    store.txn(txn).await.unwrap();
    assert_eq!(store.get("ok").await.unwrap().unwrap().value, most);
    let mut txn = Txn::new();
    txn.put("b", vec![7u8; VALUE_BYTES_MAX + 1]);
    assert_rejected(&store, txn).await;
}

pub async fn transactions_are_limited(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let mut most = Txn::new();
    for i in 0..TXN_OPS_MAX {
        most.expect(format!("ok{i}"), KeyCondition::Absent);
        most.put(format!("ok{i}"), "");
    }
    let mut ops = most.clone();
    ops.put("b", "");
    assert_rejected(&store, ops).await;
    let mut preconditions = most.clone();
    preconditions.expect("b", KeyCondition::Absent);
    assert_rejected(&store, preconditions).await;
    let mut not_newer = most.clone();
    not_newer.expect_not_newer("b", Revision::default());
    assert_rejected(&store, not_newer).await;
    store.txn(most).await.unwrap();
    // Keys and values together: as many bytes as allowed, and one more.
    let filled = |more: usize| {
        let mut bytes = Txn::new();
        for i in 0..TXN_BYTES_MAX / VALUE_BYTES_MAX {
            bytes.put(format!("ok/{i}"), vec![7u8; VALUE_BYTES_MAX - 4]);
        }
        if more > 0 {
            bytes.expect("b", KeyCondition::Absent);
        }
        bytes
    };
    assert_rejected(&store, filled(1)).await;
    store.txn(filled(0)).await.unwrap();
}

pub async fn overlapping_operations_are_rejected(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    type Make = fn(&mut Txn) -> &mut Txn;
    let twice: [Make; 6] = [
        |t| t.put("a", "1").put("a", "2"),
        |t| t.put("a", "1").delete("a"),
        |t| t.delete("a").delete("a"),
        |t| t.put("p/a", "1").delete_prefix("p/"),
        |t| t.delete_prefix("p/q/").put("x", "").delete_prefix("p/"),
        |t| t.delete_prefix("p/").put("o", "").put("p/z/1", ""),
    ];
    for make in twice {
        let mut txn = Txn::new();
        make(&mut txn);
        assert_rejected(&store, txn).await;
    }
    let mut fine = Txn::new();
    fine.delete_prefix("ok/")
        .put("ok", "")
        .put("ok0", "")
        .delete("ok-");
    store.txn(fine).await.unwrap();
}
