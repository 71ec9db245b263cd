//! Worst-case inputs: the least data for the most memory and CPU time.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay_test_support::HttpClient;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::{runtime, send};
use super::server::{Launch, Server};
use super::{MB, SOURCES, add_sink, add_source, exclusive, memory, metric};

/// Duration limit of each case.
const TIME: Duration = Duration::from_secs(20);
/// `source.http.maxBytesInFlight`, by default.
const IN_FLIGHT: u64 = 64 * MB;
/// `templates.inFlight`, by default.
const TEMPLATES: u64 = 64 * MB;
/// `source.http.readBufferSize`, by default.
const READ_BUFFER: u64 = 64 << 10;
/// Memory beyond the configured bounds, from `docs/reference/limits.md`.
const REST: u64 = 160 * MB;

/// Memory limit of `docs/reference/limits.md` for that many connections, with a largest inflated body
/// of `body` bytes.
fn documented(connections: u64, body: u64) -> u64 {
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    let large = (cores / 2).max(1);
    3 * IN_FLIGHT + large * 9 * body + TEMPLATES + connections * READ_BUFFER + REST
}

fn batch_request(server: &Server, path: &str, kind: &str, body: &[u8]) -> Arc<[u8]> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\n{kind}Content-Length: {}\r\n\r\n",
        server.source,
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

/// Clients that send, wait for the response and repeat. Returns counts by status.
fn flood(server: &Server, request: &Arc<[u8]>, clients: usize, rounds: usize) -> Vec<(u16, usize)> {
    let source = server.source;
    let begun = Instant::now();
    let statuses = runtime().block_on(async {
        let mut all = JoinSet::new();
        for _ in 0..clients {
            let request = Arc::clone(request);
            all.spawn(async move {
                let mut statuses = Vec::new();
                let mut stream = TcpStream::connect(source).await.unwrap();
                for _ in 0..rounds {
                    if begun.elapsed() > TIME / 2 {
                        break;
                    }
                    match send(&mut stream, &request).await {
                        Ok(answer) => {
                            statuses.push(answer.status);
                            if answer.closes {
                                stream = TcpStream::connect(source).await.unwrap();
                            }
                        }
                        // Rejected during the send.
                        Err(_) => stream = TcpStream::connect(source).await.unwrap(),
                    }
                }
                statuses
            });
        }
        all.join_all().await.concat()
    });
    let mut counts: Vec<(u16, usize)> = Vec::new();
    for status in statuses {
        match counts.iter_mut().find(|(s, _)| *s == status) {
            Some((_, count)) => *count += 1,
            None => counts.push((status, 1)),
        }
    }
    counts.sort_unstable();
    counts
}

fn check(what: &str, server: &Server, counts: &[(u16, usize)], bound: u64) {
    let (peak, now) = (memory(server, "VmHWM:"), memory(server, "VmRSS:"));
    eprintln!(
        "worst: {what}: {counts:?}; {} MB at most, {} MB now, {} MB documented",
        peak / MB,
        now / MB,
        bound / MB
    );
    assert!(
        peak <= bound,
        "{what}: {peak} bytes at most, {bound} documented"
    );
    let polite = |s: &u16| matches!(s, 200 | 400 | 413 | 422 | 429 | 503);
    assert!(counts.iter().all(|(s, _)| polite(s)), "{what}: {counts:?}");
    assert!(
        counts.iter().any(|(s, _)| *s == 200),
        "{what}: no record was accepted"
    );
    super::server::wait_for("all memory to be released", || {
        (metric(server, "forebay_in_flight_bytes") == 0.0).then_some(())
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

#[test]
fn batches_of_the_smallest_records_stay_within_the_documented_memory() {
    const CLIENTS: usize = 300;
    let _guard = exclusive();
    let root = tempfile::tempdir().unwrap();
    let server = Launch::new(root.path()).start();
    let path = add_source(&server, "worst");
    add_sink(&server, "worst", "all", "keboola");
    let request = batch_request(&server, &path, NDJSON, &b"{}\n".repeat(10_000));
    let counts = flood(&server, &request, CLIENTS, 2);
    check(
        "10,000 of {}",
        &server,
        &counts,
        documented(CLIENTS as u64, 8 * MB),
    );
}

#[test]
fn batches_for_templates_stay_within_the_documented_memory() {
    const CLIENTS: usize = 1000;
    let _guard = exclusive();
    let root = tempfile::tempdir().unwrap();
    // A batch that has to wait longer is rejected.
    let server = Launch::new(root.path())
        .set("source.http.requestTimeout", "8s")
        .start();
    let path = add_source(&server, "worst");
    let template = json!({"language": "jsonnet", "content": "Body('n', 1)"});
    let sink = json!({"type": "table", "name": "all", "sinkId": "all", "table": {"type": "keboola",
        "tableId": "in.worst.all", "mapping": {"columns": [
            {"type": "template", "name": "t", "template": template}]}}});
    server.task("POST", &format!("{SOURCES}/worst/sinks"), &sink);
    let request = batch_request(&server, &path, NDJSON, &b"{}\n".repeat(10_000));
    let counts = flood(&server, &request, CLIENTS, 1);
    check(
        "10,000 of {} with a template",
        &server,
        &counts,
        documented(CLIENTS as u64, 8 * MB),
    );
}

#[test]
fn batches_of_a_million_records_stay_within_the_documented_memory() {
    let _guard = exclusive();
    let root = tempfile::tempdir().unwrap();
    let server = Launch::new(root.path())
        .set("source.http.maxRecordsPerBatch", 1_000_000)
        .set("source.http.maxRequestBodySize", "4MB")
        // Long enough for each batch: one that times out while the disk works gets an unknown outcome.
        .set("source.http.requestTimeout", "60s")
        .start();
    let path = add_source(&server, "worst");
    add_sink(&server, "worst", "all", "keboola");
    let lines = batch_request(&server, &path, NDJSON, &b"1\n".repeat(1_000_000));
    let empty = batch_request(&server, &path, NDJSON, &b"\n".repeat(4_000_000));
    let broken = batch_request(&server, &path, NDJSON, &b"{\n".repeat(1_000_000));
    let mut counts = flood(&server, &empty, 4, 1);
    for request in [lines, broken] {
        counts.extend(flood(&server, &request, 4, 1));
    }
    check(
        "batches of a million",
        &server,
        &counts,
        documented(8, 8 * MB),
    );
}

#[test]
fn inflating_bodies_stay_within_the_documented_memory_and_do_not_delay_other_sources() {
    const CLIENTS: usize = 48;
    let _guard = exclusive();
    let root = tempfile::tempdir().unwrap();
    // Long enough for each body, also on a busy machine.
    let server = Launch::new(root.path())
        .set("source.http.requestTimeout", "60s")
        .start();
    let (path, quiet) = (add_source(&server, "worst"), add_source(&server, "quiet"));
    add_sink(&server, "worst", "all", "keboola");
    add_sink(&server, "quiet", "all", "keboola");
    let mut ones = b"[1".to_vec();
    while ones.len() < 7_999_990 {
        ones.extend_from_slice(b",1");
    }
    ones.push(b']');
    let kind = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let request = batch_request(&server, &path, kind, &gzip(&ones));
    let usual = answer_times(&server, &quiet, &AtomicBool::new(true));
    let stop = AtomicBool::new(false);
    let (counts, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| answer_times(&server, &quiet, &stop));
        let counts = flood(&server, &request, CLIENTS, 4);
        stop.store(true, Ordering::Relaxed);
        (counts, beside.join().unwrap())
    });
    let usual = usual.max(answer_times(&server, &quiet, &AtomicBool::new(true)));
    eprintln!(
        "worst: p99 of a quiet source {usual:?} alone, {beside:?} beside bodies that inflate"
    );
    check(
        "bodies that inflate",
        &server,
        &counts,
        documented(CLIENTS as u64, 8 * MB),
    );
    // It was 3 to 7 seconds. The goal is twice as long; here the machine is busy, and the build slow.
    let most = Duration::from_millis(400).max(usual * 3);
    assert!(beside < most, "{beside:?}, alone {usual:?}");
    let forms: String = (0..300_000).map(|n| format!("{n:x}&")).collect();
    let kind = "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n";
    let request = batch_request(&server, &path, kind, &gzip(forms.as_bytes()));
    let counts = flood(&server, &request, 8, 1);
    let rejected: Vec<u16> = counts.iter().map(|(s, _)| *s).collect();
    assert!(
        rejected.iter().all(|s| [400, 413, 429].contains(s)),
        "{counts:?}"
    );
    assert!(memory(&server, "VmHWM:") <= documented(CLIENTS as u64, 8 * MB));
}

/// Posts small records until `stop`, at least a hundred; returns their p99.
fn answer_times(server: &Server, path: &str, stop: &AtomicBool) -> Duration {
    let mut client = HttpClient::new(server.source);
    let headers = [("Content-Type", "application/json")];
    let mut times = Vec::new();
    while times.len() < 100 || !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = client.send("POST", path, &headers, b"{\"n\": 1}").unwrap();
        assert_eq!(answer.status, 200);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}
