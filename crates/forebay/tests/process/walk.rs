//! From a definition to rows, as a user does it.

use forebay_test_support::HttpClient;
use serde_json::Value;

use crate::server::{Server, forebay, forebay_with, run};

#[test]
fn posted_records_are_in_the_table_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.ok(&[
        "source",
        "create",
        "My events",
        "--sink",
        "in.demo.events",
        "--column",
        "id=uuid",
        "--column",
        "user=path:user.id",
        "--column",
        "total=template:Body(\"price\") * Body(\"count\")",
        "--column",
        "env=static:prod",
    ]);
    let path = server.path("my-events");
    server.post(&path, r#"{"user":{"id":"ada"},"price":2.5,"count":4}"#);
    let ndjson = "{\"user\":{\"id\":\"bob\"},\"price\":1,\"count\":2}\n{\"user\":{\"id\":\"eve\"},\"price\":3,\"count\":1}\n";
    let headers = [("Content-Type", "application/x-ndjson")];
    let answer = HttpClient::new(server.source)
        .send("POST", &path, &headers, ndjson.as_bytes())
        .unwrap();
    assert_eq!(answer.status, 200);
    let balance = server.settled("my-events", "events", 3);
    assert_eq!(
        (&balance["imported"], &balance["holds"]),
        (&Value::from(3), &Value::from(true)),
        "{balance}"
    );
    let sql = "SELECT user, total, env FROM \"in.demo.events\" ORDER BY user";
    assert_eq!(
        server.ok(&["query", sql, "--format", "csv"]),
        "user,total,env\nada,10,prod\nbob,2,prod\neve,3,prod\n"
    );
}

#[test]
fn health_and_metrics_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = server.define();
    server.post(&path, "{\"n\": 1}");
    server.settled("events", "events", 1);
    assert_eq!(server.get("/health/live").0, 200);
    let (status, ready) = server.get("/health/ready");
    assert_eq!((status, ready.as_str()), (200, "{\"status\":\"ready\"}"));
    let metrics = server.get("/metrics").1;
    let value = |name: &str| {
        let line = metrics
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap_or_else(|| panic!("{name}\n{metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("forebay_rows_accepted_total") >= 1.0);
    assert!(value("forebay_imported_rows_total") >= 1.0);
    assert!(value("forebay_volume_sync_seconds_count") >= 1.0);
    assert!(value("forebay_ack_seconds_bucket") >= 0.0);
    assert_eq!(value("forebay_volume_latched"), 0.0);
    assert!(
        metrics.contains("# HELP forebay_rows_accepted_total "),
        "{metrics}"
    );
}

#[test]
fn without_a_source_role_nothing_listens_for_records() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--roles", "api,storage,coordinator"]);
    assert_eq!(server.get("/health/ready").0, 200);
    assert!(std::net::TcpStream::connect(server.source).is_err());
}

#[test]
fn the_demo_imports_its_events_and_leaves_no_files() {
    let temporary = tempfile::tempdir().unwrap();
    let said = run(forebay()
        .args(["demo", "--rate", "200", "--duration", "2s"])
        .env("TMPDIR", temporary.path()));
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in [
        "order",
        "sensor",
        "400 accepted = 400 imported + 0 in flight",
        "400 rows in the table",
    ] {
        assert!(said.stdout.contains(part), "{part}: {said:?}");
    }
    assert!(said.stderr.contains("in the table 400"), "{said:?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_continues_in_a_given_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    for n in [100, 200] {
        let said = forebay_with(&[
            "demo",
            "--rate",
            "100",
            "--duration",
            "1s",
            "--data-dir",
            data,
        ]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(
            said.stdout
                .contains(&format!("{n} accepted = {n} imported")),
            "{said:?}"
        );
    }
    let rows = forebay_with(&[
        "query",
        "SELECT count(*) FROM \"in.demo.events\"",
        "--data-dir",
        data,
        "--format",
        "csv",
    ]);
    assert!(rows.stdout.ends_with("\n200\n"), "{rows:?}");
}
