//! Sinks: create, read, list, update, delete; their mappings.

use serde_json::{Value, json};

use super::sample::{sink, sink_of, source, table};
use super::world::{S, World};

const SINKS: &str = "/v1/branches/default/sources/my-source/sinks";
const K: &str = "/v1/branches/default/sources/my-source/sinks/my-sink";

#[tokio::test]
async fn a_sink_with_every_column_type_is_returned_unchanged() {
    let world = World::with_source().await;
    let template = json!({ "language": "jsonnet", "content": "Body(\"key\")" });
    let columns = json!([
        { "type": "uuid", "name": "id", "primaryKey": true },
        { "type": "datetime", "name": "dt", "primaryKey": false, "path": "ignored" },
        { "type": "ip", "name": "ip" },
        { "type": "body", "name": "b" },
        { "type": "headers", "name": "h" },
        { "type": "path", "name": "p", "path": "key", "defaultValue": "unknown", "rawString": true },
        { "type": "path", "name": "all", "path": "" },
        { "type": "template", "name": "j", "rawString": true, "template": template },
        { "type": "static", "name": "s", "value": "v" },
    ]);
    let task = world.done(world.post(SINKS, sink_of(columns)).await).await;
    assert_eq!(task["type"], "api.create.sink");
    assert_eq!(task["result"], "Sink has been created successfully.");
    let outputs = json!({
        "url": "https://stream.example/v1/branches/111/sources/my-source/sinks/my-sink",
        "projectId": 123, "branchId": 111, "sourceId": "my-source", "sinkId": "my-sink",
    });
    assert_eq!(task["outputs"], outputs);
    let shown = world.get(K).await.ok();
    let columns = json!([
        { "type": "uuid", "name": "id", "primaryKey": true },
        { "type": "datetime", "name": "dt" },
        { "type": "ip", "name": "ip" },
        { "type": "body", "name": "b" },
        { "type": "headers", "name": "h" },
        { "type": "path", "name": "p", "path": "key", "defaultValue": "unknown", "rawString": true },
        { "type": "path", "name": "all", "path": "", "rawString": true },
        { "type": "template", "name": "j", "rawString": true, "template": template },
        { "type": "static", "name": "s", "value": "v" },
    ]);
    let expected = json!({
        "projectId": 123, "branchId": 111, "sourceId": "my-source", "sinkId": "my-sink",
        "type": "table", "name": "My Sink", "description": "",
        "table": table(columns), "version": shown["version"], "created": shown["created"],
    });
    assert_eq!(
        shown.to_string(),
        expected.to_string(),
        "order of fields included"
    );
    assert_eq!(shown["version"]["description"], "New sink.");
}

#[tokio::test]
async fn raw_string_defaults_to_the_server_configuration() {
    let columns = json!([
        { "type": "path", "name": "a", "path": "a" },
        { "type": "path", "name": "b", "path": "b", "rawString": true },
        { "type": "path", "name": "c", "path": "c", "rawString": false },
        { "type": "template", "name": "d", "template": { "language": "jsonnet", "content": "1" } },
    ]);
    let message = json!({
        "value": { "type": "path", "path": "a" },
        "key": { "type": "path", "path": "b" },
        "headers": [{ "type": "path", "name": "h", "path": "c" }],
    });
    let fields = json!({ "fields": [{ "type": "path", "name": "f", "path": "a" }] });
    for (is_raw, expected) in [
        (true, [true, true, false, true]),
        (false, [false, true, false, false]),
    ] {
        let world = World::with(|config| config.raw_string = is_raw).await;
        world.done(world.post(S, source("My Source")).await).await;
        world
            .done(world.post(SINKS, sink_of(columns.clone())).await)
            .await;
        let shown = world.get(K).await.ok();
        let shown = &shown["table"]["mapping"]["columns"];
        let raw = [0, 1, 2, 3].map(|i| shown[i]["rawString"].as_bool());
        assert_eq!(raw, expected.map(Some), "{is_raw}");
        let topic = |id: &str, message: &Value| {
            json!({ "type": "http", "sinkId": id, "name": id,
                "topic": { "provider": "hook", "topic": id, "message": message } })
        };
        for (id, message) in [("texts", &message), ("fields", &fields)] {
            world
                .done(world.post(SINKS, topic(id, message)).await)
                .await;
        }
        let shown = world.get(&format!("{SINKS}/texts")).await.ok();
        let shown = &shown["topic"]["message"];
        for part in ["/value", "/key", "/headers/0"] {
            assert_eq!(shown.pointer(part).unwrap()["rawString"], is_raw, "{part}");
        }
        let shown = world.get(&format!("{SINKS}/fields")).await.ok();
        // A field is always JSON.
        assert_eq!(shown["topic"]["message"]["fields"][0]["rawString"], false);
    }
}

#[tokio::test]
async fn invalid_tables_are_rejected() {
    let world = World::with_source().await;
    let one = json!([{ "type": "uuid", "name": "id" }]);
    let with_id = |id: &str| {
        let mut sink = sink_of(one.clone());
        sink["table"]["tableId"] = json!(id);
        sink
    };
    let mut postgres = sink_of(one.clone());
    postgres["table"]["type"] = json!("postgres");
    for (body, message) in [
        (
            json!({ "type": "table", "name": "x" }),
            "\"table\" must be configured for the \"table\" sink type.",
        ),
        (
            with_id("x"),
            "Invalid \"tableId\" value \"x\": invalid table ID \"x\": unexpected number of fragments.",
        ),
        (
            with_id("x.b.t"),
            "Invalid \"tableId\" value \"x.b.t\": invalid table ID \"x.b.t\": invalid bucket ID \"x.b\": unexpected stage \"x\".",
        ),
        (
            with_id("in..t"),
            "Invalid \"tableId\" value \"in..t\": invalid table ID \"in..t\": invalid bucket ID \"in.\": bucket ID cannot be empty.",
        ),
        (
            with_id("in.b."),
            "Invalid \"tableId\" value \"in.b.\": invalid table ID \"in.b.\": table ID cannot be empty.",
        ),
        (
            postgres,
            "Table type \"postgres\" is not configured on this server.",
        ),
    ] {
        world
            .post(SINKS, body)
            .await
            .is_error(400, "badRequest", message);
    }
    let mut sqlite = sink_of(one);
    sqlite["table"]["type"] = json!("sqlite");
    world.done(world.post(SINKS, sqlite).await).await;
    assert_eq!(world.get(K).await.ok()["table"]["type"], "sqlite");
}

#[tokio::test]
async fn invalid_mappings_are_rejected() {
    let world = World::with_source().await;
    let invalid = json!({ "type": "template", "name": "jsonnet", "template": { "language": "jsonnet", "content": "Invalid" } });
    for (columns, message) in [
        (
            json!([{ "type": "path", "name": "x" }]),
            "Column \"x\" is missing path.",
        ),
        (
            json!([{ "type": "template", "name": "x" }]),
            "Column \"x\" is missing template.",
        ),
        (
            json!([{ "type": "static", "name": "x", "value": null }]),
            "Column \"x\" is missing value.",
        ),
        (
            json!([{ "type": "path", "name": "x" }, { "type": "static", "name": "y" }]),
            "- Column \"x\" is missing path.\n- Column \"y\" is missing value.",
        ),
        (
            json!([{ "type": "ip", "name": "" }]),
            "Column 1 has an empty name.",
        ),
        (
            json!([{ "type": "ip", "name": "a" }, { "type": "ip", "name": "A" }]),
            "Column name \"A\" is used more than once (upper and lower case count as the same)",
        ),
        (
            json!([{ "type": "ip", "name": "a\0" }]),
            "Column name \"a\\0\" has a NUL character.",
        ),
        (
            json!([invalid]),
            "Column \"jsonnet\" template is invalid: 1:1-8 Unknown variable: Invalid.",
        ),
    ] {
        let created = world.post(SINKS, sink_of(columns.clone())).await;
        created.is_error(400, "badRequest", message);
        let body = json!({ "table": { "mapping": { "columns": columns } } });
        let updated = world.patch(K, body).await;
        updated.is_error(400, "badRequest", message);
    }
}

#[tokio::test]
async fn a_mapping_has_one_to_a_hundred_columns() {
    let world = World::with_source().await;
    let columns = |n: usize| -> Value {
        (0..n)
            .map(|i| json!({ "type": "ip", "name": format!("c{i}") }))
            .collect()
    };
    for (n, shown, word, bound) in [(0, "[]", "greater", 1), (101, "[...]", "lesser", 100)] {
        let reply = world.post(SINKS, sink_of(columns(n))).await;
        let text = format!(
            "Length of body.table.mapping.columns must be {word} or equal than {bound} but got value {shown} (len={n})"
        );
        reply.is_error(400, "invalidLength", &text);
    }
    world
        .done(world.post(SINKS, sink_of(columns(100))).await)
        .await;
}

#[tokio::test]
async fn the_source_is_checked_first() {
    let world = World::with_source().await;
    for (path, name, message) in [
        (
            format!("{S}/nope/sinks/my-sink"),
            "sourceNotFound",
            "Source \"nope\" not found in the branch.",
        ),
        (
            K.to_owned(),
            "sinkNotFound",
            "Sink \"my-sink\" not found in the source.",
        ),
    ] {
        world.get(&path).await.is_error(404, name, message);
        world
            .patch(&path, json!({}))
            .await
            .is_error(404, name, message);
        world.delete(&path).await.is_error(404, name, message);
        for rest in [
            "settings",
            "statistics/total",
            "statistics/files",
            "statistics/reconciliation",
        ] {
            world
                .get(&format!("{path}/{rest}"))
                .await
                .is_error(404, name, message);
        }
        let patched = world.patch(&format!("{path}/settings"), json!({})).await;
        patched.is_error(404, name, message);
    }
    let list = world.get(&format!("{S}/nope/sinks")).await;
    list.is_error(
        404,
        "sourceNotFound",
        "Source \"nope\" not found in the branch.",
    );
    let made = world.post(&format!("{S}/nope/sinks"), sink("x")).await;
    made.is_error(
        404,
        "sourceNotFound",
        "Source \"nope\" not found in the branch.",
    );
}

#[tokio::test]
async fn duplicate_sink_ids_conflict_and_lists_are_paged() {
    let world = World::with_sink().await;
    let again = world.post(SINKS, sink("My Sink")).await;
    let text = "Sink \"my-sink\" already exists in the source.";
    again.is_error(409, "sinkAlreadyExists", text);
    world.done(world.post(SINKS, sink("Another")).await).await;
    let list = world
        .get(&format!("{SINKS}?limit=1&afterId=another"))
        .await
        .ok();
    let page = json!({ "limit": 1, "totalCount": 2, "afterId": "another", "lastId": "my-sink" });
    let expected = json!({
        "projectId": 123, "branchId": 111, "sourceId": "my-source",
        "page": page, "sinks": [world.get(K).await.ok()],
    });
    assert_eq!(list.to_string(), expected.to_string());
}

#[tokio::test]
async fn an_update_changes_only_what_it_names() {
    let world = World::with_sink().await;
    let columns = json!([{ "type": "body", "name": "b" }]);
    let body =
        json!({ "table": { "mapping": { "columns": columns } }, "changeDescription": "Body." });
    let task = world.done(world.patch(K, body).await).await;
    assert_eq!(task["result"], "Sink has been updated successfully.");
    let shown = world.get(K).await.ok();
    assert_eq!(shown["table"], table(columns));
    assert_eq!(shown["version"]["number"], 2);
    assert_eq!(shown["version"]["description"], "Body.");
    let body = json!({ "name": "N", "description": "D", "table": { "tableId": "out.b.t2", "type": "sqlite" } });
    world.done(world.patch(K, body).await).await;
    let shown = world.get(K).await.ok();
    assert_eq!(
        (&shown["name"], &shown["description"]),
        (&json!("N"), &json!("D"))
    );
    assert_eq!(shown["table"]["tableId"], "out.b.t2");
    assert_eq!(
        shown["table"]["mapping"]["columns"],
        json!([{ "type": "body", "name": "b" }])
    );
    let bad = world.patch(K, json!({ "table": { "tableId": "x" } })).await;
    let text =
        "Invalid \"tableId\" value \"x\": invalid table ID \"x\": unexpected number of fragments.";
    bad.is_error(400, "badRequest", text);
}

#[tokio::test]
async fn a_changed_sink_has_a_new_file_and_a_deleted_sink_no_open_file() {
    let world = World::with_sink().await;
    let states = || async {
        let files = world.get(&format!("{K}/statistics/files")).await.ok();
        let files = files["files"].as_array().unwrap().clone();
        files
            .iter()
            .map(|f| f["state"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["writing"]);
    world
        .done(world.patch(K, json!({ "name": "N" })).await)
        .await;
    assert_eq!(states().await, ["closing", "writing"]);
    let task = world.done(world.delete(K).await).await;
    assert_eq!(task["result"], "Sink has been deleted successfully.");
    world.get(K).await.is_error(
        404,
        "sinkNotFound",
        "Sink \"my-sink\" not found in the source.",
    );
    let writing = world.repo.active_files(None).await.unwrap();
    assert!(writing.iter().all(|f| f.file.state.name() == "closing"));
}

#[tokio::test]
async fn without_a_volume_the_task_fails() {
    let world = World::without_volume(|_| {}).await;
    world.done(world.post(S, source("My Source")).await).await;
    let task = world.finish(&world.post(SINKS, sink("x")).await).await;
    let text = "No volume is available for the file, try again when a node with a volume is up.";
    assert_eq!(
        (&task["status"], &task["error"]),
        (&json!("error"), &json!(text))
    );
    assert_eq!(task.get("outputs"), None);
}

#[tokio::test]
async fn a_mapping_test_returns_rows_and_stores_nothing() {
    use axum::body::Body;
    use http::{Method, Request};
    let world = World::with_source().await;
    let columns = json!([
        { "type": "body", "name": "b" }, { "type": "ip", "name": "ip" }, { "type": "headers", "name": "h" },
    ]);
    world.done(world.post(SINKS, sink_of(columns)).await).await;
    let path = format!("{S}/my-source/test");
    let request = Request::post(&path)
        .header("X-StorageApi-Token", "reader")
        .header("Authorization", "Bearer reader")
        .header("X-Forwarded-For", "1.2.3.4, 5.6.7.8")
        .header("Content-Type", "text/plain")
        .body(Body::from("\u{e9}"))
        .unwrap();
    let shown = world.send(request).await.ok();
    let cells = json!([
        { "name": "b", "value": "\u{e9}" },
        { "name": "ip", "value": "1.2.3.4" },
        { "name": "h", "value": "content-type,x-forwarded-for" },
    ]);
    let expected = json!({
        "projectId": 123, "branchId": 111, "sourceId": "my-source",
        "tables": [{ "sinkId": "my-sink", "tableId": "in.c-b.t", "rows": [{ "columns": cells }] }],
    });
    assert_eq!(shown.to_string(), expected.to_string());
    let mut direct = super::world::typed(Method::POST, &path, "text/plain", "x");
    let peer: std::net::SocketAddr = "[::1]:1234".parse().unwrap();
    direct
        .extensions_mut()
        .insert(axum::extract::ConnectInfo(peer));
    let shown = world.send(direct).await.ok();
    let ip = &shown["tables"][0]["rows"][0]["columns"][1]["value"];
    assert_eq!(ip, "::1");
    let rejected = world.call(Method::POST, &path, "refused").await;
    let text = "Invalid value for column \"path\": path \"key\" not found in the body.";
    rejected.is_error(422, "unprocessableContent", text);
    let missing = world
        .call(Method::POST, &format!("{S}/nope/test"), "x")
        .await;
    missing.is_error(
        404,
        "sourceNotFound",
        "Source \"nope\" not found in the branch.",
    );
    let total = world.get(&format!("{K}/statistics/total")).await.ok();
    assert_eq!(total["total"]["recordsCount"], 0);
}
