//! Which project a table belongs to, and who else may fill it (`docs/adr/1361-…`).
//!
//! What holds:
//!
//! - A sink comes to name a table, and a file is opened under it, only in a transaction in which the
//!   table's entry lets the sink's project use it. A table without an entry gets one then: it
//!   belongs to the project that names it first.
//! - Whatever makes a sink a *holder* of a table (it is made, changed, brought back, switched on)
//!   writes the table's entry. So whoever reads the entry, then looks for holders, and then writes
//!   the entry under the condition that it is as it was read, has seen every holder there is.
//! - A table is dropped only while its entry says so. Until that is undone nobody becomes a holder.

use std::collections::BTreeSet;

use forebay_model::{
    AuditStamp, CountLimit, File, ProjectId, Sink, SinkKey, SourceKey, TableBackend, TableId,
    TableKey, TableSink, Timestamp,
};

use super::{Repo, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// Whose a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// What keeps it; never the default backend's alias.
    pub backend: TableBackend,
    /// Its id, as it was first named.
    pub table: TableId,
    /// The project that it belongs to.
    pub owner: ProjectId,
    /// Projects that may fill it too, but not drop it.
    pub shared_with: BTreeSet<ProjectId>,
    /// When it was first named or given to its owner, and by whom.
    pub claimed: AuditStamp,
    /// An operator has said whose it is: a table that is there already may be filled.
    pub assigned: bool,
    /// When rows were first to be written.
    pub filled_at: Option<Timestamp>,
    /// It was there before Forebay filled it, so Forebay never drops it.
    pub found: bool,
    /// It is being dropped.
    pub dropping: Option<PendingDrop>,
}

/// On whose behalf a table is being dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDrop {
    /// The source that is deleted with its tables.
    pub source: SourceKey,
    /// Since when.
    pub since: Timestamp,
}

impl TableEntry {
    pub(super) fn new(
        key: &TableKey,
        table: &TableId,
        owner: ProjectId,
        stamp: &AuditStamp,
    ) -> Self {
        Self {
            backend: key.backend(),
            table: table.clone(),
            owner,
            shared_with: BTreeSet::new(),
            claimed: stamp.clone(),
            assigned: false,
            filled_at: None,
            found: false,
            dropping: None,
        }
    }

    /// Whether a project may fill it.
    #[must_use]
    pub fn is_usable_by(&self, project: ProjectId) -> bool {
        self.owner == project || self.shared_with.contains(&project)
    }

    /// Nobody has filled it and no operator has said anything about it.
    fn is_name_only(&self) -> bool {
        self.filled_at.is_none()
            && !self.assigned
            && self.shared_with.is_empty()
            && self.dropping.is_none()
    }
}

/// Why a project can't use a table. Says nothing of other projects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableRejection {
    /// It is another project's, and not shared.
    #[error("table \"{0}\" belongs to another project")]
    Foreign(TableId),
    /// It is being dropped.
    #[error("table \"{0}\" is being deleted with a source")]
    Dropping(TableId),
}

/// Why the owner of a table was not found or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableOwnerError {
    /// The project can't use it.
    #[error(transparent)]
    Rejected(#[from] TableRejection),
    /// It belongs to nobody.
    #[error("table \"{0}\" belongs to no project")]
    NotFound(TableId),
    /// A project that would lose it still fills it.
    #[error("{sinks} sinks and {files} files of project {project} still fill table \"{table}\"")]
    InUse {
        /// Which table.
        table: TableId,
        /// The project that would lose it.
        project: ProjectId,
        /// Its sinks.
        sinks: usize,
        /// Its files that are on their way.
        files: usize,
    },
    /// It can't be shared with more projects.
    #[error("the table is shared with {} projects, the maximum. The setting {} raises it", .0.max, .0.setting)]
    LimitReached(CountLimit),
    /// Others changed it again and again at the same time; it may be tried again.
    #[error("it is being changed by others at the same time, try again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What has to be known before a table is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFillState {
    /// It was filled before.
    Again,
    /// Never yet. A table that is there was made by somebody else.
    First {
        /// It may be filled all the same: an operator has said so.
        may_exist: bool,
    },
}

/// What may fill a table, or bring back what does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableHolders {
    /// Sinks that are not deleted.
    pub sinks: Vec<SinkKey>,
    /// Deleted sinks, which can be brought back.
    pub deleted_sinks: Vec<SinkKey>,
    /// Sinks of files that are on their way; one for each file.
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
    /// What distinguishes a table on this server.
    #[must_use]
    pub fn table_key(&self, backend: TableBackend, table: &TableId) -> TableKey {
        TableKey::new(backend, table, self.default_table)
    }

    /// Whose a table is; nothing, when it is nobody's.
    ///
    /// # Errors
    /// The store's.
    pub async fn table_entry(
        &self,
        backend: TableBackend,
        table: &TableId,
    ) -> Result<Option<Versioned<TableEntry>>, StoreError> {
        self.read(StoreKey::Table(&self.table_key(backend, table)))
            .await
    }

    /// All tables that belong to somebody, sorted by backend and name.
    ///
    /// # Errors
    /// The store's.
    pub async fn table_entries(&self) -> Result<Vec<Versioned<TableEntry>>, StoreError> {
        self.read_all(keys::TABLES).await
    }

    /// Whether a project may use a table: it is the project's, shared with it, or nobody's. What is
    /// said here may be over when the table is used; that is checked again in the same transaction.
    ///
    /// # Errors
    /// [`TableOwnerError::Rejected`], or the store.
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
                check(&entry, project, table)?;
                Ok(Some(entry.value))
            }
            None => Ok(None),
        }
    }

    /// Makes the sink a holder of its table: with the transaction, the table is its project's or
    /// stays so. The inner error says why it can't be; then that is a condition of the transaction,
    /// for whoever goes on without the table.
    pub(super) async fn add_table_claim(
        &self,
        builder: &mut TxnBuilder,
        sink: &SinkKey,
        table: &TableSink,
        stamp: &AuditStamp,
    ) -> Result<Result<(), TableRejection>, StoreError> {
        let key = self.table_key(table.backend, &table.table);
        if let Some(claim) = builder.claims.get(&key) {
            return Ok(claim.clone());
        }
        let project = sink_project(sink);
        let read = self.read::<TableEntry>(StoreKey::Table(&key)).await?;
        let mut claim = Ok(());
        let entry = match &read {
            None => None,
            Some(entry) if entry.is_usable_by(project) => {
                claim = check(entry, project, &table.table);
                Some(entry.value.clone())
            }
            Some(entry) if self.is_abandoned(entry).await? => None,
            Some(entry) => {
                builder.expect_unchanged(StoreKey::Table(&key), entry);
                let rejection = Err(TableRejection::Foreign(table.table.clone()));
                builder.claims.insert(key, rejection.clone());
                return Ok(rejection);
            }
        };
        // Written also while it is being dropped: a sink that comes back without its table names it.
        let entry = entry.unwrap_or_else(|| TableEntry::new(&key, &table.table, project, stamp));
        builder.expect_as_read(StoreKey::Table(&key), read.as_ref());
        builder.put(StoreKey::Table(&key), &entry)?;
        builder.claims.insert(key, claim.clone());
        Ok(claim)
    }

    /// Nothing but a name that no sink has any more.
    async fn is_abandoned(&self, entry: &TableEntry) -> Result<bool, StoreError> {
        if !entry.is_name_only() {
            return Ok(false);
        }
        let holders = self.table_holders(entry).await?;
        Ok(holders.sinks.is_empty() && holders.files.is_empty())
    }

    /// What holds a table, of the projects that may use it. Sinks are read before files: one that
    /// is given another table meanwhile has a closed file by then.
    ///
    /// # Errors
    /// The store's.
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
        let sinks = of_sinks(self.read_all(keys::SINKS).await?);
        let deleted_sinks = of_sinks(self.read_all(keys::DELETED_SINKS).await?);
        let files = self.read_all::<File>(keys::FILES).await?.into_iter();
        let files = files.filter(|f| is_it(f.table.backend, &f.table.table, &f.key.sink));
        Ok(TableHolders {
            sinks,
            deleted_sinks,
            files: files.map(|f| f.value.key.sink).collect(),
        })
    }

    /// An operator's project names a table: one that is there already, and nobody's, is the
    /// project's from now on.
    ///
    /// # Errors
    /// [`TableOwnerError::Rejected`], or the store.
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

    /// Whether a project may write to a table, and what has to be seen to before.
    ///
    /// # Errors
    /// [`TableOwnerError::Rejected`], or the store.
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

    /// Notes that a table is filled from now on, before anything is written; a table that was
    /// nobody's is the project's. `found`: it is there already.
    ///
    /// # Errors
    /// [`TableOwnerError::Rejected`], or the store.
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

    /// One transaction on the entry of a table that the project may use, or takes with it; `change`
    /// says what the entry is afterwards, or that it stays.
    async fn change_entry(
        &self,
        project: ProjectId,
        backend: TableBackend,
        table: &TableId,
        stamp: &AuditStamp,
        change: impl Fn(TableEntry) -> Option<TableEntry>,
    ) -> Result<(), TableOwnerError> {
        let key = self.table_key(backend, table);
        let mut attempts = TxnAttempts::default();
        loop {
            let read = self.read::<TableEntry>(StoreKey::Table(&key)).await?;
            let before = match &read {
                Some(entry) if entry.is_usable_by(project) => Some(entry.value.clone()),
                Some(entry) if self.is_abandoned(entry).await? => None,
                Some(_) => return Err(TableRejection::Foreign(table.clone()).into()),
                None => None,
            };
            let before = before.unwrap_or_else(|| TableEntry::new(&key, table, project, stamp));
            check(&before, project, table)?;
            let Some(after) = change(before) else {
                return Ok(());
            };
            let mut builder = TxnBuilder::default();
            builder.expect_as_read(StoreKey::Table(&key), read.as_ref());
            builder.put(StoreKey::Table(&key), &after)?;
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
    }

    /// Forgets names that no sink has any more and that were never filled. How many.
    ///
    /// # Errors
    /// The store's.
    pub async fn release_tables(&self) -> Result<usize, StoreError> {
        let mut names = self.table_entries().await?;
        names.retain(|entry| entry.is_name_only());
        if names.is_empty() {
            return Ok(0);
        }
        // Once for all of them, in the order of `table_holders`.
        let mut held = BTreeSet::new();
        for sink in self.read_all::<Sink>(keys::SINKS).await? {
            if let Some(table) = sink.target.table() {
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
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::Table(&key), &entry);
            builder.delete(StoreKey::Table(&key));
            released += usize::from(self.commit(builder).await?.is_some());
        }
        Ok(released)
    }
}

fn check(entry: &TableEntry, project: ProjectId, table: &TableId) -> Result<(), TableRejection> {
    if !entry.is_usable_by(project) {
        return Err(TableRejection::Foreign(table.clone()));
    }
    match entry.dropping {
        Some(_) => Err(TableRejection::Dropping(table.clone())),
        None => Ok(()),
    }
}
