//! Fields of requests of the API that a definition has in the same form.

use std::sync::LazyLock;

use forebay_api::json_schema;
use forebay_api::sink::SinkCreate;
use forebay_api::source::SourceCreate;
use serde_json::Value;

/// Fields of requests that a definition has in another form.
const SOURCE_MAPPED: [&str; 6] = [
    "sourceId",
    "type",
    "name",
    "description",
    "verify",
    "definitionSet",
];
const SINK_MAPPED: [&str; 7] = [
    "sinkId",
    "type",
    "name",
    "description",
    "table",
    "topic",
    "definitionSet",
];

static SOURCE_WIRE: LazyLock<Vec<String>> =
    LazyLock::new(|| passed_fields(&json_schema::<SourceCreate>(), &SOURCE_MAPPED));
static SINK_WIRE: LazyLock<Vec<String>> =
    LazyLock::new(|| passed_fields(&json_schema::<SinkCreate>(), &SINK_MAPPED));

/// Fields of a source that are sent as they are.
pub(super) fn source_wire_fields() -> &'static [String] {
    &SOURCE_WIRE
}

/// Fields of a sink that are sent as they are.
pub(super) fn sink_wire_fields() -> &'static [String] {
    &SINK_WIRE
}

fn passed_fields(schema: &Value, mapped: &[&str]) -> Vec<String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let names = properties.into_iter().flatten();
    let names = names.map(|(name, _)| name.clone());
    names
        .filter(|name| !mapped.contains(&name.as_str()))
        .collect()
}
