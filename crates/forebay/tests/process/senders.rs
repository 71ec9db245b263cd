//! Special senders: they continue sending after a rejection, or do a handshake first.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use forebay_test_support::HttpClient;
use serde_json::json;

use crate::compat::{Api, S};
use crate::server::Server;

/// Sends a whole request, as `http.client` and `fetch` do, before it reads the response.
fn send_all(address: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let wait = Some(Duration::from_secs(20));
    stream.set_read_timeout(wait)?;
    stream.set_write_timeout(wait)?;
    stream.write_all(head.as_bytes())?;
    for piece in body.chunks(64 << 10) {
        stream.write_all(piece)?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(16 << 10) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[test]
fn a_rejection_reaches_a_client_that_sends_its_body_first() {
    let dir = tempfile::tempdir().unwrap();
    let limit = "source.http.maxRequestBodySize=300KB";
    let server = Server::start_with(dir.path(), &["--set", limit]);
    let path = server.define();
    let wrong = format!("{path}x");
    for size in [600_000, 5_000_000] {
        let body = vec![b'x'; size];
        let parts = chunked(&body);
        for (method, path, headers, status) in [
            ("POST", &path, "", "413"),
            ("POST", &path, "Content-Encoding: br\r\n", "415"),
            (
                "POST",
                &path,
                "Content-Type: text/plain; charset=utf-7\r\n",
                "415",
            ),
            ("POST", &wrong, "", "404"),
            ("PUT", &path, "", "405"),
        ] {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{headers}");
            let plain = format!("{head}Content-Length: {size}\r\n\r\n");
            let in_parts = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
            for attempt in 0..10 {
                for (head, body) in [(&plain, &body), (&in_parts, &parts)] {
                    let answer = send_all(server.source, head, body);
                    let answer = answer.unwrap_or_else(|e| panic!("{head} {attempt}: {e}"));
                    let begins = answer.starts_with(&format!("HTTP/1.1 {status} "));
                    assert!(
                        begins && answer.contains("\"statusCode\""),
                        "{head}: {answer}"
                    );
                }
            }
        }
    }
}

#[test]
fn handshakes_are_a_setting_of_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = server.define();
    let api = Api::of(&server);
    let settings = format!("{S}/events/settings");
    let ask = || {
        let path = format!("{path}?hub.mode=subscribe&hub.challenge=77&hub.verify_token=t0ken");
        let answer = HttpClient::new(server.source)
            .send("GET", &path, &[], b"")
            .unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    assert_eq!(ask().0, 405);
    let change = |kinds: serde_json::Value| {
        json!({ "settings": [
            { "key": "source.handshake.kinds", "value": kinds },
            { "key": "source.handshake.verifyToken", "value": "t0ken" },
        ] })
    };
    api.task("PATCH", &settings, &change(json!(["hub", "put"])));
    assert_eq!(ask(), (200, "77".to_owned()));
    let all = api.get(&settings)["settings"].as_array().unwrap().clone();
    let kinds = all
        .iter()
        .find(|s| s["key"] == "source.handshake.kinds")
        .unwrap();
    assert_eq!(
        (&kinds["value"], &kinds["overwritten"]),
        (&json!(["hub", "put"]), &json!(true))
    );
    assert_eq!(
        (&kinds["defaultValue"], &kinds["protected"]),
        (&json!([]), &json!(false))
    );
    let (status, error) = api.call("PATCH", &settings, &change(json!(["hub", "twitter"])));
    assert_eq!(status, 400);
    let text = error["message"].as_str().unwrap();
    assert!(
        text.contains("\"twitter\": each item must be one of cloudevents, dropbox"),
        "{text}"
    );
    // A definition file has the same settings.
    let file = dir.path().join("events.yaml");
    let apply = |kinds: &str| {
        let text = format!(
            "sources:\n- name: events\n  settings: {{ source.handshake.kinds: {kinds} }}\n"
        );
        std::fs::write(&file, text).unwrap();
        server.ok(&["apply", "-f", file.to_str().unwrap()])
    };
    apply("[]");
    assert_eq!(ask().0, 405);
    assert!(
        apply("[put, hub]").contains("~ source events\n    ~ settings.source.handshake.kinds: ")
    );
    assert_eq!(ask().0, 200);
    assert!(apply("[put, hub]").contains("= source events"));
}
