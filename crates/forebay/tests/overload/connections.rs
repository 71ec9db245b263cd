//! Clients that dawdle, and those that do nothing at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::define;
use crate::server::{Server, wait_for};

const IDLE: usize = 10_000;

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.source).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// What comes until the connection ends.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A reset is an end, too.
    drop(stream.read_to_string(&mut text));
    text
}

#[test]
fn slow_senders_are_cut_off_and_nobody_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(
        dir.path(),
        &[
            "--set",
            "source.http.requestTimeout=1s",
            "--set",
            "source.http.headerReadTimeout=1s",
        ],
    );
    let path = define(&server, "slow", &[]);
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n");
    // A head that does not end, a body that stops half way, a body of a byte at a time.
    let mut endless_head = connect(&server);
    endless_head.write_all(head.as_bytes()).unwrap();
    let mut half = connect(&server);
    half.write_all(format!("{head}\r\n{{\"n\":").as_bytes())
        .unwrap();
    let mut drip = connect(&server);
    drip.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let begun = Instant::now();
    let mut sent = 0;
    let dripping = std::thread::spawn(move || {
        // Until the server has had enough: the write after its close fails.
        while drip.write_all(b" ").is_ok() && sent < 300 {
            sent += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        rest(drip)
    });
    // Meanwhile everybody else is served.
    let mut posted = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        posted += 1;
        server.post(&path, &format!("{{\"n\":{posted}}}"));
    }
    let half = rest(half);
    assert!(half.starts_with("HTTP/1.1 408 "), "{half}");
    assert!(half.contains("stream.in.requestTimeout"), "{half}");
    let endless = rest(endless_head);
    assert!(
        endless.is_empty() || endless.starts_with("HTTP/1.1 408 "),
        "{endless}"
    );
    let dripped = dripping.join().unwrap();
    assert!(
        dripped.is_empty() || dripped.starts_with("HTTP/1.1 408 "),
        "{dripped}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "the byte limit of the dripping client was not what ended it"
    );
    server.settled("slow", "slow", posted);
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_hold_nobody_up() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let enough = limit.maximum.is_none_or(|n| n > IDLE as u64 + 500);
    if !enough {
        // Nothing that a test could change.
        println!(
            "SKIPPED: the system allows only {:?} open files",
            limit.maximum
        );
        assert!(std::env::var_os("CI").is_none(), "CI must allow {IDLE}");
        return;
    }
    let mut raised = limit;
    raised.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--set", "source.http.idleTimeout=10m"]);
    let path = define(&server, "idle", &[]);
    server.post(&path, "{\"n\":0}");
    let before = server.rss_kb();
    let connections: Vec<TcpStream> = (0..IDLE).map(|_| connect(&server)).collect();
    let open = || {
        let metrics = server.get("/metrics").1;
        let mut lines = metrics.lines();
        let line = lines.find(|l| l.starts_with("forebay_http_connections "))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    wait_for("all connections", || {
        open().filter(|n| *n >= IDLE as f64).map(drop)
    });
    let each = (server.rss_kb() - before) as f64 / IDLE as f64;
    println!("{each:.1} KB for each idle connection");
    assert!(each < 8.0, "{each} KB for each idle connection");
    let begun = Instant::now();
    for n in 1..=100 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    // They are still good for something.
    let mut last = connections.into_iter().next_back().unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{\"n\":101}}"
    );
    last.write_all(request.as_bytes()).unwrap();
    assert!(rest(last).starts_with("HTTP/1.1 200 "));
    server.settled("idle", "idle", 102);
}
