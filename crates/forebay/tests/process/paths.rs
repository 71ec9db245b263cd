//! Paths: validated when defined, counted when not found, bounded in cost.

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use crate::server::{Server, forebay_with, run, wait_for};

const SINKS: &str = "/v1/branches/default/sources/events/sinks";

fn send(server: &Server, method: &str, path: &str, body: &Value) -> (u16, String) {
    let token = server.token();
    let headers = [
        ("X-StorageApi-Token", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = body.to_string();
    let answer = HttpClient::new(server.api)
        .send(method, path, &headers, body.as_bytes())
        .unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status, text)
}

fn column(path: &str) -> Value {
    json!({ "type": "path", "name": "p", "path": path, "defaultValue": "unknown" })
}

#[test]
fn an_invalid_path_is_rejected_wherever_it_is_defined() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let create = [
        "source",
        "create",
        "events",
        "--sink",
        "in.demo.events",
        "--column",
    ];
    let with = |column: &str| {
        let args = [&create[..], &[column]].concat();
        run(&mut server.command(&args))
    };
    let ended = with("p=path:a[*]");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("\"a[*]\" is no path: character 3"),
        "{ended:?}"
    );
    let ended = with("p=path:$.a[*].b");
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let wrong = "column \\\"p\\\" path is invalid: character 5: expected a selector";
    let mapping = json!({ "columns": [column("$.a[")] });
    let sink = json!({ "type": "table", "name": "K", "table":
        { "type": "sqlite", "tableId": "in.c.k", "mapping": mapping } });
    let branch = "/v1/branches/default";
    let change =
        json!({ "changes": [{ "method": "POST", "path": "sources/events/sinks", "body": sink }] });
    let record = json!({ "mapping": mapping, "record": { "body": "{}" } });
    for (method, path, body, status) in [
        ("POST", SINKS.to_owned(), sink, 400),
        (
            "PATCH",
            format!("{SINKS}/events"),
            json!({ "table": { "mapping": mapping } }),
            400,
        ),
        (
            "POST",
            format!("{branch}/definitions/validate"),
            change,
            200,
        ),
        ("POST", format!("{branch}/test-mapping"), record, 200),
    ] {
        let (got, text) = send(&server, method, &path, &body);
        assert_eq!(got, status, "{path}: {text}");
        let text = text.to_lowercase();
        assert!(text.contains(wrong), "{path}: {text}");
    }

    let job = dir.path().join("job.yaml");
    let text = "source: { type: http_api, baseUrl: 'http://127.0.0.1:1', results: 'data[*]' }\n\
                destination: { type: table, store: { type: sqlite, path: t.db }, table: t,\n\
                columns: [{ name: id, key: true }, { name: m, path: '$ref' }] }\n";
    std::fs::write(&job, text).unwrap();
    for what in ["check", "run"] {
        let ended = forebay_with(&["job", what, job.to_str().unwrap()]);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        for said in [
            "source.results is \"data[*]\", which is not a path: character 6",
            "destination.columns[1].path is \"$ref\", which is not a path: character 2",
        ] {
            assert!(ended.stderr.contains(said), "{what}: {ended:?}");
        }
    }
}

#[test]
fn columns_that_are_never_found_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.ok(&[
        "source",
        "create",
        "events",
        "--sink",
        "in.demo.events",
        "--column",
        "id=path:id",
        "--column",
        "rare=path,default=x:rare",
        "--column",
        "wrong=path,default=x:$.usr.name",
    ]);
    let path = server.path("events");
    server.post(&path, r#"{"id":1}"#);
    server.post(&path, r#"{"id":2,"rare":3}"#);
    let uses = server.api_get(&format!("{SINKS}/events/statistics/columns"));
    assert_eq!(uses["records"], 2);
    let wanted = json!([
        { "name": "rare", "path": "rare", "notFound": 1, "neverFound": false },
        { "name": "wrong", "path": "$.usr.name", "notFound": 2, "neverFound": true },
    ]);
    assert_eq!(uses["columns"], wanted);
    let shown = server.ok(&["source", "show", "events"]);
    let warning = "warning  column wrong: nothing at $.usr.name in any of 2 records since 20";
    assert!(shown.contains(warning), "{shown}");
    assert!(!shown.contains("column rare"), "{shown}");
}

/// A query that visits the whole body for each value rejects its record, and other records are
/// processed meanwhile.
#[test]
fn a_costly_query_stops_at_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let costly = "slow=path,default=x:$..[?count($..*)>1]";
    for (source, column) in [("slow", costly), ("fast", "id=path:$.id")] {
        let table = format!("in.demo.{source}");
        server.ok(&[
            "source", "create", source, "--sink", &table, "--column", column,
        ]);
    }
    let (slow, fast) = (server.path("slow"), server.path("fast"));
    let body = format!("[{}]", vec!["[1,2,3]"; 60_000].join(","));
    let sender = std::thread::spawn({
        let source = server.source;
        move || {
            let headers = [("Content-Type", "application/json")];
            HttpClient::new(source)
                .send("POST", &slow, &headers, body.as_bytes())
                .unwrap()
        }
    });
    let mut sent = 0;
    wait_for("the costly record", || {
        server.post(&fast, r#"{"id":1}"#);
        sent += 1;
        sender.is_finished().then_some(())
    });
    let answer = sender.join().unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 422, "{text}");
    assert!(
        text.contains("pathLimit") && text.contains("takes more than"),
        "{text}"
    );
    server.settled("fast", "fast", sent);
}
