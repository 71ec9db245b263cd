//! Invalid HTTP, security headers of responses, and access to metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use forebay_test_support::HttpClient;

use crate::server::{Server, forebay_with};

fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn every_listener_rejects_ambiguous_requests() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    for (address, prefix) in [(server.api, "stream.api."), (server.source, "stream.in.")] {
        let body = "5\r\nabcde\r\n0\r\n\r\n";
        for (head, status, name) in [
            ("", "400", "badRequest"),
            ("Host: a\r\nHost: a\r\n", "400", "badRequest"),
            ("Host: a\r\nHost: b\r\n", "400", "badRequest"),
            ("Host: a, b\r\n", "400", "badRequest"),
            ("Host: u@a\r\n", "400", "badRequest"),
            ("Host: a/b\r\n", "400", "badRequest"),
            (
                "Host: a\r\nTransfer-Encoding: chunked, chunked\r\n",
                "400",
                "badRequest",
            ),
            (
                "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
                "501",
                "unsupportedTransferEncoding",
            ),
        ] {
            let response = raw(address, &format!("POST /x HTTP/1.1\r\n{head}\r\n{body}"));
            assert!(
                response.starts_with(&format!("HTTP/1.1 {status} ")),
                "{head}: {response}"
            );
            assert!(
                response.contains(&format!("{prefix}{name}")),
                "{head}: {response}"
            );
            // Nothing after it is parsed as a request.
            assert_eq!(response.matches("statusCode").count(), 1, "{response}");
        }
        let old = raw(address, "GET /health-check HTTP/1.0\r\n\r\n");
        assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
    }
}

#[test]
fn redirects_stay_on_the_server_and_every_response_has_nosniff() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let get = |address, path: &str| {
        raw(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        )
    };
    for path in [
        "/\\evil.example/",
        "/\\/evil.example/",
        "//evil.example/",
        "/a\\..\\b/",
    ] {
        let response = get(server.api, path);
        assert!(
            !response.to_lowercase().contains("\nlocation:"),
            "{path}: {response}"
        );
    }
    assert!(
        get(server.api, "/v1/documentation/openapi3.json/")
            .contains("location: /v1/documentation/openapi3.json\r\n")
    );
    let paths = [
        "/v1",
        "/health/ready",
        "/metrics",
        "/ui",
        "/v1/branches/default/sources",
        "/x",
    ];
    for path in paths {
        let response = get(server.api, path);
        assert!(
            response.contains("x-content-type-options: nosniff\r\n"),
            "{path}: {response}"
        );
    }
    let response = get(server.source, "/x");
    assert!(
        response.contains("x-content-type-options: nosniff\r\n"),
        "{response}"
    );
}

fn metrics(server: &Server, headers: &[(&str, &str)]) -> (u16, String) {
    let response = HttpClient::new(server.api)
        .send("GET", "/metrics", headers, b"")
        .unwrap();
    (response.status, String::from_utf8(response.body).unwrap())
}

#[test]
fn metrics_that_name_projects_are_for_operators() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = server.define();
    server.post(&path, "{\"n\":1}");
    let named = |text: &str| text.contains("project=\"") || text.contains("sink=\"");
    let token = server.token();
    crate::server::wait_for("a series that names a project", || {
        named(&metrics(&server, &[("X-StorageApi-Token", &token)]).1).then_some(())
    });
    let (status, text) = metrics(&server, &[]);
    assert!(
        status == 200 && !named(&text) && text.contains("forebay_build_info"),
        "{text}"
    );
    drop(server);
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--set", "telemetry.metrics.token=s3cret"]);
    assert_eq!(metrics(&server, &[]).0, 401);
    assert_eq!(
        metrics(&server, &[("Authorization", "Bearer other")]).0,
        401
    );
    assert_eq!(
        metrics(&server, &[("Authorization", "Bearer s3cret")]).0,
        200
    );
}

#[test]
fn the_check_reports_all_violations_of_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        forebay_with(&["config", "check", "--config", file.to_str().unwrap()])
    };
    for (text, said) in [
        (
            "api.tls: {certFile: /nowhere, keyFile: /nowhere}",
            "api.tls: certificate file /nowhere",
        ),
        (
            "source.http.tls: {certFile: /nowhere, keyFile: /nowhere}",
            "source.http.tls: certificate file /nowhere",
        ),
        (
            "source.http.publicUrl: ftp://x",
            "source.http.publicUrl is \"ftp://x\"",
        ),
        (
            "source.http.publicUrl: http://x:99999",
            "source.http.publicUrl is",
        ),
        ("api.publicUrl: https://x:99999", "api.publicUrl is"),
        ("api.listen: 127.0.0.1:99999", "api.listen is"),
        ("token: \"a\\nb\"", "token has spaces or special characters"),
        ("tokenFile: /nowhere", "can't read the token file /nowhere"),
        (
            "api.tokens: [{id: a, project: 1, sha256: x}]",
            "sha256 of token \"a\"",
        ),
        (
            "telemetry.metrics.listen: 127.0.0.1:8000",
            "telemetry.metrics.listen is 127.0.0.1:8000, which clashes with api.listen",
        ),
        (
            "api.maxConnections: 0",
            "api.maxConnections is 0, allowed is 1 to 1000000",
        ),
    ] {
        let ended = check(text);
        assert_ne!(ended.code, Some(0), "{text}");
        assert!(ended.stderr.contains(said), "{text}: {}", ended.stderr);
        assert!(!ended.stderr.contains("a\nb"), "{}", ended.stderr);
    }
    assert_eq!(check("api.listen: 127.0.0.1:8001").code, Some(0));
}
