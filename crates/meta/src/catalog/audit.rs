//! Who changed what, when, from where. An entry is written in the transaction of the change itself:
//! there is none without the change, and no change of a definition or token without one. Besides there
//! are entries of requests that were refused.

use std::fmt;
use std::time::Duration;

use forebay_model::{
    AuditStamp, DefinitionVersion, ProjectId, SinkKey, SourceKey, TableBackend, TableId, Timestamp,
};

use super::{ListPage, Repo, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError, Txn};

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSubject {
    /// A source.
    Source(SourceKey),
    /// A sink.
    Sink(SinkKey),
    /// A token, by its id.
    Token(String),
    /// The quota of the project.
    Quota,
    /// Who may use a table.
    Table(TableBackend, TableId),
    /// A request of the management API, by method and path, that was refused.
    Request(String),
}

impl fmt::Display for AuditSubject {
    /// As it stands in an entry's id, without a `/`.
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
            Self::Table(backend, table) => {
                let table = table.to_string().replace('/', "_");
                write!(f, "table.{}.{table}", backend.name())
            }
            // Of its path nothing: that has slashes.
            Self::Request(request) => {
                let method = request.split(' ').next().unwrap_or_default();
                write!(f, "request.{method}")
            }
        }
    }
}

/// What was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as what is done")]
pub enum AuditAction {
    Create,
    Update,
    Delete,
    Undelete,
    /// Deleted for good.
    Purge,
    Disable,
    Enable,
    /// Of a topic: its delivery was stopped.
    Pause,
    Resume,
    ClearStatistics,
    /// Of a sink: what had failed was tried at once.
    Retry,
    /// Of a sink: rows of a file that its table can't take became dead letters.
    RejectFile,
    /// Of a token: it got another text.
    Rotate,
    /// Of a table: it was given to a project.
    Transfer,
    /// Of a table: another project may fill it.
    Share,
    Unshare,
    /// Of a request: nothing was changed.
    Refuse,
}

impl AuditAction {
    const ALL: [Self; 17] = [
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
        Self::Refuse,
    ];

    /// Its name in the store and in answers.
    #[must_use]
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
            Self::Refuse => "refuse",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Whose project it is.
    pub project: ProjectId,
    /// Of what.
    pub what: AuditSubject,
    /// What was done.
    pub action: AuditAction,
    /// That of the new version, or of the token; may be empty.
    pub description: String,
    /// The version before; none of what was made, and of tokens.
    pub old_version: Option<u32>,
    /// The version after; none of what is deleted, and of tokens.
    pub new_version: Option<u32>,
    /// When, by whom, from where.
    pub stamp: AuditStamp,
}

impl AuditEvent {
    /// Its id: sorted by time, and different for each change of a thing.
    #[must_use]
    pub fn id(&self) -> String {
        let version = self.new_version.or(self.old_version).unwrap_or_default();
        let (at, action) = (self.stamp.at, self.action.name());
        format!("{at}_{}_{action}_{version}", self.what)
    }
}

impl TxnBuilder {
    /// Notes a change with the transaction.
    pub(super) fn put_audit(&mut self, change: &AuditEvent) -> Result<(), StoreError> {
        self.put(StoreKey::Audit(change.project, &change.id()), change)
    }

    /// Notes a change of a source.
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

    /// Notes a change of a sink.
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
    /// Notes what was refused: an entry without a change.
    ///
    /// # Errors
    /// The store's.
    pub async fn record_rejection(&self, change: &AuditEvent) -> Result<(), StoreError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let mut builder = TxnBuilder::default();
            self.add_unversioned_audit(&mut builder, change.clone())
                .await?;
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
    }

    /// Notes what has no version that tells it from others of its kind: of two of the same moment,
    /// the second is noted for the next one, so that it does not take the first one's place.
    pub(super) async fn add_unversioned_audit(
        &self,
        builder: &mut TxnBuilder,
        mut change: AuditEvent,
    ) -> Result<(), StoreError> {
        loop {
            let id = change.id();
            let key = StoreKey::Audit(change.project, &id);
            let taken: Option<Versioned<AuditEvent>> = self.read(key).await?;
            if taken.is_none() {
                builder.expect_absent(key);
                return builder.put(key, &change);
            }
            change.stamp.at = change.stamp.at.plus(Duration::from_millis(1));
        }
    }

    /// Changes of a project after the entry of id `after`, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn audit(
        &self,
        project: ProjectId,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<AuditEvent>, StoreError> {
        let prefix = keys::below(keys::AUDIT, &project);
        self.list(&prefix, after, limit).await
    }

    /// Forgets entries that are older than `before`. How many.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_old_audit(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut removed = 0;
        let mut after: Option<String> = None;
        loop {
            let range = self
                .store
                .range(keys::AUDIT, after.as_deref(), RANGE_ENTRIES_MAX);
            let page = range.await?;
            let mut txn = Txn::default();
            let mut next = page.entries.last().map(|e| e.key.clone());
            for entry in &page.entries {
                let Some((project, id)) = keys::parse_audit(&entry.key) else {
                    continue;
                };
                if id < before.to_string().as_str() {
                    txn.delete(entry.key.clone());
                    removed += 1;
                } else {
                    // The rest of the project is younger; no id begins with a tilde or above.
                    next = Some(format!("{}~", keys::below(keys::AUDIT, &project)));
                    break;
                }
            }
            if !txn.ops.is_empty() {
                let builder = TxnBuilder {
                    txn,
                    ..TxnBuilder::default()
                };
                self.commit(builder).await?;
            }
            match next {
                Some(next) if page.more || after.as_ref() < Some(&next) => after = Some(next),
                _ => return Ok(removed),
            }
        }
    }
}
