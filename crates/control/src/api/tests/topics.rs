//! Topic sinks: create, show, update, reject, pause, resume.

use forebay_model::NodeId;
use serde_json::{Value, json};

use super::sample::{sink, source};
use super::world::{S, World};

const SINKS: &str = "/v1/branches/default/sources/my-source/sinks";
const K: &str = "/v1/branches/default/sources/my-source/sinks/hooks";

fn hook(topic: Value) -> Value {
    json!({ "type": "http", "sinkId": "hooks", "name": "Hooks", "topic": topic })
}

async fn with_topic() -> World {
    let world = World::with_source().await;
    let body = hook(json!({ "provider": "hook" }));
    world.done(world.post(SINKS, body).await).await;
    world
}

#[tokio::test]
async fn a_topic_is_returned_unchanged() {
    let world = World::with_source().await;
    let topic = json!({
        "provider": "hook", "topic": "orders.v1", "batches": true, "method": "PUT",
        "message": {
            "fields": [{ "type": "ip", "name": "ip" }, { "type": "path", "name": "n", "path": "a" }],
            "key": { "type": "path", "path": "id", "rawString": true },
            "headers": [{ "type": "static", "name": "env", "value": "prod" }],
        },
    });
    let task = world.done(world.post(SINKS, hook(topic)).await).await;
    assert_eq!(task["result"], "Sink has been created successfully.");
    let shown = world.get(K).await.ok();
    let expected = json!({
        "provider": "hook", "topic": "orders.v1", "batches": true, "method": "PUT",
        "message": {
            "fields": [
                { "type": "ip", "name": "ip" },
                { "type": "path", "name": "n", "path": "a", "rawString": false },
            ],
            "key": { "type": "path", "path": "id", "rawString": true },
            "headers": [{ "type": "static", "name": "env", "value": "prod" }],
        },
    });
    assert_eq!(
        (&shown["type"], &shown["topic"]),
        (&json!("http"), &expected)
    );
    assert_eq!(shown.get("table"), None);
}

#[tokio::test]
async fn message_and_topic_default_to_the_body_and_the_sink_id() {
    let world = with_topic().await;
    let shown = world.get(K).await.ok();
    let expected = json!({
        "provider": "hook", "topic": "hooks", "batches": false, "method": "POST",
        "message": { "value": { "type": "body" }, "headers": [] },
    });
    assert_eq!(shown["topic"], expected);
}

#[tokio::test]
async fn invalid_topics_are_rejected() {
    let world = World::with_source().await;
    let part = |message: Value| hook(json!({ "provider": "hook", "message": message }));
    let mut kafka = hook(json!({ "provider": "main" }));
    kafka["type"] = "kafka".into();
    let mut both = hook(json!({ "provider": "hook" }));
    both["table"] = sink("x")["table"].clone();
    let no_topic = json!({ "type": "http", "name": "Hooks" });
    let mut of_table = sink("x");
    of_table["topic"] = json!({ "provider": "hook" });
    for (body, message) in [
        (
            hook(json!({ "provider": "other" })),
            "Provider \"other\" of type http is unknown, allowed are \"hook\".",
        ),
        (
            kafka,
            "Sink type \"kafka\" is not available: built without Kafka.",
        ),
        (
            no_topic,
            "\"topic\" must be configured for the \"http\" sink type.",
        ),
        (both, "\"table\" is only for the sink types \"table\"."),
        (
            of_table,
            "\"topic\" is only for the sink types \"kafka\" and \"http\".",
        ),
        (
            part(json!({ "value": { "type": "path" } })),
            "Column \"value\" is missing path.",
        ),
        (
            part(json!({ "value": { "type": "body" }, "fields": [{ "type": "ip", "name": "a" }] })),
            "A message has \"value\" or \"fields\", not both.",
        ),
        (
            part(json!({ "headers": [{ "type": "ip", "name": "Host" }] })),
            "Header \"Host\" is set by the server itself.",
        ),
        (
            part(json!({ "headers": [{ "type": "ip", "name": "x-tenant" }] })),
            "Header \"x-tenant\" is set by the provider \"hook\".",
        ),
        (
            part(
                json!({ "fields": [{ "type": "ip", "name": "a" }, { "type": "ip", "name": "A" }] }),
            ),
            "Value: column name \"A\" is used more than once (upper and lower case count as the same)",
        ),
    ] {
        let reply = world.post(SINKS, body).await;
        reply.is_error(400, "stream.api.badRequest", message);
    }
}

#[tokio::test]
async fn methods_without_a_body_are_rejected() {
    let world = World::with_source().await;
    for method in ["GET", "put", "", "POST ", "DELETE"] {
        let body = hook(json!({ "provider": "hook", "method": method }));
        let reply = world.post(SINKS, body).await;
        let message = format!(
            "Value of body.topic.method must be one of \"POST\", \"PUT\", \"PATCH\" but got value \"{method}\"."
        );
        reply.is_error(400, "stream.api.invalidEnumValue", &message);
    }
}

#[tokio::test]
async fn a_topic_is_changed_but_not_its_type() {
    let world = with_topic().await;
    let change = json!({ "topic": { "topic": "other", "method": "PATCH", "message": { "value": { "type": "uuid" } } } });
    world.done(world.patch(K, change).await).await;
    let shown = world.get(K).await.ok();
    assert_eq!(shown["topic"]["topic"], "other");
    assert_eq!(shown["topic"]["method"], "PATCH");
    assert_eq!(
        shown["topic"]["message"]["value"],
        json!({ "type": "uuid" })
    );
    assert_eq!(shown["version"]["number"], 2);
    let reply = world.patch(K, json!({ "type": "table" })).await;
    let message = "The type of a sink can't be changed: it is \"http\", create another sink.";
    reply.is_error(400, "stream.api.badRequest", message);
    let reply = world.patch(K, json!({ "table": {} })).await;
    let message = "\"table\" can't be set: the type of the sink is \"http\".";
    reply.is_error(400, "stream.api.badRequest", message);
    let reply = world
        .patch(K, json!({ "topic": { "provider": "x" } }))
        .await;
    let message = "Provider \"x\" of type http is unknown, allowed are \"hook\".";
    reply.is_error(400, "stream.api.badRequest", message);
}

#[tokio::test]
async fn delivery_is_paused_and_resumed_with_a_version_each() {
    let world = with_topic().await;
    let task = world
        .done(world.put(&format!("{K}/pause?reason=move")).await)
        .await;
    assert_eq!(task["result"], "Sink has been paused successfully.");
    let shown = world.get(K).await.ok();
    assert_eq!(shown["paused"]["reason"], "move");
    assert_eq!(shown["version"]["description"], "Paused.");
    let delivery = world.get(&format!("{K}/statistics/delivery")).await.ok();
    assert_eq!(
        delivery["provider"],
        json!({ "name": "hook", "state": "paused" })
    );
    let task = world.done(world.put(&format!("{K}/resume")).await).await;
    assert_eq!(task["result"], "Sink has been resumed successfully.");
    let shown = world.get(K).await.ok();
    assert_eq!(shown.get("paused"), None);
    assert_eq!(shown["version"]["number"], 3);
    let audit = world.get("/v1/admin/audit").await.ok().to_string();
    assert!(
        audit.contains("\"pause\"") && audit.contains("\"resume\""),
        "{audit}"
    );
}

#[tokio::test]
async fn an_id_keeps_its_type_until_the_deleted_sink_has_no_data() {
    let world = with_topic().await;
    world.done(world.delete(K).await).await;
    let mut table = sink("Hooks");
    table["sinkId"] = "hooks".into();
    let reply = world.post(SINKS, table.clone()).await;
    let message = "Sink id \"hooks\" is in use: it was deleted as \"http\" with 3 records in flight and 1 dead letters. Wait until they are delivered, undelete it to process them, or use another id.";
    reply.is_error(409, "stream.api.sinkIdInUse", message);
    // With the same type it is an ordinary change.
    let body = hook(json!({ "provider": "hook", "method": "PUT" }));
    world.done(world.post(SINKS, body).await).await;
    assert_eq!(world.get(K).await.ok()["version"]["number"], 2);
}

#[tokio::test]
async fn an_id_changes_its_type_only_when_no_node_takes_records_for_the_former_sink() {
    let world =
        World::with(|c| c.reconcile_timeout = forebay_model::HumanDuration::millis(10)).await;
    world.done(world.post(S, source("My Source")).await).await;
    let mut table = sink("Hooks");
    table["sinkId"] = "hooks".into();
    world.done(world.post(SINKS, table).await).await;
    world.done(world.delete(K).await).await;
    let node = NodeId("source-node".to_owned());
    world
        .repo
        .register_source_node(&node, world.lease)
        .await
        .unwrap();
    let body = hook(json!({ "provider": "hook" }));
    let task = world.finish(&world.post(SINKS, body.clone()).await).await;
    let text = "Not all source nodes have stopped the deleted sink yet.";
    assert_eq!(task["error"], text);
    let key = "123/111/my-source/hooks".parse().unwrap();
    let deleted = world.repo.deleted_sink(&key).await.unwrap();
    world
        .repo
        .report_processed(&node, deleted.revision, world.lease)
        .await
        .unwrap();
    world.done(world.post(SINKS, body).await).await;
    assert_eq!(world.get(K).await.ok()["type"], "http");
}

#[tokio::test]
async fn a_rollback_to_a_version_of_another_type_is_rejected() {
    let world = World::with_source().await;
    let mut table = sink("Hooks");
    table["sinkId"] = "hooks".into();
    world.done(world.post(SINKS, table).await).await;
    world.done(world.delete(K).await).await;
    let body = hook(json!({ "provider": "hook" }));
    world.done(world.post(SINKS, body).await).await;
    let reply = world.put(&format!("{K}/versions/1/rollback")).await;
    let message =
        "The type of a sink can't be changed: it is \"http\", version \"1\" is of type \"table\".";
    reply.is_error(400, "stream.api.badRequest", message);
    world
        .done(world.put(&format!("{K}/versions/2/rollback")).await)
        .await;
}

#[tokio::test]
async fn the_reconciliation_of_a_topic_holds() {
    let world = with_topic().await;
    let delivery = world.get(&format!("{K}/statistics/delivery")).await.ok();
    assert_eq!(delivery["lag"]["records"], 3);
    assert_eq!(delivery["provider"]["state"], "up");
    let balance = world
        .get(&format!("{K}/statistics/reconciliation"))
        .await
        .ok();
    assert_eq!(
        (&balance["imported"], &balance["holds"]),
        (&json!(6), &json!(true))
    );
    let total = world.get(&format!("{K}/statistics/total")).await.ok();
    assert_eq!(total["total"]["recordsCount"], 9);
    assert_eq!(total["levels"]["local"]["compressedSize"], 300);
}
