//! Standard error that is full, closed, or an unread pipe has no effect.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::server::{Server, forebay, wait_for};

const RECORDS: usize = 1_000;

/// The server accepts records, imports them, and stops on a signal.
fn works(server: Server) {
    let path = server.define();
    for n in 0..RECORDS {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    let balance = server.settled("events", "events", RECORDS);
    assert_eq!(balance["imported"], RECORDS as u64, "{balance}");
    server.signal("TERM");
    let (status, _) = server.end();
    assert_eq!(status.code(), Some(0));
}

fn dropped_lines(server: &Server) -> u64 {
    let (_, text) = server.get("/metrics");
    let name = "forebay_telemetry_log_lines_dropped_total ";
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[test]
fn a_full_standard_error_has_no_effect_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let server = Server::start_unread(dir.path(), &[], Stdio::from(full.unwrap()));
    wait_for("dropped lines", || {
        (dropped_lines(&server) > 0).then_some(())
    });
    works(server);
}

#[test]
fn a_pipe_without_a_reader_has_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::start_unread(dir.path(), &[], Stdio::from(writer));
    drop(reader);
    works(server);
}

#[test]
fn an_unread_pipe_has_no_effect_and_does_not_delay_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let args = ["--set", "telemetry.log.level=trace"];
    let server = Server::start_unread(dir.path(), &args, Stdio::from(writer));
    works(server);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(said.contains("ready"), "{said}");
}

#[test]
fn a_job_works_without_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let input: String = (0..RECORDS).map(|n| format!("{{\"id\":{n}}}\n")).collect();
    std::fs::write(dir.path().join("in.jsonl"), input).unwrap();
    let job = "source: {type: files, paths: [in.jsonl]}\n\
               destination: {type: table, store: {type: sqlite, path: out.db}, table: t, \
               columns: [{name: id, type: integer, key: true}]}\n";
    let file = dir.path().join("job.yaml");
    std::fs::write(&file, job).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = forebay();
    command.args([
        "job",
        "run",
        file.to_str().unwrap(),
        "--json",
        "--log-level",
        "trace",
    ]);
    let output = command.stderr(Stdio::from(writer)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let end: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(end["written"], RECORDS as u64, "{end}");
}
