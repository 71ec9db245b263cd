//! `forebay buffer`: lines in, a file as the provider, and its inspection commands.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use forebay_test_support::{HttpEndpoint, http_response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{Ended, forebay, forebay_with, run, wait_for};

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The payloads written by the file provider.
fn payloads(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let payload = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["payload"].as_str().unwrap().to_owned()
    };
    text.lines().map(payload).collect()
}

fn send(dir: &Path, more: &[&str], input: &[u8]) -> Ended {
    let file = dir.join("input");
    std::fs::write(&file, input).unwrap();
    let buffer = dir.join("buffer");
    let args = [
        "buffer",
        "send",
        "--dir",
        arg(&buffer),
        "--input",
        arg(&file),
    ];
    forebay_with(&[&args, more].concat())
}

#[test]
fn lines_are_delivered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let input: String = (0..5_000).map(|i| format!("{i}\n")).collect();
    let ended = send(
        dir.path(),
        &["--topic", "t", "--file", arg(&out)],
        input.as_bytes(),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let want: Vec<String> = (0..5_000).map(|i| i.to_string()).collect();
    assert_eq!(payloads(&out), want);
    let buffer = dir.path().join("buffer");
    let ls = forebay_with(&["buffer", "ls", "--json", "--dir", arg(&buffer)]);
    let lanes: Value = serde_json::from_str(&ls.stdout).unwrap();
    assert_eq!(
        (&lanes[0]["lane"], &lanes[0]["waiting"]),
        (&Value::from("t"), &Value::from(0)),
        "{ls:?}"
    );
}

#[test]
fn undelivered_messages_are_listed_and_drained_later() {
    let dir = tempfile::tempdir().unwrap();
    // No server listens there.
    let unavailable = [
        "--topic",
        "t",
        "--http",
        "http://127.0.0.1:1/",
        "--drain",
        "100ms",
    ];
    let ended = send(dir.path(), &unavailable, b"one\ntwo\n");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("forebay buffer drain"), "{ended:?}");
    let buffer = dir.path().join("buffer");
    let stat = forebay_with(&["buffer", "stat", "--dir", arg(&buffer)]);
    assert!(
        stat.stdout.contains("not running") && stat.stdout.contains("stopped"),
        "{stat:?}"
    );
    // Long enough for an attempt: the cause is reported and stored.
    let drain = [
        "buffer",
        "drain",
        "--http",
        "http://127.0.0.1:1/",
        "--drain",
        "1s",
    ];
    let ended = forebay_with(&[&drain[..], &["--dir", arg(&buffer)]].concat());
    let why = "connection refused by 127.0.0.1:1";
    let said = format!("delivered 0 of 2 messages in 1s: {why}");
    assert!(
        ended.code == Some(1) && ended.stderr.contains(&said),
        "{ended:?}"
    );
    let stat = forebay_with(&["buffer", "stat", "--dir", arg(&buffer)]);
    assert!(stat.stdout.contains(why), "{stat:?}");
    let stat = forebay_with(&["buffer", "stat", "--json", "--dir", arg(&buffer)]);
    let figures: Value = serde_json::from_str(&stat.stdout).unwrap();
    assert_eq!(figures["lastError"], why);
    let watch = forebay_with(&[
        "buffer",
        "watch",
        "--count",
        "2",
        "--every",
        "50ms",
        "--dir",
        arg(&buffer),
    ]);
    let lines: Vec<Value> = watch
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        (lines.len(), &lines[1]["lanes"][0]["waiting"]),
        (2, &Value::from(2)),
        "{watch:?}"
    );
    let out = dir.path().join("out");
    let drain = forebay_with(&[
        "buffer",
        "drain",
        "--dir",
        arg(&buffer),
        "--file",
        arg(&out),
    ]);
    assert_eq!(drain.code, Some(0), "{drain:?}");
    assert_eq!(payloads(&out), ["one", "two"]);
}

#[test]
fn invalid_input_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let input = b"{\"topic\":\"t\",\"payload\":\"1\"}\n{\"payload\":2}\nnonsense\n{\"topic\":\"t\",\"payload\":\"3\"}\n";
    let args = ["--format", "ndjson", "--file", arg(&out)];
    let ended = send(dir.path(), &args, input);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("--topic is not set"), "{ended:?}");
    let args = [&args[..], &["--topic", "other", "--skip-invalid"]].concat();
    let ended = send(dir.path(), &args, input);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("message 3 of the input"), "{ended:?}");
    let ended = forebay_with(&["buffer", "ls", "--dir", arg(&dir.path().join("nothing"))]);
    assert!(
        ended.code == Some(1) && ended.stderr.contains("directory of a buffer"),
        "{ended:?}"
    );
}

#[test]
fn byte_order_marks_and_blank_lines_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let input = b"\xEF\xBB\xBF{\"payload\":\"a\"}\r\n\r\n{\"payload\":\"b\"}\n\n";
    let args = ["--format", "ndjson", "--topic", "t", "--file", arg(&out)];
    let ended = send(dir.path(), &args, input);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(payloads(&out), ["a", "b"]);
    let ended = send(dir.path(), &args, b"\xff\xfe{\0}\0\n\0{\0}\0");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("UTF-16"), "{ended:?}");
}

/// Responds 422 to each request with "poison" in its body, 200 to others.
fn picky_endpoint() -> String {
    let endpoint = HttpEndpoint::start(|request, _| {
        let is_poison = request.body.contains("poison");
        http_response(
            if is_poison {
                "422 Unprocessable Content"
            } else {
                "200 OK"
            },
            "",
        )
    });
    endpoint.url("/")
}

#[test]
fn dead_letters_are_listed_shown_replayed_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (url, buffer) = (picky_endpoint(), dir.path().join("buffer"));
    let args = ["--topic", "t", "--http", &url];
    let ended = send(
        dir.path(),
        &args,
        b"one\npoison a\ntwo\npoison b\npoison c\n",
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let dead = |verb: &str, more: &[&str]| {
        let args = ["dead", verb, "--buffer", arg(&buffer)];
        forebay_with(&[&args, more].concat())
    };
    let listed = |ended: &Ended| -> Vec<Value> {
        let lines = ended.stdout.lines();
        lines.map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let dead_letters = listed(&dead("ls", &[]));
    let text = |dead_letter: &Value| {
        dead_letter["message"]["payload"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let texts: Vec<_> = dead_letters.iter().map(text).collect();
    assert_eq!(texts, ["poison a", "poison b", "poison c"]);
    assert!(dead_letters[0]["error"].as_str().unwrap().contains("422"));
    let [a, b, c] = [0, 1, 2].map(|n: usize| dead_letters[n]["number"].to_string());
    let the_same = forebay_with(&[
        "buffer",
        "dead",
        "ls",
        "--dir",
        arg(&buffer),
        "--limit",
        "1",
    ]);
    assert_eq!(listed(&the_same), dead_letters[..1]);
    let shown: Value = serde_json::from_str(&dead("show", &[&b]).stdout).unwrap();
    assert_eq!(shown, dead_letters[1]);
    assert_eq!(dead("show", &["99"]).code, Some(1));
    // They are resolved in order, and only the selected ones.
    let rejected = dead("drop", &[&b]);
    assert_eq!(rejected.code, Some(1), "{rejected:?}");
    assert!(rejected.stderr.contains("is older than"), "{rejected:?}");
    let unknown = dead("drop", &[&a, "99"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert_eq!(listed(&dead("ls", &[])).len(), 3);
    assert_eq!(dead("drop", &[&a]).stdout, "1 dropped\n");
    assert_eq!(
        dead("replay", &[&b]).stdout,
        "1 written to their topics again\n"
    );
    let out = dir.path().join("out");
    let (from, to) = (arg(&buffer), arg(&out));
    let drain = ["buffer", "drain", "--dir", from, "--file", to];
    assert_eq!(forebay_with(&drain).code, Some(0));
    assert_eq!(payloads(&out), ["poison b"]);
    assert_eq!(listed(&dead("ls", &[]))[0]["number"].to_string(), c);
    assert_eq!(
        dead("replay", &["--all"]).stdout,
        "1 written to their topics again\n"
    );
    assert_eq!(dead("drop", &["--all"]).stdout, "0 dropped\n");
    assert_eq!(forebay_with(&drain).code, Some(0));
    assert_eq!(payloads(&out), ["poison b", "poison c"]);
    for (verb, more) in [("replay", &[][..]), ("drop", &["x"]), ("show", &["1", "2"])] {
        assert_eq!(dead(verb, more).code, Some(2), "{verb} {more:?}");
    }
}

/// A running `send` on a FIFO, killed on drop.
struct Sender(Child);

impl Drop for Sender {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_fifo_is_read_until_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, out, buffer) = (
        dir.path().join("fifo"),
        dir.path().join("out"),
        dir.path().join("buffer"),
    );
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let mut command = forebay();
    command.args(["buffer", "send", "--topic", "t", "--dir", arg(&buffer)]);
    command.args(["--file", arg(&out), "--input", arg(&fifo)]);
    let mut sender = Sender(command.stderr(Stdio::piped()).spawn().unwrap());
    for text in ["one", "two"] {
        let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        writeln!(writer, "{text}").unwrap();
        drop(writer);
        wait_for("the message", || {
            payloads(&out).contains(&text.to_owned()).then_some(())
        });
    }
    let status = wait_for("a status with a rate", || {
        let stat = run(forebay().args(["buffer", "stat", "--json", "--dir", arg(&buffer)]));
        let status: Value = serde_json::from_str(&stat.stdout).ok()?;
        (status["lanes"][0]["delivered"] == 2).then_some(status)
    });
    assert_eq!(status["lanes"][0]["state"], "up", "{status}");
    let pid = Pid::from_raw(i32::try_from(sender.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(sender.0.wait().unwrap().code(), Some(0));
    assert_eq!(payloads(&out), ["one", "two"]);
}
