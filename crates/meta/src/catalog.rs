//! What the control plane and the data plane ask of the store, in their own words. Each method that
//! changes something is one transaction: it reads, checks, and writes under the condition that what
//! it has read is still so; when it is not, it begins anew, a bounded number of times.

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

/// Volumes of one file at most.
pub const VOLUMES_MAX: usize = 16;
/// Slices of one file at most: importing a file changes all of them in one transaction. Those that
/// are added at the same moment, on different volumes, may all be the last one.
pub const SLICES_MAX: usize = 149;
/// How often a transaction that met another one is begun anew.
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

/// A value and the transaction that wrote it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The transaction.
    pub revision: Revision,
}

impl<T> Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T> {
    /// In the order of their ids' bytes.
    pub items: Vec<T>,
    /// How many there are, on all pages.
    pub total: usize,
}

impl Repo {
    /// On `store`; `defaults` are the node's settings of sinks, over which those of sources and
    /// sinks are laid when a file is opened.
    #[must_use]
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

    /// With what keeps tables for which no backend is named; SQLite, unless it is said here.
    #[must_use]
    pub fn with_default_table(mut self, backend: TableBackend) -> Self {
        self.default_table = backend;
        self
    }

    /// With other limits of definitions than the defaults.
    #[must_use]
    pub fn with_limits(mut self, limits: DefinitionLimits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// With transactions of another size, for changes of a source with all of its sinks.
    #[must_use]
    pub fn with_txn_limits(mut self, limits: TxnLimits) -> Self {
        self.txn_limits = limits;
        self
    }

    /// The limits of definitions.
    #[must_use]
    pub fn limits(&self) -> &DefinitionLimits {
        &self.limits
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The node's settings of sinks.
    #[must_use]
    pub fn defaults(&self) -> &SinkSettings {
        &self.defaults
    }

    async fn read<T: Stored>(&self, key: StoreKey<'_>) -> Result<Option<Versioned<T>>, StoreError> {
        let key = key.to_string();
        // Ids come from addresses that clients make up. One that no key can have is not found.
        if check_key(&key).is_err() {
            return Ok(None);
        }
        match self.store.get(&key).await? {
            Some(entry) => decode(&entry).map(Some),
            None => Ok(None),
        }
    }

    /// All entries below a prefix. Each page is one moment, all together are not.
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

    /// How many entries there are below a prefix.
    async fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        self.store.count(prefix).await
    }

    /// A page of the entries directly below `prefix`, after the one called `after`.
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

    /// `None` when a precondition does not hold any more.
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

/// A transaction in the making.
#[derive(Debug, Default)]
struct TxnBuilder {
    txn: Txn,
    /// Of the values that it writes.
    bytes: usize,
    /// Tables that its sinks asked for, and whether they get them.
    claims: BTreeMap<TableKey, Result<(), tables::TableRejection>>,
}

impl TxnBuilder {
    /// It must not have been written since it was read.
    fn expect_unchanged<T>(&mut self, key: StoreKey<'_>, read: &Versioned<T>) {
        self.txn.expect(key, KeyCondition::Revision(read.revision));
    }

    /// It must not have come into being.
    fn expect_absent(&mut self, key: StoreKey<'_>) {
        self.txn.expect(key, KeyCondition::Absent);
    }

    /// It must be as it was read: not written, or still absent.
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

/// The number of times that a transaction was begun.
#[derive(Debug, Default)]
struct TxnAttempts(u32);

impl TxnAttempts {
    /// Lets it be begun anew. Somebody else's transaction has succeeded each time, so at first there
    /// is nothing to wait for.
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

/// Others have changed it again and again at the same time.
#[derive(Debug)]
struct TxnContention;

/// Each error has a word for it.
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
