//! Tasks: status, concurrency, shutdown, recovery after a kill.

use std::time::Duration;

use forebay_model::{BranchId, BranchKey, NodeId, ProjectId, SourceId, SourceKey, TaskEntry};
use futures::FutureExt;
use futures::future::join_all;
use serde_json::{Value, json};

use super::sample::{sink, source};
use super::world::{S, World};
use crate::task::TaskSubject;

#[tokio::test]
async fn an_unknown_task_is_not_found() {
    let world = World::new().await;
    for id in [
        "x",
        "api.create.source/111/my-source/2026-01-02T03:04:05.678Z_aB3dE",
        "a%00b",
        "..%2Fx",
    ] {
        let reply = world.get(&format!("/v1/tasks/{id}")).await;
        assert_eq!(reply.status, 404, "{id}");
        assert_eq!(reply.json()["error"], "stream.api.taskNotFound");
    }
    let reply = world.get("/v1/tasks/x/y").await;
    reply.is_error(404, "taskNotFound", "Task \"x/y\" not found.");
    let none = world.get("/v1/tasks").await;
    assert_eq!(none.json()["error"], "stream.api.endpointNotFound");
}

fn subject(source: &str) -> TaskSubject {
    TaskSubject {
        source: SourceKey {
            branch: BranchKey {
                project: ProjectId(123),
                branch: BranchId(111),
            },
            source: SourceId::from_raw(source),
        },
        sink: None,
    }
}

/// Starts a task on a source; it ends when the returned sender is used or dropped.
async fn occupy(world: &World, source: &str) -> tokio::sync::oneshot::Sender<()> {
    let (end, ended) = tokio::sync::oneshot::channel();
    let work = async move {
        drop(ended.await);
        Ok(crate::task::TaskSuccess {
            result: "done".to_owned(),
            ..Default::default()
        })
    };
    let tasks = &world.api.0.tasks;
    tasks
        .start("test", subject(source), "aaaaa", work.boxed())
        .await
        .unwrap();
    end
}

#[tokio::test]
async fn one_task_at_a_time_changes_an_object() {
    let world = World::with_source().await;
    let path = format!("{S}/my-source");
    let end = occupy(&world, "my-source").await;
    let text = "Another task is changing source \"my-source\", try again when it has finished.";
    for reply in [
        world.patch(&path, json!({})).await,
        world.delete(&path).await,
        world.patch(&format!("{path}/settings"), json!({})).await,
    ] {
        assert_eq!(reply.header("retry-after"), "1");
        reply.is_error(409, "taskAlreadyRunning", text);
    }
    world
        .done(world.post(&format!("{path}/sinks"), sink("Free")).await)
        .await;
    drop(end);
    loop {
        let reply = world.patch(&path, json!({})).await;
        if reply.status == 202 {
            world.done(reply).await;
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_concurrent_creation_is_a_conflict_with_the_whole_key() {
    let world = World::with_source().await;
    let _end = occupy(&world, "new").await;
    let text = "Source \"123/111/new\" already exists in the branch.";
    world
        .post(S, source("new"))
        .await
        .is_error(409, "sourceAlreadyExists", text);
    let mut of_sink = subject("my-source");
    of_sink.sink = Some(forebay_model::SinkId::from_raw("my-sink"));
    let hang = futures::future::pending().boxed();
    world
        .api
        .0
        .tasks
        .start("test", of_sink, "bbbbb", hang)
        .await
        .unwrap();
    let reply = world
        .post(&format!("{S}/my-source/sinks"), sink("My Sink"))
        .await;
    let text = "Sink \"123/111/my-source/my-sink\" already exists in the source.";
    reply.is_error(409, "sinkAlreadyExists", text);
}

#[tokio::test]
async fn of_concurrent_creations_of_one_id_one_succeeds() {
    let world = World::new().await;
    let replies = join_all((0..20).map(|_| world.post(S, source("same")))).await;
    let (accepted, rejected): (Vec<_>, Vec<_>) = replies.into_iter().partition(|r| r.status == 202);
    for reply in rejected {
        assert_eq!(reply.json()["error"], "stream.api.sourceAlreadyExists");
    }
    let ends = join_all(accepted.iter().map(|r| world.finish(r))).await;
    let made = ends.iter().filter(|t| t["status"] == "success").count();
    assert_eq!(made, 1, "{ends:?}");
    let shown = world.get(&format!("{S}/same")).await.ok();
    assert_eq!(shown["version"]["number"], 1);
}

#[tokio::test]
async fn sinks_of_one_source_are_created_concurrently() {
    let world = World::with_source().await;
    let path = format!("{S}/my-source/sinks");
    let replies = join_all((0..10).map(|i| world.post(&path, sink(&format!("s{i}"))))).await;
    let ends = join_all(replies.iter().map(|r| world.finish(r))).await;
    assert!(ends.iter().all(|t| t["status"] == "success"), "{ends:?}");
    assert_eq!(world.get(&path).await.ok()["page"]["totalCount"], 10);
}

#[tokio::test]
async fn concurrent_changes_are_each_a_version_or_rejected() {
    let world = World::with_sink().await;
    let path = format!("{S}/my-source/sinks/my-sink");
    let bodies = (0..10).map(|i| json!({ "name": format!("n{i}") }));
    let replies = join_all(bodies.map(|b| world.patch(&path, b))).await;
    let (accepted, rejected): (Vec<_>, Vec<_>) = replies.into_iter().partition(|r| r.status == 202);
    assert!(rejected.iter().all(|r| r.status == 409));
    for task in join_all(accepted.iter().map(|r| world.finish(r))).await {
        assert_eq!(task["status"], "success");
    }
    let number = world.get(&path).await.ok()["version"]["number"]
        .as_u64()
        .unwrap();
    assert_eq!(number, 1 + accepted.len() as u64);
}

#[tokio::test]
async fn a_task_waits_until_source_nodes_have_followed() {
    let world = World::with(|c| c.reconcile_timeout = forebay_model::HumanDuration::secs(60)).await;
    let node = NodeId("source-node".to_owned());
    world
        .repo
        .register_source_node(&node, world.lease)
        .await
        .unwrap();
    let reply = world.post(S, source("My Source")).await;
    let made = loop {
        if let Ok(source) = world.repo.source(&subject("my-source").source).await {
            break source;
        }
        tokio::task::yield_now().await;
    };
    let path = format!("/v1/tasks/{}", reply.json()["taskId"].as_str().unwrap());
    assert_eq!(world.get(&path).await.ok()["status"], "processing");
    let before = forebay_meta::Revision(made.revision.0 - 1);
    world
        .repo
        .report_processed(&node, before, world.lease)
        .await
        .unwrap();
    assert_eq!(world.get(&path).await.ok()["status"], "processing");
    world
        .repo
        .report_processed(&node, made.revision, world.lease)
        .await
        .unwrap();
    let task = world.done(reply).await;
    assert_eq!(task["result"], "Source has been created successfully.");
}

#[tokio::test]
async fn a_source_node_that_hangs_does_not_hold_a_task_for_ever() {
    let world =
        World::with(|c| c.reconcile_timeout = forebay_model::HumanDuration::millis(10)).await;
    let node = NodeId("source-node".to_owned());
    world
        .repo
        .register_source_node(&node, world.lease)
        .await
        .unwrap();
    let task = world.done(world.post(S, source("My Source")).await).await;
    let text = "Source has been created successfully. Not all source nodes have applied it yet.";
    assert_eq!(task["result"], text);
}

#[tokio::test]
async fn nothing_is_forgotten_while_a_node_may_still_take_records_for_it() {
    let world =
        World::with(|c| c.reconcile_timeout = forebay_model::HumanDuration::millis(10)).await;
    world.done(world.post(S, source("My Source")).await).await;
    let node = NodeId("source-node".to_owned());
    world
        .repo
        .register_source_node(&node, world.lease)
        .await
        .unwrap();
    let cascade = format!("{S}/my-source?cascade=true");
    let task = world.finish(&world.delete(&cascade).await).await;
    let text = "The source is deleted, its tables are not: not all source nodes have stopped accepting records yet, try again later.";
    assert_eq!(task["error"], text);
    let key = subject("my-source").source;
    let deleted = world.repo.deleted_source(&key).await.unwrap();
    world
        .repo
        .report_processed(&node, deleted.revision, world.lease)
        .await
        .unwrap();
    world.done(world.delete(&cascade).await).await;
    assert!(world.repo.deleted_source(&key).await.is_err());
}

async fn stored(world: &World, kind: &str, source: &str, suffix: &str) -> Value {
    let id = format!("{kind}/111/{source}/{}_{suffix}", world.now());
    world.get(&format!("/v1/tasks/{id}")).await.ok()
}

#[tokio::test]
async fn a_shutdown_waits_for_tasks_and_then_interrupts_them() {
    let world = World::with_source().await;
    let short = occupy(&world, "short").await;
    let api = world.api.clone();
    let stop = tokio::spawn(async move { api.shutdown(Duration::from_secs(20)).await });
    while !world
        .post(S, source("late"))
        .await
        .text
        .contains("serviceUnavailable")
    {
        tokio::task::yield_now().await;
    }
    drop(short);
    assert!(stop.await.unwrap(), "finished by itself");
    assert_eq!(
        stored(&world, "test", "short", "aaaaa").await["status"],
        "success"
    );

    let world = World::new().await;
    let _hangs = occupy(&world, "hangs").await;
    assert!(!world.api.shutdown(Duration::from_millis(1)).await);
    let task = stored(&world, "test", "hangs", "aaaaa").await;
    assert_eq!(
        task["error"],
        "The server was stopped before the task was finished."
    );
}

#[tokio::test]
async fn a_task_that_times_out_or_panics_ends_with_an_error() {
    let world = World::with(|c| c.task_timeout = forebay_model::HumanDuration::millis(1)).await;
    let tasks = &world.api.0.tasks;
    let hang = futures::future::pending().boxed();
    tasks
        .start("test", subject("hang"), "aaaaa", hang)
        .await
        .unwrap();
    let panic = async { panic!("a bug") };
    tasks
        .start("test", subject("panic"), "bbbbb", panic.boxed())
        .await
        .unwrap();
    assert!(world.api.shutdown(Duration::from_secs(20)).await);
    let hang = stored(&world, "test", "hang", "aaaaa").await;
    assert_eq!(hang["error"], "The task took longer than 1ms.");
    let panic = stored(&world, "test", "panic", "bbbbb").await;
    assert_eq!(
        (&panic["status"], &panic["error"]),
        (&json!("error"), &json!("Unknown error"))
    );
}

#[tokio::test]
async fn a_task_of_a_dead_node_ends_with_an_error_and_can_be_repeated() {
    let world = World::new().await;
    let id = format!("api.create.source/111/my-source/{}_ccccc", world.now());
    let task = TaskEntry {
        project: ProjectId(123),
        id: id.clone(),
        kind: "api.create.source".to_owned(),
        created_at: world.now().parse().unwrap(),
        node: "killed".to_owned(),
        source: subject("my-source").source,
        sink: None,
        end: None,
    };
    world.repo.create_task(&task).await.unwrap();
    let path = format!("/v1/tasks/{id}");
    assert_eq!(world.get(&path).await.ok()["status"], "processing");
    let now = world.now().parse().unwrap();
    assert_eq!(world.repo.fail_abandoned_tasks(now).await.unwrap(), 1);
    let ended = world.get(&path).await.ok();
    assert_eq!(
        (&ended["status"], &ended["isFinished"]),
        (&json!("error"), &json!(true))
    );
    world.done(world.post(S, source("My Source")).await).await;
}

#[tokio::test]
async fn a_response_waits_for_the_end_of_its_task() {
    let world = World::new().await;
    let made = world
        .post(&format!("{S}?wait=20s"), source("my-source"))
        .await;
    assert_eq!(made.status, 202);
    let task = made.json();
    assert_eq!(
        (&task["status"], &task["isFinished"]),
        (&json!("success"), &json!(true))
    );
    assert_eq!(task["outputs"]["sourceId"], "my-source");
    let path = format!("/v1/tasks/{}?wait=20s", task["taskId"].as_str().unwrap());
    assert_eq!(world.get(&path).await.ok()["status"], "success");
    // Without the parameter the response is the task as started.
    let plain = world.post(S, source("other")).await;
    assert_eq!(plain.json()["status"], "processing");
}

#[tokio::test]
async fn a_wait_returns_the_task_when_finished_or_at_the_timeout() {
    let world = World::with_source().await;
    let end = occupy(&world, "my-source").await;
    let running = "/v1/tasks/test/111/my-source/2026-01-02T03:04:05.678Z_aaaaa";
    let begun = tokio::time::Instant::now();
    let task = world.get(&format!("{running}?wait=50ms")).await.ok();
    assert_eq!(task["status"], "processing");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    // Two clients wait, one disconnects: the task continues, and the other gets its response.
    let (path, other) = (format!("{running}?wait=1m"), format!("{running}?wait=60s"));
    let mut disconnected = Box::pin(world.get(&path));
    assert!(futures::poll!(&mut disconnected).is_pending());
    let waiting = world.get(&other);
    let ending = async {
        drop(disconnected);
        drop(end);
    };
    let (task, ()) = futures::join!(waiting, ending);
    assert_eq!(task.ok()["status"], "success");
}

#[tokio::test]
async fn an_invalid_wait_is_rejected_before_the_task_starts() {
    let world = World::new().await;
    for (wait, name, text) in [
        (
            "soon",
            "invalidFieldType",
            "Invalid value \"soon\" for \"wait\", must be a duration like 5s.",
        ),
        (
            "5",
            "invalidFieldType",
            "Invalid value \"5\" for \"wait\", must be a duration like 5s.",
        ),
        (
            "61s",
            "invalidRange",
            "Wait must be lesser or equal than 1m0s but got value 61s.",
        ),
    ] {
        let rejected = world
            .post(&format!("{S}?wait={wait}"), source("my-source"))
            .await;
        rejected.is_error(400, name, text);
        let rejected = world.get(&format!("/v1/tasks/x?wait={wait}")).await;
        rejected.is_error(400, name, text);
    }
    assert_eq!(world.get(S).await.ok()["page"]["totalCount"], 0);
}

#[tokio::test]
async fn every_operation_that_returns_a_task_can_wait() {
    let world = World::new().await;
    let document: Value = serde_json::from_str(world.api.document()).unwrap();
    let mut tasks = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array();
            let waits = parameters.is_some_and(|p| p.iter().any(|p| p["name"] == "wait"));
            let is_task =
                operation["responses"].get("202").is_some() || path.starts_with("/v1/tasks/");
            assert_eq!(waits, is_task, "{method} {path}");
            tasks += usize::from(is_task);
        }
    }
    assert_eq!(tasks, 19);
}
