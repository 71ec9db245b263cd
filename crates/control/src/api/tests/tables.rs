//! Ownership of tables, and their checks before a sink gets one.

use std::sync::atomic::Ordering;

use forebay_connect::table::Table;
use http::Method;
use serde_json::{Value, json};

use super::sample::source;
use super::world::{S, World};

const TABLES: &str = "/v1/admin/tables";

fn sink(id: &str, table: &str, columns: &[&str]) -> Value {
    let columns: Vec<Value> = columns
        .iter()
        .map(|name| {
            let (name, key) = (name.trim_end_matches('*'), name.ends_with('*'));
            json!({ "type": "body", "name": name, "primaryKey": key })
        })
        .collect();
    json!({ "type": "table", "name": id, "sinkId": id, "table": {
        "type": "sqlite", "tableId": table, "mapping": { "columns": columns } } })
}

/// Creates a table outside of Forebay.
async fn by_hand(world: &World, table: &str, columns: &[&str]) {
    let columns = columns.iter().map(|name| forebay_model::MappingColumn {
        primary_key: name.ends_with('*'),
        ..forebay_model::MappingColumn::new(
            name.trim_end_matches('*'),
            forebay_model::ColumnKind::Body,
        )
    });
    let mapping = forebay_model::Mapping {
        columns: columns.collect(),
    };
    let table = table.parse().unwrap();
    world.tables.sqlite.prepare(&table, &mapping).await.unwrap();
}

async fn with_sources() -> World {
    let world = World::new().await;
    for token in ["admin", "other"] {
        let body = source("My Source").to_string();
        let made = world.call_as(token, Method::POST, S, body).await;
        assert_eq!(made.status, 202);
        let path = format!("{S}/my-source");
        while world.call_as(token, Method::GET, &path, "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    }
    world
}

fn sinks() -> String {
    format!("{S}/my-source/sinks")
}

#[tokio::test]
async fn mismatched_tables_are_rejected_with_the_field_before_creation() {
    let world = with_sources().await;
    by_hand(&world, "in.c.hand", &["id*", "a"]).await;
    let wrong = sink("x", "in.c.hand", &["id", "a"]).to_string();
    let reply = world
        .call_as("operator", Method::POST, &sinks(), wrong)
        .await;
    reply.is_error(
        400,
        "badRequest",
        "Invalid \"tableId\" value \"in.c.hand\": table \"in.c.hand\" has the primary key (\"id\"), the mapping has no primary key: change one of them or use another table.",
    );
    let case = sink("x", "in.C.hand", &["id*", "a"]).to_string();
    let reply = world
        .call_as("operator", Method::POST, &sinks(), case)
        .await;
    assert_eq!(reply.status, 400);
    assert!(
        reply
            .text
            .contains("does not distinguish upper and lower case"),
        "{reply:?}"
    );
    assert_eq!(world.get(&sinks()).await.ok()["sinks"], json!([]));
    assert!(world.repo.table_entries().await.unwrap().is_empty());
    let body = json!({ "record": { "body": "{}" }, "table": { "type": "sqlite", "tableId": "in.c.hand" },
        "mapping": { "columns": [{ "type": "body", "name": "id" }] } });
    let path = "/v1/branches/default/test-mapping";
    let tried = world
        .call_as("operator", Method::POST, path, body.to_string())
        .await;
    let problem = tried.ok()["violations"][0]["message"].to_string();
    assert!(problem.contains("primary key"), "{problem}");
}

#[tokio::test]
async fn only_operators_can_adopt_an_existing_table_without_an_owner() {
    let world = with_sources().await;
    by_hand(&world, "in.c.hand", &["id*", "a"]).await;
    let fits = sink("x", "in.c.hand", &["id*", "a"]);
    // A mapping that does not match learns nothing either.
    for body in [&fits, &sink("x", "in.c.hand", &["id"])] {
        let reply = world.post(&sinks(), body.clone()).await;
        reply.is_error(
            409,
            "tableNotAvailable",
            "\"tableId\" \"in.c.hand\" can't be used: the table already exists and belongs to no project, use another name or ask an operator for it (forebay table transfer).",
        );
    }
    let made = world
        .call_as("operator", Method::POST, &sinks(), fits.to_string())
        .await;
    let task = world.done(made).await;
    assert_eq!(task.get("warnings"), None);
    let shown = world.get(&format!("{TABLES}/sqlite/in.c.hand")).await.ok();
    assert_eq!(shown["projectId"], 123);
    assert_eq!(shown["sinks"], json!(["123/111/my-source/x"]));
    assert_eq!(shown.get("sharedWith"), None, "only for operators");
}

#[tokio::test]
async fn an_unavailable_backend_does_not_block_the_creation_of_a_sink() {
    let world = with_sources().await;
    world.tables.is_unavailable.store(true, Ordering::Relaxed);
    let made = world.post(&sinks(), sink("x", "in.c.t", &["a"])).await;
    let task = world.done(made).await;
    assert_eq!(task["result"], "Sink has been created successfully.");
    let warnings = task["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{task}");
    assert_eq!(
        warnings[0],
        "Table \"in.c.t\" could not be checked now and is checked when the first file is imported: the database is unavailable."
    );
    let path = format!("{}/x", sinks());
    let moved = json!({ "table": { "tableId": "in.c.u" } });
    let task = world.done(world.patch(&path, moved).await).await;
    assert_eq!(task["warnings"].as_array().unwrap().len(), 1);
    // A rename does not check the table.
    let task = world
        .done(world.patch(&path, json!({ "name": "New" })).await)
        .await;
    assert_eq!(task.get("warnings"), None);
}

#[tokio::test]
async fn only_operators_share_and_transfer_tables() {
    let world = with_sources().await;
    let body = sink("x", "in.c.t", &["a"]);
    world.done(world.post(&sinks(), body.clone()).await).await;
    let at = format!("{TABLES}/sqlite/in.c.t");
    let foreign = "\"tableId\" \"in.c.t\" can't be used: the table belongs to another project, use another name or ask an operator to share it (forebay table share).";
    let reply = world
        .call_as("other", Method::POST, &sinks(), body.to_string())
        .await;
    reply.is_error(409, "tableNotAvailable", foreign);
    for (path, body) in [
        ("", ""),
        ("/share", "{\"projectId\":456}"),
        ("/transfer", "{\"projectId\":456}"),
    ] {
        let method = if path.is_empty() {
            Method::GET
        } else {
            Method::POST
        };
        let reply = world
            .call_as("other", method, &format!("{at}{path}"), body)
            .await;
        reply.is_error(404, "tableNotFound", "Table \"in.c.t\" not found.");
    }
    let share = json!({ "projectId": 456 });
    let reply = world.post(&format!("{at}/share"), share.clone()).await;
    let text = "Only an operator's token can transfer and share tables.";
    reply.is_error(403, "forbidden", text);
    let operator = async |path: &str, body: &Value| {
        let path = format!("{at}/{path}");
        world
            .call_as("operator", Method::POST, &path, body.to_string())
            .await
    };
    let shared = operator("share", &share).await.ok();
    assert_eq!(shared["sharedWith"], json!([456]));
    let listed = world.call_as("other", Method::GET, TABLES, "").await.ok();
    assert_eq!(listed["totalCount"], 1);
    let table = &listed["tables"][0];
    assert_eq!(
        (&table["isShared"], table.get("projectId")),
        (&json!(true), None)
    );
    let made = world
        .call_as("other", Method::POST, &sinks(), body.to_string())
        .await;
    assert_eq!(made.status, 202);
    let in_use = operator("transfer", &share).await;
    assert_eq!(
        (in_use.status.as_u16(), &in_use.json()["error"]),
        (409, &json!("stream.api.tableInUse"))
    );
    let forced = json!({ "projectId": 456, "force": true });
    assert_eq!(operator("transfer", &forced).await.ok()["projectId"], 456);
    let unknown = world
        .call_as(
            "operator",
            Method::POST,
            &format!("{TABLES}/sqlite/in.c.none/share"),
            share.to_string(),
        )
        .await;
    unknown.is_error(404, "tableNotFound", "Table \"in.c.none\" not found.");
    let audit = world.get("/v1/admin/audit").await.ok();
    let changes = audit["changes"].as_array().unwrap();
    let transfer = changes.iter().find(|c| c["action"] == "transfer").unwrap();
    assert_eq!(transfer["tableId"], "in.c.t");
    assert_eq!(transfer["description"], "The project can't use the table.");
    assert!(!audit.to_string().contains("456"), "{audit}");
}

#[tokio::test]
async fn lists_of_tables_are_paged() {
    let world = with_sources().await;
    for i in 0..3 {
        let body = sink(&format!("x{i}"), &format!("in.c.t{i}"), &["a"]);
        world.done(world.post(&sinks(), body).await).await;
    }
    let mut ids = Vec::new();
    let mut after = String::new();
    loop {
        let page = world
            .get(&format!("{TABLES}?limit=2&afterId={after}"))
            .await
            .ok();
        assert_eq!(page["totalCount"], 3);
        let tables = page["tables"].as_array().unwrap();
        if tables.is_empty() {
            break;
        }
        ids.extend(tables.iter().map(|t| t["id"].as_str().unwrap().to_owned()));
        after.clone_from(ids.last().unwrap());
    }
    assert_eq!(ids, ["sqlite/in.c.t0", "sqlite/in.c.t1", "sqlite/in.c.t2"]);
    let foreign = world.get(&format!("{TABLES}?projectId=456")).await;
    foreign.is_error(404, "projectNotFound", "Project \"456\" not found.");
}
