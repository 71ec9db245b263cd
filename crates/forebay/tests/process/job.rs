//! `forebay job` and `forebay lookup` as processes: exit codes, summaries, signals.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use forebay_test_support::{HttpEndpoint, http_response};
use serde_json::Value;

use crate::server::{forebay, forebay_with, run, wait_for};

const COLUMNS: &str = "[{ name: id, type: integer, key: true }, { name: name }]";

pub(crate) fn job(dir: &Path, source: &str) -> String {
    let file = dir.join("job.yaml");
    let text = format!(
        "source: {source}\ndestination:\n  type: table\n  store: {{ type: sqlite, path: tables.db }}\n\
         \x20 table: products\n  columns: {COLUMNS}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

pub(crate) fn lines(count: usize) -> String {
    (0..count)
        .map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}\n"))
        .collect()
}

pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args([name, &id])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_job_ends_with_an_exit_code_and_a_summary() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a.jsonl");
    std::fs::write(&data, lines(1000)).unwrap();
    let source = "{ type: files, paths: ['*.jsonl'], maxErrors: 1 }";
    let file = job(dir.path(), source);
    let checked = forebay_with(&["job", "check", &file]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("writes rows of table products"));
    let ended = forebay_with(&["job", "run", &file, "--json", "--concurrency", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&summary["end"], &summary["written"]),
        (&"complete".into(), &1000.into())
    );
    assert!(
        ended.stderr.contains("job: 1000 read, 1000 written"),
        "{ended:?}"
    );

    std::fs::write(&data, format!("{}oops\n", lines(10))).unwrap();
    let ended = forebay_with(&["job", "run", &file]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let listed = forebay_with(&["job", "dead", "ls", &file, "--json"]);
    let dead_letter: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert!(
        dead_letter["origin"]
            .as_str()
            .unwrap()
            .ends_with("a.jsonl:11"),
        "{dead_letter}"
    );
    let id = dead_letter["id"].to_string();
    let the_same = forebay_with(&["dead", "ls", "--job", &file]);
    assert!(the_same.stdout.contains("a.jsonl:11"), "{the_same:?}");
    let shown = forebay_with(&["job", "dead", "show", &file, &id]);
    assert_eq!(forebay_with(&["dead", "show", "--job", &file, &id]), shown);
    assert!(
        shown.stdout.contains("not JSON") && shown.stdout.contains("oops"),
        "{shown:?}"
    );
    let again = forebay_with(&["job", "dead", "replay", &file, "--all"]);
    assert_eq!(again.code, Some(6), "it is bad still: {again:?}");
    let again = forebay_with(&["dead", "replay", "--job", &file, &id]);
    assert!(
        again.code == Some(1) && again.stderr.contains("dead letter 1 does not exist"),
        "it has a new number: {again:?}"
    );
    let again = forebay_with(&["dead", "replay", "--job", &file, "2"]);
    assert_eq!(again.code, Some(6), "{again:?}");
    let dropped = forebay_with(&["dead", "drop", "--job", &file, "--all"]);
    assert_eq!(
        (dropped.code, dropped.stdout.as_str()),
        (Some(0), "1 dropped\n")
    );
    let none = forebay_with(&["job", "dead", "drop", &file, "7"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(1), ""));

    std::fs::write(&data, "oops\nand more\n").unwrap();
    assert_eq!(forebay_with(&["job", "run", &file]).code, Some(5));
    std::fs::remove_file(&data).unwrap();
    let ended = forebay_with(&["job", "run", &file]);
    assert!(
        ended.code == Some(3) && ended.stderr.contains("no file matches"),
        "{ended:?}"
    );
    let file = job(dir.path(), "{ type: filez, paths: [a] }");
    let ended = forebay_with(&["job", "run", &file]);
    assert!(
        ended.code == Some(2) && ended.stderr.contains("did you mean files?"),
        "{ended:?}"
    );
}

#[test]
fn sigterm_stops_a_job_and_the_same_command_resumes_it() {
    let dir = tempfile::tempdir().unwrap();
    // An API that never responds: the job waits for it.
    let api = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = api.local_addr().unwrap();
    let source =
        format!("{{ type: http_api, baseUrl: 'http://{address}', until: {{ noNext: true }} }}");
    let file = job(dir.path(), &source);
    let child = forebay()
        .args(["job", "run", &file, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (held, _) = api.accept().unwrap();
    signal(&child, "-TERM");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(143), "{ended:?}");
    let summary: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(summary["end"], "stopped");
    drop(held);
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = api.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("GET /messages "), "{line}");
        let body = "{\"results\":[{\"id\":1,\"name\":\"x\"}],\"cursor\":null}";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        write!(
            stream,
            "{head}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    });
    let ended = forebay_with(&["job", "run", &file, "--json"]);
    answering.join().unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["written"], 1);
}

#[test]
fn a_lookup_service_returns_rows_that_a_job_stored() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.jsonl"), lines(10)).unwrap();
    let file = job(dir.path(), "{ type: files, paths: ['*.jsonl'] }");
    assert_eq!(forebay_with(&["job", "run", &file]).code, Some(0));
    let config = dir.path().join("lookup.yaml");
    let text = "listen: 127.0.0.1:0\nstore: { type: sqlite, path: tables.db }\n\
                routes: [{ path: /product, table: products }]\n";
    std::fs::write(&config, text).unwrap();
    let mut child = forebay()
        .args(["lookup", "--config", config.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = wait_for("the service", || {
        let line: Value = serde_json::from_str(&said.next()?.unwrap()).ok()?;
        Some(line["address"].as_str()?.to_owned())
    });
    let get = |path: &str| {
        let url = format!("http://{address}{path}");
        let answer =
            run(std::process::Command::new("curl").args(["-s", "-w", " %{http_code}", &url]));
        answer.stdout
    };
    assert_eq!(get("/product/7"), "{\"id\":7,\"name\":\"n7\"} 200");
    assert!(get("/product/11").ends_with(" 404"));
    assert!(get("/metrics").contains("forebay_lookup_requests_total"));
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn every_file_is_read_once_despite_odd_names_and_links() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("exp [1]");
    let sub = folder.join("in/sub");
    std::fs::create_dir_all(&sub).unwrap();
    let line = |id: usize| format!("{{\"id\":{id}}}\n");
    std::fs::write(folder.join("in/plain.jsonl"), line(1)).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9.jsonl");
    std::fs::write(sub.join(odd), line(2)).unwrap();
    std::fs::write(folder.join("in/._plain.jsonl"), "oops").unwrap();
    for link in ["loop", "other"] {
        std::os::unix::fs::symlink("..", sub.join(link)).unwrap();
    }
    let file = job(&folder, "{ type: files, paths: ['in/**/*.jsonl'] }");
    let ended = forebay_with(&["job", "run", &file, "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&summary["read"], &summary["written"]),
        (&2.into(), &2.into())
    );
    // No record had a name: that is reported and counted.
    let never = serde_json::json!([{ "column": "name", "path": "name", "records": 2 }]);
    assert_eq!(summary["neverFound"], never);
    assert!(
        ended.stderr.contains(
            "never found in 2 records, so NULL or an empty list in each: column name (`name`)"
        ),
        "{ended:?}"
    );
    std::os::unix::fs::symlink("nowhere", sub.join("gone.jsonl")).unwrap();
    std::fs::write(sub.join(odd), "oops").unwrap();
    let ended = forebay_with(&["job", "run", &file]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("in/sub/gone.jsonl is a dangling link"),
        "{ended:?}"
    );
    let listed = forebay_with(&["job", "dead", "ls", &file]);
    assert!(
        listed.stdout.contains("in/sub/caf\\xE9.jsonl:1"),
        "{listed:?}"
    );
}

#[test]
fn a_cursor_missing_on_every_page_fails_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let page = "{\"results\":[{\"id\":1,\"name\":\"x\"}],\"next\":\"abc\"}";
    let head = "200 OK\r\ncontent-type: application/json";
    let api = HttpEndpoint::start(move |_, _| http_response(head, page));
    let address = api.address();
    let source = format!(
        "{{ type: http_api, baseUrl: 'http://{address}', until: {{ noNext: true }}, \
         paging: {{ type: cursor, cursor: nextt, param: after }} }}"
    );
    let file = job(dir.path(), &source);
    let ended = forebay_with(&["job", "run", &file, "--json"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("`nextt`"), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&summary["end"], &summary["written"]),
        (&"failed".into(), &1.into())
    );
}
