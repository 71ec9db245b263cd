//! Permissions, and the order of the checks of a request.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::sample::{sink, source};
use super::world::{S, World, bare};

const MISSING: &str = "\"X-StorageApi-Token\" is missing from header.";
const ADMIN_ONLY: &str = "Only admin token can do write operations on streams.";

/// All routes that need a token, from the document: method, path and a valid body.
fn guarded(world: &World) -> Vec<(Method, String, String)> {
    let document: Value = serde_json::from_str(world.api.document()).unwrap();
    let mut guarded = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("security").is_none() {
                continue;
            }
            let path = path
                .replace("{branchId}", "default")
                .replace("{sourceId}", "my-source")
                .replace("{sinkId}", "my-sink")
                .replace("{versionNumber}", "1")
                .replace("{projectId}", "123")
                .replace("{tokenId}", "123-aaaaaaaaaaaa")
                .replace("{tableType}", "sqlite")
                .replace("{tableId}", "in.c-b.t")
                .replace("{taskId}", "a/b");
            let body = match operation["operationId"].as_str().unwrap() {
                "CreateSource" => source("x").to_string(),
                "CreateSink" => sink("x").to_string(),
                "TestMapping" => json!({
                    "mapping": { "columns": [{ "type": "uuid", "name": "id" }] },
                    "record": { "body": "" },
                })
                .to_string(),
                "ValidateDefinitions" => json!({
                    "changes": [{ "method": "PATCH", "path": "sources/my-source", "body": {} }],
                })
                .to_string(),
                "CreateToken" => json!({ "role": "reader" }).to_string(),
                "TransferTable" | "ShareTable" | "UnshareTable" => {
                    json!({ "projectId": 1 }).to_string()
                }
                _ if operation["requestBody"].is_object() => "{}".to_owned(),
                _ => String::new(),
            };
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            guarded.push((method, path, body));
        }
    }
    assert!(guarded.len() > 35, "{}", guarded.len());
    guarded
}

#[tokio::test]
async fn every_route_requires_a_valid_token() {
    let world = World::new().await;
    for (method, path, body) in guarded(&world) {
        let none = world.call_as("", method.clone(), &path, body.clone()).await;
        none.is_error(400, "missingField", MISSING);
        let wrong = world.call_as("nope", method, &path, body).await;
        wrong.is_error(401, "storage.tokenInvalid", "Invalid access token.");
    }
}

#[tokio::test]
async fn only_admins_write_and_all_tokens_read_and_test() {
    let world = World::with_sink().await;
    for (method, path, body) in guarded(&world) {
        let reply = world.call_as("reader", method.clone(), &path, body).await;
        if path.starts_with("/v1/admin") {
            let text = "Only admin token can administer a project.";
            reply.is_error(403, "forbidden", text);
        } else if method == Method::GET || path.ends_with("/test") {
            assert_ne!(reply.status, 403, "{method} {path}");
        } else {
            reply.is_error(403, "forbidden", ADMIN_ONLY);
        }
    }
}

#[tokio::test]
async fn another_project_has_no_access() {
    let world = World::with_sink().await;
    let task = world.post(S, source("Second")).await;
    world.finish(&task).await;
    let task = format!("/v1/tasks/{}", task.json()["taskId"].as_str().unwrap());
    for (method, path, body) in guarded(&world) {
        let path = if path.starts_with("/v1/tasks") {
            task.clone()
        } else {
            path
        };
        // Lists of a branch are empty, creations go to the caller's own project, and a test of a
        // mapping belongs to no project.
        if path == S
            || path == "/v1/admin/tokens"
            || path == "/v1/admin/audit"
            || path == "/v1/admin/tables"
            || path.ends_with("/sources/deleted")
            || path.ends_with("/aggregation/sources")
            || path.ends_with("/branches/default/status")
            || path.ends_with("/test-mapping")
            || path.ends_with("/definitions/validate")
        {
            continue;
        }
        let reply = world.call_as("other", method.clone(), &path, body).await;
        assert_eq!(reply.status, 404, "{method} {path}: {reply:?}");
    }
    let list = world
        .call_as("other", Method::GET, S, Body::empty())
        .await
        .ok();
    assert_eq!(list["sources"], json!([]));
    assert_eq!(
        (&list["projectId"], &list["branchId"]),
        (&json!(456), &json!(222))
    );
    let own = world
        .call_as("other", Method::POST, S, source("My Source").to_string())
        .await;
    assert_eq!(own.status, 202);
}

#[tokio::test]
async fn checks_have_the_order_of_the_contract() {
    let world = World::with_source().await;
    let long = "x".repeat(49);
    let path = |branch: &str, source: &str| format!("/v1/branches/{branch}/sources/{source}");
    // Order: body, then parameters and the token's presence together, then the token's validity,
    // the branch, the role, and existence.
    let call = async |token: &str, path: &str, body: &str| {
        world
            .call_as(token, Method::PATCH, path, body.to_owned())
            .await
    };
    let bad_body = call("", &path("foo", &long), "{").await;
    bad_body.is_error(400, "decodePayload", "Unexpected EOF.");
    let both = call("", &path("foo", &long), "{}").await;
    let text = format!(
        "Length of sourceId must be lesser or equal than 48 but got value \"{long}\" (len=49); {}",
        MISSING
    );
    both.is_error(400, "invalidLength", &text);
    let token = call("nope", &path("foo", "nope"), "{}").await;
    token.is_error(401, "storage.tokenInvalid", "Invalid access token.");
    let branch = call("reader", &path("foo", "nope"), "{}").await;
    let text = "Invalid branch: expected \"default\" or <int>, given \"foo\".";
    branch.is_error(400, "badRequest", text);
    let role = call("reader", &path("111", "nope"), "{}").await;
    role.is_error(403, "forbidden", ADMIN_ONLY);
    let found = call("admin", &path("111", "nope"), "{}").await;
    found.is_error(
        404,
        "sourceNotFound",
        "Source \"nope\" not found in the branch.",
    );
    let bad_sink = json!({ "type": "table", "name": "x" });
    let mapper_first = world.post(&format!("{S}/nope/sinks"), bad_sink).await;
    let text = "\"table\" must be configured for the \"table\" sink type.";
    mapper_first.is_error(400, "badRequest", text);
}

#[tokio::test]
async fn only_the_default_branch_exists() {
    let world = World::new().await;
    let call = async |branch: &str| world.get(&format!("/v1/branches/{branch}/sources")).await;
    assert_eq!(call("default").await.ok(), call("111").await.ok());
    for (branch, shown) in [("222", "222"), ("0", "0")] {
        let text = format!(
            "Currently only default branch is supported, branch \"{shown}\" is not default."
        );
        call(branch).await.is_error(400, "badRequest", &text);
    }
    for (branch, shown) in [("foo", "foo"), ("-1", "-1"), ("%3Cb%3E", "<b>")] {
        let text = format!("Invalid branch: expected \"default\" or <int>, given \"{shown}\".");
        let reply = call(branch).await;
        assert!(!reply.text.contains('<'), "escaped");
        reply.is_error(400, "badRequest", &text);
    }
}

#[tokio::test]
async fn the_token_may_come_in_either_header() {
    let world = World::new().await;
    for (name, value, status) in [
        ("X-StorageApi-Token", "Bearer admin", 200),
        ("Authorization", "Bearer admin", 200),
        ("Authorization", "Basic admin", 400),
        ("X-KBC-ProjectId", "123", 400),
    ] {
        let request = Request::get(S)
            .header(name, value)
            .body(Body::empty())
            .unwrap();
        assert_eq!(
            world.send(request).await.status.as_u16(),
            status,
            "{name}: {value}"
        );
    }
    assert_eq!(world.send(bare(Method::GET, "/v1")).await.status, 200);
}

#[tokio::test]
async fn readers_do_not_get_the_url_of_a_source() {
    let world = World::with_source().await;
    let paths = [
        S.to_owned(),
        format!("{S}/my-source"),
        "/v1/branches/default/aggregation/sources".to_owned(),
        "/v1/branches/default/aggregation/sources/my-source".to_owned(),
    ];
    for path in paths {
        let shown = world.call_as("admin", Method::GET, &path, "").await;
        assert!(
            shown
                .text
                .contains("https://in.example/stream/123/my-source/"),
            "{path}"
        );
        let hidden = world.call_as("reader", Method::GET, &path, "").await;
        assert_eq!(hidden.status.as_u16(), 200, "{hidden:?}");
        assert!(hidden.text.contains("my-source"), "{path}");
        assert!(!hidden.text.contains("/stream/"), "{path}: {}", hidden.text);
    }
    world
        .call_as("admin", Method::DELETE, &format!("{S}/my-source"), "")
        .await;
    let deleted = format!("{S}/deleted");
    let hidden = world.call_as("reader", Method::GET, &deleted, "").await;
    assert!(!hidden.text.contains("/stream/"), "{}", hidden.text);
}
