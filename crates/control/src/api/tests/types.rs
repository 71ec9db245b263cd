//! Types of columns.

use serde_json::{Value, json};

use super::sample::sink_of;
use super::world::World;

const SINKS: &str = "/v1/branches/default/sources/my-source/sinks";
const K: &str = "/v1/branches/default/sources/my-source/sinks/my-sink";

fn path(name: &str, more: Value) -> Value {
    let mut column = json!({ "type": "path", "name": name, "path": name, "rawString": true });
    for (field, value) in more.as_object().unwrap() {
        column[field] = value.clone();
    }
    column
}

#[tokio::test]
async fn types_are_returned_unless_they_are_text() {
    let world = World::with_source().await;
    let columns = json!([
        path("id", json!({ "primaryKey": true, "dataType": "integer" })),
        path("t", json!({ "dataType": "text" })),
        path("at", json!({ "dataType": "timestamp", "unit": "ms" })),
        path("d", json!({ "defaultValue": "", "dataType": "double" })),
        { "type": "body", "name": "b", "dataType": "json" },
        { "type": "datetime", "name": "dt", "dataType": "timestamp" },
        { "type": "static", "name": "s", "value": "true", "dataType": "boolean" },
    ]);
    let made = world.post(SINKS, sink_of(columns.clone())).await;
    world.done(made).await;
    let shown = world.get(K).await.ok();
    let mut expected = columns;
    expected[1].as_object_mut().unwrap().remove("dataType");
    assert_eq!(shown["table"]["mapping"]["columns"], expected);
    // A version that is rolled back to has them, too.
    let change =
        json!({ "table": { "mapping": { "columns": [{ "type": "uuid", "name": "id" }] } } });
    world.done(world.patch(K, change).await).await;
    let back = world.put(&format!("{K}/versions/1/rollback")).await;
    world.done(back).await;
    let shown = world.get(K).await.ok();
    assert_eq!(shown["table"]["mapping"]["columns"], expected);
}

#[tokio::test]
async fn types_that_a_column_can_not_have_are_rejected_with_the_field() {
    let world = World::with_source().await;
    for (column, message) in [
        (
            json!({ "type": "uuid", "name": "c", "dataType": "integer" }),
            "Column \"c\" of type uuid has dataType integer, allowed are text.",
        ),
        (
            path("c", json!({ "dataType": "double", "primaryKey": true })),
            "Column \"c\" has dataType double, a primary key can't: allowed are text, integer, boolean and timestamp.",
        ),
        (
            path("c", json!({ "dataType": "boolean", "defaultValue": "yes" })),
            "Column \"c\" has dataType boolean and defaultValue \"yes\", allowed is true or false, also as a string.",
        ),
        (
            path("c", json!({ "dataType": "integer", "unit": "s" })),
            "Column \"c\" has a unit, which only dataType timestamp has.",
        ),
    ] {
        let reply = world.post(SINKS, sink_of(json!([column]))).await;
        reply.is_error(400, "badRequest", message);
    }
    let unknown = path("c", json!({ "dataType": "number" }));
    let reply = world.post(SINKS, sink_of(json!([unknown]))).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.text.contains("timestamp"), "{reply:?}");
    let message = json!({ "headers": [path("h", json!({ "dataType": "json" }))] });
    let topic = json!({ "type": "http", "name": "x",
        "topic": { "provider": "hook", "topic": "x", "message": message } });
    let reply = world.post(SINKS, topic).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let said = "of a message can't have a dataType or unit";
    assert!(reply.text.contains(said), "{reply:?}");
}
