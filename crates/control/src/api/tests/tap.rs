//! Live records: access, audit, errors.

use http::{Method, StatusCode};
use serde_json::json;

use super::sweep::STRANGE_IDS;
use super::world::World;

const TAP: &str = "/v1/branches/default/sources/my-source/tap";

#[tokio::test]
async fn a_reader_opens_a_tap_and_the_audit_has_it() {
    let world = World::with_sink().await;
    let reply = world.call_as("reader", Method::GET, TAP, "").await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert_eq!(reply.text, "{\"lost\":0}\n");
    let of_sink = format!("{TAP}?sinkId=my-sink&stage=dead");
    world.call_as("reader", Method::GET, &of_sink, "").await;
    let audit = world.get("/v1/admin/audit").await.ok();
    let changes = audit["changes"].as_array().unwrap().iter();
    let taps: Vec<_> = changes.filter(|c| c["action"] == "tap").collect();
    assert_eq!(taps.len(), 2, "{audit}");
    let texts = taps.iter().map(|t| t["description"].as_str().unwrap());
    let texts: std::collections::BTreeSet<_> = texts.collect();
    let expected = ["Live records, stage dead.", "Live records, stage in."];
    assert_eq!(texts, expected.into());

    for (query, status, error) in [
        ("?filter=full", 429, "stream.api.tooManyTaps"),
        ("?filter=wrong", 400, "stream.api.badRequest"),
        ("?stage=nope", 400, "stream.api.invalidEnumValue"),
        ("?sample=0", 400, "stream.api.invalidRange"),
        ("?sinkId=nope", 404, "stream.api.sinkNotFound"),
    ] {
        let reply = world.get(&format!("{TAP}{query}")).await;
        assert_eq!(reply.status.as_u16(), status, "{query}: {reply:?}");
        assert_eq!(reply.json()["error"], json!(error), "{query}");
    }
    let other = world.call_as("other", Method::GET, TAP, "").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    let audit = world.get("/v1/admin/audit").await.ok();
    let changes = audit["changes"].as_array().unwrap().iter();
    assert_eq!(
        changes.filter(|c| c["action"] == "tap").count(),
        2,
        "{audit}"
    );
}

#[tokio::test]
async fn unusual_parameters_are_rejected_or_open_an_audited_tap() {
    let world = World::with_sink().await;
    let mut opened = 0;
    for name in ["sinkId", "filter", "redact"] {
        for value in STRANGE_IDS {
            let reply = world.get(&format!("{TAP}?{name}={value}")).await;
            let status = reply.status.as_u16();
            assert!(
                [200, 400, 404].contains(&status),
                "{name}={value}: {reply:?}"
            );
            opened += usize::from(status == 200);
        }
    }
    let audit = world.get("/v1/admin/audit").await.ok();
    let changes = audit["changes"].as_array().unwrap().iter();
    assert_eq!(
        changes.filter(|c| c["action"] == "tap").count(),
        opened,
        "{audit}"
    );
}
