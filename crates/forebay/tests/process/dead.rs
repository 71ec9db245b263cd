//! Rejected records as dead letters, replayed by the command line.

use serde_json::Value;

use crate::server::{Server, run, wait_for};

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

/// A command on the dead letters of the sink.
fn command(server: &Server, verb: &str, rest: &[&str]) -> String {
    let mut arguments = vec!["dead-letters", verb, "events", "events"];
    arguments.extend(rest);
    server.ok(&arguments)
}

/// The ids of the two most frequent causes: no price, and no user.
fn causes(server: &Server) -> [String; 2] {
    let causes: Value = serde_json::from_str(&command(server, "causes", &["--json"])).unwrap();
    let causes = causes["causes"].as_array().unwrap().clone();
    let counts: Vec<_> = causes
        .iter()
        .map(|c| c["count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [3, 2, 1], "{causes:?}");
    let [no_price, no_user] =
        [0, 1].map(|i: usize| causes[i]["causeId"].as_str().unwrap().to_owned());
    let listed = command(server, "ls", &["--cause", &no_user, "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&listed)
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let found = command(server, "ls", &["--contains", "u2", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&found).unwrap()[0]["causeId"],
        no_price
    );
    [no_price, no_user]
}

/// Exports the records of a cause, and gives them a price.
fn export_with_price(server: &Server, cause: &str, name: &str) {
    command(server, "export", &["--cause", cause, "--output", name]);
    let exported = std::fs::read_to_string(name).unwrap();
    assert_eq!(exported.lines().count(), 3, "{exported}");
    assert_eq!(command(server, "export", &["--cause", cause]), exported);
    let priced = exported.replace(r#"\"}}"}"#, r#"\"},\"price\":5}"}"#);
    assert_ne!(priced, exported);
    std::fs::write(name, &priced).unwrap();
}

/// Imports the file after dry runs, which change nothing.
fn import(server: &Server, name: &str) {
    let dry = command(server, "import", &[name, "--dry-run"]);
    assert!(
        dry.starts_with("3 would be replayed, 0 rejected again\n"),
        "{dry}"
    );
    assert!(dry.contains("u1") && dry.contains("10"), "{dry}");
    assert_eq!(dead(server).len(), 6);
    let unchanged =
        run(&mut server.command(&["dead", "replay", "events", "events", "--all", "--dry-run"]));
    assert_eq!(unchanged.code, Some(1), "{unchanged:?}");
    assert_eq!(unchanged.stdout, "0 would be replayed, 6 rejected again\n");
    assert_eq!(
        command(server, "import", &[name]),
        "3 replayed, 0 rejected again\n"
    );
}

/// Edits the first record of a cause in an editor.
fn edit_first(server: &Server, cause: &str) {
    let listed = command(server, "ls", &["--cause", cause, "--json"]);
    let id = serde_json::from_str::<Value>(&listed).unwrap()[0]["deadLetterId"].clone();
    let id = id.as_str().unwrap();
    let mut edit = server.command(&["dead", "edit", "events", "events", id]);
    edit.env("EDITOR", "sed -i 's/{/{\"user\":{\"id\":\"eve\"},/'");
    let edited = run(&mut edit);
    assert_eq!(
        edited.stdout, "1 replayed, 0 rejected again\n",
        "{edited:?}"
    );
}

#[test]
fn dead_letters_are_grouped_exported_edited_and_imported_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    apply(&server, dir.path(), EVENTS);
    assert_eq!(server.ok(&["dead", "ls", "--json"]), "[]\n");
    let path = server.path("events");
    // Three without a price, two without a user, one that is no JSON.
    for n in 1..=3 {
        server.post(&path, &format!("{{\"user\":{{\"id\":\"u{n}\"}}}}"));
    }
    server.post(&path, r#"{"price":3}"#);
    server.post(&path, r#"{"price":4}"#);
    server.post(&path, "no JSON");
    let [no_price, no_user] = causes(&server);
    wait_for("the counts of the sinks", || {
        let sinks = server.ok(&["dead", "ls"]);
        sinks.contains("6").then_some(())
    });
    let file = dir.path().join("letters.ndjson");
    let name = file.to_str().unwrap();
    export_with_price(&server, &no_price, name);
    import(&server, name);
    // The same file again, also after a kill: nothing is delivered twice.
    let again = run(&mut server.command(&["dead", "import", "events", "events", name]));
    assert_eq!(again.stdout, "0 replayed, 0 rejected again\n");
    assert!(
        again
            .stderr
            .contains("3 skipped: they were replayed or dropped before"),
        "{again:?}"
    );
    server.kill();
    let server = Server::start(&data);
    let again = command(&server, "import", &[name]);
    assert_eq!(again, "0 replayed, 0 rejected again\n");
    // One is edited by hand, the others of its cause are dropped, and so is the last by a filter.
    edit_first(&server, &no_user);
    assert_eq!(
        command(&server, "drop", &["--cause", &no_user]),
        "1 dropped\n"
    );
    assert_eq!(
        command(&server, "drop", &["--error", "badRequest", "--since", "1h"]),
        "1 dropped\n"
    );
    let balance = server.settled("events", "events", 4);
    let counts = ["accepted", "imported", "dead", "expired"].map(|n| balance[n].as_u64());
    assert_eq!(counts, [6, 4, 0, 2].map(Some), "{balance}");
    let sql = "SELECT user, total FROM \"in.demo.events\" ORDER BY user";
    assert_eq!(
        server.ok(&["query", sql, "--format", "csv"]),
        "user,total\neve,6\nu1,10\nu2,10\nu3,10\n"
    );
    std::fs::write(&file, "{\"body\":\"\"}\n").unwrap();
    let wrong = run(&mut server.command(&["dead", "import", "events", "events", name]));
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(
        wrong
            .stderr
            .contains("line 1: missing field `deadLetterId`"),
        "{wrong:?}"
    );
}
