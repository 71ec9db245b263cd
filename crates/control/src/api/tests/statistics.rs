//! Statistics of sinks.

use forebay_model::{Backoff, NodeId, Statistics};
use serde_json::json;

use super::world::{NODE, World};

const K: &str = "/v1/branches/default/sources/my-source/sinks/my-sink";

#[tokio::test]
async fn a_sink_without_data_has_zeros() {
    let world = World::with_sink().await;
    let total = world.get(&format!("{K}/statistics/total")).await.ok();
    let zeros = json!({ "recordsCount": 0, "compressedSize": 0, "uncompressedSize": 0 });
    assert_eq!(
        total.to_string(),
        json!({ "total": zeros, "levels": {} }).to_string()
    );
    let files = world.get(&format!("{K}/statistics/files")).await.ok();
    let expected = json!({ "files": [{
        "state": "writing", "openedAt": world.now(), "statistics": { "total": null, "levels": {} },
    }] });
    assert_eq!(files.to_string(), expected.to_string());
    let balance = world
        .get(&format!("{K}/statistics/reconciliation"))
        .await
        .ok();
    let expected = json!({
        "accepted": 0, "imported": 0, "dead": 0, "expired": 0, "lost": 0, "inFlight": 0, "holds": true,
    });
    assert_eq!(balance.to_string(), expected.to_string());
}

#[tokio::test]
async fn counts_appear_at_their_level_and_in_the_reconciliation() {
    let world = World::with_sink().await;
    let active = world.repo.active_files(None).await.unwrap().remove(0);
    let slice = active.slices[0].slice.key.clone();
    let at = world.now();
    let statistics = Statistics {
        records: 3,
        uncompressed_bytes: 30,
        compressed_bytes: 20,
        first_record_at: Some(at.parse().unwrap()),
        last_record_at: Some(at.parse().unwrap()),
        lost_records: 1,
    };
    let node = NodeId(NODE.to_owned());
    world
        .repo
        .report_statistics(&node, &[(slice, statistics)])
        .await
        .unwrap();
    let level = json!({
        "firstRecordAt": at, "lastRecordAt": at,
        "recordsCount": 3, "compressedSize": 20, "uncompressedSize": 30,
    });
    let both = json!({ "total": level, "levels": { "local": level } });
    let total = world.get(&format!("{K}/statistics/total")).await.ok();
    assert_eq!(total.to_string(), both.to_string());
    let files = world.get(&format!("{K}/statistics/files")).await.ok();
    assert_eq!(files["files"][0]["statistics"], both);
    let balance = world
        .get(&format!("{K}/statistics/reconciliation"))
        .await
        .ok();
    assert_eq!(
        (&balance["accepted"], &balance["lost"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(
        (&balance["inFlight"], &balance["holds"]),
        (&json!(3), &json!(true))
    );
}

#[tokio::test]
async fn failed_files_are_listed_last_and_can_be_filtered() {
    let world = World::with_sink().await;
    world.done(world.patch(K, json!({})).await).await;
    let files = world.repo.active_files(None).await.unwrap();
    let failure = forebay_meta::catalog::slices::StepFailure {
        reason: "no route".to_owned(),
        terminal: false,
        backoff: Backoff::default(),
        random: 100,
    };
    let now = world.now().parse().unwrap();
    // The older file, which would otherwise be first.
    world
        .repo
        .file_failed(&files[0].file.key, &failure, now)
        .await
        .unwrap();
    let path = format!("{K}/statistics/files");
    let all = world.get(&path).await.ok();
    let states: Vec<_> = all["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["state"])
        .collect();
    assert_eq!(states, [&json!("writing"), &json!("closing")]);
    let failed = world.get(&format!("{path}?failedFiles=true")).await.ok();
    let failed = failed["files"].as_array().unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["retryAttempt"], 1);
    assert_eq!(failed[0]["retryReason"], "no route");
    assert_eq!(failed[0]["retryAfter"], "2026-01-02T03:04:06.678Z");
    let bad = world.get(&format!("{path}?failedFiles=foo")).await;
    let text = "Invalid value \"foo\" for \"failedFiles\", must be a boolean.";
    bad.is_error(400, "invalidFieldType", text);
}

#[tokio::test]
async fn columns_that_never_match_are_listed() {
    let world = World::with_sink().await;
    let columns = world.get(&format!("{K}/statistics/columns")).await.ok();
    let wanted = json!({
        "since": forebay_model::Timestamp::MIN.to_string(),
        "records": 5,
        "columns": [{ "name": "a", "path": "$.a", "notFound": 5, "neverFound": true }],
    });
    assert_eq!(columns, wanted);
    let other = world.get(&format!("{K}x/statistics/columns")).await;
    assert_eq!(other.status, 404);
}
