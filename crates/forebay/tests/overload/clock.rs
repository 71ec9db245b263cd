//! The wall clock jumps a day, either way. libfaketime stands between the server and the clock.

use std::path::{Path, PathBuf};

use crate::server::Server;
use crate::{count, define, rows};

/// Where Debian's libfaketime is.
fn library() -> Option<PathBuf> {
    let known = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let mut found = known.iter().map(|arch| {
        Path::new("/usr/lib")
            .join(arch)
            .join("faketime/libfaketimeMT.so.1")
    });
    found.find(|p| p.exists())
}

#[test]
fn a_clock_that_jumps_a_day_holds_nothing_up() {
    let Some(library) = library() else {
        println!("SKIPPED: libfaketime is not installed (scripts/test installs it as root)");
        assert!(std::env::var_os("CI").is_none(), "CI must have libfaketime");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    let set = |by: &str| std::fs::write(&offset, by).unwrap();
    set("+0");
    let variables = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap()),
        // Durations are measured by the monotonic clock, which no administrator can set.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_NO_CACHE", "1"),
    ];
    let data = dir.path().join("data");
    let server = Server::start_faked(&data, &variables);
    let path = define(&server, "clock", &["--column", "at=datetime"]);
    let mut posted = 0;
    let mut imported = |server: &Server| {
        for _ in 0..10 {
            posted += 1;
            server.post(&path, &format!("{{\"n\":{posted}}}"));
        }
        let balance = server.settled("clock", "clock", posted);
        assert_eq!(count(&balance, "imported"), posted as u64, "{balance}");
    };
    imported(&server);
    for by in ["+1d", "-1d", "+0", "+1d", "+0"] {
        set(by);
        imported(&server);
    }
    // A restart does not bring the trouble back.
    set("+1d");
    imported(&server);
    server.kill();
    set("+0");
    let server = Server::start_faked(&data, &variables);
    let path = server.path("clock");
    for n in 71..=80 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    server.settled("clock", "clock", 80);
    let expected: Vec<u64> = (1..=80).collect();
    assert_eq!(rows(&server, "clock"), expected);
    // Records are stamped by the wall clock as it was, jumps and all.
    let sql = "SELECT count(DISTINCT substr(at, 1, 10)) AS days FROM \"in.demo.clock\"";
    let days = server.ok(&["query", sql, "--format", "csv"]);
    let days: u32 = days.lines().nth(1).unwrap().parse().unwrap();
    assert!(days >= 3, "{days} days");
}
