//! Exactly once, proved on the real binary: several clients post numbered records, singles and
//! batches, into two sinks, while the process is killed with SIGKILL at random moments and started
//! again. At the end each acknowledged record is in each table once, nothing is there twice, no row
//! carries another record's data, and the balance that Forebay shows equals the count.
//!
//! `FOREBAY_TORTURE_SECONDS` (default 20) and `FOREBAY_TORTURE_SEED` make longer runs
//! (`just torture`); a failure prints its seed.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process waits for it with the real clock; each wait is for a condition"
)]

#[allow(dead_code, reason = "the overload test uses the rest of it")]
#[path = "torture/http.rs"]
mod http;
#[path = "torture/server.rs"]
mod server;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use http::Client;
use server::Server;

const CLIENTS: u64 = 6;
const SOURCES: &str = "/v1/branches/default/sources";
/// Sink id, table, columns. The second one computes its cells in templates.
const SINKS: [(&str, &str); 2] = [
    ("paths", "in.torture.paths"),
    ("templates", "in.torture.templates"),
];

/// SplitMix64: enough for choosing moments, and its whole state is the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect(name))
}

/// What a record with this number must carry besides it.
fn check_of(id: &str) -> String {
    let sum = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{sum:016x}")
}

fn define(server: &Server) -> String {
    server.task(
        "POST",
        SOURCES,
        &json!({"type": "http", "name": "Torture", "sourceId": "torture"}),
    );
    let columns = [
        json!([
            {"type": "path", "name": "id", "path": "id", "rawString": true},
            {"type": "path", "name": "sum", "path": "nested.check", "rawString": true},
            {"type": "uuid", "name": "row_id"}
        ]),
        json!([
            {"type": "template", "name": "id", "rawString": true, "template": {"language": "jsonnet", "content": "Body('id')"}},
            {"type": "template", "name": "sum", "rawString": true, "template": {"language": "jsonnet", "content": "Body().nested.check"}},
            {"type": "uuid", "name": "row_id"}
        ]),
    ];
    for ((sink, table), columns) in SINKS.iter().zip(columns) {
        let body = json!({"type": "table", "name": sink, "sinkId": sink, "table": {
            "type": "keboola", "tableId": table, "mapping": {"columns": columns}}});
        server.task("POST", &format!("{SOURCES}/torture/sinks"), &body);
    }
    let url =
        server.call("GET", &format!("{SOURCES}/torture"), &Value::Null)["http"]["url"].clone();
    let url = url.as_str().unwrap();
    let (_, path) = url.split_once("/stream/").unwrap();
    format!("/stream/{path}")
}

/// What one client knows at the end: the numbers that were acknowledged, and how many it sent.
#[derive(Default)]
struct Sent {
    acknowledged: Vec<String>,
    unknown: u64,
}

/// Posts until told to stop. A number is never sent twice: what was not answered may be there or
/// not, but not twice.
fn client(
    number: u64,
    address: std::net::SocketAddr,
    path: &str,
    seed: u64,
    stop: &AtomicBool,
    total: &AtomicU64,
) -> Sent {
    let mut random = Random(seed ^ (number << 32));
    let mut client = Client::new(address);
    let mut sent = Sent::default();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let count = if random.below(2) == 0 {
            1
        } else {
            1 + random.below(40)
        };
        let ids: Vec<String> = (next..next + count)
            .map(|n| format!("{number}-{n}"))
            .collect();
        next += count;
        let lines: Vec<String> = ids
            .iter()
            .map(|id| json!({"id": id, "nested": {"check": check_of(id)}, "pad": "x".repeat(usize::try_from(random.below(400)).unwrap())}).to_string())
            .collect();
        let kind = if count == 1 {
            "application/json"
        } else {
            "application/x-ndjson"
        };
        match client.send(
            "POST",
            path,
            &[("Content-Type", kind)],
            lines.join("\n").as_bytes(),
        ) {
            Ok(response) if response.status == 200 => {
                total.fetch_add(count, Ordering::Relaxed);
                sent.acknowledged.extend(ids);
            }
            Ok(_) | Err(_) => {
                sent.unknown += count;
                // The server is away: do not spin until it is back.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    sent
}

/// Rows of a table: id and check.
fn rows(data: &std::path::Path, table: &str) -> Vec<(String, String)> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(db) = rusqlite::Connection::open_with_flags(data.join("tables.db"), flags) else {
        return Vec::new();
    };
    let Ok(mut query) = db.prepare(&format!("SELECT id, sum FROM \"{table}\"")) else {
        return Vec::new();
    };
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

/// Waits until every acknowledged record is in the table and nothing is in flight, then compares.
fn verify(server: &Server, data: &std::path::Path, sent: &[Sent], seed: u64) {
    for (sink, table) in SINKS {
        let path = format!("{SOURCES}/torture/sinks/{sink}/statistics/balance");
        let deadline = Instant::now() + Duration::from_secs(90);
        let (balance, found) = loop {
            let balance = server.call("GET", &path, &Value::Null);
            let found = rows(data, table);
            let is_settled =
                balance["inFlight"] == json!(0) && balance["accepted"] == json!(found.len());
            if (is_settled && lost(&found, sent).is_empty()) || Instant::now() > deadline {
                break (balance, found);
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let mut seen: HashMap<&str, u64> = HashMap::new();
        for (id, check) in &found {
            assert_eq!(
                *check,
                check_of(id),
                "seed {seed}: row {id} of {table} carries another record's data"
            );
            *seen.entry(id).or_default() += 1;
        }
        let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).collect();
        assert!(
            twice.is_empty(),
            "seed {seed}: {} rows more than once in {table}, such as {:?}",
            twice.len(),
            twice[0]
        );
        let lost = lost(&found, sent);
        assert!(
            lost.is_empty(),
            "seed {seed}: {} acknowledged records not in {table}, such as {}",
            lost.len(),
            lost[0]
        );
        for part in ["accepted", "imported"] {
            assert_eq!(
                balance[part],
                json!(found.len()),
                "seed {seed}: {sink}: {balance}"
            );
        }
        assert_eq!(
            balance["inFlight"],
            json!(0),
            "seed {seed}: {sink}: {balance}"
        );
        assert_eq!(
            balance["holds"],
            json!(true),
            "seed {seed}: {sink}: {balance}"
        );
    }
}

/// Acknowledged records that are not among the rows.
fn lost<'s>(found: &[(String, String)], sent: &'s [Sent]) -> Vec<&'s String> {
    let found: HashSet<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    let acknowledged = sent.iter().flat_map(|s| &s.acknowledged);
    acknowledged
        .filter(|id| !found.contains(id.as_str()))
        .collect()
}

#[test]
fn every_acknowledged_record_is_in_each_table_once_whatever_is_killed() {
    let seconds = setting("FOREBAY_TORTURE_SECONDS", 20);
    let seed = setting("FOREBAY_TORTURE_SEED", u64::from(std::process::id()));
    eprintln!("torture: seed {seed}, {seconds} s");
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let mut server = Server::start(data, &[]);
    let path = define(&server);
    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut kills = 0;
    let sent: Vec<Sent> = std::thread::scope(|scope| {
        let address = server.source;
        let (path, stop, total) = (path.as_str(), &stop, &total);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| scope.spawn(move || client(n, address, path, seed, stop, total)))
            .collect();
        let mut random = Random(seed);
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100 + random.below(3000)));
            server.kill_and_restart();
            kills += 1;
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let acknowledged = total.load(Ordering::Relaxed);
    let unknown: u64 = sent.iter().map(|s| s.unknown).sum();
    eprintln!(
        "torture: {kills} kills, {acknowledged} records acknowledged, {unknown} without an answer"
    );
    assert!(acknowledged > 0, "seed {seed}: nothing was acknowledged");
    verify(&server, data, &sent, seed);
}
