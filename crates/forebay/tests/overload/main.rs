//! Overload and misbehaving clients: memory stays within its bounds, rejections have a `Retry-After`,
//! and well-behaved clients are hardly affected.
//!
//! `FOREBAY_OVERLOAD_SECONDS` (default 4) sets the duration of the overload.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::print_stderr,
    reason = "what was measured is part of the test's output"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process waits for it with the real clock; each wait is for a condition"
)]

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

/// These tests run one at a time.
fn exclusive() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a sink: name, table, backend in the API.
fn add_sink(server: &Server, source: &str, sink: &str, kind: &str) {
    let body = json!({"type": "table", "name": sink, "sinkId": sink, "table": {"type": kind,
        "tableId": format!("in.{source}.{sink}"), "mapping": {"columns": [
            {"type": "path", "name": "n", "path": "n", "defaultValue": ""},
            {"type": "uuid", "name": "id"}]}}});
    server.task("POST", &format!("{SOURCES}/{source}/sinks"), &body);
}

/// Creates a source; returns its path.
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

/// A value of `/proc/<pid>/status`, in bytes.
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
/// Size of each record.
const BODY: usize = 16 << 10;
/// Configured limit of requests and rows not yet on disk.
const IN_FLIGHT: u64 = MB;
/// Configured limit of connections.
const CONNECTIONS: u64 = 1000;
/// Memory of a connection: its read buffer, and as much for the rest.
const CONNECTION: u64 = 16 << 10;
/// Memory beyond the configured bounds: allocator, caches of SQLite.
const SLACK: u64 = 48 * MB;

/// A slow disk (two syncs per second) and small limits keep the sustainable rate so low that a test can
/// exceed it twenty times.
#[test]
fn twenty_times_the_sustainable_rate_is_rejected_in_bounded_memory() {
    let _guard = exclusive();
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
    let sustainable = load::closed_loop(server.source, &path, BODY, Duration::from_secs(3));
    assert!(sustainable > 1.0, "{sustainable}/s");
    let time = Duration::from_secs(4);
    let usual = open_loop(server.source, &path, BODY, sustainable / 2.0, time);
    let before = memory(&server, "VmRSS:");
    let seconds = std::env::var("FOREBAY_OVERLOAD_SECONDS");
    let seconds = seconds.map_or(4, |s| s.parse().expect("FOREBAY_OVERLOAD_SECONDS"));
    let time = Duration::from_secs(seconds);
    let flood = open_loop(server.source, &path, BODY, sustainable * 20.0, time);
    let peak = memory(&server, "VmHWM:");
    let bound = before + 2 * IN_FLIGHT + CONNECTIONS * CONNECTION + SLACK;
    eprintln!(
        "overload: {sustainable:.0}/s sustainable; at half of it {usual}; at twenty times {flood}; {} MB before, {} MB at most",
        before / MB,
        peak / MB
    );
    assert!(peak <= bound, "{peak} bytes at most, {bound} allowed");
    check_answers(&usual, &flood, sustainable, time);
    // Every acknowledged record is in the table.
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
        flood.rejected > flood.accepted(),
        "most of it is rejected: {flood}"
    );
    assert_eq!(flood.without_retry_after, 0, "a rejection has Retry-After");
    #[allow(clippy::cast_precision_loss, reason = "counts of a test")]
    let rate = flood.accepted() as f64 / time.as_secs_f64();
    // The clients use half of the machine: this is no benchmark.
    assert!(
        rate >= sustainable / 3.0,
        "{rate}/s accepted, {sustainable}/s before"
    );
    // Two syncs, and the time of a busy machine.
    let allowed = usual.p99() * 3 + Duration::from_secs(1);
    assert!(
        flood.p99() <= allowed,
        "{:?}, allowed {allowed:?}",
        flood.p99()
    );
}
