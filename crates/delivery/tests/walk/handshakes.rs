//! Browsers, methods other than POST, and handshakes of webhook senders.

use std::sync::Arc;

use forebay_ingest::dispatch::{BranchRoute, RouteTable};
use forebay_model::{HandshakeKind, HandshakeSettings};
use serde_json::json;

use crate::client::{Answer, Client, post};
use crate::world::{SECRET, World, config, stream};

async fn ask(client: &mut Client, method: &str, query: &str, headers: &str) -> Answer {
    let request = format!(
        "{method} {}{query} HTTP/1.1\r\nHost: t\r\n{headers}\r\n",
        stream()
    );
    client.send(request.as_bytes()).await
}

async fn answering(kinds: &[&str], verify_token: &str) -> World {
    let w = World::bodies(config()).await;
    let mut handshakes = HandshakeSettings::default();
    handshakes.set_names(&kinds.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>());
    verify_token.clone_into(&mut handshakes.verify_token);
    let branch = BranchRoute {
        key: w.sinks[0].key().source.clone(),
        disabled: false,
        handshakes,
        verifier: None,
        sinks: w.sinks.iter().map(Arc::clone).collect(),
    };
    w.dispatcher
        .set_table(RouteTable::new([(SECRET.to_owned(), branch)]));
    w
}

#[tokio::test]
async fn pages_of_any_origin_may_send_with_and_without_credentials() {
    let w = World::bodies(config()).await;
    let mut client = w.client().await;
    // What Chromium asks before navigator.sendBeacon of a Blob of application/json.
    let asked = "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: content-type,authorization\r\n";
    let answer = ask(&mut client, "OPTIONS", "", asked).await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    for (name, value) in [
        ("allow", "OPTIONS, POST"),
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "OPTIONS, POST"),
        ("access-control-allow-headers", "content-type,authorization"),
        ("access-control-max-age", "7200"),
        (
            "vary",
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let asked = "Origin: null\r\nAccess-Control-Request-Method: POST\r\n";
    let answer = ask(&mut client, "OPTIONS", "", asked).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("null"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("*, Authorization, Content-Type")
    );
    // Only lists of names are echoed.
    let strange = "Origin: https://a.example\r\nAccess-Control-Request-Headers: a<b>\r\n";
    let answer = ask(&mut client, "OPTIONS", "", strange).await;
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("*, Authorization, Content-Type")
    );
    // A client without an origin has no credentials.
    let answer = ask(&mut client, "OPTIONS", "", "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let sent = "Origin: https://a.example\r\nContent-Type: text/plain;charset=UTF-8\r\n";
    for (path, status) in [(stream(), 200), (format!("{}x", stream()), 404)] {
        let answer = client.send(&post(&path, sent, b"{}")).await;
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://a.example")
        );
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            Some("true")
        );
        assert_eq!(answer.header("vary"), Some("Origin"));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(
            exposed.contains("Retry-After") && !exposed.contains('*'),
            "{exposed}"
        );
    }
    let answer = client.send(&post(&stream(), "", b"x")).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn other_methods_get_an_explanation() {
    let w = World::bodies(config()).await;
    let mut client = w.client().await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "TRACE"] {
        let answer = ask(&mut client, method, "?challenge=x&hub.challenge=x", "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("OPTIONS, POST"))
        );
        let said = answer.json();
        assert_eq!(said["error"], "stream.in.methodNotAllowed");
        let text = said["message"].as_str().unwrap();
        assert!(text.contains("POST") && text.contains(method), "{text}");
    }
    // The response does not tell whether the secret is right.
    let wrong = format!("GET {}x HTTP/1.1\r\nHost: t\r\n\r\n", stream());
    let right = ask(&mut client, "GET", "", "").await;
    let wrong = client.send(wrong.as_bytes()).await;
    assert_eq!((wrong.status, &wrong.body), (right.status, &right.body));
    let health = b"DELETE /health-check HTTP/1.1\r\nHost: t\r\n\r\n";
    let answer = client.send(health).await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
}

fn is_inert(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn each_handshake_is_answered_as_its_sender_expects() {
    let w = answering(&HandshakeKind::NAMES, "t0ken").await;
    let mut client = w.client().await;
    let hub = "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=t0ken";
    let okta = "X-Okta-Verification-Challenge: a-B_9\r\n";
    let validation = "?validationToken=Validation%3a+Testing+client%20application";
    for (method, query, headers, body) in [
        ("GET", hub, "", "1158201444"),
        ("GET", "?challenge=abc-123", "", "abc-123"),
        (
            "POST",
            validation,
            "Content-Length: 0\r\n",
            "Validation: Testing client application",
        ),
    ] {
        let answer = ask(&mut client, method, query, headers).await;
        assert_eq!((answer.status, answer.text()), (200, body));
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        is_inert(&answer);
    }
    let answer = ask(&mut client, "GET", "", okta).await;
    assert_eq!(answer.json(), json!({"verification": "a-B_9"}));
    is_inert(&answer);
    let slack = r#"{"token":"x","challenge":"3eZbrw1a","type":"url_verification"}"#;
    let answer = client.post(&stream(), slack).await;
    assert_eq!((answer.status, answer.text()), (200, "3eZbrw1a"));
    let origin = "WebHook-Request-Origin: eventemitter.example.com\r\n";
    let answer = ask(&mut client, "OPTIONS", "", origin).await;
    assert_eq!(
        answer.header("webhook-allowed-origin"),
        Some("eventemitter.example.com")
    );
    assert_eq!(answer.status, 200);
    assert!(w.rows("k").await.is_empty(), "no handshake is a record");
    let put = post(&stream(), "Content-Type: application/json\r\n", b"{}");
    let put = [b"PUT", &put[4..]].concat();
    assert_eq!(client.send(&put).await.text(), "OK");
    let event = r#"{"type":"event_callback","challenge":"x"}"#;
    assert_eq!(client.post(&stream(), event).await.text(), "OK");
    assert_eq!(w.rows("k").await.len(), 2);
    let methods = "GET, HEAD, OPTIONS, POST, PUT";
    let answer = ask(&mut client, "DELETE", "", "").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some(methods))
    );
    let answer = ask(&mut client, "GET", "", "").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some(methods))
    );
    let head = format!(
        "HEAD {} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        stream()
    );
    client.write(head.as_bytes()).await;
    assert!(client.read_all().await.starts_with(b"HTTP/1.1 200 OK\r\n"));
    // Under another secret nothing is answered.
    let mut client = w.client().await;
    let wrong = format!("GET {}x{hub} HTTP/1.1\r\nHost: t\r\n\r\n", stream());
    assert_eq!(client.send(wrong.as_bytes()).await.status, 405);
}

#[tokio::test]
async fn no_response_can_be_turned_into_a_page() {
    let w = answering(
        &["dropbox", "hub", "slack", "okta", "microsoft_graph"],
        "t0ken",
    )
    .await;
    let mut client = w.client().await;
    let long = format!("?challenge={}", "x".repeat(1025));
    let hub = |rest: &str| format!("?hub.challenge=1&{rest}");
    for (query, status, cause) in [
        (
            "?challenge=%3Cscript%3E".to_owned(),
            400,
            "other characters",
        ),
        ("?challenge=a%0d%0ab".to_owned(), 400, "other characters"),
        ("?challenge=%E2%82%AC".to_owned(), 400, "other characters"),
        ("?challenge=a%22b".to_owned(), 400, "other characters"),
        ("?challenge=".to_owned(), 400, "challenge is empty"),
        (long, 400, "challenge has 1025 bytes, at most 1024"),
        (
            hub("hub.mode=subscribe&hub.verify_token=T0ken"),
            403,
            "hub.verify_token",
        ),
        (hub("hub.mode=subscribe"), 403, "hub.verify_token"),
        (
            hub("hub.mode=unsubscribe&hub.verify_token=t0ken"),
            403,
            "hub.mode is \"unsubscribe\"",
        ),
    ] {
        let answer = ask(&mut client, "GET", &query, "").await;
        assert_eq!(answer.status, status, "{query}");
        let said = answer.json();
        assert_eq!(said["error"], "stream.in.handshakeRejected");
        assert!(said["message"].as_str().unwrap().contains(cause), "{said}");
    }
    let slack = r#"{"challenge":"<b>","type":"url_verification"}"#;
    assert_eq!(client.post(&stream(), slack).await.status, 400);
    // A body that is too large for a handshake is a record.
    let large = format!(
        r#"{{"type":"url_verification","challenge":"x","pad":"{}"}}"#,
        "x".repeat(9000)
    );
    assert_eq!(client.post(&stream(), &large).await.text(), "OK");
    let token = ask(
        &mut client,
        "POST",
        "?validationToken=%3Cb%3E",
        "Content-Length: 0\r\n",
    )
    .await;
    assert_eq!(token.status, 400);
    assert_eq!(w.rows("k").await.len(), 1);
}

#[tokio::test]
async fn a_token_is_required_only_where_one_is_set() {
    let w = answering(&["hub"], "").await;
    let mut client = w.client().await;
    let answer = ask(
        &mut client,
        "GET",
        "?hub.mode=subscribe&hub.challenge=9&hub.topic=t",
        "",
    )
    .await;
    assert_eq!((answer.status, answer.text()), (200, "9"));
    let answer = ask(&mut client, "GET", "?challenge=9", "").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, OPTIONS, POST"))
    );
    // Slack's handshake is a record where it is not enabled.
    let slack = r#"{"challenge":"x","type":"url_verification"}"#;
    assert_eq!(client.post(&stream(), slack).await.text(), "OK");
}
