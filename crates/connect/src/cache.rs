//! What is known to be in a table: a hash for each key.
//!
//! A cache may forget anything at any time. What it must not do is to answer a hash after it was
//! told to forget it.

use async_trait::async_trait;

#[cfg(any(test, feature = "test-services"))]
pub mod conformance;
#[cfg(feature = "sqlite")]
pub mod embedded;
#[cfg(feature = "redis")]
pub mod redis;

/// The key of a row, or a row, as a hash.
pub type RowHash = [u8; 16];

/// Why a cache did not do what it was asked for: it can't be reached, or what is there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(pub String);

/// A cache of row hashes. A space is a name under which keys are; nothing is shared between two.
#[async_trait]
pub trait CacheBackend: Send + Sync {
    /// What is known of each key, in their order.
    ///
    /// # Errors
    /// When it can't be asked.
    async fn get(&self, space: &str, keys: &[RowHash]) -> Result<Vec<Option<RowHash>>, CacheError>;

    /// Forgets keys. Once it returns, they are forgotten whatever happens to this process or, where
    /// the cache is on disk, to the machine.
    ///
    /// # Errors
    /// When it can't be told; then nothing is certain of any of them.
    async fn invalidate(&self, space: &str, keys: &[RowHash]) -> Result<(), CacheError>;

    /// Notes what is now known.
    ///
    /// # Errors
    /// When it can't be told; some of it may be noted.
    async fn put(&self, space: &str, entries: &[(RowHash, RowHash)]) -> Result<(), CacheError>;
}
