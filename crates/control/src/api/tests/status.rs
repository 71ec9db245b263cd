//! Status of the sinks of a branch.

use forebay_api::status::{DefinitionsStatusView, VolumeStatusView};
use serde_json::json;

use super::retry::parked;
use super::world::World;
use crate::api::NodeService;

/// A server with one volume.
pub(super) struct OneVolume;

impl NodeService for OneVolume {
    fn version(&self) -> String {
        "1.2.3".to_owned()
    }

    fn volumes(&self) -> Vec<VolumeStatusView> {
        vec![VolumeStatusView {
            volume_id: "0f".to_owned(),
            size_bytes: Some(1000),
            free_bytes: Some(100),
            file_bytes: 10,
            available_bytes: 90,
            full: false,
            error: None,
        }]
    }

    fn store_error(&self) -> Option<String> {
        None
    }

    fn definitions(&self) -> Option<DefinitionsStatusView> {
        None
    }
}

const STATUS: &str = "/v1/branches/default/status";

#[tokio::test]
async fn a_healthy_sink_has_no_failure() {
    let world = World::with_sink().await;
    let status = world.get(STATUS).await.ok();
    assert_eq!(
        (&status["healthy"], &status["version"]),
        (&json!(true), &json!("1.2.3"))
    );
    let sink = &status["sinks"][0];
    assert_eq!(
        (&sink["sourceId"], &sink["sinkId"], &sink["state"]),
        (&json!("my-source"), &json!("my-sink"), &json!("ok"))
    );
    assert_eq!(sink.get("failure"), None);
    assert_eq!(status["volumes"][0]["freeBytes"], 100);
}

#[tokio::test]
async fn a_parked_file_is_shown_with_its_cause_and_next_attempt() {
    let (world, _) = parked().await;
    let status = world.get(STATUS).await.ok();
    assert_eq!(status["healthy"], false);
    let sink = &status["sinks"][0];
    assert_eq!(
        (&sink["state"], &sink["pending"], &sink["type"]),
        (&json!("parked"), &json!(3), &json!("table"))
    );
    let failure = &sink["failure"];
    assert_eq!(
        (&failure["step"], &failure["cause"], &failure["attempts"]),
        (&json!("import"), &json!("it is a view"), &json!(1))
    );
    assert!(failure["since"].is_string() && failure["nextAttemptAt"].is_string());
}

#[tokio::test]
async fn another_project_sees_none_of_the_sinks() {
    let world = World::with_sink().await;
    let status = world
        .call_as(
            "other",
            http::Method::GET,
            STATUS,
            axum::body::Body::empty(),
        )
        .await
        .ok();
    assert_eq!(status["sinks"], json!([]));
}
