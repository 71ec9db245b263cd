//! `forebay source` commands that change the state of sources and sinks.

use forebay_test_support::HttpClient;

use crate::server::{Server, run};

const RECORD: &str = r#"{"user":"ada"}"#;

fn status(server: &Server, path: &str) -> u16 {
    let mut client = HttpClient::new(server.source);
    let headers = [("Content-Type", "application/json")];
    let response = client.send("POST", path, &headers, RECORD.as_bytes());
    response.unwrap().status
}

fn create(server: &Server) -> String {
    let column = ["--column", "user=path:user"];
    server.ok(&[
        &["source", "create", "Events", "--sink", "in.demo.events"][..],
        &column,
    ]
    .concat());
    server.path("events")
}

#[test]
fn a_source_is_disabled_enabled_deleted_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let path = create(&server);
    assert_eq!(status(&server, &path), 200);

    let said = server.ok(&["source", "disable", "events", "--reason", "too many"]);
    assert_eq!(said, "source events disabled\n");
    assert_eq!(status(&server, &path), 404);
    let listed = server.ok(&["source", "ls"]);
    assert!(listed.contains("disabled"), "{listed}");
    assert_eq!(
        server.ok(&["source", "enable", "events"]),
        "source events enabled\n"
    );
    assert_eq!(status(&server, &path), 200);

    server.ok(&["source", "delete", "events"]);
    assert_eq!(status(&server, &path), 404);
    assert_eq!(
        server.ok(&["source", "undelete", "events"]),
        "source events restored\n"
    );
    assert_eq!(status(&server, &path), 200, "the address is the same");

    let said = server.ok(&["source", "delete", "events/events"]);
    assert_eq!(said, "sink events/events deleted\n");
    server.ok(&["source", "undelete", "events/events"]);
    assert_eq!(status(&server, &path), 200);
    let sql = "SELECT count(*) FROM \"in.demo.events\"";
    let rows = server.ok(&["query", sql, "--wait", "--format", "csv"]);
    assert_eq!(rows.lines().last(), Some("4"), "{rows}");
}

#[test]
fn a_rotated_secret_ends_the_old_address() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let old = create(&server);
    let url = server.ok(&["source", "rotate-secret", "events"]);
    let new = server.path("events");
    assert!(url.trim_end().ends_with(&new), "{url} {new}");
    assert_eq!(status(&server, &old), 404);
    assert_eq!(status(&server, &new), 200);
}

#[test]
fn a_sink_returns_to_an_earlier_version() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    create(&server);
    let changed = dir.path().join("events.yaml");
    let text = "\
sources:
  - name: Events
    sinks:
      - table: in.demo.events
        columns: [{ name: user, type: path, path: user.id }]
";
    std::fs::write(&changed, text).unwrap();
    server.ok(&["apply", "-f", changed.to_str().unwrap()]);
    let versions = server.ok(&["source", "versions", "events/events"]);
    assert_eq!(versions.lines().count(), 4, "{versions}");
    let said = server.ok(&["source", "rollback", "events/events", "1"]);
    assert_eq!(
        said,
        "sink events/events has the content of version 1 again\n"
    );
    let shown = server.ok(&["source", "show", "events"]);
    let column = shown.lines().find(|l| l.starts_with("user")).unwrap();
    assert!(column.ends_with(" user"), "{shown}");
}

#[test]
fn commands_say_which_of_source_and_sink_they_need() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    for (args, hint) in [
        (
            ["source", "pause", "events"],
            "name a sink, like events/orders",
        ),
        (
            ["source", "rotate-secret", "events/orders"],
            "name its source, events",
        ),
    ] {
        let ended = run(&mut server.command(&args));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
}
