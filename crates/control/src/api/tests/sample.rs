//! Valid requests.

use serde_json::{Value, json};

use super::world::{S, World};

pub(super) fn source(name: &str) -> Value {
    json!({ "type": "http", "name": name })
}

pub(super) fn sink(name: &str) -> Value {
    json!({ "type": "table", "name": name, "table": table(json!([{ "type": "uuid", "name": "id" }])) })
}

pub(super) fn table(columns: Value) -> Value {
    json!({ "type": "keboola", "tableId": "in.c-b.t", "mapping": { "columns": columns } })
}

/// A sink with these columns.
pub(super) fn sink_of(columns: Value) -> Value {
    json!({ "type": "table", "name": "My Sink", "table": table(columns) })
}

impl World {
    /// A server with the source `my-source`.
    pub(super) async fn with_source() -> Self {
        let world = Self::new().await;
        world.done(world.post(S, source("My Source")).await).await;
        world
    }

    /// Also with its sink `my-sink`.
    pub(super) async fn with_sink() -> Self {
        let world = Self::with_source().await;
        let path = format!("{S}/my-source/sinks");
        world.done(world.post(&path, sink("My Sink")).await).await;
        world
    }
}
