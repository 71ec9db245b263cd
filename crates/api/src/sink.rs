//! Sinks.

use forebay_model::{SinkTarget, TableBackend, TopicKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{AuditStampView, DisabledEvent, PageInfo, VersionView};
use crate::mapping::{MappingRequest, MappingView};
use crate::topic::{TopicCreate, TopicSinkView, TopicUpdate};

/// A new sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CreateSinkRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct SinkCreate {
    /// Id; derived from the name by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 48, nullable = false, example = "my-sink")]
    pub sink_id: Option<String>,
    /// Type of the sink.
    pub r#type: SinkType,
    /// Display name.
    #[schema(min_length = 1, max_length = 40, example = "My Sink")]
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, nullable = false)]
    pub description: Option<String>,
    /// Required for the type `table`; not allowed otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub table: Option<TableCreate>,
    /// Required for the types `kafka` and `http`; not allowed otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub topic: Option<TopicCreate>,
    /// The definition set that it belongs to: `forebay apply --prune` of this set may delete it. An
    /// extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, nullable = false, example = "shop")]
    pub definition_set: Option<String>,
}

/// Changes of a sink; absent fields are unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = UpdateSinkRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct SinkUpdate {
    /// Description of the new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, nullable = false)]
    pub change_description: Option<String>,
    /// Can't be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub r#type: Option<SinkType>,
    /// Display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 40, nullable = false)]
    pub name: Option<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, nullable = false)]
    pub description: Option<String>,
    /// Only for type `table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub table: Option<TableUpdate>,
    /// Only for types `kafka` and `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub topic: Option<TopicUpdate>,
    /// The definition set that it belongs to; empty for none. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, nullable = false)]
    pub definition_set: Option<String>,
}

/// Type of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SinkType {
    /// A table.
    Table,
    /// A topic of Apache Kafka.
    Kafka,
    /// An HTTP endpoint.
    Http,
}

impl SinkType {
    /// Type of a sink with this target.
    pub fn from_target(target: &SinkTarget) -> Self {
        match target.topic().map(|t| t.kind) {
            None => Self::Table,
            Some(TopicKind::Kafka) => Self::Kafka,
            Some(TopicKind::Http) => Self::Http,
        }
    }
}

/// The table of a new sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableSinkCreate)]
#[serde(rename_all = "camelCase")]
pub struct TableCreate {
    /// Backend of the table.
    pub r#type: TableType,
    /// `<in|out>.<bucket>.<table>`
    #[schema(example = "in.c-bucket.table")]
    pub table_id: String,
    /// Mapping of a record to a row.
    pub mapping: MappingRequest,
}

/// Changes of a sink's table; absent fields are unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableSinkUpdate)]
#[serde(rename_all = "camelCase")]
pub struct TableUpdate {
    /// Backend of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub r#type: Option<TableType>,
    /// `<in|out>.<bucket>.<table>`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub table_id: Option<String>,
    /// Replaces the whole mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mapping: Option<MappingRequest>,
}

/// Table backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum TableType {
    /// The server's default backend.
    Keboola,
    /// The embedded SQLite database.
    Sqlite,
    /// The configured PostgreSQL server.
    Postgres,
}

impl From<TableType> for TableBackend {
    fn from(kind: TableType) -> Self {
        match kind {
            TableType::Keboola => Self::Keboola,
            TableType::Sqlite => Self::Sqlite,
            TableType::Postgres => Self::Postgres,
        }
    }
}

impl From<TableBackend> for TableType {
    fn from(backend: TableBackend) -> Self {
        match backend {
            TableBackend::Keboola => Self::Keboola,
            TableBackend::Sqlite => Self::Sqlite,
            TableBackend::Postgres => Self::Postgres,
        }
    }
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Sink)]
#[serde(rename_all = "camelCase")]
pub struct SinkView {
    /// Number of the project.
    pub project_id: u64,
    /// Number of the branch.
    pub branch_id: u64,
    /// Id of the source.
    pub source_id: String,
    /// Id of the sink.
    pub sink_id: String,
    /// Type of the sink.
    pub r#type: SinkType,
    /// Display name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The definition set that it belongs to, if it was created by `forebay apply`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub definition_set: Option<String>,
    /// Only for type `table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub table: Option<TableSinkView>,
    /// Only for types `kafka` and `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub topic: Option<TopicSinkView>,
    /// Current version of the definition.
    pub version: VersionView,
    /// Time and author of the creation.
    pub created: AuditStampView,
    /// Time and author of the deletion; only of a deleted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub deleted: Option<AuditStampView>,
    /// Set if it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub disabled: Option<DisabledEvent>,
    /// Set if its delivery is paused; it still accepts records.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub paused: Option<DisabledEvent>,
}

/// The table of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableSink)]
#[serde(rename_all = "camelCase")]
pub struct TableSinkView {
    /// Backend of the table.
    pub r#type: TableType,
    /// `<in|out>.<bucket>.<table>`
    pub table_id: String,
    /// Mapping of a record to a row.
    pub mapping: MappingView,
}

/// A page of sinks of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkList {
    /// Number of the project.
    pub project_id: u64,
    /// Number of the branch.
    pub branch_id: u64,
    /// Id of the source.
    pub source_id: String,
    /// Position of this page in the list.
    pub page: PageInfo,
    /// Sinks, sorted by id.
    pub sinks: Vec<SinkView>,
}
