//! The buffer in front of a real HTTP endpoint on loopback with scripted responses.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, BufferConfig, BufferEvent, CloseMode, Message};
use forebay_connect::provider::http::{HttpConfig, HttpProvider, RequestFormat};
use forebay_model::ManualClock;
use forebay_test_support::{HttpEndpoint, http_response};

const LIMIT: Duration = Duration::from_secs(30);

/// Responds with the statuses of a list, then with 204.
fn endpoint(statuses: &'static [&'static str]) -> HttpEndpoint {
    HttpEndpoint::start(move |_, number| {
        http_response(statuses.get(number - 1).unwrap_or(&"204 No Content"), "")
    })
}

fn open(dir: &tempfile::TempDir, config: HttpConfig) -> Buffer {
    let settings = BufferConfig {
        backoff: Duration::from_millis(5),
        ..BufferConfig::new(dir.path())
    };
    Buffer::open(
        settings,
        HttpProvider::new(config, Arc::new(ManualClock::default())).unwrap(),
    )
    .unwrap()
}

/// The system clock.
#[derive(Debug)]
struct RealClock;

impl forebay_model::Clock for RealClock {
    #[allow(clippy::disallowed_methods, reason = "the test waits in real time")]
    fn now(&self) -> forebay_model::Timestamp {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        forebay_model::Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }
}

#[test]
fn a_requested_delay_outlives_the_process() {
    let endpoint = endpoint(&["429 Too Many Requests\r\nretry-after: 2"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("retry-after");
    let open = || {
        let config = HttpConfig {
            pause_file: Some(file.clone()),
            ..HttpConfig::new(endpoint.url("/in"))
        };
        let provider = HttpProvider::new(config, Arc::new(RealClock)).unwrap();
        Buffer::open(BufferConfig::new(dir.path().join("log")), provider).unwrap()
    };
    let buffer = open();
    let events = buffer.events();
    buffer.write_blocking("t", Message::new("one")).unwrap();
    let is_down = |e: &BufferEvent| matches!(e, BufferEvent::ProviderDown { .. });
    while !is_down(&events.wait(LIMIT).unwrap()) {}
    buffer.close(CloseMode::Detach).unwrap();
    assert_eq!(endpoint.bodies(), ["one"]);
    // A restarted process knows the delay only from the file.
    let limit = Duration::from_millis(500);
    let error = open()
        .close(CloseMode::Drain(limit))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("delivered 0 of 1 message in 500ms: "),
        "{error}"
    );
    assert!(error.contains("requested a delay"), "{error}");
    assert_eq!(
        endpoint.bodies().len(),
        1,
        "no request before the delay ends"
    );
    open().close(CloseMode::Drain(LIMIT)).unwrap();
    assert_eq!(endpoint.bodies(), ["one", "one"]);
}

#[test]
fn the_status_decides_between_retry_and_rejection() {
    let endpoint = endpoint(&[
        "503 Service Unavailable",
        "429 Too Many Requests\r\nretry-after: 0",
        "200 OK",
        "422 Unprocessable Content",
        "422 Unprocessable Content",
        "422 Unprocessable Content",
    ]);
    let dir = tempfile::tempdir().unwrap();
    let config = HttpConfig {
        token: Some("secret".to_owned().into()),
        ..HttpConfig::new(endpoint.url("/in"))
    };
    let buffer = open(&dir, config);
    let events = buffer.events();
    for text in ["one", "two"] {
        buffer
            .write_blocking("t", Message::keyed("k", text))
            .unwrap();
        buffer.flush_blocking(LIMIT).unwrap();
    }
    buffer
        .write_blocking("t", Message::keyed("k", "three"))
        .unwrap();
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    assert_eq!(
        endpoint.bodies(),
        ["one", "one", "one", "two", "two", "two", "three"]
    );
    let requests = endpoint.requests();
    let header = |i: usize, name: &str| requests[i].headers[name].clone();
    assert_eq!(header(0, "authorization"), "Bearer secret");
    assert_eq!(
        (header(0, "message-topic"), header(0, "message-key")),
        ("t".into(), "aw".into())
    );
    assert_eq!(header(0, "idempotency-key"), header(2, "idempotency-key"));
    assert_ne!(header(2, "idempotency-key"), header(6, "idempotency-key"));
    let received: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    assert!(
        matches!(&received[0], BufferEvent::ProviderDown { error, .. } if error.starts_with("503")),
        "{received:?}"
    );
    assert!(
        matches!(&received[2], BufferEvent::DeadLetter { sequence: 1, .. }),
        "{received:?}"
    );
}

#[test]
fn batches_are_json_lines() {
    let endpoint = endpoint(&[]);
    let dir = tempfile::tempdir().unwrap();
    let config = HttpConfig {
        body: RequestFormat::Ndjson,
        ..HttpConfig::new(endpoint.url("/in"))
    };
    let buffer = open(&dir, config);
    let messages = [
        Message::new("a\nb").at(1),
        Message::keyed(&b"\xff"[..], "c").at(2),
    ];
    buffer.write_batch_blocking("t", &messages).unwrap();
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    let lines: String = endpoint.bodies().concat();
    let want = r#"{"topic":"t","sequence":0,"timestamp":1,"key":null,"payload":"a\nb"}
{"topic":"t","sequence":1,"timestamp":2,"key":{"base64":"/w=="},"payload":"c"}
"#;
    assert_eq!(lines, want);
}

#[test]
fn an_invalid_url_is_rejected() {
    for (url, problem) in [
        ("nonsense", "relative URL"),
        ("ftp://host/", "http:// or https://"),
    ] {
        let error = HttpProvider::new(HttpConfig::new(url), Arc::new(ManualClock::default()))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with("url is ") && error.contains(problem),
            "{error}"
        );
    }
}
