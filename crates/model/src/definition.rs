//! What a user defines: sources, their sinks, and who changed them when.

use std::collections::BTreeMap;

use crate::column::Mapping;
use crate::id::{SinkKey, SourceKey};
use crate::table::{TableBackend, TableId};
use crate::time::Timestamp;
use crate::topic::TopicSink;

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// A person (with a token), or Forebay itself.
    pub kind: ActorKind,
    /// Id of the token that was used.
    pub token_id: Option<String>,
    /// Its description.
    pub token_desc: Option<String>,
    /// Id of the token's owner.
    pub user_id: Option<String>,
    /// Name of the token's owner.
    pub user_name: Option<String>,
    /// Address of the client; kept by the audit only.
    pub from: Option<String>,
}

/// A person, or Forebay itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// With a token.
    User,
    /// On its own account.
    System,
}

impl Actor {
    /// Forebay itself.
    #[must_use]
    pub fn system() -> Self {
        Self {
            kind: ActorKind::System,
            token_id: None,
            token_desc: None,
            user_id: None,
            user_name: None,
            from: None,
        }
    }
}

/// When something was done, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditStamp {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
}

/// When something was switched off, by whom, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisableInfo {
    /// When and by whom.
    pub stamp: AuditStamp,
    /// Why.
    pub reason: String,
    /// It was switched off with its parent, and comes back with it.
    pub with_parent: bool,
}

/// When something was deleted, by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionInfo {
    /// When and by whom.
    pub stamp: AuditStamp,
    /// It was deleted with its parent, and comes back with it.
    pub with_parent: bool,
}

/// A state of a definition that can be returned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionVersion {
    /// From 1.
    pub number: u32,
    /// 16 hexadecimal digits that change with the content.
    pub hash: String,
    /// What changed.
    pub description: String,
    /// When and by whom.
    pub stamp: AuditStamp,
}

/// Settings that a source or sink has of its own, by key (`crate::settings`). Only keys that are
/// in the registry, with values that it has accepted, ever get in here.
pub type SettingsPatch = BTreeMap<String, serde_json::Value>;

/// Where records come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which.
    pub key: SourceKey,
    /// How records come in.
    pub kind: SourceKind,
    /// For people.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Settings of its own; they hold for its sinks too.
    pub settings: SettingsPatch,
    /// The present version.
    pub version: DefinitionVersion,
    /// Made when, by whom.
    pub created: AuditStamp,
    /// Deleted; can be undone.
    pub deleted: Option<DeletionInfo>,
    /// Switched off: it takes no records.
    pub disabled: Option<DisableInfo>,
}

/// How records come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// By `POST` to an address that has the secret in it.
    Http {
        /// [`crate::limits::SECRET_CHARS`] characters of `[0-9a-zA-Z]`.
        secret: String,
    },
}

/// Where records of a source go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Which.
    pub key: SinkKey,
    /// For people.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Where its records go.
    pub target: SinkTarget,
    /// Settings of its own, over those of its source.
    pub settings: SettingsPatch,
    /// The present version.
    pub version: DefinitionVersion,
    /// Made when, by whom.
    pub created: AuditStamp,
    /// Deleted; can be undone.
    pub deleted: Option<DeletionInfo>,
    /// Switched off: it takes no records.
    pub disabled: Option<DisableInfo>,
    /// Its delivery is stopped, while it takes records all the same. Only of topics.
    pub paused: Option<PauseInfo>,
}

/// When delivery was stopped, by whom, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseInfo {
    /// When and by whom.
    pub stamp: AuditStamp,
    /// Why; may be empty.
    pub reason: String,
}

/// A table, or a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkTarget {
    /// Rows of a table.
    Table(TableSink),
    /// Messages of a topic.
    Topic(TopicSink),
}

impl From<TableSink> for SinkTarget {
    fn from(table: TableSink) -> Self {
        Self::Table(table)
    }
}

impl SinkTarget {
    /// The table, if it is one.
    #[must_use]
    pub fn table(&self) -> Option<&TableSink> {
        match self {
            Self::Table(table) => Some(table),
            Self::Topic(_) => None,
        }
    }

    /// The topic, if it is one.
    #[must_use]
    pub fn topic(&self) -> Option<&TopicSink> {
        match self {
            Self::Table(_) => None,
            Self::Topic(topic) => Some(topic),
        }
    }

    /// Its name in the API: `table`, `kafka` or `http`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::Topic(topic) => topic.kind.name(),
        }
    }
}

/// A table, and what its rows are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSink {
    /// What keeps it.
    pub backend: TableBackend,
    /// Its name.
    pub table: TableId,
    /// Its columns.
    pub mapping: Mapping,
}

impl Source {
    /// It takes records.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.deleted.is_none() && self.disabled.is_none()
    }
}

impl Sink {
    /// It takes records, as far as it alone decides.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.deleted.is_none() && self.disabled.is_none()
    }
}
