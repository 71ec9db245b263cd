//! The key-value store under the catalog: etcd's model of ordered keys, revisions and transactions.
//!
//! [`store`] is the trait, [`embedded`] its implementation in SQLite (etcd is to come, against the
//! same suite in `conformance`), [`session`] the keep-alive of a lease, and [`watch_cache`] holds
//! prefixes of the store in memory.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod session;
pub mod sqlite_copy;
pub mod store;
pub mod watch_cache;
