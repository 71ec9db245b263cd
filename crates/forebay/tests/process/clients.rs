//! The example clients of `docs/clients`, against the real server: a lost response, a 503 and a quota
//! neither lose nor repeat a record.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::server::{Server, run};

/// More than two batches of each client.
const RECORDS: usize = 1_200;

fn client(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/clients")
        .join(file)
}

/// Whether a program is installed. Under CI a missing one is a failure, where CI installs it.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn installed(program: &str, required: bool) -> bool {
    let found = Command::new(program)
        .arg(if program == "go" {
            "version"
        } else {
            "--version"
        })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !found {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!(required && in_ci), "{program} is not installed");
        eprintln!("SKIPPED: the client of docs/clients for {program}: it is not installed");
    }
    found
}

/// One HTTP request or response with `Content-Length`.
fn message(stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut text = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.extend_from_slice(line.as_bytes());
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "expect: 100-continue" {
            reader
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if line.is_empty() {
            break;
        }
    }
    let start = text.len();
    text.resize(start + length, 0);
    reader.read_exact(&mut text[start..])?;
    Ok(text)
}

/// A proxy in front of the server that loses the first response and answers the second request with 503.
struct FaultyProxy {
    address: SocketAddr,
}

impl FaultyProxy {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let requests = AtomicUsize::new(0);
            for stream in listener.incoming() {
                // The client repeats a request that fails here.
                _ = stream.and_then(|s| relay(&s, server, &requests));
            }
        });
        Self { address }
    }
}

/// Relays one request, then closes the connection.
fn relay(
    mut client: &TcpStream,
    server: SocketAddr,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let request = message(client)?;
    let number = requests.fetch_add(1, Ordering::Relaxed);
    let unavailable = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n";
    let mut response = unavailable.as_bytes().to_vec();
    if number != 1 {
        let mut upstream = TcpStream::connect(server)?;
        upstream.write_all(&request)?;
        response = message(&upstream)?;
    }
    if number == 0 {
        return Ok(());
    }
    let head = response.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
    client.write_all(&response[..head])?;
    client.write_all(b"Connection: close\r\n")?;
    client.write_all(&response[head..])?;
    if number == 1 {
        client.write_all(b"\r\n")?;
    }
    Ok(())
}

/// Sends records with a client through the proxy, and counts the rows.
fn check(program: &str, command: &mut Command) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let definition = json!({ "sources": [{ "name": "events", "sinks": [{
        "table": "in.test.events",
        "columns": [
            { "name": "id", "type": "path", "path": "id", "primaryKey": true },
            { "name": "n", "type": "path", "path": "n" },
        ],
    }] }] });
    let file = dir.path().join("events.yaml");
    std::fs::write(&file, definition.to_string()).unwrap();
    server.ok(&["apply", "-f", file.to_str().unwrap()]);
    let quota = ["--source", "events", "--requests-per-second", "2"];
    server.ok(&[&["quota", "set"], &quota[..]].concat());
    let proxy = FaultyProxy::start(server.source);
    let url = format!("http://{}{}", proxy.address, server.path("events"));

    let input = dir.path().join("records.ndjson");
    let lines = (0..RECORDS).map(|n| format!("{{\"n\": {n}, \"s\": \"é\"}}\n"));
    std::fs::write(&input, lines.collect::<String>()).unwrap();
    command.arg(url).stdin(std::fs::File::open(&input).unwrap());
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{program}: {ended:?}");

    // The batch of the lost response was stored twice; the ids are the same, so its rows are not.
    let sql = "SELECT count(*) AS rows, count(DISTINCT n) AS records FROM \"in.test.events\"";
    let counted = server.ok(&["query", sql, "--wait", "--format", "json"]);
    let counted: Value = serde_json::from_str(&counted).unwrap();
    assert_eq!(
        counted,
        json!([{ "rows": RECORDS, "records": RECORDS }]),
        "{program}"
    );
    let accepted = server.balance("events", "events")["accepted"].as_u64();
    assert!(accepted > Some(RECORDS as u64), "{program}: {accepted:?}");

    // A record that the mapping rejects ends the program with the server's reason.
    std::fs::write(&input, "{\"m\": 1}\n").unwrap();
    let ended = run(command.stdin(std::fs::File::open(&input).unwrap()));
    assert_eq!(ended.code, Some(1), "{program}: {ended:?}");
    assert!(
        ended.stderr.contains("stream.in.pathNotFound"),
        "{program}: {ended:?}"
    );
}

#[test]
fn the_python_client_sends_each_record_once() {
    if installed("python3", true) {
        let file = client("python/forebay_client.py");
        check("python3", Command::new("python3").arg(file));
    }
}

#[test]
fn the_javascript_client_sends_each_record_once() {
    if installed("node", false) {
        let file = client("javascript/forebay_client.mjs");
        check("node", Command::new("node").arg(file));
    }
}

#[test]
fn the_go_client_sends_each_record_once() {
    if installed("go", false) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("client");
        let mut build = Command::new("go");
        build.arg("build").arg("-o").arg(&program);
        let built = run(build.arg(client("go/main.go")).env("GO111MODULE", "off"));
        assert_eq!(built.code, Some(0), "{built:?}");
        check("go", &mut Command::new(program));
    }
}

#[test]
fn the_curl_client_sends_each_record_once() {
    if installed("curl", true) {
        check("curl", &mut Command::new(client("curl/forebay-send")));
    }
}
