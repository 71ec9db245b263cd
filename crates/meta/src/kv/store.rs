//! Store of the metadata: a small version of etcd's model.
//!
//! Keys are ordered texts, values are bytes. Each transaction that changes anything gets a
//! *revision*, one higher than the previous one; an entry has the revisions that created it and
//! last changed it. A caller reads, decides, and writes with the precondition that what it read is
//! unchanged (compare-and-swap); a watch reports all changes from a revision on.
//!
//! Every backend passes the suite in [`crate::kv::conformance`].

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// Maximum bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Maximum bytes of a value.
pub const VALUE_BYTES_MAX: usize = 512 << 10;
/// Maximum operations of a transaction, and separately its preconditions: the default of etcd's
/// `--max-txn-ops`.
pub const TXN_OPS_MAX: usize = 128;
/// Maximum bytes of all keys and values of a transaction: below the default of etcd's
/// `--max-request-bytes`, which includes the encoding.
pub const TXN_BYTES_MAX: usize = 1 << 20;
/// Maximum entries of one [`Store::range`], whatever limit is requested.
pub const RANGE_ENTRIES_MAX: usize = 1000;

/// Number of a transaction that changed something; 0 is the empty store.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl Revision {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lease: its keys are deleted unless it is renewed within its TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A key with its value and revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreEntry {
    pub key: String,
    pub value: Bytes,
    /// Transaction that created the key since it was last absent.
    pub create_revision: Revision,
    /// Transaction that last wrote the key.
    pub mod_revision: Revision,
    /// Lease that the key is attached to.
    pub lease: Option<LeaseId>,
}

/// A page of entries and the revision at which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPage {
    /// In byte order of the keys.
    pub entries: Vec<StoreEntry>,
    /// The page shows exactly the transactions up to this one.
    pub revision: Revision,
    /// There are more entries after the last one.
    pub more: bool,
}

/// Condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// State of one key.
    Key { key: String, expect: KeyCondition },
    /// No key that begins with `prefix` was written after `revision`. Deletions are not noticed: a
    /// caller that relies on the presence of keys has a condition on a key that their deletion
    /// writes. One such condition replaces one for each key.
    NotNewer { prefix: String, revision: Revision },
}

impl Precondition {
    /// The key or prefix.
    pub fn subject(&self) -> &str {
        match self {
            Self::Key { key, .. } => key,
            Self::NotNewer { prefix, .. } => prefix,
        }
    }
}

/// Expected state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCondition {
    /// The key was last written by this transaction.
    Revision(Revision),
    Absent,
    Exists,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Writes a key. A write without a lease detaches the key from its lease.
    Put {
        key: String,
        value: Bytes,
        lease: Option<LeaseId>,
    },
    /// Deletes a key; no effect if it is absent.
    Delete { key: String },
    /// Deletes all keys that begin with `prefix`.
    DeletePrefix { prefix: String },
}

/// Operations that are applied atomically if all preconditions hold. No two operations may touch
/// the same key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<TxnOp>,
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn expect(&mut self, key: impl Into<String>, expect: KeyCondition) -> &mut Self {
        self.preconditions.push(Precondition::Key {
            key: key.into(),
            expect,
        });
        self
    }

    /// Requires that no key that begins with `prefix` was written after `revision`.
    pub fn expect_not_newer(&mut self, prefix: impl Into<String>, revision: Revision) -> &mut Self {
        self.preconditions.push(Precondition::NotNewer {
            prefix: prefix.into(),
            revision,
        });
        self
    }

    pub fn put(&mut self, key: impl Into<String>, value: impl Into<Bytes>) -> &mut Self {
        self.ops.push(TxnOp::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        });
        self
    }

    /// Adds a write of a key attached to `lease`.
    pub fn put_leased(
        &mut self,
        key: impl Into<String>,
        value: impl Into<Bytes>,
        lease: LeaseId,
    ) -> &mut Self {
        self.ops.push(TxnOp::Put {
            key: key.into(),
            value: value.into(),
            lease: Some(lease),
        });
        self
    }

    pub fn delete(&mut self, key: impl Into<String>) -> &mut Self {
        self.ops.push(TxnOp::Delete { key: key.into() });
        self
    }

    /// Adds the deletion of all keys that begin with `prefix`.
    pub(crate) fn delete_prefix(&mut self, prefix: impl Into<String>) -> &mut Self {
        self.ops.push(TxnOp::DeletePrefix {
            prefix: prefix.into(),
        });
        self
    }

    /// Checks the limits; every backend calls this first.
    pub fn check(&self) -> Result<(), StoreError> {
        let limit = |text: String| Err(StoreError::Limit(text));
        let count = self.ops.len().max(self.preconditions.len());
        if count > TXN_OPS_MAX {
            return limit(format!(
                "a transaction of {count} operations, the maximum is {TXN_OPS_MAX}"
            ));
        }
        let mut bytes = 0;
        for precondition in &self.preconditions {
            check_key(precondition.subject())?;
            bytes += precondition.subject().len();
        }
        for op in &self.ops {
            bytes += match op {
                TxnOp::Put { key, value, .. } => {
                    check_key(key)?;
                    if value.len() > VALUE_BYTES_MAX {
                        return limit(format!(
                            "the value of {key} has {} bytes, the maximum is {VALUE_BYTES_MAX}",
                            value.len()
                        ));
                    }
                    key.len() + value.len()
                }
                TxnOp::Delete { key } | TxnOp::DeletePrefix { prefix: key } => {
                    check_key(key)?;
                    key.len()
                }
            };
        }
        if bytes > TXN_BYTES_MAX {
            return limit(format!(
                "a transaction of {bytes} bytes, the maximum is {TXN_BYTES_MAX}"
            ));
        }
        self.check_overlap()
    }

    /// Rejects overlapping operations, since backends differ in their effect.
    fn check_overlap(&self) -> Result<(), StoreError> {
        // A key is a range of one; prefixes are wider. After sorting, an overlap is between an
        // operation and the widest one before it.
        let mut touched: Vec<(&str, bool)> = self
            .ops
            .iter()
            .map(|op| match op {
                TxnOp::Put { key, .. } | TxnOp::Delete { key } => (key.as_str(), false),
                TxnOp::DeletePrefix { prefix } => (prefix.as_str(), true),
            })
            .collect();
        // A prefix sorts before a key of the same text, so that it counts as the previous one.
        touched.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        let mut prefix: Option<&str> = None;
        for pair in touched.windows(2) {
            let [(before, is_prefix), (key, _)] = pair else {
                continue;
            };
            if *is_prefix {
                prefix = Some(before);
            }
            if before == key || prefix.is_some_and(|p| key.starts_with(p)) {
                return Err(StoreError::Limit(format!(
                    "two operations of one transaction touch {key}"
                )));
            }
        }
        Ok(())
    }
}

/// Checks the limits of a key: not empty, no NUL (SQLite's tools end a text at it), not too long.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains('\0') {
        return Err(StoreError::Limit(format!(
            "a key of {} bytes; it must have 1 to {KEY_BYTES_MAX}, and no NUL",
            key.len()
        )));
    }
    Ok(())
}

/// A change reported by a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key was written; the entry as of that transaction.
    Put(StoreEntry),
    /// A key was deleted.
    Delete { key: String, revision: Revision },
}

impl WatchEvent {
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// Changes since the previous batch: one or more whole transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// In revision order. Empty if the transactions changed nothing in the watched prefix.
    pub events: Vec<WatchEvent>,
    /// All changes up to this transaction were reported.
    pub revision: Revision,
}

/// An endless sequence of batches; an error is the last item.
pub type WatchStream = BoxStream<'static, Result<WatchBatch, WatchError>>;

/// A metadata store backend.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Reads the entry of a key.
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError>;

    /// Reads up to `limit` (at most [`RANGE_ENTRIES_MAX`]) entries whose keys begin with `prefix`
    /// and are greater than `after`, in byte order of the keys. Each page is consistent; two pages
    /// may be of different revisions.
    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, StoreError>;

    /// Counts the entries whose keys begin with `prefix`. Concurrent changes may be counted or not.
    async fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        let mut count = 0;
        let mut after: Option<String> = None;
        loop {
            let page = self.range(prefix, after.as_deref(), RANGE_ENTRIES_MAX);
            let page = page.await?;
            count += page.entries.len();
            match page.entries.into_iter().next_back() {
                Some(last) if page.more => after = Some(last.key),
                _ => return Ok(count),
            }
        }
    }

    /// Applies the operations if all preconditions hold. The transaction is durable when this
    /// returns `Ok`. Returns its revision, or the store's revision if it changed nothing.
    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError>;

    /// Watches the keys that begin with `prefix`, from transaction `from` on (included). Every
    /// later transaction is covered by a batch, even if it changed nothing in the prefix.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError>;

    /// Grants a lease that expires unless it is kept alive within `ttl`.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Renews a lease. [`StoreError::LeaseNotFound`] if it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease and deletes its keys, in one transaction. No effect if it has already ended.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Returns the latched failure after which the store accepts no writes. A local check without
    /// I/O.
    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Error of an operation of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The operation had no effect and may succeed later: no connection, no space.
    #[error("the metadata store is not available: {0}")]
    Unavailable(String),
    /// The result is unknown, since the reply was lost. Check before repeating.
    #[error("the metadata store did not confirm the write: {0}")]
    Uncertain(String),
    /// Retries can't succeed until an operator fixes the cause.
    #[error("the metadata store failed: {0}")]
    Terminal(String),
    /// The request exceeds a limit of the store.
    #[error("metadata store limit exceeded: {0}")]
    Limit(String),
    #[error("lease {} has ended", .0.0)]
    LeaseNotFound(LeaseId),
}

impl StoreError {
    /// Whether a retry may succeed without an operator.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Uncertain(_))
    }
}

/// Error of applying a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// The precondition of this index, the first that failed, does not hold; nothing was changed.
    #[error("precondition {0} does not hold")]
    Conflict(usize),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Error that ended a watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The requested changes are no longer retained: read again, and watch from there.
    #[error("changes before revision {oldest} are no longer retained")]
    Compacted {
        /// First revision that can be watched.
        oldest: Revision,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}
