//! The metadata store: rollback is detected, copies are restored, a suspended process keeps its lease,
//! and foreign directories are not changed.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use forebay_test_support::{HttpClient, ServerProcess};
use serde_json::Value;

use crate::server::{Server, forebay, forebay_with, run, wait_for};

/// A server that may never become ready.
struct Waiting(ServerProcess);

impl Waiting {
    fn start(data: &Path, args: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = free.local_addr().unwrap();
        drop(free);
        let mut command = forebay();
        command.args(["serve", "--data-dir", data.to_str().unwrap()]);
        command.args(["--source-listen", "127.0.0.1:0", "--api-listen"]);
        command.arg(api.to_string()).args(args);
        let none = data.join("no-log");
        let mut process =
            ServerProcess::spawn_with_stderr(&mut command, data, &none, Stdio::null());
        process.api = api;
        Self(process)
    }

    /// Status and body of the first response.
    fn health(&self, path: &str) -> (u16, Value) {
        wait_for("an answer", || {
            let response = HttpClient::new(self.0.api)
                .send("GET", path, &[], b"")
                .ok()?;
            let body = serde_json::from_slice(&response.body).ok()?;
            Some((response.status, body))
        })
    }
}

fn restore_newest(data: &Path) -> crate::server::Ended {
    forebay_with(&[
        "restore",
        "--metadata",
        "newest",
        "--data-dir",
        data.to_str().unwrap(),
    ])
}

#[test]
fn lost_metadata_transactions_are_reported_and_need_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // A copy of an almost empty store, then definitions that are only in the write-ahead log.
    let server = Server::start(&data);
    server.signal("TERM");
    assert!(server.end().0.success());
    let server = Server::start(&data);
    let path = server.define();
    for n in 0..10 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    server.kill();
    std::fs::remove_file(data.join("meta.db-wal")).unwrap();

    let waiting = Waiting::start(&data, &[]);
    let (status, body) = waiting.health("/health/ready");
    assert_eq!(status, 503, "{body}");
    let cause = body["causes"][0]["cause"].as_str().unwrap();
    for part in [
        "transactions are lost",
        "revision",
        "meta-copies",
        "--accept-metadata-loss",
    ] {
        assert!(cause.contains(part), "{part}: {cause}");
    }
    assert_eq!(waiting.health("/health/live").0, 200);
    assert_eq!(waiting.health("/v1/branches/default/sources").0, 503);
    drop(waiting);

    // The operator accepts the loss: streams of the unknown sources are retained.
    let server = Server::start_with(&data, &["--accept-metadata-loss"]);
    wait_for("the report of unknown streams", || {
        server.log().contains("it is kept").then_some(())
    });
    server.signal("TERM");
    assert!(server.end().0.success());
    // It does not ask again, and accepts records.
    let server = Server::start(&data);
    let path = server.define();
    server.post(&path, "{\"n\":1}");
    server.settled("events", "events", 1);
}

#[test]
fn damaged_metadata_is_restored_from_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let path = server.define();
    for n in 0..10 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    server.signal("TERM");
    assert!(server.end().0.success());
    let copies = std::fs::read_dir(data.join("meta-copies")).unwrap().count();
    assert_eq!(copies, 1, "one at the stop");
    for damage in ["garbage", "empty", "missing"] {
        let file = data.join("meta.db");
        match damage {
            "garbage" => std::fs::write(&file, vec![b'x'; 9000]).unwrap(),
            "empty" => std::fs::write(&file, "").unwrap(),
            _ => std::fs::remove_file(&file).unwrap(),
        }
        if damage != "empty" {
            let ended = forebay_with(&[
                "serve",
                "--data-dir",
                data.to_str().unwrap(),
                "--api-listen",
                "127.0.0.1:0",
                "--source-listen",
                "127.0.0.1:0",
            ]);
            assert_eq!(ended.code, Some(1), "{damage}: {ended:?}");
            for part in ["meta-copies/meta-", "forebay restore --metadata newest"] {
                assert!(ended.stderr.contains(part), "{damage}: {ended:?}");
            }
        }
        let done = restore_newest(&data);
        assert_eq!(done.code, Some(0), "{damage}: {done:?}");
    }
    let server = Server::start(&data);
    server.post(&server.path("events"), "{\"n\":10}");
    let balance = server.settled("events", "events", 11);
    assert_eq!(balance["imported"], 11, "{balance}");
    assert_eq!(
        server
            .ok(&[
                "query",
                "SELECT count(DISTINCT n) || '/' || count(*) AS n FROM \"in.test.events\"",
                "--format",
                "csv"
            ])
            .trim()
            .lines()
            .last(),
        Some("11/11")
    );
}

#[test]
fn a_pause_longer_than_a_lease_does_not_end_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = server.define();
    for n in 0..10 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    server.signal("STOP");
    // Not a wait for a condition: the pause is the test. Leases were of 15 s.
    std::thread::sleep(Duration::from_secs(17));
    server.signal("CONT");
    for n in 10..20 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    let balance = server.settled("events", "events", 20);
    assert_eq!(balance["imported"], 20, "{balance}");
    assert_eq!(server.get("/health/ready").0, 200);
    server.signal("TERM");
    assert!(server.end().0.success());
}

#[test]
fn a_failed_store_is_reported_and_stops_the_process_only_if_configured() {
    let dir = tempfile::tempdir().unwrap();
    for exit in [false, true] {
        let data = dir.path().join(format!("data-{exit}"));
        let on_latch = if exit {
            "health.onLatch=exit"
        } else {
            "health.onLatch=stay"
        };
        let server = Server::start_with(&data, &["--set", on_latch]);
        let path = server.define();
        server.post(&path, "{\"n\":1}");
        server.settled("events", "events", 1);
        // Its next transaction fails, and not because of a full disk.
        let db = rusqlite::Connection::open(data.join("meta.db")).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.execute_batch("DROP TABLE kv").unwrap();
        drop(db);
        // The log is intact: accepted records are durable.
        server.post(&path, "{\"n\":2}");
        if exit {
            let (status, log) = server.end();
            assert_eq!(status.code(), Some(1), "{log}");
            assert!(log.contains("disk failure"), "{log}");
            continue;
        }
        let ready = wait_for("a server that is not ready", || {
            let (status, body) = server.get("/health/ready");
            (status == 503 && body.contains("metadata store failed")).then_some(body)
        });
        assert!(ready.contains("\"part\":\"store\""), "{ready}");
        assert_eq!(server.get("/health/live").0, 200);
        let (_, metrics) = server.get("/metrics");
        assert!(metrics.contains("forebay_store_latched 1"), "{metrics}");
        server.post(&path, "{\"n\":3}");
        wait_for("a line of the log", || {
            server.log().contains("disk failure").then_some(())
        });
    }
}

/// Entries of a directory with their modification times.
fn content(dir: &Path) -> Vec<(String, std::time::SystemTime)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| {
            let e = e.unwrap();
            let changed = e.metadata().unwrap().modified().unwrap();
            (e.file_name().to_string_lossy().into_owned(), changed)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_foreign_directory_is_rejected_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let buffer = root.path().join("buffer");
    let input = root.path().join("in.ndjson");
    std::fs::write(&input, "{\"a\":1}\n").unwrap();
    let out = root.path().join("out");
    let mut send = forebay();
    send.args([
        "buffer",
        "send",
        "--topic",
        "t",
        "--dir",
        buffer.to_str().unwrap(),
    ]);
    send.args([
        "--file",
        out.to_str().unwrap(),
        "--input",
        input.to_str().unwrap(),
    ]);
    let sent = run(&mut send);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let other = root.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.tex"), "x").unwrap();
    for (dir, said) in [(&buffer, "buffer"), (&other, "thesis.tex")] {
        let before = content(dir);
        let ended = forebay_with(&[
            "serve",
            "--data-dir",
            dir.to_str().unwrap(),
            "--api-listen",
            "127.0.0.1:0",
            "--source-listen",
            "127.0.0.1:0",
        ]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
        assert_eq!(content(dir), before);
    }
}

#[test]
fn a_failed_start_leaves_no_files() {
    let root = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let data = root.path().join("data");
    let cases: [&[&str]; 6] = [
        &["--api-listen", &taken],
        &["--source-listen", &taken],
        &["--token-file", "/no/such/file"],
        &[
            "--set",
            "staging.type=s3",
            "--set",
            "staging.s3.bucket=b",
            "--set",
            "staging.s3.caFile=/no/such/file",
        ],
        &[
            "--set",
            "source.http.tls.certFile=/no/such/file",
            "--set",
            "source.http.tls.keyFile=/no/such/file",
        ],
        &["--set", "log.segmentSize=1"],
    ];
    for args in cases {
        let mut all = vec!["serve", "--data-dir", data.to_str().unwrap()];
        all.extend_from_slice(args);
        for flag in ["--api-listen", "--source-listen"] {
            if !args.contains(&flag) {
                all.extend([flag, "127.0.0.1:0"]);
            }
        }
        let ended = forebay_with(&all);
        assert!(matches!(ended.code, Some(1 | 2)), "{args:?}: {ended:?}");
        assert!(!data.exists(), "{args:?}");
    }
}
