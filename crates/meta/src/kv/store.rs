//! The store of the metadata: etcd's model made small.
//!
//! Keys are ordered texts, values are bytes. Each transaction that changes anything has a
//! *revision*, one higher than the one before; an entry knows the revision that made it and the one
//! that changed it last. So a caller reads, decides, and writes under the condition that what it
//! has read is still so; and whoever follows the store by a watch knows exactly how far it is.
//!
//! Every backend passes the suite in [`crate::kv::conformance`].

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Operations of a transaction, and separately its preconditions. A source with many sinks is changed
/// in several of [`crate::catalog::TxnLimits`]. (etcd: `--max-txn-ops`.)
pub const TXN_OPS_MAX: usize = 4096;
/// Bytes of all keys and values of a transaction (etcd: `--max-request-bytes`).
pub const TXN_BYTES_MAX: usize = 16 << 20;
/// Entries that one [`Store::range`] returns at most, whatever limit was asked for.
pub const RANGE_ENTRIES_MAX: usize = 1000;

/// Number of a transaction that changed something; 0 is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A promise to show life every so often; keys that hang on it go when it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A key and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreEntry {
    /// Its name.
    pub key: String,
    /// Its content.
    pub value: Bytes,
    /// The transaction that made it, since it was last absent.
    pub create_revision: Revision,
    /// The transaction that wrote it last.
    pub mod_revision: Revision,
    /// The lease that it hangs on.
    pub lease: Option<LeaseId>,
}

/// A page of entries, and the revision at which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPage {
    /// In the order of their keys' bytes.
    pub entries: Vec<StoreEntry>,
    /// The page shows exactly the transactions up to this one.
    pub revision: Revision,
    /// There are entries after the last one.
    pub more: bool,
}

/// What must be so for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// Of which key.
    pub key: String,
    /// What must be true of it.
    pub expect: KeyCondition,
}

/// What must be true of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCondition {
    /// It was last written by this transaction.
    Revision(Revision),
    /// It is not there.
    Absent,
    /// It is there.
    Exists,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Writes a key. One that hung on a lease and is written without it hangs on it no more.
    Put {
        /// Its name.
        key: String,
        /// Its content.
        value: Bytes,
        /// What it hangs on.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing when it is not there.
    Delete {
        /// Its name.
        key: String,
    },
    /// Removes all keys that begin so.
    DeletePrefix {
        /// How they begin.
        prefix: String,
    },
}

/// Changes that happen together or not at all, if all preconditions hold. No key may be touched
/// by two of the operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub preconditions: Vec<Precondition>,
    /// What is changed.
    pub ops: Vec<TxnOp>,
}

impl Txn {
    /// One without conditions and changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a precondition.
    pub fn expect(&mut self, key: impl Into<String>, expect: KeyCondition) -> &mut Self {
        self.preconditions.push(Precondition {
            key: key.into(),
            expect,
        });
        self
    }

    /// Adds a write.
    pub fn put(&mut self, key: impl Into<String>, value: impl Into<Bytes>) -> &mut Self {
        self.ops.push(TxnOp::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        });
        self
    }

    /// Adds a write of a key that hangs on `lease`.
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

    /// Adds the removal of a key.
    pub fn delete(&mut self, key: impl Into<String>) -> &mut Self {
        self.ops.push(TxnOp::Delete { key: key.into() });
        self
    }

    /// Adds the removal of all keys that begin with `prefix`.
    pub fn delete_prefix(&mut self, prefix: impl Into<String>) -> &mut Self {
        self.ops.push(TxnOp::DeletePrefix {
            prefix: prefix.into(),
        });
        self
    }

    /// Whether the transaction is within the limits; every backend asks before it does anything.
    ///
    /// # Errors
    /// [`StoreError::Limit`], naming the limit.
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
            check_key(&precondition.key)?;
            bytes += precondition.key.len();
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

    /// No key twice: backends differ in what they would make of it.
    fn check_overlap(&self) -> Result<(), StoreError> {
        // A key is the range of itself; prefixes are wider. Sorted, an overlap is between an
        // operation and the widest one before it.
        let mut touched: Vec<(&str, bool)> = self
            .ops
            .iter()
            .map(|op| match op {
                TxnOp::Put { key, .. } | TxnOp::Delete { key } => (key.as_str(), false),
                TxnOp::DeletePrefix { prefix } => (prefix.as_str(), true),
            })
            .collect();
        // A prefix before the key of the same text, so that it counts as the one before.
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

/// Whether a key is within the limits: not empty, no NUL (which SQLite's tools end a text at), not
/// too long.
///
/// # Errors
/// [`StoreError::Limit`], naming what is wrong.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains('\0') {
        return Err(StoreError::Limit(format!(
            "a key of {} bytes; it must have 1 to {KEY_BYTES_MAX}, and no NUL",
            key.len()
        )));
    }
    Ok(())
}

/// A change that a watch reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key was written; the entry as it was then.
    Put(StoreEntry),
    /// A key was removed.
    Delete {
        /// Its name.
        key: String,
        /// By which transaction.
        revision: Revision,
    },
}

impl WatchEvent {
    /// Which key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// By which transaction.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// What happened since the batch before: one or more whole transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// In the order of their revisions. Empty when the transactions touched nothing that is
    /// watched: such a batch only says how far the store is.
    pub events: Vec<WatchEvent>,
    /// Everything up to this transaction was reported.
    pub revision: Revision,
}

/// A sequence of batches that does not end by itself; after an error comes nothing more.
pub type WatchStream = BoxStream<'static, Result<WatchBatch, WatchError>>;

/// Where metadata is kept.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The entry of a key.
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError>;

    /// Up to `limit` (at most [`RANGE_ENTRIES_MAX`]) entries whose keys begin with `prefix` and
    /// are greater than `after`, in the order of their keys' bytes. Each page is one moment; two
    /// pages can be two.
    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, StoreError>;

    /// How many entries have keys that begin with `prefix`, about: what changes while it is counted
    /// may be in it or not.
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

    /// Makes the changes if all preconditions hold. It has happened, durably, when this returns
    /// `Ok`; the revision is its own, or the store's when it changed nothing.
    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError>;

    /// All changes of keys that begin with `prefix`, from transaction `from` on (included). For
    /// every later transaction there is a batch that reaches it, also when it changed nothing here.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError>;

    /// A new lease, which ends when it was not kept alive for `ttl`.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's time anew. [`StoreError::LeaseNotFound`] when it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease and removes its keys, in one transaction. Nothing when it has ended already.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Whether it can be written to at all. It asks nobody: an answer costs nothing.
    ///
    /// # Errors
    /// The failure after which nothing is written any more.
    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It was not done, and may succeed later: no connection, no space.
    #[error("the metadata store is not available: {0}")]
    Unavailable(String),
    /// It may have been done: the answer was lost. Look before doing it again.
    #[error("the metadata store did not say whether it was done: {0}")]
    Uncertain(String),
    /// It will not succeed until a person mends something.
    #[error("the metadata store failed: {0}")]
    Terminal(String),
    /// What was asked for is beyond a limit of the store.
    #[error("beyond a limit of the metadata store: {0}")]
    Limit(String),
    /// The lease has ended.
    #[error("lease {} has ended", .0.0)]
    LeaseNotFound(LeaseId),
}

impl StoreError {
    /// Whether the same may succeed later without a person.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Uncertain(_))
    }
}

/// Why a transaction did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// The precondition of this index, the first of those, does not hold; nothing was changed.
    #[error("precondition {0} does not hold")]
    Conflict(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The store no longer remembers the changes asked for: read anew, and watch from there.
    #[error("changes before revision {oldest} are no longer remembered")]
    Compacted {
        /// The first revision that can be watched from.
        oldest: Revision,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
