//! Quotas of a running server: set and kept without and over a restart, counted.

use std::time::Instant;

use forebay_test_support::HttpClient;
use serde_json::Value;

use crate::server::{Server, forebay_with, run, wait_for};

/// Files are not imported, so that disk usage only grows.
const NO_IMPORT: [&str; 2] = ["--set", "storage.level.target.import.trigger.interval=24h"];

fn post(client: &mut HttpClient, path: &str, n: usize) -> (u16, Value) {
    let headers = [("Content-Type", "application/json")];
    let body = format!("{{\"n\": {n}}}");
    let answer = client
        .send("POST", path, &headers, body.as_bytes())
        .unwrap();
    (answer.status, answer.json())
}

#[test]
fn a_source_accepts_its_quota_and_all_accepted_records_are_imported() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let path = server.define();
    let shown = server.ok(&["quota", "show"]);
    assert!(shown.contains("requestsPerSecond"), "{shown}");
    let set = ["quota", "set", "--source", "events"];
    server.ok(&[&set[..], &["--requests-per-second", "2"]].concat());
    let mut client = HttpClient::new(server.source);
    let begun = Instant::now();
    let (mut taken, mut rejected) = (0, 0);
    while rejected < 20 {
        match post(&mut client, &path, taken) {
            (200, _) => taken += 1,
            (429, error) => {
                assert_eq!(error["error"], "stream.in.quotaExceeded");
                rejected += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let allowed = 2.0 * (begun.elapsed().as_secs_f64() + 1.0);
    assert!(taken >= 2 && f64::from(u32::try_from(taken).unwrap()) <= allowed);
    let (_, metrics) = server.get("/metrics");
    let counted = metrics
        .lines()
        .find(|l| l.starts_with("forebay_quota_rejected_total"));
    let counted = counted.unwrap();
    for label in [
        "project=\"1\"",
        "source=\"events\"",
        "cause=\"source-requests\"",
    ] {
        assert!(counted.contains(label), "{counted}");
    }
    assert!(counted.ends_with(" 20"), "{counted}");
    server.ok(&[&set[..], &["--requests-per-second", "default"]].concat());
    wait_for("the default quota", || {
        let mut all = (0..5).map(|_| post(&mut client, &path, 0).0);
        all.all(|status| {
            taken += usize::from(status == 200);
            status == 200
        })
        .then_some(())
    });
    let balance = server.settled("events", "events", taken);
    assert_eq!(balance["accepted"], taken);
}

#[test]
fn a_disk_quota_survives_a_kill_and_can_be_raised() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &NO_IMPORT);
    let path = server.define();
    server.ok(&["quota", "set", "--disk-bytes", "1B"]);
    let over = |server: &Server| {
        let mut client = HttpClient::new(server.source);
        wait_for("a rejected request", || {
            let (status, error) = post(&mut client, &path, 0);
            assert!([200, 404, 503].contains(&status), "{status} {error}");
            (status == 503).then_some(error)
        })
    };
    let error = over(&server);
    assert_eq!(error["error"], "stream.in.quotaExceeded");
    let before = server.balance("events", "events")["accepted"].clone();
    server.kill();
    let server = Server::start_with(data.path(), &NO_IMPORT);
    over(&server);
    let after = server.balance("events", "events")["accepted"].clone();
    assert!(after.as_u64() >= before.as_u64());
    let shown: Value = serde_json::from_str(&server.ok(&["quota", "show", "--json"])).unwrap();
    assert_eq!(shown["own"]["diskBytes"], "1B");
    server.ok(&["quota", "set", "--disk-bytes", "default"]);
    wait_for("free space", || {
        (post(&mut HttpClient::new(server.source), &path, 1).0 == 200).then_some(())
    });
}

#[test]
fn invalid_values_are_reported() {
    for (set, expected) in [
        (
            "quota.window=1500ms",
            "quota.window is 1.5s, allowed are whole seconds",
        ),
        (
            "quota.window=2m",
            "quota.window is 2m0s, allowed is 1s to 1m0s",
        ),
        (
            "quota.source.requestsPerSecond=100000001",
            "quota.source.requestsPerSecond is 100000001, allowed is 0 to 100000000",
        ),
        ("quota.project.diskBytes=lots", "quota.project.diskBytes"),
    ] {
        let said = forebay_with(&["serve", "--set", set]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.stderr.contains(expected), "{}", said.stderr);
    }
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    for (args, code, expected) in [
        (&["--connections", "many"][..], 2, "connections is \"many\""),
        (&[], 2, "no limit is given"),
        (&["--disk-bytes", "2PB"], 1, "\"2PB\" is not a size"),
        (&["--disk-bytes", "2000TB"], 1, "allowed is 0B to 1024TB"),
    ] {
        let said = run(&mut server.command(&[&["quota", "set"], args].concat()));
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.stderr.contains(expected), "{}", said.stderr);
    }
}
