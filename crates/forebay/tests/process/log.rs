//! `forebay log` next to a server and after its end.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::{Server, forebay_with, run};

/// A server without uploads, so that its records remain in the log.
fn server(dir: &Path) -> Server {
    let server = Server::start_with(dir, &["--roles", "api,source"]);
    let path = server.define();
    for n in 0..3 {
        server.post(&path, &format!("{{\"n\": {n}}}"));
    }
    server
}

fn stream(server: &Server) -> Value {
    let streams: Value = serde_json::from_str(&server.ok(&["log", "ls", "--json"])).unwrap();
    streams[0].clone()
}

#[test]
fn streams_are_inspected_next_to_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let stream = stream(&server);
    assert_eq!(
        (&stream["records"], &stream["closed"]),
        (&Value::from(3), &Value::from(false)),
        "{stream}"
    );
    let name = stream["name"].as_str().unwrap();
    assert!(name.starts_with("1/1/events/events/"), "{name}");
    let list = server.ok(&["log", "ls"]);
    assert!(list.contains(name) && list.contains("open"), "{list}");
    let rows = server.ok(&["log", "cat", name]);
    let firsts: Vec<&str> = rows.lines().map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(firsts, ["\"0\"", "\"1\"", "\"2\""], "{rows}");
    let stat: Value = serde_json::from_str(&server.ok(&["log", "stat", "--json"])).unwrap();
    assert_eq!(stat["streams"], 1, "{stat}");
    assert!(server.ok(&["log", "stat"]).contains("volume"));
    assert!(server.ok(&["log", "verify"]).contains("sound blocks"));
    let verified: Value = serde_json::from_str(&server.ok(&["log", "verify", "--json"])).unwrap();
    assert_eq!(verified["sound"], true, "{verified}");
    let unknown = run(&mut server.command(&["log", "cat", "nope"]));
    assert!(
        unknown.code == Some(1) && unknown.stderr.contains("forebay log ls"),
        "{unknown:?}"
    );
    let raw = server
        .command(&["log", "cat", name, "--raw"])
        .output()
        .unwrap()
        .stdout;
    assert!(raw.starts_with(ROW), "small blocks are not compressed");
}

/// Beginning of the first row.
const ROW: &[u8] = b"\"0\",\"";

/// The only segment file with a block.
fn segment(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|f| f.unwrap().path());
    let has = |f: &PathBuf| {
        std::fs::read(f)
            .unwrap()
            .windows(ROW.len())
            .any(|w| w == ROW)
    };
    files.into_iter().find(has).unwrap()
}

#[test]
fn damage_is_reported_and_fails_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let name = stream(&server)["name"].as_str().unwrap().to_owned();
    server.kill();
    let file = segment(dir.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(ROW.len()).position(|w| w == ROW).unwrap();
    bytes[at + 5] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let data = dir.path().to_str().unwrap();
    let said = forebay_with(&["log", "verify", "--data-dir", data]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stdout.contains("damaged") && said.stdout.contains(&name),
        "{said:?}"
    );
    let said = forebay_with(&["log", "cat", &name, "--data-dir", data]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("lost"), "{said:?}");
}

#[test]
fn a_directory_without_a_log_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["ls", "verify", "stat"] {
        let said = forebay_with(&["log", command, "--data-dir", dir.path().to_str().unwrap()]);
        assert!(
            said.code == Some(1) && said.stderr.contains("no log here"),
            "{said:?}"
        );
    }
}
