//! Operators' decisions on a table: its owner, and the projects that share it. Each decision is in
//! the audit of the projects concerned; each entry has only the project's own part.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use forebay_model::{AuditStamp, CountLimit, ProjectId, TableBackend, TableId, TableKey};

use super::Repo;
use super::audit::{AuditAction, AuditEvent, AuditSubject};
use super::tables::{TableEntry, TableOwnerError};
use super::transaction::either;
use crate::catalog::keys::StoreKey;

impl Repo {
    /// Transfers a table to a project, regardless of its owner. It stays shared with the same
    /// projects. An unfinished drop is cancelled.
    pub async fn transfer_table(
        &self,
        backend: TableBackend,
        table: &TableId,
        to: ProjectId,
        force: bool,
        stamp: &AuditStamp,
    ) -> Result<TableEntry, TableOwnerError> {
        self.change_owner(
            backend,
            table,
            AuditAction::Transfer,
            force,
            stamp,
            |key, entry| {
                let mut after = match entry {
                    Some(entry) => entry.clone(),
                    None => TableEntry::new(key, table, to, stamp),
                };
                after.claimed = stamp.clone();
                after.owner = to;
                after.shared_with.remove(&to);
                after.assigned = true;
                after.dropping = None;
                Ok(after)
            },
        )
        .await
    }

    /// Allows another project to fill a table.
    pub async fn share_table(
        &self,
        backend: TableBackend,
        table: &TableId,
        with: ProjectId,
        stamp: &AuditStamp,
    ) -> Result<TableEntry, TableOwnerError> {
        let bound = CountLimit::new(self.limits.shares_per_table, "limits.sharesPerTable");
        self.change_owner(
            backend,
            table,
            AuditAction::Share,
            false,
            stamp,
            |_, entry| {
                let entry = entry.ok_or_else(|| TableOwnerError::NotFound(table.clone()))?;
                let mut after = entry.clone();
                if with != after.owner {
                    after.shared_with.insert(with);
                }
                if after.shared_with.len() > bound.max {
                    return Err(TableOwnerError::LimitReached(bound));
                }
                Ok(after)
            },
        )
        .await
    }

    /// Revokes a project's share of a table.
    pub async fn unshare_table(
        &self,
        backend: TableBackend,
        table: &TableId,
        with: ProjectId,
        force: bool,
        stamp: &AuditStamp,
    ) -> Result<TableEntry, TableOwnerError> {
        self.change_owner(
            backend,
            table,
            AuditAction::Unshare,
            force,
            stamp,
            |_, entry| {
                let entry = entry.ok_or_else(|| TableOwnerError::NotFound(table.clone()))?;
                let mut after = entry.clone();
                after.shared_with.remove(&with);
                Ok(after)
            },
        )
        .await
    }

    /// Changes the users of a table in one transaction, with the audit of every project concerned.
    async fn change_owner(
        &self,
        backend: TableBackend,
        table: &TableId,
        action: AuditAction,
        force: bool,
        stamp: &AuditStamp,
        change: impl Fn(&TableKey, Option<&TableEntry>) -> Result<TableEntry, TableOwnerError>
        + Send
        + Sync,
    ) -> Result<TableEntry, TableOwnerError> {
        let key = self.table_key(backend, table);
        let (key, change) = (&key, &change);
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let read = txn.read::<TableEntry>(StoreKey::Table(key)).await?;
                let before = read.as_ref().map(|r| &r.value);
                let after = change(key, before)?;
                if before == Some(&after) {
                    return Ok(ControlFlow::Break(after));
                }
                if let Some(before) = before
                    && !force
                {
                    self.check_revoked_projects(before, &after).await?;
                }
                txn.put(StoreKey::Table(key), &after)?;
                for project in concerned(before, &after) {
                    let change = AuditEvent {
                        project,
                        what: AuditSubject::Table {
                            backend: key.backend(),
                            table: after.table.clone(),
                        },
                        action,
                        // Only the project's own part: no project learns another one's id.
                        description: described(project, &after).to_owned(),
                        old_version: None,
                        new_version: None,
                        stamp: stamp.clone(),
                    };
                    self.add_unversioned_audit(txn, change).await?;
                }
                Ok(ControlFlow::Continue(after))
            })
        });
        done.await
            .map(|done| either(done.map_continue(|entry| entry.value)))
    }

    /// Checks that no project that loses the table has a sink or file that fills it.
    async fn check_revoked_projects(
        &self,
        before: &TableEntry,
        after: &TableEntry,
    ) -> Result<(), TableOwnerError> {
        let holders = self.table_holders(before).await?;
        let all = [before.owner]
            .into_iter()
            .chain(before.shared_with.iter().copied());
        for project in all.filter(|p| !after.is_usable_by(*p)) {
            let (sinks, files) = holders.count_in_project(project);
            if sinks + files > 0 {
                return Err(TableOwnerError::InUse {
                    table: before.table.clone(),
                    project,
                    sinks,
                    files,
                });
            }
        }
        Ok(())
    }
}

/// Projects whose access to a table has changed.
fn concerned(before: Option<&TableEntry>, after: &TableEntry) -> BTreeSet<ProjectId> {
    let part = |entry: &TableEntry, project| described(project, entry);
    let all = before.into_iter().chain([after]);
    let all = all.flat_map(|e| e.shared_with.iter().copied().chain([e.owner]));
    all.filter(|p| before.is_none_or(|b| part(b, *p) != part(after, *p)))
        .chain([after.owner])
        .collect()
}

fn described(project: ProjectId, entry: &TableEntry) -> &'static str {
    if entry.owner == project {
        "The table belongs to the project."
    } else if entry.shared_with.contains(&project) {
        "The table is shared with the project."
    } else {
        "The project can't use the table."
    }
}
