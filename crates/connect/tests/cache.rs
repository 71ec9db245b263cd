//! Caches of row hashes: the conformance suite, and tests of each cache.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::sync::Arc;

use forebay_connect::cache::embedded::EmbeddedCache;
use forebay_connect::cache::{CacheBackend, conformance};

fn open(path: &Path, space: &str, max_rows: u64) -> EmbeddedCache {
    EmbeddedCache::open(path, space, max_rows, Arc::new(())).unwrap()
}

#[tokio::test]
async fn the_embedded_cache_stores_and_invalidates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    conformance::run(&open(&path, "a", 10_000), "a").await;
    // After reopening, the cache has its entries, and none of other spaces.
    let again = open(&path, "a", 10_000);
    assert_eq!(again.get("a", &[[1; 16]]).await.unwrap(), [Some([11; 16])]);
    drop(again);
    let other = open(&path, "b", 10_000);
    assert_eq!(other.get("a", &[[1; 16]]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_damaged_cache_is_recreated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    std::fs::write(&path, vec![7; 5000]).unwrap();
    conformance::run(&open(&path, "a", 10_000), "a").await;
}

#[tokio::test]
async fn the_embedded_cache_keeps_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let hash = |n: u64| -> [u8; 16] {
        // Evenly distributed, as the hashes of real keys are.
        let mixed = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        mixed.to_be_bytes()
    };
    let keys: Vec<_> = (0..5000).map(hash).collect();
    let entries =
        |n: std::ops::Range<usize>| -> Vec<_> { keys[n].iter().map(|k| (*k, hash(7))).collect() };
    let hits = async |cache: &EmbeddedCache| {
        let found = cache.get("a", &keys).await.unwrap();
        found.iter().flatten().filter(|h| **h == hash(7)).count()
    };
    let cache = open(&path, "a", 1000);
    for part in entries(0..5000).chunks(100) {
        cache.put("a", part).await.unwrap();
    }
    drop(cache);
    let cache = open(&path, "a", 1000);
    assert_eq!(hits(&cache).await, 1000);
    // New keys evict others, and repeated keys evict none.
    drop(cache);
    for _ in 0..3 {
        let cache = open(&path, "a", 1000);
        for part in entries(4500..5000).chunks(100) {
            cache.put("a", part).await.unwrap();
        }
        drop(cache);
        let cache = open(&path, "a", 1000);
        assert_eq!(hits(&cache).await, 1000);
        let found = cache.get("a", &keys[4500..]).await.unwrap();
        assert!(
            found.iter().flatten().count() > 250,
            "at least half of them"
        );
    }
    // Rows of another space are evicted first, and a lower limit applies from the beginning.
    let cache = open(&path, "a", 200);
    assert_eq!(hits(&cache).await, 200);
    cache.put("b", &[(hash(1), hash(2))]).await.unwrap();
    assert_eq!(cache.get("b", &[hash(1)]).await.unwrap(), [Some(hash(2))]);
}

#[cfg(feature = "redis")]
mod redis {
    use std::time::Duration;

    use forebay_connect::cache::redis::{RedisCache, RedisConfig};
    use forebay_connect::cache::{CacheBackend, conformance};
    use forebay_test_support::services;

    fn config(url: &str) -> RedisConfig {
        RedisConfig {
            url: url.into(),
            ttl: Duration::from_secs(60),
            ca_pem: None,
            timeout: Duration::from_secs(2),
        }
    }

    #[tokio::test]
    async fn redis_stores_and_invalidates() {
        let Some(url) = services::redis("redis_stores_and_invalidates") else {
            return;
        };
        let cache = RedisCache::open(config(&url)).unwrap();
        conformance::run(&cache, &format!("test-{}", std::process::id())).await;
    }

    /// A pipeline of 1,000 commands that all fail.
    #[tokio::test]
    async fn an_error_of_a_pipeline_is_one_short_line() {
        let Some(url) = services::redis("an_error_of_a_pipeline_is_one_short_line") else {
            return;
        };
        let user = format!("forebay-{}", std::process::id());
        let client = redis::Client::open(url.as_str()).unwrap();
        let mut admin = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&user);
        command.arg(&["on", ">pw", "~*", "+@all", "-set"]);
        let () = command.query_async(&mut admin).await.unwrap();
        let as_user = url.replace("redis://", &format!("redis://{user}:pw@"));
        let cache = RedisCache::open(config(&as_user)).unwrap();
        let hash = |n: u32| {
            let mut hash = [0; 16];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            hash
        };
        let entries: Vec<_> = (0..1000).map(|n| (hash(n), hash(n))).collect();
        let error = cache.put("a", &entries).await.unwrap_err().to_string();
        let deleted = redis::cmd("ACL").arg("DELUSER").arg(&user).to_owned();
        let () = deleted.query_async(&mut admin).await.unwrap();
        assert!(error.starts_with("Redis: NoPerm: "), "{error}");
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }

    #[tokio::test]
    async fn redis_over_tls_needs_a_valid_certificate() {
        let test = "redis_over_tls_needs_a_valid_certificate";
        let Some((url, ca)) = services::redis_tls(test) else {
            return;
        };
        let mut trusted = config(&url);
        trusted.ca_pem = Some(std::fs::read(ca).unwrap());
        let cache = RedisCache::open(trusted).unwrap();
        conformance::run(&cache, &format!("tls-{}", std::process::id())).await;
        // The system doesn't trust the test's CA.
        let cache = RedisCache::open(config(&url)).unwrap();
        assert!(cache.get("a", &[[1; 16]]).await.is_err());
        let mut broken = config(&url);
        broken.ca_pem = Some(b"no PEM".to_vec());
        let error = match RedisCache::open(broken) {
            Err(error) => error,
            Ok(cache) => cache.get("a", &[[1; 16]]).await.unwrap_err(),
        };
        assert!(!error.to_string().is_empty());
    }

    #[tokio::test]
    async fn an_unreachable_redis_is_an_error_that_hides_the_password() {
        let cache = RedisCache::open(config("redis://:hunter2@127.0.0.1:1/")).unwrap();
        let error = cache.get("a", &[[1; 16]]).await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = RedisCache::open(config("redis://:hunter2@/ /"))
            .err()
            .unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
