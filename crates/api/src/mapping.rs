//! Mappings of records to rows, and their columns.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::data_type::{DataTypeName, TimeUnitName};

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
