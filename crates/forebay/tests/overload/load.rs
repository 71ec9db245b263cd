//! Many times the rate that can be sustained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http::Client;
use crate::server::Server;
use crate::{count, define, rows};

/// What is sent with each record, so that bytes in flight and not requests are what is short.
const PADDING: usize = 64 << 10;
/// So much may be in flight, and so long each sync takes at least: 10 MB/s can be sustained.
const LIMITS: [&str; 8] = [
    "--set",
    "source.http.maxBytesInFlight=1MB",
    "--set",
    "source.http.maxRequestBodySize=100KB",
    "--set",
    "source.http.maxInflatedBodySize=100KB",
    "--set",
    "log.syncInterval=100ms",
];

/// What a number of clients met.
#[derive(Default)]
struct Met {
    accepted: Vec<u64>,
    refused: u64,
    millis: Vec<u128>,
}

/// Each client posts again as soon as it is answered, or after a pause.
fn run(
    address: SocketAddr,
    path: &str,
    clients: usize,
    pause: Duration,
    seconds: u64,
    numbers: &Arc<AtomicU64>,
) -> Met {
    let stop = Arc::new(AtomicBool::new(false));
    let padding = "x".repeat(PADDING);
    let work = || {
        let mut client = Client::new(address);
        let mut met = Met::default();
        while !stop.load(Ordering::Relaxed) {
            let n = numbers.fetch_add(1, Ordering::Relaxed);
            let body = format!("{{\"n\":{n},\"padding\":\"{padding}\"}}");
            let headers = [("Content-Type", "application/json")];
            let sent = Instant::now();
            let answer = client.send("POST", path, &headers, body.as_bytes());
            let answer = answer.expect("an answer, whatever it says");
            match answer.status {
                200 => {
                    met.accepted.push(n);
                    met.millis.push(sent.elapsed().as_millis());
                }
                429 => {
                    assert_eq!(answer.header("retry-after"), Some("1"), "a hint");
                    met.refused += 1;
                }
                other => panic!("{other}: {}", String::from_utf8_lossy(&answer.body)),
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        met
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        let mut all = Met::default();
        for client in clients {
            let met = client.join().unwrap();
            all.accepted.extend(met.accepted);
            all.refused += met.refused;
            all.millis.extend(met.millis);
        }
        all.millis.sort_unstable();
        all
    })
}

impl Met {
    fn p99(&self) -> u128 {
        self.millis[self.millis.len() * 99 / 100]
    }
}

#[test]
fn too_much_is_refused_with_a_hint_in_bounded_memory_and_what_is_accepted_is_as_fast() {
    let seconds = std::env::var("FOREBAY_OVERLOAD_SECONDS");
    let seconds = seconds.map_or(5, |s| s.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &LIMITS);
    let path = define(&server, "load", &["--column", "all=body"]);
    let numbers = Arc::new(AtomicU64::new(0));
    let at = |clients, pause, seconds| {
        let pause = Duration::from_millis(pause);
        run(server.source, &path, clients, pause, seconds, &numbers)
    };
    let calm = at(3, 50, 2);
    assert_eq!(calm.refused, 0, "a rate that can be sustained");
    let before = server.peak_kb();
    let flood = at(60, 20, seconds);
    let sustained = flood.accepted.len() as f64 / seconds as f64;
    let demanded = (flood.refused as f64 + flood.accepted.len() as f64) / seconds as f64;
    println!(
        "{demanded:.0} requests/s demanded, {sustained:.0} accepted; p99 {} ms, calm {} ms; peak {} KB, calm {before} KB",
        flood.p99(),
        calm.p99(),
        server.peak_kb()
    );
    let times = demanded / sustained;
    assert!(times > 10.0, "{times:.0} times what can be sustained");
    // The budget, once more for what the sockets and the parser hold, and the threads' own.
    let allowed = before + (3 + 60 * 2 * 64 / 1024 + 32) * 1024;
    assert!(server.peak_kb() < allowed, "{} KB", server.peak_kb());
    // 60 clients share two cores with the server; a queue that grew would take seconds.
    assert!(
        flood.p99() < 5 * calm.p99().max(200),
        "accepted ones wait {} ms instead of {} ms",
        flood.p99(),
        calm.p99()
    );
    let mut accepted = [calm.accepted, flood.accepted].concat();
    accepted.sort_unstable();
    let balance = server.settled("load", "load", accepted.len());
    assert_eq!(count(&balance, "imported"), accepted.len() as u64);
    assert_eq!(rows(&server, "load"), accepted);
}
