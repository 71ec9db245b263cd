//! Audit: who changed what, when and from where. An entry is written in the transaction of the
//! change itself: there is no entry without the change, and no change of a definition or token
//! without an entry. In addition there are entries of rejected requests.

use std::fmt;
use std::time::Duration;

use forebay_model::{
    AuditStamp, DefinitionVersion, ProjectId, SinkKey, SourceKey, TableBackend, TableId, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::transaction::TxnBuilder;
use super::{ListPage, Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError};

/// Subject of an audit entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuditSubject {
    Source(SourceKey),
    Sink(SinkKey),
    /// A token, by its id.
    Token(String),
    Quota,
    /// The users of a table.
    Table {
        backend: TableBackend,
        table: TableId,
    },
    /// A rejected request of the management API, by method and path.
    Request(String),
}

impl fmt::Display for AuditSubject {
    /// As in an entry's id, without a `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(key) => write!(f, "source.{}.{}", key.branch.branch, key.source),
            Self::Sink(key) => {
                let source = &key.source;
                write!(
                    f,
                    "sink.{}.{}.{}",
                    source.branch.branch, source.source, key.sink
                )
            }
            Self::Token(id) => write!(f, "token.{id}"),
            Self::Quota => f.write_str("quota"),
            Self::Table { backend, table } => {
                let table = table.to_string().replace('/', "_");
                write!(f, "table.{}.{table}", backend.name())
            }
            // Without its path, which has slashes.
            Self::Request(request) => {
                let method = request.split(' ').next().unwrap_or_default();
                write!(f, "request.{method}")
            }
        }
    }
}

/// Action of an audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuditAction {
    Create,
    Update,
    Delete,
    Undelete,
    /// Permanently deleted.
    Purge,
    Disable,
    Enable,
    /// Of a topic: its delivery was paused.
    Pause,
    Resume,
    ClearStatistics,
    /// Of a sink: failed steps were retried immediately.
    Retry,
    /// Of a sink: rows of a file that its table rejects became dead letters.
    RejectFile,
    /// Of a token: it got a new secret.
    Rotate,
    /// Of a table: it was transferred to a project.
    Transfer,
    /// Of a table: another project may fill it.
    Share,
    Unshare,
    /// Of a request: it was rejected, nothing was changed.
    Reject,
    /// Of a source or sink: its records were read live.
    Tap,
    /// Of a sink: dead letters were replayed, perhaps with changed records.
    ReplayDeadLetters,
    /// Of a sink: dead letters were dropped.
    DropDeadLetters,
}

impl AuditAction {
    pub(crate) const ALL: [Self; 20] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Undelete,
        Self::Purge,
        Self::Disable,
        Self::Enable,
        Self::Pause,
        Self::Resume,
        Self::ClearStatistics,
        Self::Retry,
        Self::RejectFile,
        Self::Rotate,
        Self::Transfer,
        Self::Share,
        Self::Unshare,
        Self::Reject,
        Self::Tap,
        Self::ReplayDeadLetters,
        Self::DropDeadLetters,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
            Self::Purge => "purge",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::ClearStatistics => "clearStatistics",
            Self::Retry => "retry",
            Self::RejectFile => "rejectFile",
            Self::Rotate => "rotate",
            Self::Transfer => "transfer",
            Self::Share => "share",
            Self::Unshare => "unshare",
            Self::Reject => "reject",
            Self::Tap => "tap",
            Self::ReplayDeadLetters => "replayDeadLetters",
            Self::DropDeadLetters => "dropDeadLetters",
        }
    }

    /// The action with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// An audit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    pub project: ProjectId,
    pub what: AuditSubject,
    pub action: AuditAction,
    /// Description of the new version, or of the token; may be empty.
    pub description: String,
    /// Version before the change; none for creations and tokens.
    pub old_version: Option<u32>,
    /// Version after the change; none for deletions and tokens.
    pub new_version: Option<u32>,
    /// Time, actor and address.
    pub stamp: AuditStamp,
}

impl AuditEvent {
    /// Id of the entry: sorted by time, and unique for each change of a subject.
    pub fn id(&self) -> String {
        let version = self.new_version.or(self.old_version).unwrap_or_default();
        let (at, action) = (self.stamp.at, self.action.name());
        format!("{at}_{}_{action}_{version}", self.what)
    }
}

impl TxnBuilder<'_> {
    /// Adds the audit entry of a change.
    pub(super) fn put_audit(&mut self, change: &AuditEvent) -> Result<(), StoreError> {
        self.put(StoreKey::Audit(change.project, &change.id()), change)
    }

    /// Adds the audit entry of a change of a source.
    pub(super) fn put_source_audit(
        &mut self,
        key: &SourceKey,
        action: AuditAction,
        versions: (Option<&DefinitionVersion>, Option<&DefinitionVersion>),
        stamp: &AuditStamp,
    ) -> Result<(), StoreError> {
        let what = AuditSubject::Source(key.clone());
        self.put_audit(&version_event(key, what, action, versions, stamp))
    }

    /// Adds the audit entry of a change of a sink.
    pub(super) fn put_sink_audit(
        &mut self,
        key: &SinkKey,
        action: AuditAction,
        versions: (Option<&DefinitionVersion>, Option<&DefinitionVersion>),
        stamp: &AuditStamp,
    ) -> Result<(), StoreError> {
        let what = AuditSubject::Sink(key.clone());
        self.put_audit(&version_event(&key.source, what, action, versions, stamp))
    }
}

fn version_event(
    source: &SourceKey,
    what: AuditSubject,
    action: AuditAction,
    (old, new): (Option<&DefinitionVersion>, Option<&DefinitionVersion>),
    stamp: &AuditStamp,
) -> AuditEvent {
    AuditEvent {
        project: source.branch.project,
        what,
        action,
        description: new.map_or_else(String::new, |v| v.description.clone()),
        old_version: old.map(|v| v.number),
        new_version: new.map(|v| v.number),
        stamp: stamp.clone(),
    }
}

impl Repo {
    /// Writes an entry of a rejected request.
    pub async fn record_rejection(&self, change: &AuditEvent) -> Result<(), StoreError> {
        self.transact(|txn| Box::pin(self.add_unversioned_audit(txn, change.clone())))
            .await
            .map(drop)
    }

    /// Adds an entry whose subject has no versions. If the id is taken, since another one has the
    /// same millisecond, the time is moved to the next one.
    pub(super) async fn add_unversioned_audit(
        &self,
        txn: &mut TxnBuilder<'_>,
        mut change: AuditEvent,
    ) -> Result<(), StoreError> {
        loop {
            let id = change.id();
            let key = StoreKey::Audit(change.project, &id);
            let taken: Option<Versioned<AuditEvent>> = self.read(key).await?;
            if taken.is_none() {
                txn.expect_absent(key);
                return txn.put(key, &change);
            }
            change.stamp.at = change.stamp.at.plus(Duration::from_millis(1));
        }
    }

    /// Writes an entry of something that changes no definition.
    pub async fn record_access(&self, access: &AuditEvent) -> Result<(), StoreError> {
        self.record_rejection(access).await
    }

    /// Lists the changes of a project after the entry of id `after`, oldest first.
    pub async fn audit(
        &self,
        project: ProjectId,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<AuditEvent>, StoreError> {
        let prefix = keys::below(keys::AUDIT, &project);
        self.list(&prefix, after, limit).await
    }

    /// Removes entries that are older than `before`. Returns their number.
    pub async fn remove_old_audit(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut removed = 0;
        let mut after: Option<String> = None;
        loop {
            let range = self
                .store
                .range(keys::AUDIT, after.as_deref(), RANGE_ENTRIES_MAX);
            let page = range.await?;
            let mut txn = self.begin();
            let mut next = page.entries.last().map(|e| e.key.clone());
            for entry in &page.entries {
                let Some((project, id)) = keys::parse_audit(&entry.key) else {
                    continue;
                };
                if id < before.to_string().as_str() {
                    txn.delete(entry.key.clone());
                    removed += 1;
                } else {
                    // The rest of the project is newer; no id begins with a tilde or a later
                    // character.
                    next = Some(format!("{}~", keys::below(keys::AUDIT, &project)));
                    break;
                }
            }
            if !txn.is_empty() {
                self.commit(txn).await?;
            }
            match next {
                Some(next) if page.more || after.as_ref() < Some(&next) => after = Some(next),
                _ => return Ok(removed),
            }
        }
    }
}
