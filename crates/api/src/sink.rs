//! Sinks.

use forebay_model::{SinkTarget, TableBackend, TopicKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{AuditStampView, DisabledEvent, PageInfo, VersionView};
use crate::data_type::{DataTypeName, TimeUnitName};
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

/// Mapping of a record to a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableMappingRequest)]
pub struct MappingRequest {
    /// Columns of the table, in order.
    #[schema(min_items = 1, max_items = 100)]
    pub columns: Vec<ColumnRequest>,
}

/// A column. Its type determines the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableColumnRequest)]
#[serde(rename_all = "camelCase")]
pub struct ColumnRequest {
    /// Source of the cell's text.
    pub r#type: ColumnType,
    /// Name in the table.
    pub name: String,
    /// Only for type `path`: path of a value in the body, at most 4096 characters: `user.tags[0]`;
    /// with quoted keys `["utm.source"]`; or JSONPath (RFC 9535) if it begins with `$`, like
    /// `$.items[*].id`, where a path that can select many values returns a JSON array. Empty for
    /// the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "user.tags[0]")]
    pub path: Option<String>,
    /// Only for type `path`: text if the body has no value there. Without it such a record is
    /// rejected; a path that can select many values returns `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub default_value: Option<String>,
    /// Only for types `path` and `template`: strings without their JSON quotes. Default: the
    /// server's `api.rawString`, which is true; in the fields of a message false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub raw_string: Option<bool>,
    /// Only for type `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<ColumnTemplate>,
    /// Only for type `static`: the text of all cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
    /// Part of the table's primary key: a later row with the same key replaces the earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub primary_key: Option<bool>,
    /// Only in a table: type of the column's cells, `text` by default. A record with a value of another
    /// type is rejected; null, or an empty default, becomes NULL. Types `path`, `template` and `static`
    /// have all types, `body` and `headers` also `json`, `datetime` also `timestamp`. A primary key is
    /// `text`, `integer`, `boolean` or `timestamp`. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub data_type: Option<DataTypeName>,
    /// Only for data type `timestamp`: unit of times that are numbers. By default it is derived from
    /// their magnitude. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub unit: Option<TimeUnitName>,
}

/// Source of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ColumnType {
    /// A new UUID, version 7.
    Uuid,
    /// Time of receipt.
    Datetime,
    /// Address of the client.
    Ip,
    /// The request's body.
    Body,
    /// The request's headers, as a JSON object.
    Headers,
    /// A value of the parsed body.
    Path,
    /// Result of a template.
    Template,
    /// A constant text.
    Static,
}

/// A template of a cell's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableColumnTemplate)]
pub struct ColumnTemplate {
    /// Language of the template.
    pub language: TemplateLanguage,
    /// Source text.
    #[schema(min_length = 1, max_length = 4096, example = "Body('user.name')")]
    pub content: String,
}

/// Language of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum TemplateLanguage {
    /// Jsonnet.
    Jsonnet,
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

/// Mapping of a record to a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableMapping)]
pub struct MappingView {
    /// Columns of the table, in order.
    pub columns: Vec<ColumnView>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableColumn)]
#[serde(rename_all = "camelCase")]
pub struct ColumnView {
    /// Source of the cell's text.
    pub r#type: ColumnType,
    /// Name in the table.
    pub name: String,
    /// Only for type `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub path: Option<String>,
    /// Only for type `path`, if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub default_value: Option<String>,
    /// Only for types `path` and `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub raw_string: Option<bool>,
    /// Only for type `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<ColumnTemplate>,
    /// Only for type `static`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
    /// Only if it is part of the primary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub primary_key: Option<bool>,
    /// Type of the column's cells, unless it is `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub data_type: Option<DataTypeName>,
    /// Unit of times that are numbers, if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub unit: Option<TimeUnitName>,
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
