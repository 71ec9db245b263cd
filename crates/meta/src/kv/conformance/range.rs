//! Reads.

use super::{StoreFixture, delete, keys, put};
use crate::kv::store::Revision;

pub async fn an_absent_key_has_no_entry(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    assert_eq!(store.get("a").await.unwrap(), None);
    put(&store, "a", "1").await;
    delete(&store, "a").await;
    assert_eq!(store.get("a").await.unwrap(), None);
}

pub async fn an_entry_has_its_create_and_mod_revisions(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let made = put(&store, "a", "1").await;
    let written = put(&store, "a", "2").await;
    assert_eq!(written, made.next());
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (made, written));
    assert_eq!((entry.key.as_str(), &entry.value[..]), ("a", &b"2"[..]));
    delete(&store, "a").await;
    let again = put(&store, "a", "3").await;
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (again, again));
}

pub async fn a_range_is_sorted_by_bytes_and_limited_to_its_prefix(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    for key in [
        "a/ß",
        "a/b",
        "a",
        "a0",
        "a/B",
        "a/",
        "b/a",
        "a/b/c",
        "A/b",
        "a/\u{10ffff}",
    ] {
        put(&store, key, "").await;
    }
    let below_a = ["a/", "a/B", "a/b", "a/b/c", "a/ß", "a/\u{10ffff}"];
    assert_eq!(keys(&store, "a/").await, below_a);
    assert_eq!(keys(&store, "").await.len(), 10);
    assert_eq!(keys(&store, "c").await, Vec::<String>::new());
}

pub async fn pages_join_without_gap_or_repeat(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    for i in 0..25 {
        put(&store, &format!("p/{i:02}"), "").await;
    }
    put(&store, "q", "").await;
    let all = keys(&store, "p/").await;
    for limit in [1, 7, 25, 26] {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.range("p/", after.as_deref(), limit).await.unwrap();
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.iter().map(|e| e.key.clone()));
            assert_eq!(page.more, found.len() < 25);
            after = found.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(found, all);
    }
    let beyond = store.range("p/", Some("p/99"), 10).await.unwrap();
    assert!(beyond.entries.is_empty() && !beyond.more);
}

pub async fn a_count_is_that_of_the_prefix(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    for i in 0..25 {
        put(&store, &format!("p/{i:02}"), "").await;
    }
    put(&store, "p", "").await;
    put(&store, "p0", "").await;
    delete(&store, "p/07").await;
    for (prefix, expected) in [("p/", 24), ("p/1", 10), ("p", 26), ("q", 0), ("", 26)] {
        assert_eq!(store.count(prefix).await.unwrap(), expected, "{prefix}");
    }
}

pub async fn a_page_has_the_revision_of_the_store(fixture: &dyn StoreFixture) {
    let store = fixture.store();
    let empty = store.range("a/", None, 10).await.unwrap().revision;
    assert_eq!(empty, Revision::default());
    put(&store, "a/1", "").await;
    let other = put(&store, "b", "").await;
    let page = store.range("a/", None, 10).await.unwrap();
    assert_eq!(page.revision, other);
    assert!(page.entries[0].mod_revision < other);
}
