//! Definitions of users: sources and sinks, with their versions and audit stamps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::column::Mapping;
use crate::id::{SinkKey, SourceKey};
use crate::signature::SignatureSettings;
use crate::table::{TableBackend, TableId};
use crate::time::Timestamp;
use crate::topic::TopicSink;

/// The author of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// A user (with a token), or Forebay itself.
    pub kind: ActorKind,
    /// Id of the token that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Description of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_desc: Option<String>,
    /// Id of the token's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Name of the token's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Address of the client; stored in the audit log only.
    #[serde(skip)]
    pub from: Option<String>,
}

/// A user, or Forebay itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActorKind {
    /// A user with a token.
    User,
    /// Forebay itself.
    System,
}

impl Actor {
    /// The actor for changes by Forebay itself.
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

/// Time and author of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditStamp {
    /// Time of the change.
    pub at: Timestamp,
    /// Author of the change.
    pub by: Actor,
}

/// Time, author and reason of disabling a source or sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DisableInfo {
    /// When and by whom it was disabled.
    #[serde(flatten)]
    pub stamp: AuditStamp,
    /// Reason given.
    pub reason: String,
}

/// Time and author of a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionInfo {
    /// When and by whom it was deleted.
    #[serde(flatten)]
    pub stamp: AuditStamp,
}

/// A version of a definition, which can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionVersion {
    /// Version number, from 1.
    pub number: u32,
    /// 16 hexadecimal digits that change with the content.
    pub hash: String,
    /// Description of the change.
    pub description: String,
    /// When and by whom the version was created.
    #[serde(flatten)]
    pub stamp: AuditStamp,
}

/// A source's or sink's own settings, by key (`crate::settings`). Contains only keys and values
/// that the registry has accepted.
pub type SettingsPatch = BTreeMap<String, serde_json::Value>;

/// An input endpoint for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Key of the source.
    pub key: SourceKey,
    /// Type of input.
    pub kind: SourceKind,
    /// Display name.
    pub name: String,
    /// Description; may be empty.
    pub description: String,
    /// Settings of the source; they apply to its sinks too.
    pub settings: SettingsPatch,
    /// The definition set that created it with `forebay apply`.
    pub definition_set: Option<String>,
    /// Current version.
    pub version: DefinitionVersion,
    /// When and by whom it was created.
    pub created: AuditStamp,
    /// Set if deleted; a deletion can be undone.
    pub deleted: Option<DeletionInfo>,
    /// Set if disabled: it accepts no records.
    pub disabled: Option<DisableInfo>,
}

/// Type of a source's input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum SourceKind {
    /// `POST` to an address that contains the secret.
    Http {
        /// [`crate::limits::SECRET_CHARS`] characters of `[0-9a-zA-Z]`.
        secret: String,
        /// Signature that requests must have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verify: Option<SignatureSettings>,
    },
}

/// An output of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Key of the sink.
    pub key: SinkKey,
    /// Display name.
    pub name: String,
    /// Description; may be empty.
    pub description: String,
    /// Target of the records.
    pub target: SinkTarget,
    /// Settings of the sink; they override those of its source.
    pub settings: SettingsPatch,
    /// The definition set that created it with `forebay apply`.
    pub definition_set: Option<String>,
    /// Current version.
    pub version: DefinitionVersion,
    /// When and by whom it was created.
    pub created: AuditStamp,
    /// Set if deleted; a deletion can be undone.
    pub deleted: Option<DeletionInfo>,
    /// Set if disabled: it accepts no records.
    pub disabled: Option<DisableInfo>,
    /// Set if delivery is paused; records are still accepted. Topics only.
    pub paused: Option<PauseInfo>,
}

/// Time, author and reason of pausing delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseInfo {
    /// When and by whom delivery was paused.
    #[serde(flatten)]
    pub stamp: AuditStamp,
    /// Reason given; may be empty.
    pub reason: String,
}

/// The target of a sink: a table or a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// The table, if the target is one.
    pub fn table(&self) -> Option<&TableSink> {
        match self {
            Self::Table(table) => Some(table),
            Self::Topic(_) => None,
        }
    }

    /// The topic, if the target is one.
    pub fn topic(&self) -> Option<&TopicSink> {
        match self {
            Self::Table(_) => None,
            Self::Topic(topic) => Some(topic),
        }
    }

    /// Name in the API: `table`, `kafka` or `http`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::Topic(topic) => topic.kind.name(),
        }
    }
}

/// A table with its mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSink {
    /// Backend of the table.
    pub backend: TableBackend,
    /// Id of the table.
    pub table: TableId,
    /// Columns of the table.
    #[serde(rename = "columns")]
    pub mapping: Mapping,
}

impl Source {
    /// Whether the source accepts records.
    pub fn is_active(&self) -> bool {
        self.deleted.is_none() && self.disabled.is_none()
    }
}

impl Sink {
    /// Whether the sink accepts records, regardless of its source.
    pub fn is_active(&self) -> bool {
        self.deleted.is_none() && self.disabled.is_none()
    }
}
