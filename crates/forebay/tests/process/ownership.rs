//! A table belongs to the project that filled it first. Through the real binary an admin of another
//! project tries to write to it, to add a column, to overwrite rows by key, and to drop it by deleting
//! a source.

use serde_json::{Value, json};

use crate::compat::{Api, NONE, S};
use crate::server::{Ended, Server, run, wait_for};

fn sink(table: &str, columns: &[(&str, bool)]) -> Value {
    let columns: Vec<Value> = columns
        .iter()
        .map(|(name, key)| {
            json!({ "type": "path", "name": name, "path": name, "rawString": true,
                "primaryKey": key })
        })
        .collect();
    json!({ "type": "table", "name": "Orders", "sinkId": "orders", "table": {
        "type": "keboola", "tableId": table, "mapping": { "columns": columns } } })
}

/// Creates a source with a sink; returns its path.
fn define(api: &Api<'_>, id: &str, sink: &Value) -> String {
    source(api, id);
    api.task("POST", &format!("{S}/{id}/sinks"), sink);
    address(api, id)
}

fn source(api: &Api<'_>, id: &str) {
    let source = json!({ "type": "http", "name": id, "sourceId": id });
    api.task("POST", S, &source);
}

fn address(api: &Api<'_>, id: &str) -> String {
    let source = api.get(&format!("{S}/{id}"));
    let url = source["http"]["url"].as_str().unwrap();
    let (_, path) = url.split_once("/stream/").unwrap();
    format!("/stream/{path}")
}

/// The rows of a table as CSV; empty without a table.
fn rows(server: &Server, table: &str) -> String {
    let sql = format!("SELECT * FROM \"{table}\" ORDER BY 1");
    let Ended { code, stdout, .. } = run(&mut server.command(&["query", &sql, "--format", "csv"]));
    if code == Some(0) {
        stdout
    } else {
        String::new()
    }
}

/// The error text of a rejected request or of its failed task.
fn rejected(api: &Api<'_>, method: &str, path: &str, body: &Value) -> String {
    let (status, answer) = api.call(method, path, body);
    if status != 202 {
        assert!((400..500).contains(&status), "{answer}");
        return format!("{} {}", answer["error"], answer["message"]);
    }
    let id = answer["taskId"].as_str().unwrap();
    let task = wait_for("the task", || {
        let task = api.get(&format!("/v1/tasks/{id}"));
        (task["isFinished"] == true).then_some(task)
    });
    assert_eq!(task["status"], "error", "{method} {path}: {task}");
    task["error"].to_string()
}

struct World {
    _dir: tempfile::TempDir,
    server: Server,
    /// Token of an admin of project 77.
    other: String,
}

impl World {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        let make = ["token", "create", "--role", "admin", "--project", "77"];
        let other = server.ok(&make).trim().to_owned();
        Self {
            _dir: dir,
            server,
            other,
        }
    }

    fn other(&self) -> Api<'_> {
        Api {
            server: &self.server,
            token: self.other.clone(),
        }
    }
}

#[test]
fn another_projects_admin_neither_writes_nor_alters_nor_drops_a_table() {
    let world = World::start();
    let (server, owner, other) = (&world.server, Api::of(&world.server), world.other());
    let keyed = sink("in.shop.orders", &[("id", true), ("v", false)]);
    let path = define(&owner, "shop", &keyed);
    for i in 0..10 {
        server.post(&path, &format!("{{\"id\":\"{i}\",\"v\":\"mine\"}}"));
    }
    server.settled("shop", "orders", 10);
    let before = rows(server, "in.shop.orders");
    assert_eq!(before.lines().count(), 11, "{before}");

    // Writing, adding a column and overwriting by key all start with a sink.
    source(&other, "evil");
    let sinks = format!("{S}/evil/sinks");
    for (table, columns) in [
        ("in.shop.orders", &[("id", true), ("v", false)][..]),
        (
            "in.shop.orders",
            &[("id", true), ("v", false), ("more", false)],
        ),
        ("in.SHOP.Orders", &[("id", true), ("v", false)]),
        // An invalid mapping reveals nothing about the table's columns either.
        ("in.shop.orders", &[("id", false), ("v", false)]),
    ] {
        let text = rejected(&other, "POST", &sinks, &sink(table, columns));
        assert!(
            text.contains("tableNotAvailable") && text.contains("tableId"),
            "{text}"
        );
        assert!(text.contains("belongs to another project"), "{text}");
        let owner = server.api_get(S)["projectId"].to_string();
        let told = ["\"v\"", "primary key", &format!("project {owner}")];
        assert!(!told.iter().any(|w| text.contains(w)), "{text}");
    }
    let trial = json!({ "record": { "body": "{}" },
        "table": { "type": "keboola", "tableId": "in.shop.orders" },
        "mapping": { "columns": [{ "type": "uuid", "name": "id" }] } });
    let (status, answer) = other.call("POST", "/v1/branches/default/test-mapping", &trial);
    assert_eq!(
        (status, &answer["error"]),
        (409, &json!("stream.api.tableNotAvailable"))
    );
    // Through an existing sink.
    let own = sink("in.evil.own", &[("id", true), ("v", false)]);
    let evil = {
        other.task("POST", &sinks, &own);
        address(&other, "evil")
    };
    let at = format!("{sinks}/orders");
    let patch = json!({ "table": { "tableId": "in.shop.orders" } });
    let text = rejected(&other, "PATCH", &at, &patch);
    assert!(text.contains("tableNotAvailable"), "{text}");
    server.post(&evil, "{\"id\":\"1\",\"v\":\"theirs\"}");
    // After the owner's source is deleted its rows remain, and the table has no sink.
    owner.task("DELETE", &format!("{S}/shop"), &NONE);
    let text = rejected(&other, "PATCH", &at, &patch);
    assert!(text.contains("tableNotAvailable"), "{text}");
    other.task("DELETE", &format!("{S}/evil?cascade=true"), &NONE);
    assert_eq!(rows(server, "in.evil.own"), "", "its own table is dropped");
    assert_eq!(rows(server, "in.shop.orders"), before);
    let (status, _) = other.call("GET", "/v1/admin/tables/sqlite/in.shop.orders", &NONE);
    assert_eq!(status, 404);
    assert_eq!(other.get("/v1/admin/tables")["tables"], json!([]));
    owner.task("PUT", &format!("{S}/shop/undelete"), &NONE);
    server.post(&path, "{\"id\":\"new\",\"v\":\"mine\"}");
    server.settled("shop", "orders", 11);
}

#[test]
fn an_operator_shares_and_transfers_and_a_file_of_the_previous_owner_is_parked() {
    let world = World::start();
    let (server, owner, other) = (&world.server, Api::of(&world.server), world.other());
    let orders = sink("in.shop.orders", &[("id", true), ("v", false)]);
    let path = define(&owner, "shop", &orders);
    server.post(&path, "{\"id\":\"1\",\"v\":\"mine\"}");
    server.settled("shop", "orders", 1);
    source(&other, "second");
    let sinks = format!("{S}/second/sinks");
    assert!(rejected(&other, "POST", &sinks, &orders).contains("another project"));
    let shared = server.ok(&["table", "share", "in.shop.orders", "--project", "77"]);
    assert!(shared.contains("77"), "{shared}");
    other.task("POST", &sinks, &orders);
    let second = address(&other, "second");
    server.post(&second, "{\"id\":\"2\",\"v\":\"shared\"}");
    wait_for("the shared row", || {
        rows(server, "in.shop.orders")
            .contains("shared")
            .then_some(())
    });
    // A project with shared access does not drop the table.
    let cascade = other.task("DELETE", &format!("{S}/second?cascade=true"), &NONE);
    let result = cascade["result"].as_str().unwrap();
    assert!(result.contains("belong to another project"), "{result}");
    assert_eq!(rows(server, "in.shop.orders").lines().count(), 3);
    // Transfer to another owner while the first one still fills it.
    let transfer = ["table", "transfer", "in.shop.orders", "--project", "77"];
    let ended = run(&mut server.command(&transfer));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("still fill"), "{ended:?}");
    server.ok(&[&transfer[..], &["--force"]].concat());
    server.post(&path, "{\"id\":\"1\",\"v\":\"late\"}");
    let file = wait_for("the file that is parked", || {
        let at = format!("{S}/shop/sinks/orders/statistics/files?failedFiles=true");
        let files = owner.get(&at);
        let reason = files["files"][0]["retryReason"].as_str()?.to_owned();
        reason
            .contains("belongs to another project")
            .then_some(reason)
    });
    assert!(!file.contains("77"), "{file}");
    assert!(!rows(server, "in.shop.orders").contains("late"));
    // After the transfer back it is imported; nothing is lost.
    server.ok(&["table", "transfer", "in.shop.orders", "--project", "1"]);
    let shown = server.ok(&["table", "show", "in.shop.orders"]);
    assert!(shown.contains("shop/orders"), "{shown}");
    let listed = server.ok(&["table", "ls"]);
    assert!(listed.contains("in.shop.orders"), "{listed}");
    let audit = other.get("/v1/admin/audit").to_string();
    assert!(
        audit.contains("transfer") && audit.contains("in.shop.orders"),
        "{audit}"
    );
}

#[test]
fn an_operator_transfers_an_existing_table_without_a_project() {
    let world = World::start();
    let (server, other) = (&world.server, world.other());
    let database = server.data().join("tables.db");
    let connection = rusqlite::Connection::open(database).unwrap();
    let make = "CREATE TABLE \"in.hand.made\" (id TEXT PRIMARY KEY, v TEXT);
        INSERT INTO \"in.hand.made\" VALUES ('0', 'by hand')";
    connection.execute_batch(make).unwrap();
    let hand = sink("in.hand.made", &[("id", true), ("v", false)]);
    source(&other, "theirs");
    let sinks = format!("{S}/theirs/sinks");
    let text = rejected(&other, "POST", &sinks, &hand);
    assert!(text.contains("belongs to no project"), "{text}");
    server.ok(&["table", "transfer", "in.hand.made", "--project", "77"]);
    other.task("POST", &sinks, &hand);
    server.post(&address(&other, "theirs"), "{\"id\":\"1\",\"v\":\"x\"}");
    wait_for("the row", || {
        (rows(server, "in.hand.made").lines().count() == 3).then_some(())
    });
    // It was not created by Forebay, so it is not dropped.
    let cascade = other.task("DELETE", &format!("{S}/theirs?cascade=true"), &NONE);
    let result = cascade["result"].as_str().unwrap();
    assert!(result.contains("were there before"), "{result}");
    assert_eq!(rows(server, "in.hand.made").lines().count(), 3);
}

#[test]
fn a_mismatch_with_the_table_is_reported_when_the_sink_is_created() {
    let world = World::start();
    let (server, owner) = (&world.server, Api::of(&world.server));
    let database = server.data().join("tables.db");
    let connection = rusqlite::Connection::open(database).unwrap();
    connection
        .execute_batch("CREATE TABLE \"in.hand.made\" (id TEXT, n INTEGER, must TEXT NOT NULL)")
        .unwrap();
    source(&owner, "mine");
    let sinks = format!("{S}/mine/sinks");
    let wrong = sink("in.hand.made", &[("id", true), ("n", false)]);
    let (status, answer) = owner.call("POST", &sinks, &wrong);
    let message = answer["message"].as_str().unwrap();
    assert_eq!(status, 400, "{answer}");
    for words in [
        "\"table.mapping.columns[1].name\" value \"n\"",
        "type INTEGER",
        "\"tableId\" value \"in.hand.made\"",
        "no primary key",
        "\"must\" must have a value",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    // Nothing is left of it: a table that fits gets the sink.
    owner.task("POST", &sinks, &sink("in.hand.other", &[("id", true)]));
    let patch = json!({ "table": { "tableId": "in.hand.made" } });
    assert!(rejected(&owner, "PATCH", &format!("{sinks}/orders"), &patch).contains("primary key"));
}

/// A server whose tables are in that PostgreSQL.
fn with_postgres(dir: &std::path::Path, more: &str) -> Server {
    let file = dir.join("forebay.yaml");
    std::fs::write(
        &file,
        format!("table:\n  default: postgres\n  postgres:\n{more}"),
    )
    .unwrap();
    Server::start_with(&dir.join("data"), &["--config", file.to_str().unwrap()])
}

#[test]
fn names_that_postgres_rejects_fail_when_the_sink_is_created_and_an_unreachable_server_is_a_warning()
 {
    let dir = tempfile::tempdir().unwrap();
    let server = with_postgres(dir.path(), "    url: postgres://nobody@127.0.0.1:1/none\n");
    let owner = Api::of(&server);
    source(&owner, "mine");
    let sinks = format!("{S}/mine/sinks");
    let long = "x".repeat(64);
    for (table, column, words) in [
        ("in.a.b", long.as_str(), "64 bytes, PostgreSQL allows 63"),
        ("in.a.b", "ctid", "reserves the column name"),
        (&format!("in.a.{long}"), "a", "the name"),
        (&format!("in.{long}.b"), "a", "the schema"),
        ("in.a.b", &"\u{e9}".repeat(32), "64 bytes"),
    ] {
        let (status, answer) = owner.call("POST", &sinks, &sink(table, &[(column, false)]));
        let message = answer["message"].as_str().unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(message.contains(words), "{message}");
        let trial = json!({ "record": { "body": "{}" },
            "table": { "type": "postgres", "tableId": table },
            "mapping": { "columns": [{ "type": "body", "name": column }] } });
        let (status, answer) = owner.call("POST", "/v1/branches/default/test-mapping", &trial);
        assert_eq!(status, 200);
        let problem = answer["violations"][0]["message"].as_str().unwrap();
        assert!(problem.contains(words), "{answer}");
    }
    let create = [
        "source", "create", "new", "--sink", "in.a.b", "--column", "n=path:n",
    ];
    let made = run(&mut server.command(&create));
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(
        made.stderr
            .contains("warning: Table \"in.a.b\" could not be checked"),
        "{made:?}"
    );
    let file = dir.path().join("events.yaml");
    let text = "sources:\n  - name: Applied\n    sinks:\n      - name: Rows\n        table: in.a.c\n        columns:\n          - {name: b, type: body}\n";
    std::fs::write(&file, text).unwrap();
    let applied = run(&mut server.command(&["apply", "-f", file.to_str().unwrap()]));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(
        applied.stderr.contains("warning: Table \"in.a.c\""),
        "{applied:?}"
    );
}

#[test]
fn tables_of_postgres_belong_to_projects_too() {
    let name = "tables_of_postgres_belong_to_projects_too";
    let Some(postgres) = forebay_test_support::services::postgres(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let unique = format!("own{}", std::process::id());
    let ca = postgres
        .ca_file
        .map(|f| format!("    caFile: {f}\n"))
        .unwrap_or_default();
    let url = &postgres.url;
    let server = with_postgres(
        dir.path(),
        &format!("    url: {url}\n    ledgerSchema: forebay_{unique}\n{ca}"),
    );
    let make = ["token", "create", "--role", "admin", "--project", "77"];
    let other = Api {
        server: &server,
        token: server.ok(&make).trim().to_owned(),
    };
    let owner = Api::of(&server);
    let table = format!("in.{unique}.Orders");
    let orders = sink(&table, &[("id", true), ("v", false)]);
    let path = define(&owner, "shop", &orders);
    server.post(&path, "{\"id\":\"1\",\"v\":\"mine\"}");
    server.settled("shop", "orders", 1);
    source(&other, "evil");
    let sinks = format!("{S}/evil/sinks");
    let text = rejected(&other, "POST", &sinks, &orders);
    assert!(text.contains("belongs to another project"), "{text}");
    // Quoted names differ by case: that is another table.
    let lower = format!("in.{unique}.orders");
    other.task("POST", &sinks, &sink(&lower, &[("id", true), ("v", false)]));
    other.task("DELETE", &format!("{S}/evil?cascade=true"), &NONE);
    // A mismatch as the table's owner gets it.
    let keyless = json!({ "table": sink(&table, &[("id", false)])["table"] });
    let text = rejected(&owner, "PATCH", &format!("{S}/shop/sinks/orders"), &keyless);
    assert!(text.contains("primary key"), "{text}");
    server.post(&path, "{\"id\":\"2\",\"v\":\"mine\"}");
    server.settled("shop", "orders", 2);
    let cascade = owner.task("DELETE", &format!("{S}/shop?cascade=true"), &NONE);
    let result = cascade["result"].as_str().unwrap();
    assert!(!result.contains("Kept"), "{result}");
    let project = owner.get(S)["projectId"].to_string();
    let left = owner.get(&format!("/v1/admin/tables?projectId={project}"));
    assert_eq!(left["tables"], json!([]));
}
