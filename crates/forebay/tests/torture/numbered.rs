//! Numbered records, each of which must be in one place at the end, once.

use std::ops::Range;
use std::path::Path;

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use super::client::check_of;
use super::server::{Launch, Server, wait_for};
use super::tables::Tables;
use super::world::{self, balance};

/// A server with short intervals that closes a file only when a test requests it.
pub(super) fn launch(root: &Path) -> Launch {
    Launch::new(root)
        .set("coordinator.checkInterval", "100ms")
        .set("coordinator.retryInitial", "200ms")
        .set("coordinator.retryMax", "1s")
        .set("upload.checkInterval", "100ms")
        .set("import.checkInterval", "100ms")
        .set("garbageCollection.interval", "1s")
        .set("garbageCollection.ledgerInterval", "1s")
        .set("storage.level.staging.upload.trigger.interval", "30m")
        .set("storage.level.target.import.trigger.interval", "24h")
}

pub(super) fn table(sink: &str) -> String {
    format!("in.torture.{sink}")
}

pub(super) fn path_of(sink: &str) -> String {
    format!("{}/torture/sinks/{sink}", world::SOURCES)
}

/// Creates a source with these sinks; returns its path.
pub(super) fn define(server: &Server, sinks: &[&str]) -> String {
    let source = json!({"type": "http", "name": "Torture", "sourceId": "torture"});
    server.task("POST", world::SOURCES, &source);
    let column =
        |name: &str| json!({"type": "path", "name": name, "path": name, "rawString": true});
    let columns = [column("id"), column("sum"), column("pad")];
    for sink in sinks {
        let body = json!({"type": "table", "name": sink, "sinkId": sink, "table": {
            "type": "keboola", "tableId": table(sink), "mapping": {"columns": columns}}});
        server.task("POST", &format!("{}/torture/sinks", world::SOURCES), &body);
    }
    world::path(server)
}

/// Posts each record in a separate request; all must be acknowledged.
pub(super) fn post(server: &Server, path: &str, numbers: Range<u64>, pad: usize) {
    let headers = [("Content-Type", "application/json")];
    let mut client = HttpClient::new(server.source);
    for number in numbers {
        let id = number.to_string();
        let body = json!({"id": id, "sum": check_of(&id), "pad": "x".repeat(pad)}).to_string();
        let answer = client.send("POST", path, &headers, body.as_bytes());
        assert_eq!(answer.unwrap().status, 200, "{}", server.log());
    }
}

/// `enable` or `disable`; the latter closes what is open, so that everything is imported.
pub(super) fn switch(server: &Server, to: &str) {
    let path = format!("{}/torture/{to}", world::SOURCES);
    server.task("PUT", &path, &Value::Null);
}

/// The reconciliation of a sink, checked.
fn parts(server: &Server, sink: &str, run: &str) -> Value {
    let now = balance(server, sink);
    let parts = ["imported", "dead", "expired", "lost", "inFlight"];
    let sum: u64 = parts.iter().filter_map(|part| now[part].as_u64()).sum();
    assert_eq!(
        (&now["accepted"], &now["holds"]),
        (&json!(sum), &json!(true)),
        "{run}: {now}"
    );
    now
}

/// Waits until this many of the sink's accepted records are imported, dead and lost. The counts add up
/// at any time.
pub(super) fn settled(server: &Server, sink: &str, expected: [u64; 3], run: &str) {
    wait_for(&format!("{run}: {expected:?} of {sink}"), || {
        let now = parts(server, sink, run);
        let found = ["imported", "dead", "lost"].map(|part| now[part].as_u64().unwrap());
        let all: u64 = expected.iter().sum();
        (found == expected && now["accepted"] == json!(all)).then_some(())
    });
}

/// Waits until exactly these records are in the sink's table, each once.
pub(super) fn each_once(server: &Server, sink: &str, numbers: Range<u64>, run: &str) {
    settled(server, sink, [numbers.end - numbers.start, 0, 0], run);
    let expected: Vec<u64> = numbers.collect();
    assert_eq!(rows(&server.launch.data, sink), expected, "{run}: {sink}");
}

/// The numbers of all rows of the sink's table, sorted.
pub(super) fn rows(data: &Path, sink: &str) -> Vec<u64> {
    let mut found = Vec::new();
    Tables::Sqlite(data.join("tables.db")).each(&table(sink), |id, sum| {
        assert_eq!(sum, check_of(id), "row {id} has data of another record");
        found.push(id.parse().unwrap());
    });
    found.sort_unstable();
    found
}

/// Changes the database of tables without Forebay.
pub(super) fn sql(data: &Path, sql: &str) {
    let db = rusqlite::Connection::open(data.join("tables.db")).unwrap();
    db.busy_timeout(forebay_test_support::WAIT_MAX).unwrap();
    db.execute_batch(sql).unwrap();
}
