//! Entry of a table: its owner, and the projects that may fill it.

use std::collections::BTreeSet;

use forebay_model::{AuditStamp, ProjectId, SourceKey, TableBackend, TableId, TableKey, Timestamp};
use serde::{Deserialize, Serialize};

/// Owner and users of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableEntry {
    /// Backend; never the default backend's alias.
    pub backend: TableBackend,
    /// Id as it was first named.
    pub table: TableId,
    pub owner: ProjectId,
    /// Projects that may fill the table too, but not drop it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shared_with: BTreeSet<ProjectId>,
    /// When it was first named or transferred to its owner, and by whom.
    pub claimed: AuditStamp,
    /// An operator has assigned the owner: an existing table may be filled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assigned: bool,
    /// Time of the first write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled_at: Option<Timestamp>,
    /// The table existed before Forebay filled it, so Forebay never drops it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropping: Option<PendingDrop>,
}

/// A drop in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingDrop {
    /// The deleted source whose tables are dropped.
    pub source: SourceKey,
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

    /// Whether a project may fill the table.
    pub fn is_usable_by(&self, project: ProjectId) -> bool {
        self.owner == project || self.shared_with.contains(&project)
    }

    /// Whether the table was never filled, and no operator has decided anything about it.
    pub(super) fn is_name_only(&self) -> bool {
        self.filled_at.is_none()
            && !self.assigned
            && self.shared_with.is_empty()
            && self.dropping.is_none()
    }

    /// Rejects a project that may not fill the table, and every project during a drop.
    pub(super) fn check(&self, project: ProjectId, table: &TableId) -> Result<(), TableRejection> {
        if !self.is_usable_by(project) {
            return Err(TableRejection::Foreign(table.clone()));
        }
        match self.dropping {
            Some(_) => Err(TableRejection::Dropping(table.clone())),
            None => Ok(()),
        }
    }
}

/// Reason for denying a table to a project. Reveals nothing about other projects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableRejection {
    /// The table belongs to another project and is not shared.
    #[error("table \"{0}\" belongs to another project")]
    Foreign(TableId),
    #[error("table \"{0}\" is being deleted with a source")]
    Dropping(TableId),
}
