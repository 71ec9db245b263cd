//! Isolation of projects on one server: every route of the served document with tokens of another
//! project, of a reader, and with expired and revoked ones.

use serde_json::{Value, json};

use crate::compat::{Api, NONE, S};
use crate::server::{Server, wait_for};

/// All routes that need a token: method, path of an existing resource, body, required role.
fn routes(api: &Api<'_>, task: &str, token: &str) -> Vec<(String, String, Value, String)> {
    let document = api.get("/v1/documentation/openapi3.json");
    let project = api.get(S)["projectId"].to_string();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(role) = operation["x-role"].as_str() else {
                assert!(operation.get("security").is_none(), "{path}");
                continue;
            };
            let path = path
                .replace("{projectId}", &project)
                .replace("{branchId}", "default")
                .replace("{sourceId}", "events")
                .replace("{sinkId}", "events")
                .replace("{versionNumber}", "1")
                .replace("{deadLetterId}", "3f0c9a6b1d2e4f58-12")
                .replace("{openedAt}", "2026-11-21T05:01:49.120Z")
                .replace("{tokenId}", token)
                .replace("{tableType}", "sqlite")
                .replace("{tableId}", "in.test.events")
                .replace("{taskId}", task);
            assert!(
                !path.contains('{'),
                "{path}: a parameter that this test does not know"
            );
            let body = match operation["operationId"].as_str().unwrap() {
                "CreateSource" => json!({ "type": "http", "name": "x" }),
                "CreateSink" => json!({ "type": "table", "name": "x", "table": {
                    "type": "keboola", "tableId": "in.a.b",
                    "mapping": { "columns": [{ "type": "uuid", "name": "id" }] } } }),
                "TestMapping" => json!({
                    "mapping": { "columns": [{ "type": "uuid", "name": "id" }] },
                    "record": { "body": "{}" } }),
                "ValidateDefinitions" => json!({ "changes": [{
                    "method": "POST", "path": "sources",
                    "body": { "type": "http", "name": "x" } }] }),
                "CreateToken" => json!({ "role": "reader" }),
                "TransferTable" | "ShareTable" | "UnshareTable" => json!({ "projectId": 77 }),
                _ if operation["requestBody"].is_object() => json!({}),
                _ => NONE,
            };
            routes.push((method.to_uppercase(), path, body, role.to_owned()));
        }
    }
    assert!(routes.len() > 40);
    routes
}

/// Everything visible to a client of the project; audit entries without rejected calls.
fn seen(api: &Api<'_>) -> Vec<Value> {
    let sink = format!("{S}/events/sinks/events");
    let audit = api.get("/v1/admin/audit");
    let changes = audit["changes"].as_array().unwrap().iter();
    let done: Value = changes
        .filter(|c| c["action"] != "reject")
        .cloned()
        .collect();
    let shown = [
        S,
        "/v1/admin/tokens",
        "/v1/admin/tables/sqlite/in.test.events",
        &format!("{S}/deleted"),
        &sink,
        &format!("{S}/events/settings"),
        &format!("{sink}/settings"),
        &format!("{sink}/versions"),
    ]
    .map(|path| api.get(path));
    shown.into_iter().chain([done]).collect()
}

/// A reader is rejected by exactly the routes of admins.
fn assert_reader_rights(reader: &Api<'_>, (method, path, body): (&str, &str, &Value), role: &str) {
    // A tap that is opened has no end; the tests of `control` open it as a reader.
    if path.ends_with("/tap") {
        return;
    }
    let (status, answer) = reader.call(method, path, body);
    let rejected = status == 403 && answer["error"] == "stream.api.forbidden";
    assert_eq!(
        rejected,
        role == "admin",
        "{method} {path}: {status} {answer}"
    );
}

#[test]
fn no_route_accepts_a_token_of_another_project_or_an_invalid_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--set", "api.wrongTokensPerSecond=0"]);
    server.define();
    let api = |token: &str| Api {
        server: &server,
        token: token.trim().to_owned(),
    };
    let owner = Api::of(&server);
    let task = owner.task("PUT", &format!("{S}/events/enable"), &NONE);
    let task = task["taskId"].as_str().unwrap();
    let make = |args: &[&str]| server.ok(&[&["token", "create"], args].concat());
    let other = make(&["--role", "admin", "--project", "77"]);
    let reader = make(&["--role", "reader"]);
    let revoked = make(&["--role", "admin", "--description", "revoked"]);
    let listed = owner.get("/v1/admin/tokens");
    let tokens = listed["tokens"].as_array().unwrap();
    let id = |description: &str| {
        let found = tokens.iter().find(|t| t["description"] == description);
        found.unwrap()["tokenId"].as_str().unwrap().to_owned()
    };
    let revoked_id = id("revoked");
    let kept = tokens.iter().find(|t| t["role"] == "reader").unwrap();
    let kept = kept["tokenId"].as_str().unwrap().to_owned();
    server.ok(&["token", "revoke", &revoked_id]);
    let before = seen(&owner);
    let routes = routes(&owner, task, &kept);
    let (other, reader, revoked) = (api(&other), api(&reader), api(&revoked));
    for (method, path, body, role) in &routes {
        let (status, answer) = revoked.call(method, path, body);
        let named = &answer["error"];
        assert_eq!(
            (status, named),
            (401, &json!("storage.tokenInvalid")),
            "{method} {path}"
        );
        assert_reader_rights(&reader, (method, path, body), role);
        // Resources of the other project itself: empty lists, resources it creates.
        let names_nothing = [
            S,
            &format!("{S}/deleted"),
            "/v1/branches/default/aggregation/sources",
        ];
        let is_own = names_nothing.contains(&path.as_str())
            || (path.starts_with("/v1/admin")
                && !path.contains(&kept)
                && !path.contains("quotas")
                && !path.contains("in.test.events"))
            || (!path.contains("quotas")
                && !path.contains("events")
                && !path.contains(&kept)
                && !path.contains(task));
        let (status, answer) = other.call(method, path, body);
        if is_own {
            assert!(status < 300, "{method} {path}: {answer}");
            let text = answer.to_string();
            assert!(
                !text.contains("events") && !text.contains(&kept),
                "{method} {path}: {text}"
            );
        } else {
            assert_eq!(status, 404, "{method} {path}: {answer}");
        }
    }
    assert_eq!(seen(&owner), before, "nothing of the project has changed");
}

#[test]
fn an_expired_token_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--set", "api.wrongTokensPerSecond=0"]);
    server.define();
    let owner = Api::of(&server);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let soon = i64::try_from(now.as_millis()).unwrap() + 1500;
    let soon = forebay_model::Timestamp::from_millis(soon).to_string();
    let (status, made) = owner.call(
        "POST",
        "/v1/admin/tokens",
        &json!({ "role": "admin", "expiresAt": soon }),
    );
    assert_eq!(status, 201, "{made}");
    let token = Api {
        server: &server,
        token: made["token"].as_str().unwrap().to_owned(),
    };
    wait_for("the token's end", || {
        (token.call("GET", S, &NONE).0 == 401).then_some(())
    });
    for (method, path, body, _) in routes(&owner, "a/b", "1-aaaaaaaaaaaa") {
        let (status, answer) = token.call(&method, &path, &body);
        assert_eq!(status, 401, "{method} {path}: {answer}");
    }
}
