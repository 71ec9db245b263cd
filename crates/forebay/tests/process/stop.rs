//! Graceful stops and kills: no acknowledged record is lost or duplicated.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use forebay_test_support::HttpClient;

use crate::server::{Server, wait_for};

/// Clients that post numbered records until the server stops responding.
struct Load {
    acknowledged: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(source: SocketAddr, path: &str, run: u32) -> Self {
        let (acknowledged, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let clients = (0..4).map(|client| {
            let (path, acknowledged, stop) = (
                path.to_owned(),
                Arc::clone(&acknowledged),
                Arc::clone(&stop),
            );
            std::thread::spawn(move || {
                let mut http = HttpClient::new(source);
                let headers = [("Content-Type", "application/json")];
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("{run}-{client}-{n}");
                    let body = format!("{{\"n\": \"{id}\"}}");
                    match http.send("POST", &path, &headers, body.as_bytes()) {
                        Ok(answer) if answer.status == 200 => acknowledged.lock().unwrap().push(id),
                        Ok(_) | Err(_) => return,
                    }
                }
            })
        });
        let clients = clients.collect();
        Self {
            acknowledged,
            stop,
            clients,
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        let all = self.acknowledged.lock().unwrap();
        all.clone()
    }
}

fn define(server: &Server) -> String {
    server.ok(&[
        "source",
        "create",
        "events",
        "--sink",
        "in.test.events",
        "--column",
        "n=path:n",
    ]);
    server.path("events")
}

/// Each acknowledged record is there once, and none is duplicated.
fn verify(data: &Path, acknowledged: &[String]) {
    let db = rusqlite::Connection::open(data.join("tables.db")).unwrap();
    let mut query = db.prepare("SELECT n FROM \"in.test.events\"").unwrap();
    let mut seen: HashMap<String, u32> = HashMap::new();
    for n in query.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        *seen.entry(n.unwrap()).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| !seen.contains_key(*id))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {:?}",
        lost.len(),
        acknowledged.len(),
        &lost[..lost.len().min(5)]
    );
}

#[test]
fn a_stop_under_load_loses_nothing_and_ends_with_success() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = define(&server);
    let load = Load::start(server.source, &path, 0);
    wait_for("some load", || (load.count() > 300).then_some(()));
    server.signal("TERM");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"stopped\""), "{log}");
    let acknowledged = load.end();
    let server = Server::start(dir.path());
    let balance = server.settled("events", "events", acknowledged.len());
    assert_eq!(balance["holds"], true, "{balance}");
    verify(dir.path(), &acknowledged);
}

#[test]
fn a_kill_under_load_loses_and_duplicates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let path = define(&server);
    let mut acknowledged = Vec::new();
    for run in 0..3 {
        let load = Load::start(server.source, &path, run);
        wait_for("some load", || (load.count() > 200).then_some(()));
        server.signal("KILL");
        let (status, _) = server.end();
        assert_eq!(status.code(), None);
        acknowledged.extend(load.end());
        server = Server::start(dir.path());
    }
    let balance = server.settled("events", "events", acknowledged.len());
    assert_eq!(balance["holds"], true, "{balance}");
    verify(dir.path(), &acknowledged);
}

#[test]
fn a_second_signal_stops_immediately() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--set", "shutdown.grace=10m"]);
    let path = define(&server);
    // A request that never ends delays the stop.
    let mut slow = std::net::TcpStream::connect(server.source).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
    );
    std::io::Write::write_all(&mut slow, head.as_bytes()).unwrap();
    server.signal("INT");
    wait_for("the stop", || {
        server.log().contains("stopping").then_some(())
    });
    server.signal("INT");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(130), "{log}");
}
