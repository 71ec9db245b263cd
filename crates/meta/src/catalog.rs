//! Repository: the operations of the control plane and the data plane on the store. Each method
//! that changes something is one transaction (`transaction`): it reads, checks, and writes with the
//! precondition that what it read is unchanged; on a conflict it retries, a bounded number of times.

use std::ops::Deref;
use std::sync::Arc;

use forebay_model::{DefinitionLimits, SinkSettings, TableBackend};

use crate::catalog::keys::StoreKey;
use crate::catalog::stored::Stored;
use crate::kv::store::{RANGE_ENTRIES_MAX, Revision, Store, StoreEntry, StoreError, check_key};

pub mod activation;
pub mod audit;
mod bulk_changes;
pub mod cleanup;
mod contention;
pub mod dead_letters;
pub mod dead_rows;
pub mod definitions;
pub mod delivered_streams;
pub mod files;
pub mod imports;
mod keyed_locks;
pub mod keys;
pub mod lost_imports;
mod outcome;
pub mod overview;
mod pause;
pub mod purge;
pub mod quota;
pub mod retry_now;
mod rotation;
pub mod runtime;
pub mod settle;
pub mod sinks;
pub mod slices;
mod source_deletion;
pub mod sources;
pub mod statistics;
pub mod stored;
pub mod table_drop;
mod table_entry;
mod table_owner;
pub mod tables;
pub mod tasks;
pub mod tokens;
mod transaction;

use keyed_locks::KeyedLocks;

/// Maximum number of volumes of a file.
pub const VOLUMES_MAX: usize = 16;
/// Maximum number of slices of a file, since the import of a file changes all of them in one
/// transaction. Concurrent additions on different volumes may each add the last one.
pub const SLICES_MAX: usize = 149;

/// The repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repo {
    store: Arc<dyn Store>,
    defaults: Arc<SinkSettings>,
    default_table: TableBackend,
    limits: Arc<DefinitionLimits>,
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
        self.for_each(prefix, |_, entry| all.push(entry)).await?;
        Ok(all)
    }

    /// Calls `visit` for all entries below a prefix, with the rest of their keys.
    async fn for_each<T: Stored>(
        &self,
        prefix: &str,
        mut visit: impl FnMut(&str, Versioned<T>),
    ) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .range(prefix, after.as_deref(), RANGE_ENTRIES_MAX)
                .await?;
            for entry in &page.entries {
                let rest = entry.key.strip_prefix(prefix).unwrap_or_default();
                visit(rest, decode(entry)?);
            }
            match page.entries.into_iter().next_back() {
                Some(last) if page.more => after = Some(last.key),
                _ => return Ok(()),
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
