//! Validation of a set of definition changes.

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use super::sample::{sink, source};
use super::world::World;

const VALIDATE: &str = "/v1/branches/default/definitions/validate";

fn change(method: &str, path: &str, body: Value) -> Value {
    json!({ "method": method, "path": path, "body": body })
}

/// Index and message of each rejected change.
async fn problems(world: &World, token: &str, changes: Value) -> Vec<(u64, String)> {
    let body = json!({ "changes": changes }).to_string();
    let reply = world
        .call_as(token, Method::POST, VALIDATE, body)
        .await
        .ok();
    let problem = |p: &Value| {
        let message = p["message"].as_str().unwrap().to_owned();
        (p["change"].as_u64().unwrap(), message)
    };
    reply["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(problem)
        .collect()
}

#[tokio::test]
async fn later_changes_may_depend_on_earlier_ones_and_nothing_is_stored() {
    let world = World::new().await;
    let settings = json!({ "settings": [{
        "key": "storage.level.target.import.trigger.interval", "value": "1m0s",
    }] });
    let all = json!([
        change("POST", "sources", source("Shop")),
        change("PATCH", "sources/shop/settings", settings.clone()),
        change("POST", "sources/shop/sinks", sink("Orders")),
        change("PATCH", "sources/shop/sinks/orders/settings", settings),
    ]);
    assert_eq!(problems(&world, "admin", all).await, []);
    let list = world
        .call_as("admin", Method::GET, super::world::S, Body::empty())
        .await
        .ok();
    assert_eq!(list["sources"], json!([]));
}

#[tokio::test]
async fn all_rejected_changes_are_listed() {
    let world = World::with_sink().await;
    let found = problems(
        &world,
        "admin",
        json!([
            change("POST", "sources", source("My source")),
            change("POST", "sources", source("New")),
            change("POST", "sources", source("New")),
            change("POST", "sources/none/sinks", sink("a")),
            change("POST", "sources/my-source/sinks", sink("My sink")),
            change(
                "PATCH",
                "sources/my-source/sinks/my-sink",
                json!({ "type": "http" })
            ),
            change(
                "PATCH",
                "sources/my-source/settings",
                json!({ "settings": [{ "key": "a", "value": 1 }] })
            ),
            change("POST", "sources/new/sinks", json!({ "type": "table" })),
            change("DELETE", "sources/my-source", json!({})),
            change("PATCH", "sources/my-source", json!({ "name": "Another" })),
        ]),
    )
    .await;
    let indices: Vec<u64> = found.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [0, 2, 3, 4, 5, 6, 7, 8], "{found:?}");
    for ((_, message), part) in found.iter().zip([
        "already exists",
        "already exists",
        "\"none\" not found",
        "already exists",
        "the type of a sink can't be changed",
        "key not found: \"a\"",
        "\"name\" is missing",
        "allowed are POST of sources",
    ]) {
        assert!(
            message.to_lowercase().contains(&part.to_lowercase()),
            "{part}: {message}"
        );
    }
}

#[tokio::test]
async fn each_violation_names_its_field() {
    let world = World::new().await;
    let mut wrong = sink("Orders");
    wrong["table"]["tableId"] = json!("orders");
    wrong["table"]["mapping"]["columns"] = json!([
        { "type": "uuid", "name": "a" },
        { "type": "path", "name": "b" },
        { "type": "static", "name": "c" },
    ]);
    let signed = |verify: Value| json!({ "type": "http", "name": "Hooks", "verify": verify });
    let settings = json!({ "settings": [{ "key": "x", "value": 1 }, { "key": "y", "value": 1 }] });
    let changes = json!([
        change("POST", "sources", source("Shop")),
        change("POST", "sources/shop/sinks", wrong),
        change("PATCH", "sources/shop/settings", settings),
        change("POST", "sources", json!({ "type": "http", "name": "" })),
        change(
            "POST",
            "sources",
            signed(json!({ "type": "hmac", "secrets": ["a"], "header": "é" }))
        ),
        change(
            "POST",
            "sources",
            signed(json!({ "type": "stripe", "tolerance": "soon", "secrets": [] }))
        ),
        change(
            "POST",
            "sources",
            signed(json!({ "type": "none", "tolerance": "1m" }))
        ),
        change(
            "POST",
            "sources",
            signed(json!({ "type": "hmac", "hash": "sha1" }))
        ),
    ]);
    let body = json!({ "changes": changes }).to_string();
    let reply = world
        .call_as("admin", Method::POST, VALIDATE, body)
        .await
        .ok();
    let violations = reply["violations"].as_array().unwrap();
    let fields: Vec<(u64, &str)> = violations
        .iter()
        .map(|v| (v["change"].as_u64().unwrap(), v["field"].as_str().unwrap()))
        .collect();
    assert_eq!(
        fields,
        [
            (1, "table.tableId"),
            (1, "table.mapping.columns[1]"),
            (1, "table.mapping.columns[2]"),
            (2, "settings.x"),
            (2, "settings.y"),
            (3, "name"),
            (4, "verify.secrets[0]"),
            (4, "verify.header"),
            (5, "verify.tolerance"),
            (6, "verify.type"),
            (7, "verify.header"),
        ],
        "{violations:?}"
    );
}

#[tokio::test]
async fn another_project_learns_nothing() {
    let world = World::with_sink().await;
    let changes = json!([change("PATCH", "sources/my-source", json!({}))]);
    let found = problems(&world, "other", changes).await;
    assert!(found[0].1.contains("not found"), "{found:?}");
}
