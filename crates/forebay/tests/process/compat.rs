//! Scenarios of the compatible API with the real binary: enabling, rotating and deleting by the API
//! also affects records.

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use crate::server::{Server, forebay, run, wait_for};

pub(crate) const S: &str = "/v1/branches/default/sources";
const SOURCE: &str = "/v1/branches/default/sources/events";
const SINK: &str = "/v1/branches/default/sources/events/sinks/events";

/// Client of the management API with a token.
pub(crate) struct Api<'s> {
    pub(crate) server: &'s Server,
    pub(crate) token: String,
}

impl<'s> Api<'s> {
    /// With the operator's token.
    pub(crate) fn of(server: &'s Server) -> Self {
        let token = server.token();
        Self { server, token }
    }

    /// Without a token.
    pub(crate) fn nobody(server: &'s Server) -> Self {
        let token = String::new();
        Self { server, token }
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let headers = [
            ("X-StorageApi-Token", self.token.as_str()),
            ("Content-Type", "application/json"),
        ];
        let answer = HttpClient::new(self.server.api)
            .send(method, path, &headers, body.as_bytes())
            .unwrap();
        (answer.status, answer.json())
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Starts a task and waits for its end.
    pub(crate) fn task(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, task) = self.call(method, path, body);
        assert_eq!(status, 202, "{method} {path}: {task}");
        let id = task["taskId"].as_str().unwrap().to_owned();
        let task = wait_for("the task", || {
            let task = self.get(&format!("/v1/tasks/{id}"));
            (task["isFinished"] == true).then_some(task)
        });
        assert_eq!(task["status"], "success", "{task}");
        task
    }

    /// Asserts that the call fails with this error.
    #[track_caller]
    pub(crate) fn fails(&self, method: &str, path: &str, body: &Value, as_: (u16, &str, &str)) {
        let (status, error) = self.call(method, path, body);
        let name = format!("stream.api.{}", as_.1);
        let is = (status, error["error"].as_str(), error["message"].as_str());
        let expected = (as_.0, Some(name.as_str()), Some(as_.2));
        assert_eq!(is, expected, "{method} {path} {body}");
        assert_eq!(error["statusCode"], status);
    }

    /// Path of the source on its listener, from the API.
    fn address(&self) -> String {
        let source = self.get(SOURCE);
        let url = source["http"]["url"].as_str().unwrap();
        format!("/stream/{}", url.split_once("/stream/").unwrap().1)
    }

    /// Status and error name of a record.
    fn send(&self, path: &str) -> (u16, Value) {
        let headers = [("Content-Type", "application/json")];
        let answer = HttpClient::new(self.server.source)
            .send("POST", path, &headers, br#"{"n":1}"#)
            .unwrap();
        (answer.status, answer.json()["error"].clone())
    }
}

fn started(dir: &std::path::Path) -> Server {
    let server = Server::start(dir);
    server.define();
    server
}

pub(crate) const NONE: Value = Value::Null;

#[test]
fn enabling_and_disabling_applies_to_records() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path());
    let api = Api::of(&server);
    let address = api.address();
    assert_eq!(api.send(&address), (200, NONE));
    // Each task ends after all source nodes applied the change, so no wait is needed.
    api.task("PUT", &format!("{SOURCE}/disable"), &NONE);
    assert_eq!(api.send(&address), (404, json!("stream.in.disabledSource")));
    api.task("PUT", &format!("{SOURCE}/enable"), &NONE);
    assert_eq!(api.send(&address), (200, NONE));
    api.task("PUT", &format!("{SINK}/disable"), &NONE);
    assert_eq!(api.send(&address), (200, NONE), "no enabled sink is fine");
    api.task("PUT", &format!("{SINK}/enable"), &NONE);
    assert_eq!(api.send(&address), (200, NONE));
    api.task("DELETE", SOURCE, &NONE);
    assert_eq!(api.send(&address), (404, json!("stream.in.noSourceFound")));
    api.task("PUT", &format!("{SOURCE}/undelete"), &NONE);
    assert_eq!(api.send(&address), (200, NONE));
    // Four of the five records had a sink; each of them is in the table once.
    let balance = server.settled("events", "events", 4);
    assert_eq!(
        (&balance["imported"], &balance["holds"]),
        (&json!(4), &json!(true))
    );
}

#[test]
fn only_the_new_secret_works_after_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path());
    let api = Api::of(&server);
    let old = api.address();
    let (status, source) = api.call("POST", &format!("{SOURCE}/rotate-secret"), &NONE);
    assert_eq!(status, 200, "{source}");
    let new = api.address();
    assert_ne!(old, new);
    assert_eq!(api.send(&old), (404, json!("stream.in.noSourceFound")));
    assert_eq!(api.send(&new), (200, NONE));
    api.task("PUT", &format!("{SOURCE}/versions/1/rollback"), &NONE);
    assert_eq!(api.send(&old).0, 404);
    assert_eq!(api.send(&new), (200, NONE));
}

#[test]
fn statistics_are_cleared_and_a_cascade_drops_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path());
    let api = Api::of(&server);
    api.send(&api.address());
    server.settled("events", "events", 1);
    let total = || api.get(&format!("{SINK}/statistics/total"));
    assert_eq!(total()["levels"]["target"]["recordsCount"], 1);
    let (status, body) = api.call("DELETE", &format!("{SINK}/statistics/clear"), &NONE);
    assert_eq!((status, body), (200, NONE));
    let zeros = json!({ "recordsCount": 0, "compressedSize": 0, "uncompressedSize": 0 });
    assert_eq!(total(), json!({ "total": zeros, "levels": {} }));
    let aggregation = api.get("/v1/branches/default/aggregation/sources");
    let sink = &aggregation["sources"][0]["sinks"][0];
    assert_eq!(sink["statistics"]["total"], zeros);
    // A record in flight while the source is deleted does not recreate the table.
    assert_eq!(api.send(&api.address()), (200, NONE));
    let task = api.task("DELETE", &format!("{SOURCE}?cascade=true"), &NONE);
    assert_eq!(
        task["result"],
        "Source and its destination tables and bucket have been deleted."
    );
    let sql = "SELECT count(*) FROM \"in.test.events\"";
    let gone = run(&mut server.command(&["query", sql]));
    assert_ne!(gone.code, Some(0), "{gone:?}");
    assert_eq!(api.get(&format!("{S}/deleted"))["sources"], json!([]));
    server.define();
    assert_eq!(api.get(SOURCE)["version"]["number"], 1);
    assert_eq!(api.send(&api.address()), (200, NONE));
    server.settled("events", "events", 3);
    assert_eq!(total()["total"]["recordsCount"], 1);
}

#[test]
fn tokens_are_created_rotated_and_revoked_by_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path());
    let made = server.ok(&[
        "token",
        "create",
        "--role",
        "reader",
        "--description",
        "x y",
    ]);
    let api = |text: &str| Api {
        server: &server,
        token: text.trim().to_owned(),
    };
    let reader = api(&made);
    reader.get(SOURCE);
    assert_eq!(reader.call("DELETE", SOURCE, &NONE).0, 403);
    let listed = server.ok(&["token", "ls", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed[0]["tokenId"].as_str().unwrap();
    assert_eq!(listed[0]["description"], "x y");
    let rotated = server.ok(&["token", "rotate", id, "--overlap", "1h"]);
    assert_ne!(rotated, made);
    for text in [&made, &rotated] {
        api(text).get(SOURCE);
    }
    server.ok(&["token", "revoke", id]);
    for text in [&made, &rotated] {
        assert_eq!(api(text).call("GET", SOURCE, &NONE).0, 401);
    }
    // Another project on the same server has no access.
    let other = server.ok(&["token", "create", "--role", "admin", "--project", "77"]);
    let other = api(&other);
    assert_eq!(other.get(S)["sources"], json!([]));
    let (status, error) = other.call("GET", SOURCE, &NONE);
    assert_eq!(
        (status, &error["error"]),
        (404, &json!("stream.api.sourceNotFound"))
    );
    let bad = run(forebay().args(["token", "revoke", "../x"]));
    assert_eq!(bad.code, Some(2), "{bad:?}");
}

#[test]
fn a_task_of_a_killed_server_ends_as_failed_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    // Its tables are unreachable: a deletion with tables waits for the records in flight.
    let unavailable = [
        "--set",
        "table.default=postgres",
        "--set",
        "table.postgres.url=postgres://nobody@127.0.0.1:1/none",
    ];
    let server = Server::start_with(dir.path(), &unavailable);
    server.define();
    let api = Api::of(&server);
    assert_eq!(api.send(&api.address()), (200, NONE));
    let path = format!("{SOURCE}?cascade=true");
    let (status, task) = api.call("DELETE", &path, &NONE);
    assert_eq!((status, &task["status"]), (202, &json!("processing")));
    let id = task["taskId"].as_str().unwrap().to_owned();
    server.kill();
    let server = Server::start(dir.path());
    let api = Api::of(&server);
    let task = wait_for("the end of the task", || {
        let task = api.get(&format!("/v1/tasks/{id}"));
        (task["isFinished"] == true).then_some(task)
    });
    assert_eq!(task["status"], "error", "{task}");
    assert!(task["error"].is_string() && task["result"].is_null());
    // With reachable tables the same request completes the deletion.
    api.task("DELETE", &path, &NONE);
    assert_eq!(api.get(&format!("{S}/deleted"))["sources"], json!([]));
    api.fails(
        "GET",
        SOURCE,
        &NONE,
        (
            404,
            "sourceNotFound",
            "Source \"events\" not found in the branch.",
        ),
    );
}
