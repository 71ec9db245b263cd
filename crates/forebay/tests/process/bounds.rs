//! Worst-case clients against each listener of the real binary, measured by the memory of the process.
//! The limits are those of `docs/reference/limits.md`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use forebay_test_support::HttpClient;
use serde_json::Value;

use crate::server::{Server, forebay, wait_for};

const MB: u64 = 1 << 20;
const DOCUMENT: &str = "/v1/documentation/openapi3.json";

/// Memory of a process, and its peak since the last reading.
struct Memory {
    pid: u32,
    before: u64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        // Resets the peak.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        let mut memory = Self { pid, before: 0 };
        memory.before = memory.read("VmRSS:");
        memory
    }

    fn read(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        let kb: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kb << 10
    }

    #[track_caller]
    fn has_grown_by_at_most(&self, max: u64) {
        let grown = self.read("VmHWM:").saturating_sub(self.before);
        assert!(
            grown <= max,
            "grown by {} MB, allowed {} MB",
            grown / MB,
            max / MB
        );
    }
}

/// Raises the limit of open files; returns how many connections a test may use.
fn allow_descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(100_000);
    usize::try_from(allowed.saturating_sub(200)).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// Writes as much as the server accepts: it may close in the middle.
fn push(stream: &mut TcpStream, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(e) => assert!(
            matches!(
                e.kind(),
                ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionReset
                    | ErrorKind::WouldBlock
                    | ErrorKind::TimedOut
            ),
            "{e}"
        ),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An HTTP/2 client that sends requests and reads nothing: its window is zero.
fn unread_http2(address: SocketAddr, path: &str, requests: u32) -> TcpStream {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // INITIAL_WINDOW_SIZE
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let text = |index: u8, text: &str| {
        let mut field = vec![index, u8::try_from(text.len()).unwrap()];
        field.extend(text.as_bytes());
        field
    };
    // GET, http, and as literals `:authority` and `:path`.
    let head = [vec![0x82, 0x86], text(1, "localhost"), text(4, path)].concat();
    for n in 0..requests {
        // END_STREAM, END_HEADERS
        bytes.extend(frame(1, 5, 2 * n + 1, &head));
    }
    let mut stream = connect(address);
    push(&mut stream, &bytes);
    stream
}

fn unread_http1(address: SocketAddr, path: &str, requests: usize) -> TcpStream {
    let mut stream = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    push(&mut stream, request.repeat(requests).as_bytes());
    stream
}

/// The first bytes of a request.
fn half_head(address: SocketAddr, bytes: usize) -> TcpStream {
    let mut stream = connect(address);
    push(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ");
    push(&mut stream, &vec![b'a'; bytes]);
    stream
}

fn status(address: SocketAddr, path: &str) -> Option<u16> {
    let response = HttpClient::new(address).send("GET", path, &[], b"");
    response.ok().map(|r| r.status)
}

/// Whether the server closed the connection, with or without a response.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

/// Memory of responses that are never read.
fn unread_responses(pid: u32, address: SocketAddr, path: &str, max: u64) {
    let memory = Memory::of(pid);
    let two: Vec<_> = (0..40).map(|_| unread_http2(address, path, 250)).collect();
    let one: Vec<_> = (0..100).map(|_| unread_http1(address, path, 100)).collect();
    // Other clients get responses meanwhile: unread ones make room.
    let begun = Instant::now();
    wait_for("a response for another client", || {
        (status(address, path) == Some(200)).then_some(())
    });
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    for _ in 0..20 {
        assert!(matches!(status(address, path), Some(200 | 503)));
    }
    memory.has_grown_by_at_most(max);
    drop((one, two));
}

/// Memory of request heads that never end.
fn half_heads(pid: u32, address: SocketAddr, path: &str, max: u64) {
    let connections = allow_descriptors().min(2400);
    let memory = Memory::of(pid);
    let mut open: Vec<_> = (0..connections)
        .map(|n| half_head(address, if n % 2 == 0 { 400 << 10 } else { 30 << 10 }))
        .collect();
    memory.has_grown_by_at_most(max);
    // After the timeout other clients are served again.
    wait_for("the timeout of the heads", || {
        (status(address, path) == Some(200)).then_some(())
    });
    let slow = open.last_mut().unwrap();
    assert!(is_closed(slow));
}

#[test]
fn the_api_stays_within_its_memory_limits() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--set", "api.headerReadTimeout=2s"];
    let server = Server::start_with(dir.path(), &args);
    // 32 MB each of responses and bodies; 1,000 connections of 64 KB.
    unread_responses(server.pid(), server.api, DOCUMENT, 128 * MB);
    half_heads(server.pid(), server.api, "/health/live", 128 * MB);
    slow_bodies(&server, 128 * MB);
}

fn slow_bodies(server: &Server, max: u64) {
    let memory = Memory::of(server.pid());
    let body = vec![b' '; 1_900_000];
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(server.api);
        let head = "POST /v1/branches/default/sources HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n";
        push(&mut stream, head.as_bytes());
        push(&mut stream, &body);
        slow.push(stream);
    }
    memory.has_grown_by_at_most(max);
    let rejected = slow.iter_mut().filter_map(|stream| {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .ok()
            .map(|_| line)
    });
    let rejected: Vec<_> = rejected.collect();
    assert!(rejected.len() > 70, "{rejected:?}");
    assert!(
        rejected.iter().all(|l| l.starts_with("HTTP/1.1 429 ")),
        "{rejected:?}"
    );
    drop(slow);
    wait_for("an accepted body", || {
        let body = br#"{"type":"http","name":"After"}"#;
        let token = server.token();
        let headers = [("X-StorageApi-Token", token.as_str())];
        let response = HttpClient::new(server.api).send(
            "POST",
            "/v1/branches/default/sources",
            &headers,
            body,
        );
        (response.unwrap().status == 202).then_some(())
    });
}

#[test]
fn the_source_stays_within_its_memory_limits() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--set", "source.http.headerReadTimeout=2s"];
    let server = Server::start_with(dir.path(), &args);
    half_heads(server.pid(), server.source, "/health-check", 256 * MB);
    unread_responses(server.pid(), server.source, "/health-check", 128 * MB);
}

#[test]
fn listeners_close_idle_connections_and_limit_their_number() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "--set",
        "api.maxConnections=50",
        "--set",
        "api.idleTimeout=1s",
        "--set",
        "source.http.maxConnections=50",
        "--set",
        "source.http.idleTimeout=1s",
        "--set",
        "telemetry.metrics.listen=127.0.0.1:0",
    ];
    let server = Server::spawn(dir.path(), &args);
    let metrics = server.logged("INFO", "\"metrics\"");
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    let metrics = metrics["address"].as_str().unwrap().parse().unwrap();
    let listeners = [
        (server.api, "/health/live"),
        (metrics, "/metrics"),
        (server.source, "/health-check"),
    ];
    for (address, path) in listeners {
        let mut idle: Vec<_> = (0..60).map(|_| connect(address)).collect();
        // The last ones get 503.
        let mut response = String::new();
        idle.last_mut()
            .unwrap()
            .read_to_string(&mut response)
            .unwrap();
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(idle.iter_mut().take(50).all(is_closed));
        assert_eq!(status(address, path), Some(200));
    }
    // With a separate metrics listener the API has no metrics.
    assert_eq!(status(server.api, "/metrics"), Some(404));
}

#[test]
fn invalid_tokens_are_rate_limited_and_valid_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = "/v1/branches/default/sources";
    let begun = Instant::now();
    let flood = |_| {
        let address = server.api;
        std::thread::spawn(move || {
            let mut client = HttpClient::new(address);
            let mut counts = (0, 0);
            for n in 0..1000 {
                let token = format!("{n:040}");
                let headers = [("X-StorageApi-Token", token.as_str())];
                match client.send("GET", path, &headers, b"").unwrap().status {
                    401 => counts.0 += 1,
                    429 => counts.1 += 1,
                    other => panic!("{other}"),
                }
            }
            counts
        })
    };
    let floods: Vec<_> = (0..4).map(flood).collect();
    // The same address with a valid token.
    for _ in 0..20 {
        assert_eq!(server.get(path).0, 200);
    }
    let counts: Vec<_> = floods.into_iter().map(|f| f.join().unwrap()).collect();
    let looked_at: usize = counts.iter().map(|c| c.0).sum();
    let allowed = 50 + 5 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 1);
    assert!(
        looked_at <= allowed,
        "{looked_at} of 4000, allowed {allowed}"
    );
    assert_eq!(server.get(path).0, 200);
}

/// `forebay lookup`, stopped on drop.
struct Lookup(Child, SocketAddr);

impl Drop for Lookup {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn lookup(dir: &Path, more: &str) -> Lookup {
    let db = rusqlite::Connection::open(dir.join("rows.db")).unwrap();
    let rows = "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT);
        INSERT INTO products SELECT 1, printf('%.*c', 200000, 'x');";
    db.execute_batch(rows).unwrap();
    let file = dir.join("lookup.yaml");
    let text = format!(
        "listen: 127.0.0.1:0\nstore: {{ type: sqlite, path: rows.db }}\n\
         routes: [{{ path: /product, table: products }}]\nlimits: {{ {more} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = forebay();
    command.args(["lookup", "--config", file.to_str().unwrap()]);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|l| l.contains("\"ready\""));
    let ready: Value = serde_json::from_str(&ready.expect("it is ready")).unwrap();
    // Reads its output, so that it never blocks.
    std::thread::spawn(move || lines.for_each(drop));
    Lookup(child, ready["address"].as_str().unwrap().parse().unwrap())
}

#[test]
fn the_lookup_service_stays_within_its_memory_limits() {
    let dir = tempfile::tempdir().unwrap();
    let service = lookup(dir.path(), "headerReadTimeout: 2s, maxConnections: 1000");
    let (pid, address) = (service.0.id(), service.1);
    unread_responses(pid, address, "/product/1", 128 * MB);
    half_heads(pid, address, "/health", 128 * MB);
    // It survives SIGHUP.
    let pid = rustix::process::Pid::from_child(&service.0);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    assert_eq!(status(address, "/product/1"), Some(200));
}

#[test]
fn a_client_that_sends_a_whole_rejected_body_gets_the_response() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let source = server.define();
    let token = server.token();
    let targets = [
        (server.source, source.as_str()),
        (server.api, "/v1/branches/default/sources"),
    ];
    for (address, path) in targets {
        for _ in 0..10 {
            let mut stream = connect(address);
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nX-StorageApi-Token: {token}\r\nContent-Length: 5000000\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            // Sends all of it before reading the response.
            stream.write_all(&vec![b' '; 5_000_000]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
        }
    }
}
