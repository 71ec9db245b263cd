//! A table that is down is its own sinks' trouble.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::server::{Server, wait_for};
use crate::{count, define, rows};

#[test]
fn a_table_that_is_down_changes_nothing_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    // A port on which nobody answers: one that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let url = format!(
        "table.postgres.url=postgresql://nobody@{}/none",
        nobody.unwrap()
    );
    let server = Server::start_with(
        dir.path(),
        &[
            "--set",
            &url,
            "--set",
            "storage.level.target.import.trigger.interval=1s",
        ],
    );
    let up = define(&server, "up", &[]);
    let down = define(&server, "down", &["--backend", "postgres"]);
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    let mut posted = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        posted += 1;
        let sent = Instant::now();
        server.post(&up, &format!("{{\"n\":{posted}}}"));
        slowest = slowest.max(sent.elapsed());
        server.post(&down, &format!("{{\"n\":{posted}}}"));
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let balance = server.settled("up", "up", posted);
    assert_eq!(count(&balance, "imported"), posted as u64);
    let expected: Vec<u64> = (1..=posted as u64).collect();
    assert_eq!(rows(&server, "up"), expected);
    // The other one's records are all there, and people are told why they wait.
    let balance = wait_for("all of them counted", || {
        let balance = server.balance("down", "down");
        (count(&balance, "accepted") == posted as u64).then_some(balance)
    });
    assert_eq!(count(&balance, "imported"), 0);
    assert_eq!(count(&balance, "inFlight"), posted as u64);
    assert_eq!(balance["holds"], true);
    let path = "/v1/branches/default/sources/down/sinks/down/statistics/files?failedFiles=true";
    let reason = wait_for("a reason", || {
        let files = server.api_get(path);
        let reason = files["files"][0]["retryReason"].as_str();
        reason.map(str::to_owned)
    });
    assert!(
        reason.contains("refused") || reason.contains("connect"),
        "{reason}"
    );
}
