//! Redirects, long responses and headers at an HTTP provider: real servers on loopback with
//! scripted responses.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_buffer::{Buffer, BufferConfig, BufferEvent, CloseMode, Message, ProviderHealth};
use forebay_connect::provider::http::{HttpConfig, HttpProvider, RequestFormat, RequestMethod};
use forebay_model::ManualClock;
use forebay_test_support::http_endpoint::ENDLESS;
use forebay_test_support::{HttpEndpoint, http_response};

const LIMIT: Duration = Duration::from_secs(30);

fn empty(status: &str) -> String {
    http_response(status, "")
}

fn to(status: &str, location: &str) -> String {
    empty(&format!("{status}\r\nlocation: {location}"))
}

fn open(dir: &tempfile::TempDir, config: HttpConfig) -> Buffer {
    let settings = BufferConfig {
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(5),
        ..BufferConfig::new(dir.path())
    };
    let clock = Arc::new(ManualClock::default());
    Buffer::open(settings, HttpProvider::new(config, clock).unwrap()).unwrap()
}

/// Waits until the partition is down, and returns the error.
fn down(events: &forebay_buffer::EventStream) -> String {
    match events.wait(LIMIT) {
        Some(BufferEvent::ProviderDown { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_is_never_sent_as_a_get_and_waits_for_its_acceptance() {
    let other = HttpEndpoint::start(|_, _| empty("200 OK"));
    let elsewhere = other.url("/other");
    for status in [
        "300 Multiple Choices",
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "304 Not Modified",
        "305 Use Proxy",
        "306 Unused",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
        "399 Whatever",
    ] {
        let is_kept = status.starts_with("307") || status.starts_with("308");
        // The target: another server if the redirect may be followed, otherwise our own server,
        // which accepts any request.
        let location = if is_kept {
            elsewhere.as_str()
        } else {
            "/other"
        };
        let redirect = to(status, location);
        let server = HttpEndpoint::start(move |request, number| match number {
            1..=3 if request.line.ends_with(" /in") => redirect.clone(),
            _ => empty("200 OK"),
        });
        for (body, method) in [
            (RequestFormat::Payload, RequestMethod::Put),
            (RequestFormat::Ndjson, RequestMethod::Post),
        ] {
            server.clear();
            let dir = tempfile::tempdir().unwrap();
            let config = HttpConfig {
                body,
                method,
                token: Some("hush".to_owned().into()),
                ..HttpConfig::new(server.url("/in"))
            };
            let buffer = open(&dir, config);
            let events = buffer.events();
            buffer
                .write_blocking("t", Message::new("all of it"))
                .unwrap();
            let error = down(&events);
            assert!(
                error.starts_with(&format!("{} ", status.get(..3).unwrap())),
                "{error}"
            );
            assert!(
                error.contains(location) && error.contains("not followed"),
                "{error}"
            );
            buffer.close(CloseMode::Drain(LIMIT)).unwrap();
            let requests = server.requests();
            assert_eq!(requests.len(), 4, "{status}: {requests:?}");
            for request in &requests {
                assert_eq!(request.line, requests[0].line);
                assert_eq!(request.headers, requests[0].headers);
                assert!(request.body.contains("all of it"), "{request:?}");
            }
            assert!(requests[0].line.ends_with(" /in"), "{requests:?}");
        }
    }
    assert_eq!(
        other.lines(),
        Vec::<String>::new(),
        "no request reached another server"
    );
}

#[test]
fn the_same_request_goes_on_within_its_origin() {
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let server = {
            let own = Arc::new(Mutex::new(String::new()));
            let address = Arc::clone(&own);
            let server = HttpEndpoint::start(move |request, _| match request.line.as_str() {
                "PATCH /in?a=b" => to(status, "in/next?c=d#e"),
                "PATCH /in/next?c=d" => to(status, &format!("//{}/last", address.lock().unwrap())),
                _ => empty("200 OK"),
            });
            *own.lock().unwrap() = server.address().to_string();
            server
        };
        let dir = tempfile::tempdir().unwrap();
        let config = HttpConfig {
            method: RequestMethod::Patch,
            headers: vec![("X-Api-Key".to_owned(), "k".to_owned())],
            ..HttpConfig::new(format!("http://u:p%20q@{}/in?a=b", server.address()))
        };
        let buffer = open(&dir, config);
        buffer
            .write_blocking("t", Message::keyed("k", "all of it"))
            .unwrap();
        buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        let requests = server.requests();
        let lines = ["PATCH /in?a=b", "PATCH /in/next?c=d", "PATCH /last"];
        assert_eq!(server.lines(), lines);
        for request in &requests {
            assert_eq!(request.body, "all of it");
            assert_eq!(
                request.headers, requests[0].headers,
                "the same headers and idempotency key"
            );
            assert_eq!(request.headers["x-api-key"], "k");
            assert_eq!(request.headers["authorization"], "Basic dTpwIHE=");
        }
    }
}

#[test]
fn a_redirect_loop_fails_after_five_redirects() {
    let server = HttpEndpoint::start(|_, number| match number {
        // Five redirects in each of two attempts.
        1..=12 => to("308 Permanent Redirect", "/in"),
        _ => empty("204 No Content"),
    });
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir, HttpConfig::new(server.url("/in")));
    let events = buffer.events();
    buffer.write_blocking("t", Message::new("m")).unwrap();
    let error = down(&events);
    assert_eq!(error, "308 Permanent Redirect: more than 5 redirects");
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    assert_eq!(server.requests().len(), 13);
}

#[test]
fn an_undelivered_message_is_reported_with_the_location() {
    let server = HttpEndpoint::start(|_, _| to("302 Found", "/login?next=hush"));
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir, HttpConfig::new(server.url("/in")));
    buffer.write_blocking("t", Message::new("m")).unwrap();
    let failed = buffer.flush_blocking(Duration::from_secs(1)).unwrap_err();
    let expected = "message in 1s: 302 Found, Location: /login?…: not followed";
    assert!(failed.to_string().contains(expected), "{failed}");
    let stats = buffer.stats();
    let partition = &stats.partitions[0];
    assert_eq!(
        (partition.waiting, partition.delivered, partition.dead),
        (1, 0, 0)
    );
    assert!(
        matches!(&partition.provider, ProviderHealth::Down { error, .. } if error.contains("/login")),
        "{partition:?}"
    );
    buffer.close(CloseMode::Detach).unwrap();
}

#[test]
fn a_redirect_is_a_dead_letter_if_it_is_configured_as_rejected() {
    let server = HttpEndpoint::start(|_, _| to("301 Moved Permanently", "/new"));
    let dir = tempfile::tempdir().unwrap();
    let config = HttpConfig {
        rejected: vec![301],
        ..HttpConfig::new(server.url("/in"))
    };
    let buffer = open(&dir, config);
    buffer.write_blocking("t", Message::new("m")).unwrap();
    buffer.flush_blocking(LIMIT).unwrap();
    let dead_letters: Vec<_> = buffer.dead_letters(0).map(Result::unwrap).collect();
    assert_eq!((dead_letters.len(), dead_letters[0].attempts), (1, 3));
    assert!(
        dead_letters[0].error.contains("Location: /new"),
        "{dead_letters:?}"
    );
    buffer.close(CloseMode::Detach).unwrap();
    assert_eq!(server.lines(), ["POST /in"; 3]);
}

#[test]
fn an_endless_response_is_read_up_to_a_limit() {
    for (status, attempts) in [
        ("200 OK", 1),
        ("422 Unprocessable Content", 3),
        ("503 x", 2),
    ] {
        let server = HttpEndpoint::start(move |_, number| {
            if number <= attempts {
                format!("HTTP/1.1 {status}\r\n{ENDLESS}")
            } else {
                empty("200 OK")
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let buffer = open(&dir, HttpConfig::new(server.url("/in")));
        buffer.write_blocking("t", Message::new("m")).unwrap();
        buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        let wanted = if status.starts_with('5') { 3 } else { attempts };
        assert_eq!(server.requests().len(), wanted, "{status}");
        // The socket buffers, and 64 KB per response.
        let written = server.written();
        assert!(written < attempts * (16 << 20), "{status}: {written}");
    }
}

#[test]
fn configured_headers_win_and_framing_headers_are_reserved() {
    let server = HttpEndpoint::start(|_, _| empty("200 OK"));
    let dir = tempfile::tempdir().unwrap();
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let config = HttpConfig {
        token: Some("operator".to_owned().into()),
        headers: vec![pair("X-Tenant", "acme"), pair("content-type", "text/x")],
        ..HttpConfig::new(server.url("/in"))
    };
    let buffer = open(&dir, config);
    let message = Message::new("m")
        .header("x-tenant", "other")
        .header("X-TENANT", "another")
        .header("Authorization", "Bearer sender")
        .header("Content-Type", "text/y")
        .header("x-own", "1")
        .header("x-own", "2");
    buffer.write_blocking("t", message).unwrap();
    buffer.flush_blocking(LIMIT).unwrap();
    let framing = [
        "Content-Length",
        "Host",
        "Idempotency-Key",
        "transfer-encoding",
    ];
    for name in framing {
        let message = Message::new("m").header(name, "0");
        buffer.write_blocking("t", message).unwrap();
    }
    buffer.flush_blocking(LIMIT).unwrap();
    let dead_letters: Vec<_> = buffer.dead_letters(0).map(Result::unwrap).collect();
    assert_eq!(dead_letters.len(), framing.len());
    assert!(
        dead_letters[0].error.contains("\"Content-Length\""),
        "{dead_letters:?}"
    );
    buffer.close(CloseMode::Detach).unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let header = |name: &str| requests[0].headers[name].as_str();
    assert_eq!(header("x-tenant"), "acme");
    assert_eq!(header("authorization"), "Bearer operator");
    assert_eq!(header("content-type"), "text/x");
    assert_eq!(header("x-own"), "1 and 2");
    for name in ["Idempotency-Key", "content-length", "Message-Topic", "a b"] {
        let config = HttpConfig {
            headers: vec![pair(name, "x")],
            ..HttpConfig::new("http://host/")
        };
        let rejected = HttpProvider::new(config, Arc::new(ManualClock::default()));
        let error = rejected.err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("headers is {name:?}: ")),
            "{error}"
        );
    }
}

#[test]
fn retry_after_delays_the_next_attempt() {
    // Relative to the server's clock, whatever ours is.
    let date = "date: Sat, 21 Nov 2026 08:00:00 GMT\r\nretry-after: Sat, 21 Nov 2026 08:00:01 GMT";
    for (asked, wait) in [("retry-after: 0.7", 700), (date, 1_000)] {
        let server = HttpEndpoint::start(move |_, number| match number {
            1 => empty(&format!("429 Too Many Requests\r\n{asked}")),
            _ => empty("200 OK"),
        });
        let dir = tempfile::tempdir().unwrap();
        let buffer = open(&dir, HttpConfig::new(server.url("/in")));
        buffer.write_blocking("t", Message::new("m")).unwrap();
        buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        let requests = server.requests();
        assert_eq!(requests.len(), 2, "{requests:?}");
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_millis(wait), "{asked}: {waited:?}");
    }
}

#[test]
fn retry_after_without_a_delay_keeps_the_usual_backoff() {
    for asked in ["0", "0.0", "Sat, 21 Nov 1970 08:00:00 GMT"] {
        let server = HttpEndpoint::start(move |_, _| {
            empty(&format!("429 Too Many Requests\r\nretry-after: {asked}"))
        });
        let dir = tempfile::tempdir().unwrap();
        let settings = BufferConfig {
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_millis(100),
            ..BufferConfig::new(dir.path())
        };
        let clock = Arc::new(ManualClock::new(
            "2026-11-21T08:00:00.000Z".parse().unwrap(),
        ));
        let provider = HttpProvider::new(HttpConfig::new(server.url("/in")), clock).unwrap();
        let buffer = Buffer::open(settings, provider).unwrap();
        buffer.write_blocking("t", Message::new("m")).unwrap();
        buffer
            .flush_blocking(Duration::from_millis(500))
            .unwrap_err();
        buffer.close(CloseMode::Detach).unwrap();
        assert!(
            server.requests().len() <= 12,
            "{asked}: {:?}",
            server.lines()
        );
    }
}
