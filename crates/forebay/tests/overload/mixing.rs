//! Concurrent requests: each row has the data of its own request.

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::{request_with, runtime, send};
use super::server::{Launch, wait_for};
use super::{SOURCES, add_source, balance, exclusive};

const CONNECTIONS: u64 = 1024;
/// Per connection.
const RECORDS: u64 = 20;

#[test]
fn rows_of_a_thousand_connections_are_never_mixed() {
    let _guard = exclusive();
    let root = tempfile::tempdir().unwrap();
    let server = Launch::new(root.path()).start();
    let path = add_source(&server, "mixing");
    let sink = json!({"type": "table", "name": "all", "sinkId": "all", "table": {"type": "keboola",
        "tableId": "in.mixing.all", "mapping": {"columns": [
            {"type": "path", "name": "a", "path": "a", "rawString": true},
            {"type": "path", "name": "b", "path": "deep.b[0]", "rawString": true},
            {"type": "body", "name": "body"}]}}});
    server.task("POST", &format!("{SOURCES}/mixing/sinks"), &sink);
    let source = server.source;
    runtime().block_on(async {
        let mut clients = JoinSet::new();
        for client in 0..CONNECTIONS {
            let path = path.clone();
            clients.spawn(async move {
                let mut stream = TcpStream::connect(source).await.unwrap();
                for record in 0..RECORDS {
                    let id = format!("{client}-{record}");
                    let body = json!({"a": id, "deep": {"b": [id]}}).to_string();
                    let request = request_with(source, &path, &body);
                    let answer = send(&mut stream, &request).await.unwrap();
                    assert_eq!(answer.status, 200);
                }
            });
        }
        clients.join_all().await;
    });
    wait_for("all rows", || {
        let balance = balance(&server, "mixing", "all");
        (balance["imported"] == CONNECTIONS * RECORDS && balance["inFlight"] == 0).then_some(())
    });
    let file = root.path().join("data/tables.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(file, flags).unwrap();
    let figure = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let table = "\"in.mixing.all\"";
    assert_eq!(
        figure(&format!("SELECT count(DISTINCT a) FROM {table}")),
        i64::try_from(CONNECTIONS * RECORDS).unwrap()
    );
    let mixed = format!(
        "SELECT count(*) FROM {table} WHERE a != b OR body != '{{\"a\":\"' || a || '\",\"deep\":{{\"b\":[\"' || a || '\"]}}}}'"
    );
    assert_eq!(figure(&mixed), 0);
}
