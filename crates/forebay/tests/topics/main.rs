//! Topic sinks with the real binary, a real Kafka broker and a real HTTP server: acknowledged records
//! are in the table, in the topic and at the endpoint, however often the server is killed.
#![allow(
    clippy::unwrap_used,
    reason = "what is only used by tests may fail as tests do"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process waits for it with the real clock; each wait is for a condition"
)]

mod endpoint;
mod kafka;
mod letters;
mod life;
mod retry;
#[allow(dead_code, reason = "the tests of the process use the rest of it")]
#[path = "../process/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use endpoint::Endpoint;
use forebay_test_support::HttpClient;
use serde_json::Value;
use server::{Server, wait_for};

/// Number of kills.
const KILLS: usize = 4;
/// Records between two kills.
const RECORDS: u64 = 300;
/// Most repeated messages at the endpoint after each kill: far fewer than there are records.
const WINDOW: usize = 40;

const DEFINITIONS: &str = "
sources:
  - name: events
    sinks:
      - table: in.test.events
        columns:
          - { name: n, type: path, path: n }
      - name: hooks
        http:
          provider: hook
          message:
            headers: [{ name: X-N, type: path, path: n }]
      - name: orders
        kafka:
          provider: main
          topic: TOPIC
          message:
            key: { type: static, value: k }
            fields:
              - { name: n, type: path, path: n }
              - { name: ip, type: ip }
";

fn configure(dir: &Path, brokers: &str, endpoint: &Endpoint) {
    let text = format!(
        "providers:\n  - {{name: main, type: kafka, brokers: '{brokers}', transactions: true}}\n  - {{name: hook, type: http, url: '{}', token: hush-hush}}\ntopics: {{backoffMax: 200ms, batchMessages: 20, inFlightMessages: {WINDOW}, repeatWindow: {WINDOW}}}\n",
        endpoint.url()
    );
    std::fs::write(dir.join("forebay.yaml"), text).unwrap();
}

fn start(dir: &Path) -> Server {
    let config = dir.join("forebay.yaml");
    Server::start_with(&dir.join("data"), &["--config", config.to_str().unwrap()])
}

fn apply(server: &Server, dir: &Path, definitions: &str) -> String {
    let file = dir.join("definitions.yaml");
    std::fs::write(&file, definitions).unwrap();
    server.ok(&["apply", "--file", file.to_str().unwrap()])
}

fn delivery(server: &Server, sink: &str) -> Value {
    let path = format!("/v1/branches/default/sources/events/sinks/{sink}/statistics/delivery");
    server.api_get(&path)
}

fn drained(server: &Server, sink: &str) -> Value {
    wait_for("the delivery of all", || {
        let delivery = delivery(server, sink);
        (delivery["lag"]["records"] == 0).then_some(delivery)
    })
}

fn post(server: &Server, path: &str, n: u64) -> bool {
    let headers = [("Content-Type", "application/json")];
    let body = format!("{{\"n\":{n}}}");
    let answer = HttpClient::new(server.source).send("POST", path, &headers, body.as_bytes());
    answer.is_ok_and(|a| a.status == 200)
}

/// Four senders, and a SIGKILL while they send. Returns the acknowledged numbers and the next one.
fn post_until_killed(server: &Server, path: &str, first: u64) -> (Vec<u64>, u64) {
    let next = AtomicU64::new(first);
    let (done, killed) = (AtomicU64::new(0), AtomicBool::new(false));
    let worker = || {
        let mut mine = Vec::new();
        while !killed.load(Ordering::Acquire) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if post(server, path, n) {
                mine.push(n);
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        mine
    };
    let acknowledged = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        wait_for("records", || {
            (done.load(Ordering::Relaxed) >= RECORDS).then_some(())
        });
        server.signal("KILL");
        killed.store(true, Ordering::Release);
        let all = workers.into_iter().flat_map(|w| w.join().unwrap());
        all.collect()
    });
    (acknowledged, next.into_inner())
}

/// The rows of the table in order of arrival.
fn rows(data: &Path) -> Vec<u64> {
    let db = rusqlite::Connection::open(data.join("tables.db")).unwrap();
    let mut query = db.prepare("select n from \"in.test.events\"").unwrap();
    let found = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    found.map(|n| n.unwrap().parse().unwrap()).collect()
}

#[test]
fn kills_lose_and_repeat_nothing_of_what_was_acknowledged() {
    let name = "kills_lose_and_repeat_nothing_of_what_was_acknowledged";
    let Some(brokers) = forebay_test_support::services::kafka(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka::make_topic(&brokers, "topics-kill");
    let endpoint = Endpoint::start();
    configure(dir.path(), &brokers, &endpoint);
    let mut server = start(dir.path());
    let said = apply(&server, dir.path(), &DEFINITIONS.replace("TOPIC", &topic));
    assert!(said.contains("sink events/orders"), "{said}");
    let path = server.path("events");
    let mut acknowledged = BTreeSet::new();
    let mut sent = 0;
    for kill in 0..KILLS {
        endpoint.set_down(kill % 2 == 1);
        let (mine, next) = post_until_killed(&server, &path, sent);
        acknowledged.extend(mine);
        sent = next;
        drop(server);
        server = start(dir.path());
    }
    endpoint.set_down(false);
    for sink in ["orders", "hooks"] {
        let delivery = drained(&server, sink);
        assert_eq!(delivery["accepted"], delivery["delivered"], "{delivery}");
        let balance = server.balance("events", sink);
        assert_eq!(balance["holds"], true, "{balance}");
    }
    server.settled("events", "events", acknowledged.len());
    let number = |value: &Value| value["n"].as_u64().unwrap();
    let messages = kafka::read_all(&brokers, &topic);
    let in_topic: Vec<u64> = messages
        .iter()
        .map(|m| number(&serde_json::from_slice(m).unwrap()))
        .collect();
    complete("the topic", &acknowledged, &in_topic, sent);
    let data = dir.path().join("data");
    let in_table = rows(&data);
    complete("the table", &acknowledged, &in_table, sent);
    let (at_endpoint, repeated) = endpoint.seen();
    complete("the endpoint", &acknowledged, &at_endpoint, sent);
    // After a kill only messages sent since the cursor was last on disk are repeated.
    assert!(repeated <= WINDOW * KILLS, "{repeated} repeated");
    println!(
        "{} acknowledged of {sent}, {} in the topic, {repeated} repeated at the endpoint",
        acknowledged.len(),
        in_topic.len()
    );
}

/// Each acknowledged number is there once, and nothing that was never sent.
fn complete(place: &str, acknowledged: &BTreeSet<u64>, found: &[u64], sent: u64) {
    let all: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(all.len(), found.len(), "{place} has duplicates");
    let lost: Vec<_> = acknowledged.difference(&all).collect();
    assert!(lost.is_empty(), "{place} lost {lost:?}");
    assert!(
        all.iter().all(|n| *n < sent),
        "{place} has records that were never sent"
    );
}

#[test]
fn a_paused_topic_collects_over_a_restart_and_goes_on_in_order() {
    let name = "a_paused_topic_collects_over_a_restart_and_goes_on_in_order";
    let Some(brokers) = forebay_test_support::services::kafka(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka::make_topic(&brokers, "topics-pause");
    let endpoint = Endpoint::start();
    configure(dir.path(), &brokers, &endpoint);
    let server = start(dir.path());
    let definitions = DEFINITIONS.replace("TOPIC", &topic);
    apply(&server, dir.path(), &definitions);
    let said = apply(&server, dir.path(), &definitions);
    assert!(said.contains("0 created, 0 changed, 0 deleted"), "{said}");
    let path = server.path("events");
    assert!((0..5).all(|n| post(&server, &path, n)));
    drained(&server, "orders");
    server.ok(&["source", "pause", "events/orders", "--reason", "moving"]);
    assert!((5..20).all(|n| post(&server, &path, n)));
    drained(&server, "hooks");
    let shown = server.ok(&["source", "show", "events"]);
    assert!(shown.contains("paused: moving"), "{shown}");
    assert!(shown.contains("15 waiting"), "{shown}");
    server.kill();
    let server = start(dir.path());
    let paused = delivery(&server, "orders");
    assert_eq!(paused["provider"]["state"], "paused", "{paused}");
    assert_eq!(paused["lag"]["records"], 15, "{paused}");
    assert_eq!(kafka::read_all(&brokers, &topic).len(), 5);
    server.ok(&["source", "resume", "events/orders"]);
    let delivered = drained(&server, "orders");
    assert_eq!(delivered["delivered"], 20, "{delivered}");
    let messages = kafka::read_all(&brokers, &topic);
    let wanted: Vec<String> = (0..20)
        .map(|n| format!("{{\"n\":{n},\"ip\":\"127.0.0.1\"}}"))
        .collect();
    let got: Vec<_> = messages
        .iter()
        .map(|m| String::from_utf8_lossy(m))
        .collect();
    assert_eq!(got, wanted, "in order");
    let config = server.ok(&[
        "config",
        "show",
        "--config",
        dir.path().join("forebay.yaml").to_str().unwrap(),
    ]);
    assert!(!config.contains("hush-hush"), "{config}");
    // The stream of a deleted sink is deleted after its delivery.
    endpoint.set_down(true);
    assert!(post(&server, &path, 20));
    server.ok(&["source", "delete", "events"]);
    endpoint.set_down(false);
    wait_for("the last message", || {
        endpoint.seen().0.contains(&20).then_some(())
    });
    wait_for("the removal of the streams", || {
        let streams = server.ok(&["log", "ls"]);
        (!streams.contains("topic/")).then_some(())
    });
    server.signal("TERM");
    assert!(server.end().0.success());
}

#[test]
fn a_rejected_message_becomes_a_dead_letter_and_delivery_continues() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    configure(dir.path(), "127.0.0.1:1", &endpoint);
    let server = start(dir.path());
    apply(&server, dir.path(), &DEFINITIONS.replace("TOPIC", "none"));
    let path = server.path("events");
    endpoint.refuse(3);
    assert!((0..8).all(|n| post(&server, &path, n)));
    let delivery = drained(&server, "hooks");
    assert_eq!(
        (&delivery["delivered"], &delivery["dead"]),
        (&7.into(), &1.into())
    );
    let (seen, _) = endpoint.seen();
    assert_eq!(seen, [0, 1, 2, 4, 5, 6, 7]);
    assert_eq!(server.balance("events", "hooks")["holds"], true);
    dead_letters_are_shown_replayed_and_dropped(&server, &endpoint, &path);
    let down = wait_for("the state of Kafka", || {
        let delivery = self::delivery(&server, "orders");
        (delivery["provider"]["state"] == "down").then_some(delivery)
    });
    assert_eq!(down["lag"]["records"], 10, "{down}");
}

fn dead_letters_are_shown_replayed_and_dropped(server: &Server, endpoint: &Endpoint, path: &str) {
    let listed = || -> Vec<Value> {
        let text = server.ok(&["dead", "ls", "events", "hooks", "--json"]);
        serde_json::from_str(&text).unwrap()
    };
    let id = |letter: &Value| letter["deadLetterId"].as_str().unwrap().to_owned();
    let first = listed();
    assert_eq!(first.len(), 1, "{first:?}");
    let shown = server.ok(&["dead", "show", "events", "hooks", &id(&first[0])]);
    assert!(
        shown.contains("{\"n\":3}") && shown.contains("X-N: 3"),
        "{shown}"
    );
    endpoint.refuse(8);
    endpoint.refuse(9);
    assert!((8..10).all(|n| post(server, path, n)));
    assert_eq!(drained(server, "hooks")["dead"], 3);
    let all = listed();
    // Any dead letter, not only the oldest.
    server.ok(&["dead", "drop", "events", "hooks", &id(&all[1])]);
    let again = ["dead", "replay", "events", "hooks", &id(&all[1])];
    let rejected = server::run(&mut server.command(&again));
    assert!(rejected.stderr.contains("not found"), "{rejected:?}");
    // A message that is rejected again remains a dead letter; an accepted one is delivered.
    endpoint.accept(3);
    server.ok(&["dead", "replay", "events", "hooks", &id(&all[0])]);
    let delivery = drained(server, "hooks");
    assert_eq!(
        (
            &delivery["accepted"],
            &delivery["delivered"],
            &delivery["dead"],
            &delivery["discarded"]
        ),
        (&10.into(), &8.into(), &1.into(), &1.into())
    );
    assert_eq!(endpoint.seen().0, [0, 1, 2, 4, 5, 6, 7, 3]);
    server.ok(&["dead", "replay", "events", "hooks", "--all"]);
    let delivery = drained(server, "hooks");
    assert_eq!(
        (&delivery["accepted"], &delivery["dead"]),
        (&10.into(), &1.into())
    );
    server.ok(&["dead", "drop", "events", "hooks", "--all"]);
    assert!(listed().is_empty());
    let balance = server.balance("events", "hooks");
    assert_eq!(
        (&balance["holds"], &balance["dead"]),
        (&true.into(), &0.into())
    );
}
