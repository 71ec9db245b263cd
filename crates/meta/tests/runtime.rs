//! Nodes, volumes, sessions, tasks and the cluster's id.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{at, repo, source_key};
use forebay_meta::catalog::runtime::{Node, ProcessedRevision, RegisteredVolume};
use forebay_meta::catalog::tasks::{TaskError, TaskRetention};
use forebay_meta::kv::embedded::ManualMonotonicClock;
use forebay_meta::kv::session::Session;
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo, Revision, Store, StoreError};
use forebay_model::{NodeId, ProjectId, SinkSettings, TaskEnd, TaskEntry, VolumeId};
use tokio_util::sync::CancellationToken;

fn node(name: &str) -> NodeId {
    NodeId(name.to_owned())
}

#[tokio::test]
async fn the_cluster_has_one_id() {
    let (repo, _dir) = repo().await;
    let first = repo.cluster_id(7).await.unwrap();
    assert_eq!(first, format!("{:032x}", 7));
    assert_eq!(repo.cluster_id(8).await.unwrap(), first);
}

#[tokio::test]
async fn nodes_and_volumes_exist_as_long_as_their_session() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualMonotonicClock::default());
    let options = EmbeddedOptions {
        clock: clock.clone(),
        ..EmbeddedOptions::default()
    };
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path(), options).unwrap());
    let repo = Repo::new(Arc::clone(&store), SinkSettings::default());
    let ttl = Duration::from_secs(15);
    let session = Session::open(Arc::clone(&store), ttl).await.unwrap();
    let lease = session.lease();
    let n1 = Node {
        id: node("n1"),
        started_at: at(0),
        roles: vec!["source".to_owned()],
    };
    let volume = RegisteredVolume {
        id: VolumeId("v".to_owned()),
        node: node("n1"),
    };
    repo.register_node(&n1, lease).await.unwrap();
    repo.register_volume(&volume, lease).await.unwrap();
    repo.register_source_node(&node("n1"), lease).await.unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(session.keep_alive(stop.clone()));
    let processed = |revision| {
        let node = node("n1");
        vec![ProcessedRevision { node, revision }]
    };
    let now = repo.processed_revisions().await.unwrap();
    assert_eq!(now, processed(Revision(0)));
    repo.report_processed(&node("n1"), Revision(42), lease)
        .await
        .unwrap();
    let now = repo.processed_revisions().await.unwrap();
    assert_eq!(now, processed(Revision(42)));
    assert_eq!(repo.nodes().await.unwrap(), std::slice::from_ref(&n1));
    assert_eq!(repo.volumes().await.unwrap(), [volume]);
    stop.cancel();
    keeping.await.unwrap().unwrap();
    assert_eq!(repo.nodes().await.unwrap(), []);
    assert_eq!(repo.volumes().await.unwrap(), []);
    assert_eq!(repo.processed_revisions().await.unwrap(), []);
    let late = repo.register_node(&n1, lease).await;
    assert_eq!(late, Err(StoreError::LeaseNotFound(lease)));
}

#[tokio::test]
async fn a_session_whose_lease_has_ended_returns_an_error() {
    let (repo, _dir) = repo().await;
    let store = Arc::clone(repo.store());
    let session = Session::open(Arc::clone(&store), Duration::from_secs(15))
        .await
        .unwrap();
    let lease = session.lease();
    store.revoke(lease).await.unwrap();
    let ended = session.keep_alive(CancellationToken::new()).await;
    assert_eq!(ended, Err(StoreError::LeaseNotFound(lease)));
}

fn task(id: &str, on: &str, created: i64) -> TaskEntry {
    TaskEntry {
        project: ProjectId(1),
        id: id.to_owned(),
        kind: "api.create.source".to_owned(),
        created_at: at(created),
        node: on.to_owned(),
        source: source_key("src"),
        sink: None,
        end: None,
    }
}

fn end(outcome: Result<String, String>) -> TaskEnd {
    TaskEnd {
        finished_at: at(1000),
        duration_ms: 5,
        outcome,
        warnings: Vec::new(),
    }
}

#[tokio::test]
async fn a_task_ends_once_and_is_visible_to_its_project_only() {
    let (repo, _dir) = repo().await;
    let (project, done) = (ProjectId(1), end(Ok("done".to_owned())));
    repo.create_task(&task("a/b", "n1", 0)).await.unwrap();
    let again = repo.create_task(&task("a/b", "n1", 0)).await;
    assert_eq!(again, Err(TaskError::Exists("a/b".to_owned())));
    assert_eq!(repo.task(project, "a/b").await.unwrap().end, None);
    let other = repo.task(ProjectId(2), "a/b").await;
    assert_eq!(other, Err(TaskError::NotFound("a/b".to_owned())));
    repo.finish_task(project, "a/b", done.clone())
        .await
        .unwrap();
    let twice = repo
        .finish_task(project, "a/b", end(Err("no".to_owned())))
        .await;
    assert_eq!(twice, Err(TaskError::Ended("a/b".to_owned())));
    assert_eq!(repo.task(project, "a/b").await.unwrap().end, Some(done));
}

#[tokio::test]
async fn tasks_of_removed_nodes_end_with_an_error() {
    let (repo, _dir) = repo().await;
    let lease = repo.store().grant(Duration::from_secs(3600)).await.unwrap();
    let live = Node {
        id: node("live"),
        started_at: at(100),
        roles: Vec::new(),
    };
    repo.register_node(&live, lease).await.unwrap();
    for (id, on, created) in [
        ("dead", "gone", 200),
        ("before", "live", 50),
        ("now", "live", 200),
    ] {
        repo.create_task(&task(id, on, created)).await.unwrap();
    }
    assert_eq!(repo.fail_abandoned_tasks(at(300)).await, Ok(2));
    assert_eq!(repo.fail_abandoned_tasks(at(301)).await, Ok(0));
    for (id, failed) in [("dead", true), ("before", true), ("now", false)] {
        let task = repo.task(ProjectId(1), id).await.unwrap();
        assert_eq!(task.end.is_some_and(|e| e.outcome.is_err()), failed, "{id}");
    }
}

#[tokio::test]
async fn successful_tasks_are_removed_before_failed_ones() {
    let (repo, _dir) = repo().await;
    let project = ProjectId(1);
    for id in ["good", "bad", "open"] {
        repo.create_task(&task(id, "n1", 1000)).await.unwrap();
    }
    repo.finish_task(project, "good", end(Ok(String::new())))
        .await
        .unwrap();
    repo.finish_task(project, "bad", end(Err(String::new())))
        .await
        .unwrap();
    let hours = |h: u64| at(1000).plus(Duration::from_secs(3600 * h));
    let retention = TaskRetention::default();
    assert_eq!(repo.remove_old_tasks(retention, at(2000)).await, Ok(0));
    assert_eq!(repo.remove_old_tasks(retention, hours(1)).await, Ok(1));
    assert!(repo.task(project, "good").await.is_err());
    assert_eq!(repo.remove_old_tasks(retention, hours(48)).await, Ok(2));
    assert_eq!(repo.fail_abandoned_tasks(hours(48)).await, Ok(0));
}
