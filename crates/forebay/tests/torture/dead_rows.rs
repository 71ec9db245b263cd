//! Rows of a file that its table rejects become dead letters, with kills between the steps: each row is
//! one dead letter, and once in the table after a replay.

use forebay_model::failpoint::FailPoint;
use serde_json::{Value, json};

use super::failpoints::{died, each_of};
use super::numbered::{define, each_once, launch, path_of, post, settled, sql, switch, table};
use super::server::{Server, wait_for};

const SINK: &str = "rows";
/// Rows in the table, and all rows.
const TAKEN: u64 = 1;
const ROWS: u64 = 31;
/// With this size the rejected rows need several blocks, of which the last one is not full.
const PAD: usize = 100_000;
const BLOCKS: usize = 3;

/// Opening time of the file that can't be imported.
fn parked(server: &Server) -> String {
    let path = format!("{}/statistics/files?failedFiles=true", path_of(SINK));
    wait_for("a parked file", || {
        let files = server.call("GET", &path, &Value::Null);
        let files = files["files"].as_array()?;
        let file = files.iter().find(|f| f["parked"] == json!(true))?;
        Some(file["openedAt"].as_str()?.to_owned())
    })
}

/// The record numbers of all dead letters, sorted.
fn dead_letters(server: &Server) -> Vec<u64> {
    let path = format!("{}/dead-letters", path_of(SINK));
    let page = server.call("GET", &path, &Value::Null);
    let mut found = Vec::new();
    for dead_letter in page["deadLetters"].as_array().unwrap() {
        let path = format!("{path}/{}", dead_letter["deadLetterId"].as_str().unwrap());
        let dead_letter = server.call("GET", &path, &Value::Null);
        let record: Value = serde_json::from_str(dead_letter["body"].as_str().unwrap()).unwrap();
        assert_eq!(record["pad"].as_str().unwrap().len(), PAD);
        let why = dead_letter["message"].as_str().unwrap();
        assert!(why.contains("constraint"), "{why}");
        found.push(record["id"].as_str().unwrap().parse().unwrap());
    }
    found.sort_unstable();
    found
}

fn walk(point: FailPoint) {
    let run = point.name();
    let root = tempfile::tempdir().unwrap();
    let mut server = launch(root.path()).start();
    let data = server.launch.data.clone();
    let path = define(&server, &[SINK]);
    // The table belongs to the project, then it is changed.
    post(&server, &path, 0..TAKEN, PAD);
    switch(&server, "disable");
    each_once(&server, SINK, 0..TAKEN, run);
    switch(&server, "enable");
    let table = table(SINK);
    let refusing = "(id TEXT, sum TEXT, pad TEXT CHECK (id <> '17'))";
    let change =
        format!("ALTER TABLE \"{table}\" RENAME TO kept; CREATE TABLE \"{table}\" {refusing}");
    sql(&data, &change);
    post(&server, &path, TAKEN..ROWS, PAD);
    switch(&server, "disable");
    let file = parked(&server);
    switch(&server, "enable");
    server.launch.env = vec![("FAILPOINT".to_owned(), run.to_owned())];
    server.kill_and_restart();
    // It may die before it responds.
    let give_up = format!("{}/files/{file}/dead-letter", path_of(SINK));
    if let Ok(answer) = server.send("POST", &give_up) {
        assert_eq!(answer.status, 200, "{run}: {}", server.log());
    }
    // Each process killed at a block has written one more block.
    let is_of_block = matches!(
        point,
        FailPoint::DeadRowsAppended | FailPoint::DeadRowsNoted
    );
    died(&mut server, point);
    for _ in 1..if is_of_block { BLOCKS } else { 1 } {
        server.restart_unready();
        died(&mut server, point);
    }
    if !is_of_block {
        server.launch.env.clear();
    }
    server.restart();
    settled(&server, SINK, [TAKEN, ROWS - TAKEN, 0], run);
    let rejected: Vec<u64> = (TAKEN..ROWS).collect();
    assert_eq!(dead_letters(&server), rejected, "{run}");
    let mend = format!("DROP TABLE \"{table}\"; ALTER TABLE kept RENAME TO \"{table}\"");
    sql(&data, &mend);
    let replay = format!("{}/dead-letters/replay", path_of(SINK));
    let mut replayed = || {
        let done = server.call("POST", &replay, &json!({}));
        let is_all = done["rejected"] == json!([]) && done["moreAfterId"].is_null();
        assert!(is_all, "{run}: {done}");
        server.launch.env.clear();
        server.kill_and_restart();
        done["replayed"].as_u64().unwrap()
    };
    assert_eq!((replayed(), replayed()), (ROWS - TAKEN, 0), "{run}");
    assert_eq!(dead_letters(&server), Vec::<u64>::new(), "{run}");
    switch(&server, "disable");
    each_once(&server, SINK, 0..ROWS, run);
}

#[test]
fn each_row_that_a_table_rejects_is_one_dead_letter_wherever_the_process_dies() {
    each_of(FailPoint::DEAD_ROWS, |point| walk(*point));
}
