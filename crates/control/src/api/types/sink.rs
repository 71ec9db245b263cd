//! Sinks.

use forebay_model::{SinkTarget, TableBackend, TopicKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::common::{AuditStampView, DisabledEvent, PageInfo, VersionView};
use super::topic::{TopicCreate, TopicSinkView, TopicUpdate};

/// A new sink.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateSinkRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SinkCreate {
    /// Id; derived from the name by default.
    #[schema(min_length = 1, max_length = 48, nullable = false, example = "my-sink")]
    pub(crate) sink_id: Option<String>,
    pub(crate) r#type: SinkType,
    /// Display name.
    #[schema(min_length = 1, max_length = 40, example = "My Sink")]
    pub(crate) name: String,
    /// Free text.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) description: Option<String>,
    /// Required for the type `table`; not allowed otherwise.
    #[schema(nullable = false)]
    pub(crate) table: Option<TableCreate>,
    /// Required for the types `kafka` and `http`; not allowed otherwise.
    #[schema(nullable = false)]
    pub(crate) topic: Option<TopicCreate>,
}

/// Changes of a sink; absent fields are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateSinkRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SinkUpdate {
    /// Description of the new version.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) change_description: Option<String>,
    /// Can't be changed.
    #[schema(nullable = false)]
    pub(crate) r#type: Option<SinkType>,
    /// Display name.
    #[schema(min_length = 1, max_length = 40, nullable = false)]
    pub(crate) name: Option<String>,
    /// Free text.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) description: Option<String>,
    #[schema(nullable = false)]
    pub(crate) table: Option<TableUpdate>,
    #[schema(nullable = false)]
    pub(crate) topic: Option<TopicUpdate>,
}

/// Type of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SinkType {
    /// A table.
    Table,
    /// A topic of Apache Kafka.
    Kafka,
    /// An HTTP endpoint.
    Http,
}

impl SinkType {
    pub(crate) fn from_target(target: &SinkTarget) -> Self {
        match target.topic().map(|t| t.kind) {
            None => Self::Table,
            Some(TopicKind::Kafka) => Self::Kafka,
            Some(TopicKind::Http) => Self::Http,
        }
    }
}

/// The table of a new sink.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TableSinkCreate)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableCreate {
    pub(crate) r#type: TableType,
    /// `<in|out>.<bucket>.<table>`
    #[schema(example = "in.c-bucket.table")]
    pub(crate) table_id: String,
    pub(crate) mapping: MappingRequest,
}

/// Changes of a sink's table; absent fields are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TableSinkUpdate)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableUpdate {
    #[schema(nullable = false)]
    pub(crate) r#type: Option<TableType>,
    /// `<in|out>.<bucket>.<table>`
    #[schema(nullable = false)]
    pub(crate) table_id: Option<String>,
    /// Replaces the whole mapping.
    #[schema(nullable = false)]
    pub(crate) mapping: Option<MappingRequest>,
}

/// Table backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TableType {
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
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TableMappingRequest)]
pub(crate) struct MappingRequest {
    /// Columns of the table, in order.
    #[schema(min_items = 1, max_items = 100)]
    pub(crate) columns: Vec<ColumnRequest>,
}

/// A column. Its type determines the fields.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TableColumnRequest)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnRequest {
    pub(crate) r#type: ColumnType,
    /// Name in the table.
    pub(crate) name: String,
    /// Only for type `path`: path of a value in the body, at most 4096 characters: `user.tags[0]`;
    /// with quoted keys `["utm.source"]`; or JSONPath (RFC 9535) if it begins with `$`, like
    /// `$.items[*].id`, where a path that can select many values returns a JSON array. Empty for
    /// the whole body.
    #[schema(nullable = false, example = "user.tags[0]")]
    pub(crate) path: Option<String>,
    /// Only for type `path`: text if the body has no value there. Without it such a record is
    /// rejected; a path that can select many values returns `[]`.
    #[schema(nullable = false)]
    pub(crate) default_value: Option<String>,
    /// Only for types `path` and `template`: strings without their JSON quotes. Default: the
    /// server's `api.rawString`, which is true; in the fields of a message false.
    #[schema(nullable = false)]
    pub(crate) raw_string: Option<bool>,
    /// Only for type `template`.
    #[schema(nullable = false)]
    pub(crate) template: Option<ColumnTemplate>,
    /// Only for type `static`: the text of all cells.
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
    /// Part of the table's primary key: a later row with the same key replaces the earlier one.
    #[schema(nullable = false)]
    pub(crate) primary_key: Option<bool>,
}

/// Source of a cell's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ColumnType {
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
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = TableColumnTemplate)]
pub(crate) struct ColumnTemplate {
    pub(crate) language: TemplateLanguage,
    /// Source text.
    #[schema(min_length = 1, max_length = 4096, example = "Body('user.name')")]
    pub(crate) content: String,
}

/// Language of a template.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TemplateLanguage {
    Jsonnet,
}

/// A sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sink)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SinkView {
    project_id: u64,
    branch_id: u64,
    source_id: String,
    sink_id: String,
    r#type: SinkType,
    name: String,
    description: String,
    /// Only for type `table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    table: Option<TableSinkView>,
    /// Only for types `kafka` and `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    topic: Option<TopicSinkView>,
    version: VersionView,
    created: AuditStampView,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deleted: Option<AuditStampView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    disabled: Option<DisabledEvent>,
    /// Set if its delivery is paused; it still accepts records.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    paused: Option<DisabledEvent>,
}

/// The table of a sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TableSink)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableSinkView {
    r#type: TableType,
    /// `<in|out>.<bucket>.<table>`
    table_id: String,
    mapping: MappingView,
}

/// Mapping of a record to a row.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TableMapping)]
pub(crate) struct MappingView {
    pub(crate) columns: Vec<ColumnView>,
}

/// A column.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TableColumn)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnView {
    pub(crate) r#type: ColumnType,
    pub(crate) name: String,
    /// Only for type `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) path: Option<String>,
    /// Only for type `path`, if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) default_value: Option<String>,
    /// Only for types `path` and `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) raw_string: Option<bool>,
    /// Only for type `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) template: Option<ColumnTemplate>,
    /// Only for type `static`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
    /// Only if it is part of the primary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) primary_key: Option<bool>,
}

impl From<&forebay_model::Sink> for SinkView {
    fn from(sink: &forebay_model::Sink) -> Self {
        let source = &sink.key.source;
        Self {
            project_id: source.branch.project.0,
            branch_id: source.branch.branch.0,
            source_id: source.source.to_string(),
            sink_id: sink.key.sink.to_string(),
            r#type: SinkType::from_target(&sink.target),
            name: sink.name.clone(),
            description: sink.description.clone(),
            table: sink.target.table().map(|table| TableSinkView {
                r#type: table.backend.into(),
                table_id: table.table.to_string(),
                mapping: (&table.mapping).into(),
            }),
            topic: sink.target.topic().map(Into::into),
            version: (&sink.version).into(),
            created: (&sink.created).into(),
            deleted: sink.deleted.as_ref().map(|d| (&d.stamp).into()),
            disabled: sink.disabled.as_ref().map(Into::into),
            paused: sink.paused.as_ref().map(Into::into),
        }
    }
}

/// A page of sinks of a source.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SinkList {
    pub(crate) project_id: u64,
    pub(crate) branch_id: u64,
    pub(crate) source_id: String,
    pub(crate) page: PageInfo,
    pub(crate) sinks: Vec<SinkView>,
}
