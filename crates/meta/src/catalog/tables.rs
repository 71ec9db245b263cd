//! Owners of tables, and the projects that share them (`docs/adr/1361-…`).
//!
//! Invariants:
//!
//! - A sink gets a table, and a file is opened with it, only in a transaction in which the table's
//!   entry allows the sink's project to use it. If the table has no entry, the transaction creates
//!   one: the table belongs to the first project that names it.
//! - Each change that makes a sink a *holder* of a table (create, update, restore, enable) writes
//!   the table's entry, and so does opening a file. So a caller that reads the entry, then looks for
//!   holders, and then writes the entry with the precondition that it is unchanged, has found every
//!   holder. The restore of a source does not write the entries of its sinks' tables: such a sink
//!   gets a file, or is disabled, when it is settled.
//! - A table is dropped only while its entry says so. Until that is undone no sink can become a
//!   holder.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use forebay_model::words::counted;
use forebay_model::{
    AuditStamp, CountLimit, File, ProjectId, Sink, SinkKey, Source, SourceKey, TableBackend,
    TableId, TableKey, TableSink,
};

pub use super::table_entry::{PendingDrop, TableEntry, TableRejection};

use super::transaction::TxnBuilder;
use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// Error of finding or changing the owner of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableOwnerError {
    #[error(transparent)]
    Rejected(#[from] TableRejection),
    /// The table has no owner.
    #[error("table \"{0}\" belongs to no project")]
    NotFound(TableId),
    /// A project that would lose access still fills the table.
    #[error(
        "project {project} still fills table \"{table}\": {} and {}",
        counted(*sinks, "sink"),
        counted(*files, "file")
    )]
    InUse {
        table: TableId,
        /// The project that would lose access.
        project: ProjectId,
        sinks: usize,
        /// Its active files.
        files: usize,
    },
    /// The table is shared with the maximum number of projects.
    #[error("the table is shared with {} projects, the maximum. The setting {} raises it", .0.max, .0.setting)]
    LimitReached(CountLimit),
    /// Too many concurrent changes; may be retried.
    #[error("too many concurrent changes, try again")]
    Conflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// State of a table before it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFillState {
    /// Filled before.
    Again,
    /// Never filled. An existing table was created by another party.
    First {
        /// An existing table may be filled: an operator has allowed it.
        may_exist: bool,
    },
}

/// Holders of a table: what fills it, or can be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableHolders {
    /// Sinks that are not deleted.
    pub sinks: Vec<SinkKey>,
    /// Deleted sinks, which can be restored.
    pub deleted_sinks: Vec<SinkKey>,
    /// Sinks of active files; one for each file.
    pub files: Vec<SinkKey>,
}

impl TableHolders {
    pub(super) fn count_in_project(&self, project: ProjectId) -> (usize, usize) {
        let count = |keys: &[SinkKey]| keys.iter().filter(|k| sink_project(k) == project).count();
        (count(&self.sinks), count(&self.files))
    }
}

fn sink_project(sink: &SinkKey) -> ProjectId {
    sink.source.branch.project
}

impl Repo {
    /// Key that distinguishes tables on this server.
    pub fn table_key(&self, backend: TableBackend, table: &TableId) -> TableKey {
        TableKey::new(backend, table, self.default_table)
    }

    /// Reads the entry of a table; `None` if it has no owner.
    pub async fn table_entry(
        &self,
        backend: TableBackend,
        table: &TableId,
    ) -> Result<Option<Versioned<TableEntry>>, StoreError> {
        self.read(StoreKey::Table(&self.table_key(backend, table)))
            .await
    }

    /// Lists all tables with an owner, sorted by backend and name.
    pub async fn table_entries(&self) -> Result<Vec<Versioned<TableEntry>>, StoreError> {
        self.read_all(keys::TABLES).await
    }

    /// Checks whether a project may use a table: it owns it, shares it, or the table has no owner.
    /// The result may be outdated when the table is used; it is checked again in that transaction.
    pub async fn may_use_table(
        &self,
        project: ProjectId,
        backend: TableBackend,
        table: &TableId,
    ) -> Result<Option<TableEntry>, TableOwnerError> {
        match self.table_entry(backend, table).await? {
            Some(entry) if !entry.is_usable_by(project) && self.is_abandoned(&entry).await? => {
                Ok(None)
            }
            Some(entry) => {
                entry.check(project, table)?;
                Ok(Some(entry.value))
            }
            None => Ok(None),
        }
    }

    /// Makes the sink a holder of its table; the transaction claims the table for its project if it
    /// has no owner. The inner error is the rejection; then that is a precondition of the
    /// transaction, for a caller that continues without the table.
    pub(super) async fn add_table_claim(
        &self,
        txn: &mut TxnBuilder<'_>,
        sink: &SinkKey,
        table: &TableSink,
        stamp: &AuditStamp,
    ) -> Result<Result<(), TableRejection>, StoreError> {
        let key = self.table_key(table.backend, &table.table);
        if let Some(claim) = txn.claims.get(&key) {
            return Ok(claim.clone());
        }
        let project = sink_project(sink);
        let read = txn.read::<TableEntry>(StoreKey::Table(&key)).await?;
        let mut claim = Ok(());
        let entry = match &read {
            None => None,
            Some(entry) if entry.is_usable_by(project) => {
                claim = entry.check(project, &table.table);
                Some(entry.value.clone())
            }
            Some(entry) if self.is_abandoned(entry).await? => None,
            Some(_) => {
                let rejection = Err(TableRejection::Foreign(table.table.clone()));
                txn.claims.insert(key, rejection.clone());
                return Ok(rejection);
            }
        };
        // Written also during a drop: a sink that is restored without its table names it.
        let entry = entry.unwrap_or_else(|| TableEntry::new(&key, &table.table, project, stamp));
        txn.put(StoreKey::Table(&key), &entry)?;
        txn.claims.insert(key, claim.clone());
        Ok(claim)
    }

    /// Whether the entry is only a name that no sink has any more.
    async fn is_abandoned(&self, entry: &TableEntry) -> Result<bool, StoreError> {
        if !entry.is_name_only() {
            return Ok(false);
        }
        let holders = self.table_holders(entry).await?;
        Ok(holders.sinks.is_empty() && holders.files.is_empty())
    }

    /// Lists the holders of a table, of the projects that may use it. Sinks are read before files:
    /// a sink that is moved to another table meanwhile has a closed file by then.
    pub async fn table_holders(&self, entry: &TableEntry) -> Result<TableHolders, StoreError> {
        let key = self.table_key(entry.backend, &entry.table);
        let is_it = |backend, table: &TableId, sink: &SinkKey| {
            entry.is_usable_by(sink_project(sink)) && self.table_key(backend, table) == key
        };
        let of_sinks = |sinks: Vec<Versioned<Sink>>| {
            let sinks = sinks.into_iter().filter(|s| {
                let table = s.target.table();
                table.is_some_and(|t| is_it(t.backend, &t.table, &s.key))
            });
            sinks.map(|s| s.value.key).collect::<Vec<_>>()
        };
        let (mut sinks, mut deleted_sinks) = (Vec::new(), Vec::new());
        for sink in of_sinks(self.read_all(keys::SINKS).await?) {
            // A sink is deleted with its source; it is read after it, since it may be moved to the
            // deleted ones when the id of its source is used again.
            let source = StoreKey::Source(&sink.source);
            let is_present = self.read::<Source>(source).await?.is_some()
                && self.read::<Sink>(StoreKey::Sink(&sink)).await?.is_some();
            match is_present {
                true => sinks.push(sink),
                false => deleted_sinks.push(sink),
            }
        }
        deleted_sinks.extend(of_sinks(self.read_all(keys::DELETED_SINKS).await?));
        let files = self.read_all::<File>(keys::FILES).await?.into_iter();
        let files = files.filter(|f| is_it(f.table.backend, &f.table.table, &f.key.sink));
        Ok(TableHolders {
            sinks,
            deleted_sinks,
            files: files.map(|f| f.value.key.sink).collect(),
        })
    }

    /// Claims an existing table without an owner for a project of an operator.
    pub async fn adopt_table(
        &self,
        project: ProjectId,
        backend: TableBackend,
        table: &TableId,
        stamp: &AuditStamp,
    ) -> Result<(), TableOwnerError> {
        self.change_entry(project, backend, table, stamp, |mut entry| {
            if entry.assigned || entry.filled_at.is_some() {
                return None;
            }
            entry.assigned = true;
            Some(entry)
        })
        .await
    }

    /// Checks whether a project may write to a table, and its state.
    pub async fn table_fill_state(
        &self,
        project: ProjectId,
        backend: TableBackend,
        table: &TableId,
    ) -> Result<TableFillState, TableOwnerError> {
        let entry = self.may_use_table(project, backend, table).await?;
        Ok(match entry {
            Some(entry) if entry.filled_at.is_some() => TableFillState::Again,
            entry => TableFillState::First {
                may_exist: entry.is_some_and(|e| e.assigned),
            },
        })
    }

    /// Records, before anything is written, that a table is filled from now on; claims a table
    /// without an owner. `found`: the table exists already.
    pub async fn fill_table(
        &self,
        project: ProjectId,
        backend: TableBackend,
        table: &TableId,
        found: bool,
        stamp: &AuditStamp,
    ) -> Result<(), TableOwnerError> {
        self.change_entry(project, backend, table, stamp, |mut entry| {
            if entry.filled_at.is_some() {
                return None;
            }
            entry.filled_at = Some(stamp.at);
            entry.found = found;
            Some(entry)
        })
        .await
    }

    /// Changes the entry of a table in one transaction if the project may use it or can claim it;
    /// `change` returns the new entry, or `None` to leave it.
    async fn change_entry(
        &self,
        project: ProjectId,
        backend: TableBackend,
        table: &TableId,
        stamp: &AuditStamp,
        change: impl Fn(TableEntry) -> Option<TableEntry> + Send + Sync,
    ) -> Result<(), TableOwnerError> {
        let key = self.table_key(backend, table);
        let (key, change) = (&key, &change);
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let read = txn.read::<TableEntry>(StoreKey::Table(key)).await?;
                let before = match &read {
                    Some(entry) if entry.is_usable_by(project) => Some(entry.value.clone()),
                    Some(entry) if self.is_abandoned(entry).await? => None,
                    Some(_) => return Err(TableRejection::Foreign(table.clone()).into()),
                    None => None,
                };
                let before = before.unwrap_or_else(|| TableEntry::new(key, table, project, stamp));
                before.check(project, table)?;
                let Some(after) = change(before) else {
                    return Ok(ControlFlow::Break(()));
                };
                txn.put(StoreKey::Table(key), &after)?;
                Ok(ControlFlow::Continue(()))
            })
        });
        done.await.map(drop)
    }

    /// Removes names that no sink has any more and that were never filled. Returns their number.
    pub async fn release_tables(&self) -> Result<usize, StoreError> {
        let mut names = self.table_entries().await?;
        names.retain(|entry| entry.is_name_only());
        if names.is_empty() {
            return Ok(0);
        }
        // Read once for all tables, in the order of `table_holders`.
        let mut held = BTreeSet::new();
        let sinks = self.read_all::<Sink>(keys::SINKS).await?;
        let sources = self.read_all::<Source>(keys::SOURCES).await?;
        let sources: BTreeSet<SourceKey> = sources.into_iter().map(|s| s.value.key).collect();
        for sink in sinks {
            if sources.contains(&sink.key.source)
                && let Some(table) = sink.target.table()
            {
                let key = self.table_key(table.backend, &table.table);
                held.insert((key, sink_project(&sink.key)));
            }
        }
        for file in self.read_all::<File>(keys::FILES).await? {
            let key = self.table_key(file.table.backend, &file.table.table);
            held.insert((key, sink_project(&file.key.sink)));
        }
        let mut released = 0;
        for entry in names {
            let key = self.table_key(entry.backend, &entry.table);
            if held.contains(&(key.clone(), entry.owner)) {
                continue;
            }
            let mut txn = self.begin();
            txn.expect_unchanged(StoreKey::Table(&key), &entry);
            txn.delete(StoreKey::Table(&key));
            released += usize::from(self.commit(txn).await?.is_some());
        }
        Ok(released)
    }
}
