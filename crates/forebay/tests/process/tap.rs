//! `forebay tap`: live records of a running server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use crate::server::{Server, forebay, run, wait_for};

const DEFINITIONS: &str = "\
sources:
  - name: Events
    sinks:
      - table: in.demo.events
        settings: { local.mapping.rejected.action: dead_letter }
        columns:
          - { name: user, type: path, path: user.id }
          - { name: headers, type: headers }
      - table: in.demo.strict
        columns:
          - { name: n, type: path, path: n }
";

/// Lines of a running `forebay tap`, until it ends.
struct Tap {
    child: Child,
    lines: Receiver<String>,
    said: Receiver<String>,
}

/// Lines of a stream, read by a thread.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(1000);
    std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines();
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Tap {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut args = args.to_vec();
        args.insert(0, "tap");
        let mut command = server.command(&args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let said = lines_of(child.stderr.take().unwrap());
        Self { child, lines, said }
    }

    /// The next line of standard output.
    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    fn stderr_line(&self) -> String {
        self.said.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    /// Whether it says nothing for a moment: it was not refused.
    fn is_open(&self) -> bool {
        self.said.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout)
    }

    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.said.iter().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn started(dir: &Path, settings: &[(&str, &str)]) -> (Server, String) {
    let change = |command: &Command| {
        let mut changed = forebay();
        changed
            .args(command.get_args())
            .envs(settings.iter().copied());
        changed
    };
    let server = Server::start_by(change, &dir.join("data"));
    let file = dir.join("events.yaml");
    std::fs::write(&file, DEFINITIONS).unwrap();
    server.ok(&["apply", "-f", file.to_str().unwrap()]);
    let path = server.path("events");
    (server, path)
}

/// Waits until so many taps were opened.
fn wait_for_taps(server: &Server, count: usize) {
    wait_for("an audit entry of the tap", || {
        let audit = server.api_get("/v1/admin/audit");
        let changes = audit["changes"].as_array().unwrap().iter();
        (changes.filter(|c| c["action"] == "tap").count() == count).then_some(())
    });
}

fn send(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers);
    let sent = HttpClient::new(server.source).send("POST", path, &all, body.as_bytes());
    sent.unwrap().status
}

#[test]
fn received_records_are_filtered_redacted_and_audited() {
    let dir = tempfile::tempdir().unwrap();
    let (server, path) = started(dir.path(), &[]);
    let args = [
        "events",
        "--json",
        "--filter",
        "user.id=ada",
        "--redact",
        "user.mail",
    ];
    let tap = Tap::start(&server, &[&args[..], &["--limit", "2"]].concat());
    wait_for_taps(&server, 1);
    let secret = [("Authorization", "Bearer sesame-opens")];
    send(&server, &path, &secret, "{\"user\":{\"id\":\"bob\"}}");
    let body = "{\"user\":{\"id\":\"ada\",\"mail\":\"ada@example.org\"},\"n\":1.10}";
    send(&server, &path, &secret, body);
    let line = tap.line();
    assert!(
        line.contains("\"body\":{\"user\":{\"id\":\"ada\",\"mail\":\"[redacted]\"},\"n\":1.10}"),
        "{line}"
    );
    assert!(line.contains("\"Authorization\":\"[redacted]\""), "{line}");
    assert!(!line.contains("sesame") && !line.contains("ada@"), "{line}");
    // A batch is records.
    let batch = "{\"user\":{\"id\":\"x\"}}\n{\"user\":{\"id\":\"ada\"}}\n";
    let ndjson = [("Content-Type", "application/x-ndjson")];
    let sent = HttpClient::new(server.source).send("POST", &path, &ndjson, batch.as_bytes());
    assert!(sent.unwrap().status < 500);
    let record: Value = serde_json::from_str(&tap.line()).unwrap();
    assert_eq!(
        (&record["line"], &record["body"]["user"]["id"]),
        (&json!(2), &json!("ada"))
    );
    assert_eq!(tap.end(), (Some(0), String::new()));

    let audit = server.api_get("/v1/admin/audit");
    let changes = audit["changes"].as_array().unwrap();
    let entry = changes.iter().find(|c| c["action"] == "tap").unwrap();
    assert_eq!(entry["sourceId"], "events", "{entry}");
}

#[test]
fn rows_and_rejected_records_are_shown_by_sink() {
    let dir = tempfile::tempdir().unwrap();
    let (server, path) = started(dir.path(), &[]);
    let rows = Tap::start(
        &server,
        &["events/events", "--stage", "row", "--limit", "1", "--json"],
    );
    wait_for_taps(&server, 1);
    let dead = Tap::start(&server, &["events", "--stage", "dead", "--limit", "2"]);
    wait_for_taps(&server, 2);
    let secret = [("X-Api-Key", "open-sesame")];
    send(
        &server,
        &path,
        &secret,
        "{\"user\":{\"id\":\"ada\"},\"n\":1}",
    );
    let row: Value = serde_json::from_str(&rows.line()).unwrap();
    assert_eq!(row["sinkId"], "events");
    assert_eq!(row["row"]["user"], "ada");
    let headers = row["row"]["headers"].as_str().unwrap();
    assert!(
        headers.contains("[redacted]") && !headers.contains("sesame"),
        "{headers}"
    );
    assert_eq!(rows.end().0, Some(0));

    send(&server, &path, &[], "{\"other\":1}");
    let both = [dead.line(), dead.line(), dead.line(), dead.line()].join("\n");
    for expected in [
        "events  127.0.0.1  dead letter: column \"user\": path \"user.id\" not found",
        "strict  127.0.0.1  rejected: column \"n\": path \"n\" not found",
        "  {\"other\":1}",
    ] {
        assert!(both.contains(expected), "{both}");
    }
    assert_eq!(dead.end().0, Some(0));
}

#[test]
fn a_tap_is_bounded_and_loses_samples_instead_of_records() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("FOREBAY_API_MAX_TAPS", "1"),
        ("FOREBAY_API_TAP_RECORDS_PER_SECOND", "20"),
    ];
    let (server, path) = started(dir.path(), &settings);
    // A client that never reads.
    let mut idle = TcpStream::connect(server.api).unwrap();
    let request = format!(
        "GET /v1/branches/default/sources/events/tap HTTP/1.1\r\nHost: x\r\nX-StorageApi-Token: {}\r\n\r\n",
        server.token()
    );
    idle.write_all(request.as_bytes()).unwrap();
    wait_for_taps(&server, 1);
    let refused = run(&mut server.command(&["tap", "events"]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("setting api.maxTaps"),
        "{refused:?}"
    );
    drop(idle);

    let tap = wait_for("the end of the first tap", || {
        let tap = Tap::start(&server, &["events"]);
        tap.is_open().then_some(tap)
    });
    let batch = "{\"user\":{\"id\":\"ada\"},\"n\":1}\n".repeat(500);
    let ndjson = [("Content-Type", "application/x-ndjson")];
    let sent = HttpClient::new(server.source).send("POST", &path, &ndjson, batch.as_bytes());
    assert_eq!(sent.unwrap().status, 200);
    let lost = tap.stderr_line();
    let (lost, _) = lost
        .strip_prefix("skipped ")
        .and_then(|l| l.split_once(" record"))
        .unwrap();
    let lost: u64 = lost.parse().unwrap();
    assert!((400..500).contains(&lost), "{lost}");
    let mut shown = 0;
    while shown + lost < 500 {
        tap.line();
        shown += 1;
    }
    // A stop does not wait for it.
    server.signal("TERM");
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
    assert_eq!(tap.end().0, Some(1));
}

#[test]
fn wrong_uses_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = started(dir.path(), &[]);
    for (args, code, expected) in [
        (
            &["events/events"][..],
            2,
            "a sink has no records of stage in",
        ),
        (
            &["events", "--filter", "a"],
            1,
            "Filter \"a\": allowed are PATH=VALUE",
        ),
        (&["events", "--redact", "$[?]"], 1, "Redact path \"$[?]\""),
        (&["nope"], 1, "\"nope\" not found"),
        (&["events/nope", "--stage", "row"], 1, "\"nope\" not found"),
    ] {
        let mut command = server.command(&[&["tap"], args].concat());
        let said = run(&mut command);
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.stderr.contains(expected), "{args:?}: {said:?}");
    }
    assert!(
        server.api_get("/v1/admin/audit")["changes"]
            .to_string()
            .find("\"tap\"")
            .is_none()
    );
}
