//! A sink with an unreachable table next to sinks that work.

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use super::server::{Launch, Server, wait_for};
use super::{add_sink, add_source, balance, exclusive};

/// Most lag behind acknowledgements: rotation, upload and import at their defaults take about 3 s, and
/// the machine is busy.
const LAG: Duration = Duration::from_secs(12);

/// Posts for a while; returns how many records were acknowledged, and the longest time until all of
/// them were in the tables of these sinks.
fn post_and_watch(server: &Server, path: &str, source: &str, sinks: &[&str]) -> (u64, Duration) {
    let mut client = HttpClient::new(server.source);
    let headers = [("Content-Type", "application/json")];
    // Acknowledged records by time.
    let log: Mutex<Vec<(Instant, u64)>> = Mutex::default();
    let (mut acknowledged, mut lag) = (0_u64, Duration::ZERO);
    let mut look = |log: &mut Vec<(Instant, u64)>| {
        let imported = sinks
            .iter()
            .map(|s| balance(server, source, s)["imported"].as_u64().unwrap());
        let imported = imported.min().unwrap();
        log.retain(|(_, count)| *count > imported);
        if let Some((at, _)) = log.first() {
            lag = lag.max(at.elapsed());
        }
        log.is_empty()
    };
    let end = Instant::now() + Duration::from_secs(6);
    let mut next_look = Instant::now();
    while Instant::now() < end {
        let body = format!("{{\"n\": {acknowledged}}}");
        let answer = client
            .send("POST", path, &headers, body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 200);
        acknowledged += 1;
        let mut log = log.lock().unwrap();
        log.push((Instant::now(), acknowledged));
        if Instant::now() >= next_look {
            look(&mut log);
            next_look = Instant::now() + Duration::from_millis(200);
        }
    }
    wait_for("the sinks that work", || {
        look(&mut log.lock().unwrap()).then_some(())
    });
    (acknowledged, lag)
}

#[test]
fn an_unreachable_table_does_not_affect_other_sinks() {
    let _guard = exclusive();
    let root = tempfile::tempdir().unwrap();
    // Bound but never accepting: no server listens here during the run, and no other process can use
    // the port.
    let down = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = down.local_addr().unwrap();
    drop(down);
    let server = Launch::new(root.path())
        .set(
            "table.postgres.url",
            format_args!("postgres://nobody@{address}/none?sslmode=disable"),
        )
        .start();
    // The same load without and with the broken sink.
    let alone = add_source(&server, "alone");
    add_sink(&server, "alone", "works", "keboola");
    let path = add_source(&server, "shared");
    add_sink(&server, "shared", "works", "keboola");
    add_sink(&server, "shared", "down", "postgres");
    let (count, lag) = post_and_watch(&server, &alone, "alone", &["works"]);
    let (shared, shared_lag) = post_and_watch(&server, &path, "shared", &["works"]);
    eprintln!(
        "overload: {count} records alone, {lag:?} behind; {shared} beside a sink that is down, {shared_lag:?} behind"
    );
    assert!(
        shared_lag < LAG.max(lag * 3),
        "{shared_lag:?}, alone {lag:?}"
    );
    let works = balance(&server, "shared", "works");
    let of_works: Vec<&Value> = ["accepted", "imported", "inFlight"]
        .map(|p| &works[p])
        .to_vec();
    assert_eq!(
        of_works,
        [&json!(shared), &json!(shared), &json!(0)],
        "{works}"
    );
    // The broken sink retains everything until its table is available.
    let down = wait_for("the report of the broken sink", || {
        let balance = balance(&server, "shared", "down");
        (balance["accepted"] == shared).then_some(balance)
    });
    assert_eq!(
        (&down["imported"], &down["inFlight"]),
        (&json!(0), &json!(shared)),
        "{down}"
    );
    assert_eq!(down["holds"], true, "{down}");
}
