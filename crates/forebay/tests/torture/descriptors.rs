//! More connections than open files are allowed: records are accepted or rejected, and nothing is
//! broken afterwards.

use std::net::{SocketAddr, TcpStream};

use forebay_test_support::{HttpClient, SeededRandom};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::server::{Launch, wait_for};
use super::world::{self, balance};

const FILES: u64 = 512;
const CONNECTIONS: usize = 1_200;

/// Idle connections, as many as the server accepts.
fn idle(to: SocketAddr) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect_timeout(&to, std::time::Duration::from_secs(1)).ok();
    (0..CONNECTIONS).map_while(connect).collect()
}

/// A record of 200 KB that can't be compressed to less than half.
fn post(client: &mut HttpClient, path: &str, random: &mut SeededRandom) -> Option<u16> {
    let text: String = (0..12_500)
        .map(|_| format!("{:016x}", random.next_u64()))
        .collect();
    let body = json!({"text": text}).to_string();
    let headers = [("Content-Type", "application/json")];
    let answer = client.send("POST", path, &headers, body.as_bytes());
    answer.ok().map(|answer| answer.status)
}

#[test]
fn idle_connections_do_not_latch_the_log() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut launch = Launch::new(root.path())
        .set("log.segmentSize", "1MB")
        .set("log.spareSegments", 1);
    launch.files = Some(FILES);
    let server = launch.start();
    assert!(
        server.log().contains("limit of open files"),
        "{}",
        server.log()
    );
    let path = world::define_bodies(&server);
    let mut random = SeededRandom::new(1);
    // Connected before the others.
    let mut early = HttpClient::new(server.source);
    let mut stored = 0;
    for port in [server.source, server.api] {
        assert_eq!(post(&mut early, &path, &mut random), Some(200));
        stored += 1;
        let held = idle(port);
        assert!(!held.is_empty());
        // Several segments, over the earlier connection.
        for _ in 0..40 {
            match post(&mut early, &path, &mut random) {
                Some(200) => stored += 1,
                Some(503) => {}
                None => break,
                other => panic!("{other:?}: {}", server.log()),
            }
        }
        drop(held);
        wait_for("a record to be accepted again", || {
            let mut client = HttpClient::new(server.source);
            let taken = post(&mut client, &path, &mut random) == Some(200);
            stored += u64::from(taken);
            taken.then_some(())
        });
        early = HttpClient::new(server.source);
    }
    wait_for("all records in the table", || {
        let balance = balance(&server, "bodies");
        let imported = balance["imported"].as_u64().unwrap();
        (imported >= stored && balance["inFlight"] == 0 && balance["holds"] == Value::Bool(true))
            .then_some(())
    });
    let ready = wait_for("readiness", || server.is_ready().then_some(true));
    assert!(ready);
}
