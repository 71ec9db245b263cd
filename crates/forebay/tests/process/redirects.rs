//! Servers that redirect: no POST becomes a GET, no undelivered record is counted as delivered, and the
//! location is reported.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_test_support::{HttpClient, HttpEndpoint, http_response};
use serde_json::Value;

use crate::server::{Server, forebay, forebay_with, wait_for};

fn to(status: &str, location: &str) -> String {
    http_response(&format!("{status}\r\nlocation: {location}"), "")
}

pub(crate) const DEFINITIONS: &str = "
sources:
  - name: events
    sinks:
      - name: hooks
        http:
          provider: hook
          message:
            fields: [{ name: n, type: path, path: n }]
            headers: [{ name: X-Own, type: static, value: mine }]
";

/// A server with a sink to an endpoint.
pub(crate) fn serving(dir: &Path, url: &str, definitions: &str) -> Server {
    let text = format!(
        "providers:\n  - {{name: hook, type: http, url: '{url}', token: hush-hush, headers: {{X-Tenant: acme}}}}\ntopics: {{backoffMax: 20ms, backoff: 10ms}}\ntelemetry: {{metrics: {{interval: 1s}}}}\n"
    );
    let config = dir.join("forebay.yaml");
    std::fs::write(&config, text).unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let server = Server::start_with(&dir.join("data"), &args);
    let file = dir.join("definitions.yaml");
    std::fs::write(&file, definitions).unwrap();
    server.ok(&["apply", "--file", file.to_str().unwrap()]);
    server
}

pub(crate) fn delivery(server: &Server) -> Value {
    server.api_get("/v1/branches/default/sources/events/sinks/hooks/statistics/delivery")
}

#[test]
fn a_sink_retains_redirected_messages_and_reports_the_location() {
    let elsewhere = HttpEndpoint::start(|_, _| http_response("200 OK", ""));
    let place = elsewhere.url("/other");
    let is_open = Arc::new(Mutex::new(false));
    let opens = Arc::clone(&is_open);
    let endpoint = HttpEndpoint::start(move |seen, _| match seen.line.as_str() {
        "POST /in" if *opens.lock().unwrap() => to("308 Permanent Redirect", "in/"),
        "POST /in" if seen.body.ends_with("0}") => to("302 Found", "/other?token=hush-hush"),
        "POST /in" => to("307 Temporary Redirect", &place),
        _ => http_response("200 OK", ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let server = serving(dir.path(), &endpoint.url("/in"), DEFINITIONS);
    let path = server.path("events");
    server.post(&path, "{\"n\":10}");
    server.post(&path, "{\"n\":11}");
    let down = wait_for("three attempts", || {
        let delivery = delivery(&server);
        (delivery["retries"].as_u64()? >= 3).then_some(delivery)
    });
    assert_eq!(
        (&down["delivered"], &down["lag"]["records"]),
        (&0.into(), &2.into())
    );
    assert_eq!(down["provider"]["state"], "down");
    let said = down["provider"]["error"].as_str().unwrap();
    assert!(
        said.contains("302 Found, Location: /other?…: not followed"),
        "{said}"
    );
    assert!(!server.log().contains("hush-hush"), "{}", server.log());
    assert!(
        endpoint
            .requests()
            .iter()
            .all(|s| s.line == "POST /in" && s.body == "{\"n\":10}")
    );
    assert_eq!(elsewhere.lines(), Vec::<String>::new());
    *is_open.lock().unwrap() = true;
    wait_for("the delivery of both", || {
        (delivery(&server)["delivered"] == 2).then_some(())
    });
    let seen = endpoint.requests();
    let taken: Vec<_> = seen.iter().filter(|s| s.line == "POST /in/").collect();
    let bodies: Vec<_> = taken.iter().map(|s| s.body.as_str()).collect();
    assert_eq!(bodies, ["{\"n\":10}", "{\"n\":11}"]);
    for header in [
        "authorization: bearer hush-hush",
        "x-tenant: acme",
        "x-own: mine",
        "content-type: application/json",
    ] {
        assert!(seen.iter().all(|s| s.has(header)), "{header}: {seen:?}");
    }
    assert_eq!(elsewhere.lines(), Vec::<String>::new());
    // A sink can't override headers of the operator.
    let file = dir.path().join("definitions.yaml");
    std::fs::write(&file, DEFINITIONS.replace("X-Own", "x-tenant")).unwrap();
    let args = ["apply", "--file", file.to_str().unwrap()];
    let rejected = crate::server::run(&mut server.command(&args));
    let wanted = "header \"x-tenant\" is set by the provider \"hook\"";
    assert!(
        rejected.stderr.to_lowercase().contains(wanted),
        "{rejected:?}"
    );
}

#[test]
fn a_body_is_delivered_with_its_content_type() {
    let endpoint = HttpEndpoint::start(|_, _| http_response("200 OK", ""));
    let dir = tempfile::tempdir().unwrap();
    let bodies = "sources: [{ name: events, sinks: [{ name: hooks, http: { provider: hook } }] }]";
    let server = serving(dir.path(), &endpoint.url("/in"), bodies);
    let path = server.path("events");
    for kind in [
        "text/plain; charset=UTF-8",
        "application/vnd.shop+json",
        "image/x-none",
    ] {
        let headers = [("Content-Type", kind)];
        let sent = HttpClient::new(server.source).send("POST", &path, &headers, b"\"x\"");
        assert_eq!(sent.unwrap().status, 200);
    }
    let seen = wait_for("the messages", || {
        Some(endpoint.requests()).filter(|seen| seen.len() == 3)
    });
    assert!(
        seen[0].has("content-type: text/plain; charset=utf-8"),
        "{seen:?}"
    );
    assert!(
        seen[1].has("content-type: application/vnd.shop+json"),
        "{seen:?}"
    );
    assert!(seen[2].has("content-type: image/x-none"), "{seen:?}");
}

#[test]
fn a_buffer_retains_redirected_messages_and_drains_them_later() {
    let is_open = Arc::new(Mutex::new(false));
    let opens = Arc::clone(&is_open);
    let endpoint = HttpEndpoint::start(move |seen, _| match seen.line.as_str() {
        "POST /in" if *opens.lock().unwrap() => to("307 Temporary Redirect", "/in/"),
        "POST /in" => to("301 Moved Permanently", "/in/"),
        _ => http_response("200 OK", ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let (input, buffer) = (dir.path().join("input"), dir.path().join("buffer"));
    std::fs::write(&input, "one\ntwo\n").unwrap();
    let buffer = buffer.to_str().unwrap();
    let url = endpoint.url("/in");
    let to_url = ["--dir", buffer, "--http", &url];
    let send = [
        "buffer",
        "send",
        "--topic",
        "t",
        "--input",
        input.to_str().unwrap(),
    ];
    let running = forebay()
        .args([&send[..], &to_url, &["--drain", "3s"]].concat())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = "301 Moved Permanently, Location: /in/: not followed";
    wait_for("the state of the buffer", || {
        let stat = forebay_with(&["buffer", "stat", "--dir", buffer]);
        stat.stdout.contains(said).then_some(())
    });
    let ended = running.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
    let drain = ["buffer", "drain", "--single", "--drain", "100ms"];
    let ended = forebay_with(&[&drain[..], &to_url].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(said), "{ended:?}");
    assert!(
        endpoint
            .requests()
            .iter()
            .all(|s| s.line == "POST /in" && !s.body.is_empty())
    );
    *is_open.lock().unwrap() = true;
    let ended = forebay_with(&[&drain[..3], &to_url].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let seen = endpoint.requests();
    let taken = seen.iter().filter(|s| s.line == "POST /in/");
    let taken: Vec<_> = taken.map(|s| s.body.as_str()).collect();
    assert_eq!(taken, ["one", "two"]);
}

fn job(dir: &Path, source: &str, more: &str) -> String {
    let file = dir.join("job.yaml");
    std::fs::write(&file, format!("source: {source}\n{more}\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn redirected_records_of_a_job_become_dead_letters() {
    let storage = HttpEndpoint::start(|seen, _| match seen.line.as_str() {
        "POST /in" => to("303 See Other", "/thanks"),
        _ => http_response("200 OK", "{}"),
    });
    let processing = HttpEndpoint::start(|seen, _| match seen.line.as_str() {
        "POST /work" => to("302 Found", "https://login.example/?u=hush"),
        _ => http_response("200 OK", "{\"sign\":\"in\"}"),
    });
    let source = "{ type: files, paths: [a.jsonl] }";
    let destination = format!(
        "destination: {{ type: http, url: '{}', retry: {{ wait: 5ms }} }}",
        storage.url("/in")
    );
    let stage = format!(
        "processing: {{ url: '{}', retry: {{ wait: 5ms }} }}\n{destination}",
        processing.url("/work")
    );
    for (more, stage, status, said) in [
        (
            &destination,
            "storage",
            303,
            "303 See Other, Location: /thanks: not followed",
        ),
        (
            &stage,
            "processing",
            302,
            "302 Found, Location: https://login.example/?…: not followed",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.jsonl"), "{\"id\":1}\n{\"id\":2}\n").unwrap();
        let file = job(dir.path(), source, more);
        let ended = forebay_with(&["job", "run", &file, "--json"]);
        assert_eq!(ended.code, Some(6), "{ended:?}");
        let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(
            (&summary["written"], &summary["dead"]),
            (&0.into(), &2.into())
        );
        let listed = forebay_with(&["job", "dead", "ls", &file, "--json"]);
        let dead_letters: Vec<Value> = listed
            .stdout
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(dead_letters.len(), 2, "{listed:?}");
        let dead_letter = &dead_letters[0];
        assert_eq!(
            (&dead_letter["stage"], &dead_letter["status"]),
            (&stage.into(), &status.into())
        );
        assert!(
            dead_letter["error"].as_str().unwrap().contains(said),
            "{dead_letter}"
        );
    }
    assert_eq!(storage.lines(), ["POST /in"; 6]);
    assert_eq!(processing.lines(), ["POST /work"; 6]);
}

#[test]
fn redirected_pages_respect_the_rate_limit() {
    let api = HttpEndpoint::start(|seen, _| {
        let path = seen.line.strip_prefix("GET ").unwrap();
        match path.strip_prefix("/messages?page=") {
            Some(page) => to("302 Found", &format!("/v2?page={page}")),
            None => {
                let page: u64 = path.strip_prefix("/v2?page=").unwrap().parse().unwrap();
                let records = if page < 6 {
                    format!("[{{\"id\":{page}}}]")
                } else {
                    "[]".to_owned()
                };
                http_response("200 OK", &records)
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let destination = "destination: { type: table, store: { type: sqlite, path: t.db }, table: t, columns: [{ name: id, type: integer, key: true }] }";
    let source = format!(
        "{{ type: http_api, baseUrl: '{}', results: '', paging: {{ type: page }}, until: {{ emptyPage: true }}, rateLimit: {{ requests: 5, period: 500ms }} }}",
        api.url("")
    );
    let file = job(dir.path(), &source, destination);
    let ended = forebay_with(&["job", "run", &file, "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&summary["written"], &summary["requests"]),
        (&5.into(), &12.into())
    );
    let seen = api.requests();
    assert_eq!(seen.len(), 12);
    for window in seen.windows(6) {
        let between = window[5].at - window[0].at;
        assert!(between >= Duration::from_millis(500), "{between:?}");
    }
}

#[test]
fn a_command_sends_its_token_to_no_other_server() {
    let elsewhere = HttpEndpoint::start(|_, _| http_response("200 OK", "{\"sources\":[]}"));
    let place = elsewhere.url("/v1");
    let api = HttpEndpoint::start(move |_, _| to("307 Temporary Redirect", &place));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "a-token-of-this-server").unwrap();
    for args in [&["source", "ls"][..], &["source", "delete", "events"]] {
        let more = [
            "--api",
            &api.url(""),
            "--token-file",
            token.to_str().unwrap(),
        ];
        let ended = forebay_with(&[args, &more].concat());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = format!("307 Temporary Redirect, Location: {}", elsewhere.url("/v1"));
        assert!(ended.stderr.contains(&said), "{ended:?}");
    }
    assert_eq!(elsewhere.lines(), Vec::<String>::new());
}
