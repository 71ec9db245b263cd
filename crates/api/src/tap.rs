//! Live records.

use std::fmt;

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

/// Step of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TapStage)]
#[serde(rename_all = "lowercase")]
pub enum TapStageName {
    /// As received, before any mapping.
    #[default]
    In,
    /// As a row or message of a sink.
    Row,
    /// Rejected by a mapping.
    Dead,
}

impl fmt::Display for TapStageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Row => "row",
            Self::Dead => "dead",
        })
    }
}

/// The records to show.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct TapQuery {
    /// `in` (the default): records as received; `row`: rows and messages; `dead`: records that a mapping
    /// rejected.
    #[serde(default)]
    #[param(inline, required = false)]
    pub stage: TapStageName,
    /// Id of a sink; all sinks by default. Does not apply to the stage `in`.
    #[serde(default)]
    #[param(default = "", required = false, max_length = 48)]
    pub sink_id: String,
    /// Conditions `PATH=VALUE` or `PATH!=VALUE`, separated by commas; all of them must hold. In the
    /// stage `row` a path is the name of a column.
    #[serde(default)]
    #[param(default = "", required = false, max_length = 4096)]
    pub filter: String,
    /// Paths in the body whose values are hidden, separated by commas.
    #[serde(default)]
    #[param(default = "", required = false, max_length = 4096)]
    pub redact: String,
    /// Show one of so many records.
    #[param(minimum = 1, maximum = 1_000_000, default = 1, required = false)]
    pub sample: u32,
    /// End after so many records; 0 means never.
    #[param(minimum = 0, maximum = 1_000_000, default = 0, required = false)]
    pub limit: u32,
}

/// A line of a tap: a sample, or only `lost`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TapLine {
    /// Id of the sink; absent in the stage `in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sink_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, format = DateTime)]
    /// When the record was received.
    pub received_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    /// Address of its sender; absent in the stage `row`.
    pub client_ip: Option<String>,
    /// Line of its batch, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<usize>,
    /// Headers of the request; those with secrets are hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    pub headers: Option<Map<String, Value>>,
    /// The body as JSON, or as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Value>)]
    pub body: Option<Box<RawValue>>,
    /// Bytes of the body, if only its first 64 KB are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body_bytes: Option<usize>,
    /// Cells of the row by column, or the parts of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    pub row: Option<Map<String, Value>>,
    /// The column that rejected the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub column: Option<String>,
    /// Why the record was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// Whether the rejected record became a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kept: Option<bool>,
    /// Samples lost since the tap was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub lost: Option<u64>,
}
