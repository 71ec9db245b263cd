//! Retries of failed files, and parked files moved to the dead letters.

use forebay_model::{Backoff, SliceState, Statistics};
use http::Method;
use serde_json::json;

use super::world::{S, World};

const K: &str = "/v1/branches/default/sources/my-source/sinks/my-sink";

/// A server with a sink whose oldest file is parked; returns its opening time.
pub(super) async fn parked() -> (World, String) {
    let world = World::with_sink().await;
    world.done(world.patch(K, json!({})).await).await;
    let file = world.repo.active_files(None).await.unwrap().remove(0);
    let key = file.file.key.clone();
    let now = world.now().parse().unwrap();
    let held = Statistics {
        records: 3,
        ..Statistics::default()
    };
    for slice in &file.slices {
        let (slice, repo) = (&slice.slice.key, &world.repo);
        repo.slice_uploading(slice, held, now).await.unwrap();
        let object = forebay_model::StagedChecksum {
            bytes: 9,
            crc32c: 1,
        };
        let slice = repo.slice_uploaded(slice, object, 0, now).await.unwrap();
        assert_eq!(slice.state, SliceState::Uploaded);
    }
    world.repo.file_importing(&key, now).await.unwrap();
    let failure = forebay_meta::catalog::slices::StepFailure {
        reason: "it is a view".to_owned(),
        terminal: true,
        backoff: Backoff::default(),
        random: 100,
    };
    world.repo.file_failed(&key, &failure, now).await.unwrap();
    (world, key.opened_at.to_string())
}

#[tokio::test]
async fn failures_are_retried_at_once_and_audited() {
    let (world, _) = parked().await;
    let failed = format!("{K}/statistics/files?failedFiles=true");
    let before = world.get(&failed).await.ok();
    assert_eq!(before["files"][0]["parked"], true);
    assert!(before["files"][0]["retryAfter"].is_string());
    let retried = world.post(&format!("{K}/retry"), json!({})).await.ok();
    assert_eq!(retried, json!({ "files": 1, "slices": 0 }));
    let after = world.get(&failed).await.ok();
    assert_eq!(after["files"][0].get("retryAfter"), None);
    assert_eq!(after["files"][0]["retryReason"], "it is a view");
    let audit = world.get("/v1/admin/audit").await.ok();
    let entries = audit.to_string();
    assert!(entries.contains("\"retry\""), "{entries}");
    let none = world
        .post(&format!("{S}/my-source/sinks/none/retry"), json!({}))
        .await;
    let text = "Sink \"none\" not found in the source.";
    none.is_error(404, "sinkNotFound", text);
    let path = format!("{K}/retry");
    let reader = world.call_as("reader", Method::POST, &path, String::new());
    assert_eq!(reader.await.status.as_u16(), 403);
}

#[tokio::test]
async fn only_parked_files_can_be_moved_to_the_dead_letters() {
    let (world, opened_at) = parked().await;
    let path = format!("{K}/files/{opened_at}/dead-letter");
    let given_up = json!({ "openedAt": opened_at, "cause": "it is a view" });
    for _ in 0..2 {
        assert_eq!(world.post(&path, json!({})).await.ok(), given_up);
    }
    let open = world.repo.active_files(None).await.unwrap().remove(1);
    let open = open.file.key.opened_at.to_string();
    let other = world
        .post(&format!("{K}/files/{open}/dead-letter"), json!({}))
        .await;
    let text = format!(
        "File \"{open}\" is not parked: only a file that its table rejected can be moved to the dead letters."
    );
    other.is_error(409, "fileNotParked", &text);
    let none = "2020-01-01T00:00:00.000Z";
    let missing = world
        .post(&format!("{K}/files/{none}/dead-letter"), json!({}))
        .await;
    let text = format!("File \"{none}\" not found in the sink, or already imported.");
    missing.is_error(404, "fileNotFound", &text);
    let bad = world
        .post(&format!("{K}/files/x/dead-letter"), json!({}))
        .await;
    assert_eq!(bad.status.as_u16(), 400);
}
