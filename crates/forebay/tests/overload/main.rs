//! More than can be taken, and clients that behave badly: memory stays within its bounds, what is
//! refused is told when to come again, and those who behave notice little.
//!
//! `FOREBAY_OVERLOAD_SECONDS` (default 4) makes the overload last longer.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::print_stderr,
    reason = "what was measured is part of the test's output"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process waits for it with the real clock; each wait is for a condition"
)]

#[path = "../torture/http.rs"]
mod http;
mod load;
mod misuse;
mod mixing;
#[allow(dead_code, reason = "the torture test uses the rest of it")]
#[path = "../torture/server.rs"]
mod server;
mod sinks;
mod worst;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use load::{Answers, open_loop};
use serde_json::{Value, json};
use server::{Launch, Server};

const SOURCES: &str = "/v1/branches/default/sources";

/// Each of these tests wants the machine for itself.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sink of the source: name, table, backend in the API.
fn add_sink(server: &Server, source: &str, sink: &str, kind: &str) {
    let body = json!({"type": "table", "name": sink, "sinkId": sink, "table": {"type": kind,
        "tableId": format!("in.{source}.{sink}"), "mapping": {"columns": [
            {"type": "path", "name": "n", "path": "n", "defaultValue": ""},
            {"type": "uuid", "name": "id"}]}}});
    server.task("POST", &format!("{SOURCES}/{source}/sinks"), &body);
}

/// Makes a source; returns the path to post to.
fn add_source(server: &Server, source: &str) -> String {
    let body = json!({"type": "http", "name": source, "sourceId": source});
    server.task("POST", SOURCES, &body);
    let made = server.call("GET", &format!("{SOURCES}/{source}"), &Value::Null);
    let url = made["http"]["url"].as_str().unwrap();
    let (_, path) = url.split_once("/stream/").unwrap();
    format!("/stream/{path}")
}

fn balance(server: &Server, source: &str, sink: &str) -> Value {
    let path = format!("{SOURCES}/{source}/sinks/{sink}/statistics/reconciliation");
    server.call("GET", &path, &Value::Null)
}

/// A figure of `/proc/<pid>/status`, in bytes.
fn memory(server: &Server, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(figure)).unwrap();
    let kilobytes = line.trim_matches(|c: char| !c.is_ascii_digit());
    kilobytes.parse::<u64>().unwrap() << 10
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = String::from_utf8(server.get("/metrics").unwrap().body).unwrap();
    let mut lines = text.lines();
    let line = lines.find(|l| l.split(['{', ' ']).next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

const MB: u64 = 1 << 20;
/// Of each record.
const BODY: usize = 16 << 10;
/// What the configuration allows for requests and rows that are not on disk yet.
const IN_FLIGHT: u64 = MB;
/// Connections that may be open.
const CONNECTIONS: u64 = 1000;
/// What one of them may take: its buffer for reading, and as much for the rest.
const CONNECTION: u64 = 16 << 10;
/// What a process may take besides what the configuration bounds: allocator, caches of SQLite.
const SLACK: u64 = 48 * MB;

/// The disk is slow (two syncs a second) and little may be in flight, so that the sustainable rate is
/// one that a test can exceed twenty times.
#[test]
fn twenty_times_the_sustainable_rate_is_refused_politely_in_bounded_memory() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    let server = Launch::new(root.path())
        .set("log.syncInterval", "500ms")
        .set("log.queueSize", "1MB")
        .set("source.http.maxBytesInFlight", "1MB")
        .set("source.http.maxRequestBodySize", "64KB")
        .set("source.http.maxInflatedBodySize", "64KB")
        .set("source.http.readBufferSize", "8KB")
        .set("source.http.maxConnections", CONNECTIONS)
        .start();
    let path = add_source(&server, "overload");
    // Rows as large as the bodies.
    let sink = json!({"type": "table", "name": "all", "sinkId": "all", "table": {"type": "keboola",
        "tableId": "in.overload.all", "mapping": {"columns": [{"type": "body", "name": "body"}]}}});
    server.task("POST", &format!("{SOURCES}/overload/sinks"), &sink);
    let sustainable = load::closed_loop(server.source(), &path, BODY, Duration::from_secs(3));
    assert!(sustainable > 1.0, "{sustainable}/s");
    let time = Duration::from_secs(4);
    let usual = open_loop(server.source(), &path, BODY, sustainable / 2.0, time);
    let before = memory(&server, "VmRSS:");
    let seconds = std::env::var("FOREBAY_OVERLOAD_SECONDS");
    let seconds = seconds.map_or(4, |s| s.parse().expect("FOREBAY_OVERLOAD_SECONDS"));
    let time = Duration::from_secs(seconds);
    let flood = open_loop(server.source(), &path, BODY, sustainable * 20.0, time);
    let peak = memory(&server, "VmHWM:");
    let bound = before + 2 * IN_FLIGHT + CONNECTIONS * CONNECTION + SLACK;
    eprintln!(
        "overload: {sustainable:.0}/s sustainable; at half of it {usual}; at twenty times {flood}; {} MB before, {} MB at most",
        before / MB,
        peak / MB
    );
    assert!(peak <= bound, "{peak} bytes at most, {bound} allowed");
    check_answers(&usual, &flood, sustainable, time);
    // Every promise is kept.
    let acknowledged = server::wait_for("what was accepted to be imported", || {
        let balance = balance(&server, "overload", "all");
        let accepted = balance["accepted"].as_u64().unwrap();
        let enough = accepted >= usual.accepted() + flood.accepted();
        (enough && balance["inFlight"] == 0).then_some(balance)
    });
    assert_eq!(acknowledged["holds"], true, "{acknowledged}");
}

fn check_answers(usual: &Answers, flood: &Answers, sustainable: f64, time: Duration) {
    assert_eq!(
        usual.other,
        [] as [u16; 0],
        "at half of the sustainable rate"
    );
    assert_eq!(
        flood.other,
        [] as [u16; 0],
        "only 200, 429 and 503 are expected"
    );
    assert!(
        flood.refused > flood.accepted(),
        "most of it is refused: {flood}"
    );
    assert_eq!(
        flood.without_retry_after, 0,
        "a refusal says when to come again"
    );
    #[allow(clippy::cast_precision_loss, reason = "counts of a test")]
    let rate = flood.accepted() as f64 / time.as_secs_f64();
    // The clients take half of the machine: this is no benchmark.
    assert!(
        rate >= sustainable / 3.0,
        "{rate}/s accepted, {sustainable}/s before"
    );
    // Two syncs, and what it takes on a busy machine.
    let allowed = usual.p99() * 3 + Duration::from_secs(1);
    assert!(
        flood.p99() <= allowed,
        "{:?}, allowed {allowed:?}",
        flood.p99()
    );
}
