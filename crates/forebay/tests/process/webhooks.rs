//! Signed webhooks, end to end: the senders' own libraries sign, a running server verifies.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use forebay_test_support::HttpClient;
use forebay_test_support::services::webhook_tools;
use serde_json::{Value, json};

use crate::compat::{Api, S};
use crate::server::Server;

/// Sender, its type in the definition, and two secrets.
const SENDERS: [(&str, &str, [&str; 2]); 7] = [
    (
        "github",
        "github",
        ["It's a Secret to Everybody", "its successor $1"],
    ),
    (
        "stripe",
        "stripe",
        [
            "whsec_5IGQWpnDMY3ZFPqpbMs4aFVkP",
            "whsec_9gLPeC3v0SaGsQBpMpS1Lqhu",
        ],
    ),
    (
        "slack",
        "slack",
        [
            "8f742231b10e8888abcd99yyyzzz85a5",
            "1c7f8e3b0aab4c5f9d7e6a5b4c3d2e1f",
        ],
    ),
    (
        "shopify",
        "shopify",
        ["hush-hush-hush", "d4bcd19b7d7c4f7bb1b8a5e4a7e7c0de"],
    ),
    (
        "standard",
        "standard",
        [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        ],
    ),
    (
        "svix",
        "standard",
        [
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        ],
    ),
    (
        "hmac",
        "hmac",
        ["a-secret-of-ours", "another-secret-of-ours"],
    ),
];

fn body(sender: &str, n: usize) -> String {
    // Spaces and letters beyond ASCII: parsing and writing it again would make another body.
    json!({ "object": "event", "id": format!("{sender}-{n}"), "text": "żółć  " })
        .to_string()
        .replace(':', " : ")
}

/// Headers of each request, by the senders' libraries.
fn sign(tools: &Path, requests: &[Value]) -> Vec<Vec<(String, String)>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/webhooks/sign.py");
    let mut signer = Command::new(tools.join("bin/python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = signer.stdin.take().unwrap();
    input
        .write_all(json!(requests).to_string().as_bytes())
        .unwrap();
    drop(input);
    let ended = signer.wait_with_output().unwrap();
    assert!(ended.status.success());
    let all: Vec<serde_json::Map<String, Value>> = serde_json::from_slice(&ended.stdout).unwrap();
    let headers = all.into_iter().map(|headers| {
        let text = |value: Value| value.as_str().unwrap().to_owned();
        headers
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect()
    });
    headers.collect()
}

fn verify(kind: &str, secrets: &[String]) -> Value {
    let mut verify = json!({ "type": kind, "secrets": secrets });
    if kind == "hmac" {
        verify["header"] = "X-Signature".into();
        verify["hash"] = "sha512".into();
        verify["encoding"] = "base64".into();
        verify["prefix"] = "v2 ".into();
    }
    verify
}

/// A definition file with a source for each sender, whose secrets are in files.
fn define(server: &Server, dir: &Path) -> String {
    let sources: Vec<Value> = SENDERS
        .iter()
        .map(|(sender, kind, secrets)| {
            let references = secrets.iter().enumerate().map(|(n, secret)| {
                let file = dir.join(format!("{sender}-{n}"));
                std::fs::write(&file, format!("{secret}\n")).unwrap();
                format!("${{file:{}}}", file.display())
            });
            json!({
                "name": sender,
                "verify": verify(kind, &references.collect::<Vec<_>>()),
                "sinks": [{ "table": format!("in.hooks.{sender}"), "columns": [
                    { "name": "id", "type": "path", "path": "id" },
                    { "name": "text", "type": "path", "path": "text" },
                ] }],
            })
        })
        .collect();
    let file = dir.join("hooks.yaml");
    std::fs::write(&file, json!({ "sources": sources }).to_string()).unwrap();
    server.ok(&["apply", "-f", file.to_str().unwrap()])
}

fn send(server: &Server, source: &str, headers: &[(String, String)], body: &str) -> (u16, Vec<u8>) {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let path = server.path(source);
    let mut client = HttpClient::new(server.source);
    let answer = client.send("POST", &path, &all, body.as_bytes()).unwrap();
    (answer.status, answer.body)
}

#[test]
fn what_the_senders_libraries_sign_is_stored_and_nothing_else() {
    let Some(tools) = webhook_tools("what_the_senders_libraries_sign_is_stored_and_nothing_else")
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let made = define(&server, dir.path());
    assert!(made.contains("+ source stripe"), "{made}");
    let again = define(&server, dir.path());
    assert!(again.contains("0 created, 0 changed, 0 deleted"), "{again}");

    let mut requests = Vec::new();
    for (sender, _, secrets) in SENDERS {
        for (n, secret) in secrets.iter().enumerate() {
            for age in [0, 600] {
                requests.push(json!({
                    "type": sender, "secret": secret, "body": body(sender, n), "age": age,
                }));
            }
        }
    }
    let signed = sign(&tools, &requests);
    for (request, headers) in requests.iter().zip(signed) {
        let sender = request["type"].as_str().unwrap();
        let body = request["body"].as_str().unwrap();
        let is_old = request["age"] == 600;
        if is_old {
            let has_time = ["stripe", "slack", "standard", "svix"].contains(&sender);
            if has_time {
                rejected(
                    &server,
                    sender,
                    &headers,
                    body,
                    "seconds before the time of the server",
                );
            }
            continue;
        }
        let (status, said) = send(&server, sender, &headers, body);
        assert_eq!(status, 200, "{sender}: {}", String::from_utf8_lossy(&said));
        rejected(
            &server,
            sender,
            &headers,
            &body.replace("event", "evenT"),
            "no secret",
        );
        rejected(
            &server,
            sender,
            &headers,
            &body.replace(" : ", ": "),
            "no secret",
        );
        rejected(&server, sender, &[], body, "is missing");
    }
    for (sender, _, _) in SENDERS {
        let sql = format!("SELECT id, text FROM \"in.hooks.{sender}\" ORDER BY id");
        let rows = server.ok(&["query", &sql, "--wait", "--format", "json"]);
        let rows: Value = serde_json::from_str(&rows).unwrap();
        let row = |n: usize| json!({ "id": format!("{sender}-{n}"), "text": "żółć  " });
        assert_eq!(rows, json!([row(0), row(1)]), "{sender}");
    }
    counted(&server, "stripe", "mismatch", 4);
}

/// Checks the counter of rejected signatures.
fn counted(server: &Server, source: &str, cause: &str, rejected: usize) {
    let metrics = server.get("/metrics").1;
    let mut lines = metrics.lines();
    let is_counted = |line: &&str| {
        let labels = [format!("source=\"{source}\""), format!("cause=\"{cause}\"")];
        let has_labels = labels.iter().all(|label| line.contains(label));
        line.starts_with("forebay_signatures_rejected_total{") && has_labels
    };
    let counted = lines.find(is_counted).unwrap_or(&metrics);
    assert!(counted.ends_with(&format!(" {rejected}")), "{counted}");
}

fn rejected(
    server: &Server,
    source: &str,
    headers: &[(String, String)],
    body: &str,
    because: &str,
) {
    let (status, said) = send(server, source, headers, body);
    let said = String::from_utf8(said).unwrap();
    assert_eq!(status, 401, "{source}: {said}");
    assert!(
        said.contains("stream.in.invalidSignature") && said.contains(because),
        "{said}"
    );
}

#[test]
fn slacks_handshake_is_answered_if_it_is_signed() {
    let Some(tools) = webhook_tools("slacks_handshake_is_answered_if_it_is_signed") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    define(&server, dir.path());
    let body = json!({ "type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY" });
    let body = body.to_string();
    let request = json!({ "type": "slack", "secret": SENDERS[2].2[1], "body": body, "age": 0 });
    let signed = sign(&tools, &[request]);
    let (status, challenge) = send(&server, "slack", &signed[0], &body);
    assert_eq!(
        (status, &challenge[..]),
        (200, &b"3eZbrw1aBm2rZgRNFdxV2595E9CY"[..])
    );
    rejected(&server, "slack", &[], &body, "is missing");
}

/// Needs no library: what a person does with the command line, and what it shows.
#[test]
fn the_command_line_sets_and_shows_a_requirement_without_its_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    server.define();
    let secrets = dir.path().join("secrets");
    std::fs::write(
        &secrets,
        "the-new-signing-secret\r\n\nthe-old-signing-secret\n",
    )
    .unwrap();
    let secrets = secrets.to_str().unwrap();
    let said = server.ok(&["source", "verify", "events", "stripe", "--secrets", secrets]);
    let begin = "source events requires signatures of type stripe; tolerance 5m0s; 2 secrets with the fingerprints ";
    assert!(said.starts_with(begin), "{said}");
    let said = server.ok(&["source", "verify", "events", "stripe", "--tolerance", "10m"]);
    assert!(said.contains("tolerance 10m0s; 2 secrets"), "{said}");
    let shown = server.ok(&["source", "show", "events"]);
    assert!(
        shown.contains("\nrequires signatures of type stripe; tolerance 10m0s; 2 secrets"),
        "{shown}"
    );
    let json = server.ok(&["source", "show", "events", "--json"]);
    let listed = server.ok(&["source", "ls", "--json"]);
    let api = Api::of(&server);
    let versions = api.get(&format!("{S}/events/versions")).to_string();
    for text in [&shown, &json, &listed, &versions] {
        assert!(!text.contains("signing-secret"), "{text}");
    }
    assert_eq!(send(&server, "events", &[], "{}").0, 401);

    let failed = server
        .command(&["source", "verify", "events", "hmac"])
        .output()
        .unwrap();
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(text.contains("erify.secrets is missing"), "{text}");
    let said = server.ok(&["source", "verify", "events", "none"]);
    assert_eq!(said, "source events requires no signature\n");
    assert_eq!(send(&server, "events", &[], "{\"n\":1}").0, 200);
}
