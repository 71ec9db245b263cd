//! Conformance suite of row hash caches.

#![allow(clippy::unwrap_used, reason = "only tests call this")]

use crate::cache::{CacheBackend, RowHash};

/// Runs the suite in spaces whose names begin with `space`; no other user may have such spaces.
///
/// # Panics
/// When the cache fails the suite.
pub async fn run(cache: &dyn CacheBackend, space: &str) {
    let hash = |n: u8| -> RowHash { [n; 16] };
    let keys = [hash(1), hash(2), hash(3)];
    assert_eq!(cache.get(space, &keys).await.unwrap(), [None, None, None]);
    assert_eq!(cache.get(space, &[]).await.unwrap(), []);
    let entries = [(hash(1), hash(10)), (hash(3), hash(30))];
    cache.put(space, &entries).await.unwrap();
    let found = cache.get(space, &keys).await.unwrap();
    assert_eq!(found, [Some(hash(10)), None, Some(hash(30))]);
    cache.put(space, &[(hash(1), hash(11))]).await.unwrap();
    cache.invalidate(space, &[hash(3), hash(2)]).await.unwrap();
    cache.invalidate(space, &[]).await.unwrap();
    cache.put(space, &[]).await.unwrap();
    let found = cache.get(space, &keys).await.unwrap();
    assert_eq!(found, [Some(hash(11)), None, None]);
    let other = format!("{space}-other");
    assert_eq!(cache.get(&other, &keys).await.unwrap(), [None, None, None]);
    // More than fits into one statement or one round trip.
    let key = |n: u32| -> RowHash {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&n.to_be_bytes());
        key
    };
    let many: Vec<(RowHash, RowHash)> = (0..5000).map(|n| (key(n), key(n + 7))).collect();
    cache.put(&other, &many).await.unwrap();
    let keys: Vec<RowHash> = many.iter().map(|(k, _)| *k).collect();
    let found = cache.get(&other, &keys).await.unwrap();
    assert!(found.iter().zip(&many).all(|(f, (_, h))| *f == Some(*h)));
}
