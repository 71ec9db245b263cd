//! Slow clients, aborted requests and idle connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay_test_support::HttpClient;

use super::server::{Launch, Server, wait_for};
use super::{MB, add_sink, add_source, exclusive, memory, metric};

fn post(client: &mut HttpClient, path: &str) -> u16 {
    let headers = [("Content-Type", "application/json")];
    let answer = client.send("POST", path, &headers, b"{\"n\": 1}");
    answer.unwrap().status
}

fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Waits until no request holds memory.
fn is_clean(server: &Server) {
    wait_for("all memory to be released", || {
        let held = metric(server, "forebay_in_flight_bytes");
        (held == 0.0).then_some(())
    });
}

#[test]
fn slow_and_partial_requests_time_out_and_delay_no_other_client() {
    const CLIENTS: usize = 200;
    let _guard = exclusive();
    let root = tempfile::tempdir().unwrap();
    let server = Launch::new(root.path())
        .set("source.http.requestTimeout", "4s")
        .set("source.http.headerReadTimeout", "2s")
        .start();
    let path = add_source(&server, "misuse");
    add_sink(&server, "misuse", "all", "keboola");
    let stop = AtomicBool::new(false);
    let (mut slowest, mut answered) = (Duration::ZERO, 0_u32);
    std::thread::scope(|scope| {
        // Some send one byte per second of the head or the body; some stop half way; some close.
        let open: Vec<TcpStream> = (0..CLIENTS)
            .map(|n| {
                let mut stream = TcpStream::connect(server.source).unwrap();
                let head = head(&path, 5000);
                // Every fourth one does not even complete the head.
                let sent = if n % 4 == 0 { 20 } else { head.len() };
                stream.write_all(&head.as_bytes()[..sent]).unwrap();
                stream
            })
            .collect();
        let (stop, path) = (&stop, &path);
        let slow = scope.spawn(move || drip(open, stop));
        let mut client = HttpClient::new(server.source);
        let end = Instant::now() + Duration::from_secs(6);
        while Instant::now() < end {
            let began = Instant::now();
            assert_eq!(post(&mut client, path), 200);
            slowest = slowest.max(began.elapsed());
            answered += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let ended = slow.join().unwrap();
        assert_eq!(ended, CLIENTS, "all slow clients were disconnected");
    });
    eprintln!("misuse: {answered} requests of a good client, the slowest {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    is_clean(&server);
    let balance = wait_for("the good client's records", || {
        let balance = super::balance(&server, "misuse", "all");
        (balance["imported"] == answered && balance["inFlight"] == 0).then_some(balance)
    });
    assert_eq!(
        balance["accepted"], answered,
        "no incomplete request is stored"
    );
}

/// Sends a byte per second on two thirds of the connections; returns how many the server closed.
fn drip(open: Vec<TcpStream>, stop: &AtomicBool) -> usize {
    let mut open: Vec<Option<TcpStream>> = open.into_iter().map(Some).collect();
    let mut ended = 0;
    let mut seconds = 0;
    while !stop.load(Ordering::Relaxed) || (ended < open.len() && seconds < 30) {
        for (n, place) in open.iter_mut().enumerate() {
            let Some(stream) = place else { continue };
            if n % 4 == 3 && seconds == 1 {
                // Closed without a response.
                *place = None;
                ended += 1;
                continue;
            }
            stream.set_nonblocking(true).unwrap();
            let mut answer = [0; 512];
            let is_over = loop {
                match stream.read(&mut answer) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(e) => break e.kind() != std::io::ErrorKind::WouldBlock,
                }
            };
            let failed = n % 4 != 2 && stream.write_all(b"x").is_err();
            if is_over || failed {
                *place = None;
                ended += 1;
            }
        }
        seconds += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    ended
}

/// Raises the limit of open files of this process and its children.
fn allow_files(count: u64) -> bool {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let maximum = limits.maximum.map(|most| most.max(count));
    let enough = rustix::process::Rlimit {
        current: Some(count),
        maximum,
    };
    limits.current.is_none_or(|now| now >= count)
        || rustix::process::setrlimit(rustix::process::Resource::Nofile, enough).is_ok()
}

fn idle(source: SocketAddr, path: &str, count: usize) -> Vec<TcpStream> {
    let each = |n: usize| {
        let mut stream = TcpStream::connect(source).unwrap();
        // All have sent something; some got a response and stay open (keep-alive).
        if n.is_multiple_of(10) {
            let body = "{\"n\": 1}";
            stream
                .write_all(format!("{}{body}", head(path, body.len())).as_bytes())
                .unwrap();
            let mut answer = [0; 512];
            let read = stream.read(&mut answer).unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
        }
        stream
    };
    (0..count).map(each).collect()
}

#[test]
fn ten_thousand_idle_connections_use_little_memory_and_delay_no_request() {
    const CONNECTIONS: usize = 10_000;
    let _guard = exclusive();
    // Both ends are on this machine, one per process.
    if !allow_files(CONNECTIONS as u64 + 1000) {
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!is_ci, "CI has to allow {CONNECTIONS} open files");
        eprintln!(
            "SKIPPED: ten_thousand_idle_connections: the limit on open files can't be raised"
        );
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let server = Launch::new(root.path())
        .set("source.http.idleTimeout", "10m")
        .set("source.http.headerReadTimeout", "60s")
        .start();
    let path = add_source(&server, "idle");
    add_sink(&server, "idle", "all", "keboola");
    let mut client = HttpClient::new(server.source);
    assert_eq!(post(&mut client, &path), 200);
    let before = memory(&server, "VmRSS:");
    let open = idle(server.source, &path, CONNECTIONS);
    let after = memory(&server, "VmRSS:");
    let each = after.saturating_sub(before) / CONNECTIONS as u64;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(post(&mut client, &path), 200);
    }
    let took = began.elapsed() / 20;
    eprintln!(
        "misuse: {CONNECTIONS} idle connections take {each} bytes each; a request beside them {took:?}"
    );
    assert!(each <= 16 << 10, "{each} bytes a connection");
    assert!(took < Duration::from_secs(1), "{took:?}");
    drop(open);
    wait_for("the connections to be closed", || {
        (metric(&server, "forebay_http_connections") <= 1.0).then_some(())
    });
    is_clean(&server);
    assert!(memory(&server, "VmRSS:") < before + 200 * MB);
}
