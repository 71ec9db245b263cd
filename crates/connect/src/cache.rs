//! Cache of the rows known to be in a table: a content hash per key.
//!
//! A cache may lose entries at any time. It must never return a hash after the key was invalidated.

use async_trait::async_trait;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "sqlite")]
pub mod embedded;
#[cfg(feature = "redis")]
pub mod redis;

/// Hash of a key or of a row.
pub type RowHash = [u8; 16];

/// The cache is unreachable or returned something else than a cache entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(pub String);

/// A cache of row hashes. A space is a namespace of keys; spaces share nothing.
#[async_trait]
pub trait CacheBackend: Send + Sync {
    /// Cached hash of each key, in the order of `keys`.
    async fn get(&self, space: &str, keys: &[RowHash]) -> Result<Vec<Option<RowHash>>, CacheError>;

    /// Removes keys. Once this returns, they stay removed even if the process or, for a cache on
    /// disk, the machine crashes. After an error any of them may still be cached.
    async fn invalidate(&self, space: &str, keys: &[RowHash]) -> Result<(), CacheError>;

    /// Stores entries. After an error some of them may be stored.
    async fn put(&self, space: &str, entries: &[(RowHash, RowHash)]) -> Result<(), CacheError>;
}
