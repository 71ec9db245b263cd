//! Rejected records as dead letters, replayed by the command line.

use serde_json::Value;

use crate::server::{Server, run};

const EVENTS: &str = "\
sources:
  - name: events
    sinks:
      - table: in.demo.events
        settings: { local.mapping.rejected.action: dead_letter }
        columns:
          - { name: user, type: path, path: user.id, rawString: true }
          - { name: total, type: template, template: 'Body(\"price\") * 2' }
";

/// The sink's dead letters.
fn dead(server: &Server) -> Vec<Value> {
    let said = server.ok(&["dead", "ls", "events", "events", "--json"]);
    serde_json::from_str(&said).unwrap()
}

fn apply(server: &Server, dir: &std::path::Path, text: &str) -> String {
    let file = dir.join("events.yaml");
    std::fs::write(&file, text).unwrap();
    server.ok(&["apply", "-f", file.to_str().unwrap()])
}

#[test]
fn rejected_records_are_replayed_once_after_a_fix_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let said = apply(&server, dir.path(), EVENTS);
    assert!(said.contains("+ sink events/events\n"), "{said}");
    let said = apply(&server, dir.path(), EVENTS);
    assert!(said.contains("= sink events/events"), "{said}");
    let path = server.path("events");
    server.post(&path, r#"{"user":{"id":"ada"},"price":1}"#);
    server.post(&path, r#"{"user":{"id":"bob"}}"#);
    server.post(&path, r#"{"price":3}"#);
    server.post(&path, "no JSON");
    let dead_letters = dead(&server);
    let why: Vec<&str> = dead_letters
        .iter()
        .map(|l| l["error"].as_str().unwrap())
        .collect();
    assert_eq!(
        why,
        [
            "stream.in.pathNotFound",
            "stream.in.pathNotFound",
            "stream.in.badRequest"
        ]
    );
    let id = dead_letters[1]["deadLetterId"].as_str().unwrap().to_owned();
    let shown = server.ok(&["dead", "show", "events", "events", &id]);
    assert!(shown.ends_with("\n{\"price\":3}\n"), "{shown}");
    assert!(
        shown.contains("Column \"user\": path \"user.id\" not found"),
        "{shown}"
    );
    server.kill();

    let server = Server::start(&data);
    assert_eq!(dead(&server).len(), 3, "they outlive the process");
    let last = dead_letters[2]["deadLetterId"].as_str().unwrap();
    let said = server.ok(&["dead", "drop", "events", "events", last]);
    assert_eq!(said, "1 dropped\n");
    let rejected = run(&mut server.command(&["dead", "replay", "events", "events", "--all"]));
    assert_eq!(rejected.code, Some(1), "{rejected:?}");
    assert_eq!(rejected.stdout, "0 replayed, 2 rejected again\n");

    let mended = EVENTS
        .replace("path: user.id,", "path: user.id, defaultValue: nobody,")
        .replace("Body(\"price\") * 2", "Body(\"price\", 0) * 2");
    apply(&server, dir.path(), &mended);
    let said = server.ok(&["dead", "replay", "events", "events", "--all"]);
    assert_eq!(said, "2 replayed, 0 rejected again\n");
    let said = server.ok(&["dead", "replay", "events", "events", "--all"]);
    assert_eq!(said, "0 replayed, 0 rejected again\n");
    let balance = server.settled("events", "events", 3);
    let counts = ["accepted", "imported", "dead", "expired"].map(|n| balance[n].as_u64());
    assert_eq!(counts, [4, 3, 0, 1].map(Some), "{balance}");
    assert_eq!(balance["holds"], true);
    let sql = "SELECT user, total FROM \"in.demo.events\" ORDER BY user";
    assert_eq!(
        server.ok(&["query", sql, "--format", "csv"]),
        "user,total\nada,2\nbob,0\nnobody,6\n"
    );
    assert_eq!(dead(&server).len(), 0);
}
