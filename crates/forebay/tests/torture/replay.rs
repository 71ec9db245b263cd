//! A replay of edited dead letters, with kills between the steps: each record is in the table once,
//! although the client repeats its request.

use forebay_model::failpoint::FailPoint;
use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use super::client::check_of;
use super::failpoints::{died, each_of};
use super::numbered::{define, each_once, launch, path_of, settled, switch};
use super::server::Server;

const SINK: &str = "rows";
const ROWS: u64 = 20;

/// Posts records without the column `pad`, which become dead letters.
fn post_incomplete(server: &Server, path: &str) {
    let headers = [("Content-Type", "application/json")];
    let mut client = HttpClient::new(server.source);
    for number in 0..ROWS {
        let id = number.to_string();
        let body = json!({"id": id, "sum": check_of(&id)}).to_string();
        let answer = client.send("POST", path, &headers, body.as_bytes());
        assert_eq!(answer.unwrap().status, 200, "{}", server.log());
    }
}

/// A replay of all dead letters with the missing value.
fn edits(server: &Server) -> Value {
    let path = format!("{}/dead-letters", path_of(SINK));
    let page = server.call("GET", &path, &Value::Null);
    let edit = |letter: &Value| {
        let id = letter["deadLetterId"].as_str().unwrap();
        let shown = server.call("GET", &format!("{path}/{id}"), &Value::Null);
        let mut record: Value = serde_json::from_str(shown["body"].as_str().unwrap()).unwrap();
        record["pad"] = json!("x");
        json!({"deadLetterId": id, "body": record.to_string()})
    };
    let letters = page["deadLetters"].as_array().unwrap();
    assert_eq!(letters.len() as u64, ROWS);
    json!({ "edits": letters.iter().map(edit).collect::<Vec<_>>() })
}

fn walk(point: FailPoint) {
    let run = point.name();
    let root = tempfile::tempdir().unwrap();
    let action = "storage.level.local.mapping.rejected.action";
    let mut server = launch(root.path()).set(action, "dead_letter").start();
    let path = define(&server, &[SINK]);
    post_incomplete(&server, &path);
    settled(&server, SINK, [0, ROWS, 0], run);
    server.launch.env = vec![("FAILPOINT".to_owned(), run.to_owned())];
    server.kill_and_restart();
    let replay = format!("{}/dead-letters/replay", path_of(SINK));
    let edits = edits(&server);
    assert!(
        server
            .request("POST", &replay, edits.to_string().as_bytes())
            .is_err(),
        "{run}: it responded"
    );
    died(&mut server, point);
    server.launch.env.clear();
    server.restart();
    // The client does not know the outcome, and repeats its request until there is a response.
    let done = server.call("POST", &replay, &edits);
    let skipped = done["skippedIds"].as_array().map_or(0, Vec::len) as u64;
    let replayed = done["replayed"].as_u64().unwrap();
    let expected = match point {
        FailPoint::ReplayAppended => (ROWS, 0),
        _ => (0, ROWS),
    };
    assert_eq!((replayed, skipped), expected, "{run}: {done}");
    switch(&server, "disable");
    each_once(&server, SINK, 0..ROWS, run);
}

#[test]
fn edited_dead_letters_are_in_the_table_once_wherever_the_process_dies() {
    each_of(FailPoint::REPLAY, |point| walk(*point));
}
