//! Signatures of webhooks: nothing of a request without the right one is stored.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use aws_lc_rs::hmac;
use flate2::Compression;
use flate2::write::GzEncoder;
use forebay_ingest::dispatch::{BranchRoute, RouteTable};
use forebay_ingest::signature::SignatureVerifier;
use forebay_model::{HandshakeSettings, SignatureSettings, SignatureType, SourceKey, Timestamp};

use crate::client::{Answer, post};
use crate::world::{NOW, SECRET, World, config, stream};

const SIGNING: &str = "the-secret-of-the-sender";
const NEXT: &str = "its-successor-in-a-rotation";
const JSON: &str = "Content-Type: application/json\r\n";

fn settings(of: SignatureType, secrets: &[&str]) -> SignatureSettings {
    SignatureSettings {
        r#type: of,
        secrets: secrets.iter().map(|s| (*s).to_owned().into()).collect(),
        tolerance: None,
        header: None,
    }
}

/// A route of the world's sinks that requires signatures.
fn branch(w: &World, key: SourceKey, verify: &SignatureSettings) -> BranchRoute {
    let mut handshakes = HandshakeSettings::default();
    if let Some(kind) = verify.r#type.handshake() {
        handshakes.include(kind);
    }
    BranchRoute {
        disabled: false,
        handshakes,
        verifier: Some(SignatureVerifier::new(
            key.branch.project,
            &key.source,
            verify,
        )),
        sinks: w.sinks.iter().map(Arc::clone).collect(),
        key,
    }
}

async fn requiring(verify: &SignatureSettings) -> World {
    let w = World::bodies(config()).await;
    let branch = branch(&w, w.sinks[0].key().source.clone(), verify);
    let table = RouteTable::new([(SECRET.to_owned(), branch)]);
    w.dispatcher.set_table(table);
    w
}

fn hex(secret: &str, parts: &[&[u8]]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, &parts.concat());
    tag.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn github(secret: &str, body: &[u8]) -> String {
    format!("X-Hub-Signature-256: sha256={}\r\n", hex(secret, &[body]))
}

fn slack(at: i64, body: &[u8]) -> String {
    let time = at.to_string();
    let signature = hex(SIGNING, &[b"v0:", time.as_bytes(), b":", body]);
    format!("X-Slack-Request-Timestamp: {time}\r\nX-Slack-Signature: v0={signature}\r\n")
}

fn is_rejected(answer: &Answer, because: &str) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    let said = answer.json();
    assert_eq!(said["error"], "stream.in.invalidSignature");
    assert_eq!(answer.header("www-authenticate"), Some("Signature"));
    let text = said["message"].as_str().unwrap();
    assert!(
        text.starts_with("Invalid signature: ") && text.contains(because),
        "{text}"
    );
    assert!(text.ends_with(". Nothing was stored."), "{text}");
}

#[tokio::test]
async fn only_requests_with_a_right_signature_are_stored() {
    let w = requiring(&settings(SignatureType::Github, &[SIGNING, NEXT])).await;
    let mut client = w.client().await;
    let body = br#"{"a":1}"#;
    for secret in [SIGNING, NEXT] {
        let headers = [JSON, &github(secret, body)].concat();
        let answer = client.send(&post(&stream(), &headers, body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let stored = w.rows("k").await;
    assert_eq!(stored.len(), 2);
    for (headers, body, because) in [
        (String::new(), &body[..], "X-Hub-Signature-256 is missing"),
        (
            github("another-secret", body),
            &body[..],
            "no secret of the source",
        ),
        (
            github(SIGNING, body),
            &br#"{"a":2}"#[..],
            "no secret of the source",
        ),
        (
            "X-Hub-Signature-256: sha256=00\r\n".to_owned(),
            &body[..],
            "is not a signature",
        ),
        // Nothing of a body is read before.
        (
            github("another-secret", b"{"),
            &b"{"[..],
            "no secret of the source",
        ),
    ] {
        let headers = [JSON, &headers].concat();
        let answer = client.send(&post(&stream(), &headers, body)).await;
        is_rejected(&answer, because);
    }
    assert_eq!(w.rows("k").await, stored);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn the_body_is_signed_as_sent() {
    let w = requiring(&settings(SignatureType::Github, &[SIGNING])).await;
    let mut client = w.client().await;
    let plain = br#"{"a":"compressed"}"#;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    let zipped = encoder.finish().unwrap();
    let gzip = [JSON, "Content-Encoding: gzip\r\n"].concat();
    let headers = [gzip.as_str(), &github(SIGNING, plain)].concat();
    is_rejected(
        &client.send(&post(&stream(), &headers, &zipped)).await,
        "no secret",
    );
    let headers = [gzip.as_str(), &github(SIGNING, &zipped)].concat();
    let answer = client.send(&post(&stream(), &headers, &zipped)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // In another charset, too.
    let latin = b"{\"a\":\"caf\xe9\"}";
    let charset = "Content-Type: application/json; charset=latin1\r\n";
    let headers = [charset, &github(SIGNING, latin)].concat();
    let answer = client.send(&post(&stream(), &headers, latin)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // And before it is split into records.
    let batch = b"{\"a\":1}\n{\"a\":2}\n";
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    let headers = [ndjson, &github(SIGNING, &batch[..8])].concat();
    is_rejected(
        &client.send(&post(&stream(), &headers, batch)).await,
        "no secret",
    );
    let headers = [ndjson, &github(SIGNING, batch)].concat();
    let answer = client.send(&post(&stream(), &headers, batch)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(w.rows("k").await.len(), 4);
}

#[tokio::test]
async fn a_large_body_is_hashed_beside_other_requests() {
    let w = requiring(&settings(SignatureType::Github, &[SIGNING, NEXT])).await;
    let mut client = w.client().await;
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(300 << 10)).into_bytes();
    let headers = [JSON, &github("another-secret", &body)].concat();
    is_rejected(
        &client.send(&post(&stream(), &headers, &body)).await,
        "no secret",
    );
    let headers = [JSON, &github(NEXT, &body)].concat();
    let answer = client.send(&post(&stream(), &headers, &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(w.rows("k").await.len(), 1);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn slacks_handshake_needs_its_signature_and_a_present_time() {
    let w = requiring(&settings(SignatureType::Slack, &[SIGNING])).await;
    let mut client = w.client().await;
    let now = NOW.parse::<Timestamp>().unwrap().as_millis() / 1000;
    let hello = br#"{"type":"url_verification","token":"x","challenge":"3eZbrw1aB"}"#;
    let headers = [JSON, &slack(now, hello)].concat();
    let answer = client.send(&post(&stream(), &headers, hello)).await;
    assert_eq!((answer.status, answer.text()), (200, "3eZbrw1aB"));
    is_rejected(
        &client.send(&post(&stream(), JSON, hello)).await,
        "is missing",
    );
    let event = br#"{"type":"event_callback"}"#;
    for (at, is_stored) in [
        (now, true),
        (now - 300, true),
        (now - 301, false),
        (now + 301, false),
    ] {
        let headers = [JSON, &slack(at, event)].concat();
        let answer = client.send(&post(&stream(), &headers, event)).await;
        match is_stored {
            true => assert_eq!(answer.status, 200, "{}", answer.text()),
            false => is_rejected(&answer, "the time of the server, allowed are 300"),
        }
    }
    assert_eq!(w.rows("k").await.len(), 2);
}

#[tokio::test]
async fn each_branch_with_the_address_has_to_accept() {
    let w = World::bodies(config()).await;
    let key = |branch: u64| format!("1/{branch}/s").parse::<SourceKey>().unwrap();
    let one = branch(&w, key(2), &settings(SignatureType::Github, &[SIGNING]));
    let mut other = branch(
        &w,
        key(3),
        &settings(SignatureType::Github, &[SIGNING, NEXT]),
    );
    other.sinks.clear();
    let table = RouteTable::new([one, other].map(|branch| (SECRET.to_owned(), branch)));
    w.dispatcher.set_table(table);
    let mut client = w.client().await;
    let body = br#"{"a":1}"#;
    let headers = [JSON, &github(NEXT, body)].concat();
    is_rejected(
        &client.send(&post(&stream(), &headers, body)).await,
        "no secret",
    );
    let headers = [JSON, &github(SIGNING, body)].concat();
    let answer = client.send(&post(&stream(), &headers, body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(w.rows("k").await.len(), 1);
}
