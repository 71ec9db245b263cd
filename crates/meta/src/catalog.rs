//! Repository: the operations of the control plane and the data plane on the store. Each method
//! that changes something is one transaction: it reads, checks, and writes with the precondition
//! that what it read is unchanged; on a conflict it retries, a bounded number of times.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{DefinitionLimits, SinkSettings, TableBackend, TableKey};

use crate::catalog::keys::StoreKey;
use crate::catalog::stored::Stored;
use crate::kv::store::{
    KeyCondition, LeaseId, RANGE_ENTRIES_MAX, Revision, Store, StoreEntry, StoreError, Txn,
    TxnError, check_key,
};

pub mod activation;
pub mod audit;
mod bulk_changes;
pub mod cleanup;
pub mod dead_letters;
pub mod dead_rows;
pub mod definitions;
pub mod delivered_streams;
pub mod files;
pub mod imports;
pub mod keys;
pub mod lost_imports;
pub mod overview;
mod pause;
pub mod purge;
pub mod quota;
pub mod retry_now;
mod rotation;
pub mod runtime;
pub mod sinks;
pub mod slices;
mod source_deletion;
pub mod sources;
pub mod statistics;
pub mod stored;
pub mod table_drop;
mod table_owner;
pub mod tables;
pub mod tasks;
pub mod tokens;

use bulk_changes::KeyedLocks;
pub use bulk_changes::TxnLimits;

/// Maximum number of volumes of a file.
pub const VOLUMES_MAX: usize = 16;
/// Maximum number of slices of a file, since the import of a file changes all of them in one
/// transaction. Concurrent additions on different volumes may each add the last one.
pub const SLICES_MAX: usize = 149;
/// Maximum number of attempts of a conflicting transaction.
const ATTEMPTS_MAX: u32 = 32;

/// The repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repo {
    store: Arc<dyn Store>,
    defaults: Arc<SinkSettings>,
    default_table: TableBackend,
    limits: Arc<DefinitionLimits>,
    txn_limits: TxnLimits,
    locks: KeyedLocks,
}

/// A value with the revision that last wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    pub value: T,
    pub revision: Revision,
}

impl<T> Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T> {
    /// In byte order of their ids.
    pub items: Vec<T>,
    /// Number of items on all pages.
    pub total: usize,
}

impl Repo {
    /// Creates a repository on `store`. `defaults` are the node's sink settings; those of sources
    /// and sinks override them when a file is opened.
    pub fn new(store: Arc<dyn Store>, defaults: SinkSettings) -> Self {
        Self {
            store,
            defaults: Arc::new(defaults),
            default_table: TableBackend::Sqlite,
            limits: Arc::new(DefinitionLimits::default()),
            txn_limits: TxnLimits::default(),
            locks: KeyedLocks::default(),
        }
    }

    /// Sets the backend of tables that name none; SQLite by default.
    #[must_use]
    pub fn with_default_table(mut self, backend: TableBackend) -> Self {
        self.default_table = backend;
        self
    }

    /// Replaces the default limits of definitions.
    #[must_use]
    pub fn with_limits(mut self, limits: DefinitionLimits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Sets the transaction size for changes of a source with all of its sinks.
    #[must_use]
    pub fn with_txn_limits(mut self, limits: TxnLimits) -> Self {
        self.txn_limits = limits;
        self
    }

    pub fn limits(&self) -> &DefinitionLimits {
        &self.limits
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The node's sink settings.
    pub fn defaults(&self) -> &SinkSettings {
        &self.defaults
    }

    async fn read<T: Stored>(&self, key: StoreKey<'_>) -> Result<Option<Versioned<T>>, StoreError> {
        let key = key.to_string();
        // Ids come from URLs of clients. An invalid key is not found.
        if check_key(&key).is_err() {
            return Ok(None);
        }
        match self.store.get(&key).await? {
            Some(entry) => decode(&entry).map(Some),
            None => Ok(None),
        }
    }

    /// Reads all entries below a prefix. Each page is consistent; the whole is not.
    async fn read_all<T: Stored>(&self, prefix: &str) -> Result<Vec<Versioned<T>>, StoreError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .range(prefix, after.as_deref(), RANGE_ENTRIES_MAX)
                .await?;
            for entry in &page.entries {
                all.push(decode(entry)?);
            }
            match page.entries.into_iter().next_back() {
                Some(last) if page.more => after = Some(last.key),
                _ => return Ok(all),
            }
        }
    }

    /// Counts the entries below a prefix.
    async fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        self.store.count(prefix).await
    }

    /// Reads a page of the entries directly below `prefix`, after the id `after`.
    async fn list<T: Stored>(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<T>, StoreError> {
        let after = format!("{prefix}{after}");
        let page = self.store.range(prefix, Some(&after), limit).await?;
        let items: Result<Vec<T>, _> = page
            .entries
            .iter()
            .map(|e| decode(e).map(|r| r.value))
            .collect();
        Ok(ListPage {
            items: items?,
            total: self.count(prefix).await?,
        })
    }

    /// Returns `None` if a precondition failed.
    async fn commit(&self, builder: TxnBuilder) -> Result<Option<Revision>, StoreError> {
        match self.store.txn(builder.txn).await {
            Ok(revision) => Ok(Some(revision)),
            Err(TxnError::Conflict(_)) => Ok(None),
            Err(TxnError::Store(e)) => Err(e),
        }
    }
}

fn decode<T: Stored>(entry: &StoreEntry) -> Result<Versioned<T>, StoreError> {
    match T::decode(&entry.value) {
        Ok(value) => Ok(Versioned {
            value,
            revision: entry.mod_revision,
        }),
        Err(e) => Err(StoreError::Terminal(format!("{}: {e}", entry.key))),
    }
}

/// Builder of a transaction.
#[derive(Debug, Default)]
struct TxnBuilder {
    txn: Txn,
    /// Bytes of the written values.
    bytes: usize,
    /// Table claims of its sinks and their results.
    claims: BTreeMap<TableKey, Result<(), tables::TableRejection>>,
}

impl TxnBuilder {
    /// Requires that the key was not written since it was read.
    fn expect_unchanged<T>(&mut self, key: StoreKey<'_>, read: &Versioned<T>) {
        self.txn.expect(key, KeyCondition::Revision(read.revision));
    }

    /// Requires that the key is still absent.
    fn expect_absent(&mut self, key: StoreKey<'_>) {
        self.txn.expect(key, KeyCondition::Absent);
    }

    /// Requires that the key is as it was read: not written, or still absent.
    fn expect_as_read<T>(&mut self, key: StoreKey<'_>, read: Option<&Versioned<T>>) {
        match read {
            Some(read) => self.expect_unchanged(key, read),
            None => self.expect_absent(key),
        }
    }

    fn put<T: Stored>(&mut self, key: StoreKey<'_>, value: &T) -> Result<(), StoreError> {
        let value = encode(value)?;
        self.bytes += value.len();
        self.txn.put(key, value);
        Ok(())
    }

    fn put_leased<T: Stored>(
        &mut self,
        key: StoreKey<'_>,
        value: &T,
        lease: LeaseId,
    ) -> Result<(), StoreError> {
        self.txn.put_leased(key, encode(value)?, lease);
        Ok(())
    }

    fn delete(&mut self, key: StoreKey<'_>) {
        self.txn.delete(key);
    }

    fn delete_below(&mut self, prefix: String) {
        self.txn.delete_prefix(prefix);
    }
}

fn encode<T: Stored>(value: &T) -> Result<bytes::Bytes, StoreError> {
    value
        .encode()
        .map_err(|e| StoreError::Terminal(e.to_string()))
}

/// Number of attempts of a transaction.
#[derive(Debug, Default)]
struct TxnAttempts(u32);

impl TxnAttempts {
    /// Allows another attempt. Each conflict means that another transaction succeeded, so the first
    /// retries don't wait.
    async fn retry(&mut self) -> Result<(), TxnContention> {
        self.0 += 1;
        if self.0 >= ATTEMPTS_MAX {
            return Err(TxnContention);
        }
        if self.0 > 4 {
            tokio::time::sleep(Duration::from_millis(u64::from(self.0))).await;
        }
        Ok(())
    }
}

/// Too many conflicts with concurrent transactions.
#[derive(Debug)]
struct TxnContention;

/// Implements the conversion to each error's `Conflict`.
macro_rules! from_contention {
    ($($error:ty: $word:expr;)*) => {
        $(impl From<TxnContention> for $error {
            fn from(_: TxnContention) -> Self {
                $word
            }
        })*
    };
}

from_contention! {
    definitions::DefinitionError: Self::Conflict;
    files::FileError: Self::Conflict;
    dead_letters::DeadLetterResolveError: Self::File(files::FileError::Conflict);
    quota::QuotaError: Self::Conflict;
    tables::TableOwnerError: Self::Conflict;
    tasks::TaskError: Self::Conflict;
    tokens::TokenError: Self::Conflict;
    StoreError: Self::Unavailable("conflicts".to_owned());
}
