//! Caches of row hashes: the suite on each, and what is their own.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use forebay_remote::cache::embedded::EmbeddedCache;
use forebay_remote::cache::{RowCache, conformance};

#[tokio::test]
async fn the_embedded_cache_knows_and_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    conformance::run(&EmbeddedCache::open(&path, "a").unwrap(), "a").await;
    // Opened again it knows what it knew, and nothing of other spaces.
    let again = EmbeddedCache::open(&path, "a").unwrap();
    assert_eq!(again.get("a", &[[1; 16]]).await.unwrap(), [Some([11; 16])]);
    drop(again);
    let other = EmbeddedCache::open(&path, "b").unwrap();
    assert_eq!(other.get("a", &[[1; 16]]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_damaged_cache_knows_nothing_and_works() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    std::fs::write(&path, vec![7; 5000]).unwrap();
    conformance::run(&EmbeddedCache::open(&path, "a").unwrap(), "a").await;
}

#[cfg(feature = "redis")]
mod redis {
    use std::time::Duration;

    use forebay_remote::cache::redis::{RedisCache, RedisConfig};
    use forebay_remote::cache::{RowCache, conformance};
    use forebay_remote::services;

    fn config(url: &str) -> RedisConfig {
        RedisConfig {
            url: url.into(),
            ttl: Duration::from_secs(60),
            timeout: Duration::from_secs(2),
        }
    }

    #[tokio::test]
    async fn redis_knows_and_forgets() {
        let Some(url) = services::redis("redis_knows_and_forgets") else {
            return;
        };
        let cache = RedisCache::open(config(&url)).unwrap();
        conformance::run(&cache, &format!("test-{}", std::process::id())).await;
    }

    #[tokio::test]
    async fn a_redis_that_is_not_there_is_an_error_and_its_password_is_not_shown() {
        let cache = RedisCache::open(config("redis://:hunter2@127.0.0.1:1/")).unwrap();
        let error = cache.get("a", &[[1; 16]]).await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = RedisCache::open(config("redis://:hunter2@/ /"))
            .err()
            .unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
