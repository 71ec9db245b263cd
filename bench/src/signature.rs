//! Signed requests compared with the same requests to a source that needs no signature.

use sha2::{Digest, Sha256};
use serde_json::{Value, json};

use crate::Common;
use crate::forebay::Forebay;
use crate::http::{Case, Measured, body, body_columns, print_header};
use crate::load;

const SECRET: &str = "a-secret-of-the-benchmark";
/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// Required secrets: name, number.
const CASES: [(&str, usize); 3] = [("no signature", 0), ("1 secret", 1), ("4 secrets", 4)];

/// HMAC-SHA256 in hexadecimal digits.
fn sign(body: &[u8]) -> String {
    let mut key = [0; BLOCK];
    key[..SECRET.len()].copy_from_slice(SECRET.as_bytes());
    let inner = Sha256::new().chain_update(key.map(|b| b ^ 0x36)).chain_update(body);
    let outer = Sha256::new().chain_update(key.map(|b| b ^ 0x5c));
    let digest = outer.chain_update(inner.finalize()).finalize();
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn signed(path: &str, body: &[u8]) -> Vec<u8> {
    let kind = format!("application/json\r\nX-Hub-Signature-256: sha256={}", sign(body));
    load::request(path, &kind, body)
}

/// A body of about that many KB.
fn body_of(kb: usize) -> Vec<u8> {
    if kb <= 1 {
        return body(0);
    }
    json!({ "text": "x".repeat(kb << 10) }).to_string().into_bytes()
}

pub async fn run(common: &Common, connections: usize, rounds: usize) -> anyhow::Result<()> {
    let forebay = Forebay::start(common, 1, &[]).await?;
    let settings = common.settings()?;
    let mut paths = Vec::new();
    for (number, (_, secrets)) in CASES.iter().enumerate() {
        let path = forebay.define(1, number, &body_columns(), &settings).await?;
        if *secrets > 0 {
            // The right one is the last.
            let others = (1..*secrets).map(|n| format!("another-secret-{n}"));
            let all: Vec<String> = others.chain([SECRET.to_owned()]).collect();
            let verify: Value = json!({ "type": "github", "secrets": all });
            forebay.require(1, number, &verify).await?;
        }
        paths.push(path);
    }
    print_header();
    for kb in [1, 64, 512] {
        for _ in 0..rounds {
            let mut first: Option<Measured> = None;
            for ((name, _), path) in CASES.iter().zip(&paths) {
                let case = Case {
                    name: &format!("{name}, {kb} KB"),
                    server: &forebay.server,
                    address: forebay.source,
                    requests: vec![signed(path, &body_of(kb))],
                    connections,
                    records: 1,
                };
                let measured = case.measure(common, first).await?;
                first = first.or(Some(measured));
            }
        }
    }
    Ok(())
}
