//! Sources and sinks disabled, enabled, deleted and undeleted; secrets; versions.

use std::sync::atomic::Ordering;

use axum::body::Body;
use forebay_connect::table::Table;
use forebay_model::{
    Actor, AuditStamp, Clock, FileState, HumanDuration, Mapping, ProjectId, TableBackend,
};
use http::Method;
use serde_json::{Value, json};

use super::sample::{sink, source};
use super::world::{S, World};

const SOURCE: &str = "/v1/branches/default/sources/my-source";
const SINK: &str = "/v1/branches/default/sources/my-source/sinks/my-sink";

/// Number of open files of the world's sink.
async fn open_files(world: &World) -> usize {
    let files = world.repo.active_files(None).await.unwrap();
    let open = files.iter().filter(|f| f.file.state == FileState::Writing);
    open.count()
}

/// Finishes closed, empty files.
async fn import_closed(world: &World) {
    for file in world.repo.active_files(None).await.unwrap() {
        if file.file.state == FileState::Writing {
            continue;
        }
        for slice in &file.slices {
            let (key, now) = (&slice.slice.key, slice.slice.key.opened_at);
            let none = forebay_model::Statistics::default();
            world.repo.slice_uploading(key, none, now).await.unwrap();
        }
        let (key, now) = (&file.file.key, file.file.key.opened_at);
        world.repo.file_importing(key, now).await.unwrap();
    }
}

/// Prepares a table as an import does before it writes rows.
async fn fill(world: &World, table: &str) {
    let (project, backend) = (ProjectId(123), TableBackend::Sqlite);
    let table = table.parse().unwrap();
    let stamp = AuditStamp {
        at: world.clock.now(),
        by: Actor::system(),
    };
    let filled = world
        .repo
        .fill_table(project, backend, &table, false, &stamp);
    filled.await.unwrap();
    let column = forebay_model::MappingColumn::new("body", forebay_model::ColumnKind::Body);
    let mapping = Mapping {
        columns: vec![column],
    };
    world.tables.sqlite.prepare(&table, &mapping).await.unwrap();
}

fn result(task: &Value) -> &str {
    task["result"].as_str().unwrap()
}

#[tokio::test]
async fn a_source_is_disabled_and_enabled_with_its_sinks() {
    let world = World::with_sink().await;
    let task = world
        .done(world.put(&format!("{SOURCE}/disable")).await)
        .await;
    assert_eq!(task["type"], "api.disable.source");
    assert_eq!(result(&task), "Source has been disabled successfully.");
    let off = world.get(SOURCE).await.ok();
    assert_eq!(off["disabled"]["reason"], "API");
    assert_eq!(off["disabled"]["by"]["tokenId"], "admin");
    assert_eq!(off["disabled"]["at"], world.now());
    assert_eq!(
        (&off["version"]["number"], &off["version"]["description"]),
        (&json!(2), &json!("Disabled."))
    );
    let sink = world.get(SINK).await.ok();
    assert_eq!(
        sink["disabled"]["reason"],
        "Auto-disabled with the parent source."
    );
    assert_eq!(sink["version"]["number"], 1);
    assert_eq!(open_files(&world).await, 0);
    // A repetition changes nothing, nor does enabling only the sink.
    world
        .done(world.put(&format!("{SOURCE}/disable")).await)
        .await;
    assert_eq!(world.get(SOURCE).await.ok(), off);
    let alone = world.done(world.put(&format!("{SINK}/enable")).await).await;
    assert_eq!(
        result(&alone),
        "Sink has been enabled successfully. It accepts records when its source is enabled."
    );
    assert_eq!(world.get(SINK).await.ok(), sink);
    let task = world
        .done(world.put(&format!("{SOURCE}/enable")).await)
        .await;
    assert_eq!(result(&task), "Source has been enabled successfully.");
    let on = world.get(SOURCE).await.ok();
    assert_eq!(
        (on.get("disabled"), &on["version"]["description"]),
        (None, &json!("Enabled."))
    );
    assert_eq!(world.get(SINK).await.ok().get("disabled"), None);
    assert_eq!(open_files(&world).await, 1);
}

#[tokio::test]
async fn a_sink_is_disabled_with_a_reason_and_enabled() {
    let world = World::with_sink().await;
    let path = format!("{SINK}/disable?reason=until%20Monday");
    let task = world.done(world.put(&path).await).await;
    assert_eq!(result(&task), "Sink has been disabled successfully.");
    let off = world.get(SINK).await.ok();
    assert_eq!(off["disabled"]["reason"], "until Monday");
    assert_eq!(off["version"]["number"], 2);
    // Disabling its source is independent: the sink stays disabled.
    world
        .done(world.put(&format!("{SOURCE}/disable")).await)
        .await;
    world
        .done(world.put(&format!("{SOURCE}/enable")).await)
        .await;
    assert_eq!(world.get(SINK).await.ok(), off);
    // A change of a disabled sink opens no file.
    let update = world.patch(SINK, json!({ "name": "Renamed" })).await;
    world.done(update).await;
    assert_eq!(open_files(&world).await, 0);
    let task = world.done(world.put(&format!("{SINK}/enable")).await).await;
    assert_eq!(result(&task), "Sink has been enabled successfully.");
    assert_eq!(open_files(&world).await, 1);
    let long = "x".repeat(257);
    let reply = world.put(&format!("{SINK}/disable?reason={long}")).await;
    assert_eq!(reply.json()["error"], "stream.api.invalidLength");
    let fits = world
        .put(&format!("{SINK}/disable?reason={}", "x".repeat(256)))
        .await;
    assert_eq!(fits.status, 202);
}

#[tokio::test]
async fn deleted_definitions_are_listed_and_undeleted() {
    let world = World::with_sink().await;
    world
        .done(world.post(&format!("{SOURCE}/sinks"), sink("Other")).await)
        .await;
    world
        .done(world.delete(&format!("{SOURCE}/sinks/other")).await)
        .await;
    let deleted = world.get(&format!("{SOURCE}/sinks/deleted")).await.ok();
    assert_eq!(deleted["sinks"][0]["sinkId"], "other");
    assert_eq!(deleted["sinks"][0]["deleted"]["by"]["tokenId"], "admin");
    assert_eq!(deleted["page"]["totalCount"], 1);
    world.done(world.delete(SOURCE).await).await;
    let deleted = world.get(&format!("{S}/deleted")).await.ok();
    assert_eq!(deleted["sources"][0]["sourceId"], "my-source");
    assert_eq!(deleted["sources"][0]["deleted"]["at"], world.now());
    assert_eq!(world.get(S).await.ok()["sources"], json!([]));
    for path in [
        format!("{SINK}/undelete"),
        format!("{SOURCE}/sinks/none/undelete"),
    ] {
        let text = "Source \"my-source\" not found in the branch.";
        world.put(&path).await.is_error(404, "sourceNotFound", text);
    }
    let task = world
        .done(world.put(&format!("{SOURCE}/undelete")).await)
        .await;
    assert_eq!(result(&task), "Source has been undeleted successfully.");
    let back = world.get(SOURCE).await.ok();
    assert_eq!(
        back["version"]["description"],
        "Undeleted to version \"1\"."
    );
    assert_eq!(back.get("deleted"), None);
    // Only what was deleted with the source is undeleted.
    let sinks = world.get(&format!("{SOURCE}/sinks")).await.ok();
    assert_eq!(sinks["page"]["totalCount"], 1);
    assert_eq!(sinks["sinks"][0]["sinkId"], "my-sink");
    let task = world
        .done(world.put(&format!("{SOURCE}/sinks/other/undelete")).await)
        .await;
    assert_eq!(result(&task), "Sink has been undeleted successfully.");
    for (path, name, text) in [
        (
            SOURCE.to_owned(),
            "deletedSourceNotFound",
            "Deleted source \"my-source\" not found in the branch.",
        ),
        (
            format!("{S}/nope"),
            "deletedSourceNotFound",
            "Deleted source \"nope\" not found in the branch.",
        ),
        (
            SINK.to_owned(),
            "deletedSinkNotFound",
            "Deleted sink \"my-sink\" not found in the source.",
        ),
    ] {
        let reply = world.put(&format!("{path}/undelete")).await;
        reply.is_error(404, name, text);
    }
}

#[tokio::test]
async fn a_new_secret_changes_the_url() {
    let world = World::with_source().await;
    let before = world.get(SOURCE).await.ok();
    let rotate = format!("{SOURCE}/rotate-secret");
    let rotated = world.call(Method::POST, &rotate, Body::empty()).await.ok();
    let url = rotated["http"]["url"].as_str().unwrap();
    assert_ne!(url, before["http"]["url"].as_str().unwrap());
    assert_eq!(rotated["version"]["description"], "Rotated secret.");
    assert_eq!(world.get(SOURCE).await.ok(), rotated);
    // A rollback does not restore the old secret.
    world
        .done(world.put(&format!("{SOURCE}/versions/1/rollback")).await)
        .await;
    assert_eq!(world.get(SOURCE).await.ok()["http"]["url"], url);
    let none = world
        .call(
            Method::POST,
            &format!("{S}/nope/rotate-secret"),
            Body::empty(),
        )
        .await;
    none.is_error(
        404,
        "sourceNotFound",
        "Source \"nope\" not found in the branch.",
    );
}

#[tokio::test]
async fn unknown_versions_are_not_found() {
    let world = World::with_sink().await;
    for (at, id) in [(SOURCE, "my-source"), (SINK, "my-sink")] {
        let source = at == SOURCE;
        let (name, text) = if source {
            (
                "sourceVersionNotFound",
                format!("Source version \"{id}/0000012345\" not found in the branch."),
            )
        } else {
            (
                "sinkVersionNotFound",
                format!("Sink version \"{id}/0000012345\" not found in the source."),
            )
        };
        world
            .get(&format!("{at}/versions/12345"))
            .await
            .is_error(404, name, &text);
        let none = world.put(&format!("{at}/versions/12345/rollback")).await;
        none.is_error(404, name, &text);
        let text = "Invalid value \"asfasf\" for \"versionNumber\", must be a integer; versionNumber must be greater or equal than 1 but got value 0.";
        for (method, path) in [(Method::GET, "asfasf"), (Method::PUT, "asfasf/rollback")] {
            let reply = world
                .call(method, &format!("{at}/versions/{path}"), Body::empty())
                .await;
            reply.is_error(400, "invalidFieldType", text);
        }
        let text = "VersionNumber must be greater or equal than 1 but got value 0.";
        world
            .get(&format!("{at}/versions/0"))
            .await
            .is_error(400, "invalidRange", text);
        let huge = world.get(&format!("{at}/versions/4294967296")).await;
        assert_eq!(huge.json()["error"], "stream.api.invalidRange");
    }
}

#[tokio::test]
async fn versions_are_listed_returned_and_rolled_back() {
    let world = World::with_sink().await;
    for at in [SOURCE, SINK] {
        let source = at == SOURCE;
        for name in ["Two", "Three"] {
            let body = json!({ "name": name, "changeDescription": name });
            world.done(world.patch(at, body).await).await;
        }
        let all = world.get(&format!("{at}/versions")).await.ok();
        let numbers: Vec<_> = all["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["number"].clone())
            .collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(
            all["page"],
            json!({ "limit": 100, "totalCount": 3, "afterId": "", "lastId": "0000000003" })
        );
        let page = world
            .get(&format!("{at}/versions?afterId=2&limit=1"))
            .await
            .ok();
        let after = if source { "2" } else { "0000000002" };
        assert_eq!(
            page["page"],
            json!({ "limit": 1, "totalCount": 1, "afterId": after, "lastId": "0000000003" })
        );
        let past = world.get(&format!("{at}/versions?afterId=9")).await.ok();
        assert_eq!(
            (&past["versions"], &past["page"]["lastId"]),
            (&json!([]), &json!(""))
        );
        let two = world.get(&format!("{at}/versions/2")).await.ok();
        assert_eq!(two, all["versions"][1]);
        assert_eq!(two["description"], "Two");
        let task = world
            .done(world.put(&format!("{at}/versions/1/rollback")).await)
            .await;
        let what = if source { "Source" } else { "Sink" };
        assert_eq!(
            result(&task),
            format!("{what} version was rolled back successfully.")
        );
        let kind = if source {
            "api.rollback.sourceVersion"
        } else {
            "api.rollback.sinkVersion"
        };
        assert_eq!(task["type"], kind);
        let back = world.get(at).await.ok();
        assert_eq!(back["version"]["description"], "Rollback to version \"1\".");
        assert_ne!(back["name"], "Three");
    }
    let text = "Source \"nope\" not found in the branch.";
    for path in ["versions", "versions/1", "sinks/x/versions"] {
        let reply = world.get(&format!("{S}/nope/{path}")).await;
        reply.is_error(404, "sourceNotFound", text);
    }
    let reply = world.get(&format!("{SOURCE}/sinks/nope/versions/1")).await;
    reply.is_error(
        404,
        "sinkNotFound",
        "Sink \"nope\" not found in the source.",
    );
}

#[tokio::test]
async fn a_cascade_deletes_tables_and_versions_and_can_be_repeated() {
    let world = World::with_sink().await;
    // Another source also fills one of the tables.
    world.done(world.post(S, source("Second")).await).await;
    for (source, id, table) in [
        ("my-source", "Own", "in.c-b.own"),
        ("second", "Shared", "in.c-b.t"),
    ] {
        let mut body = sink(id);
        body["table"]["tableId"] = json!(table);
        world
            .done(world.post(&format!("{S}/{source}/sinks"), body).await)
            .await;
    }
    fill(&world, "in.c-b.own").await;
    fill(&world, "in.c-b.t").await;
    let cascade = format!("{SOURCE}?cascade=true");
    world.tables.is_unavailable.store(true, Ordering::Relaxed);
    let reply = world.delete(&cascade).await;
    while open_files(&world).await > 1 {
        tokio::task::yield_now().await;
    }
    import_closed(&world).await;
    let task = world.finish(&reply).await;
    assert_eq!(task["status"], "error");
    assert_eq!(
        task["error"],
        "The source is deleted, its table \"in.c-b.own\" is not: the database is unavailable."
    );
    assert_eq!(task["outputs"]["sourceId"], "my-source");
    assert_eq!(world.get(SOURCE).await.status, 404);
    world.tables.is_unavailable.store(false, Ordering::Relaxed);
    let task = world.done(world.delete(&cascade).await).await;
    assert_eq!(
        result(&task),
        "Source and its destination tables and bucket have been deleted. Kept, because other sinks fill them too: \"in.c-b.t\"."
    );
    assert_eq!(*world.tables.dropped.lock(), ["in.c-b.own"]);
    let gone = world.delete(&cascade).await;
    gone.is_error(
        404,
        "sourceNotFound",
        "Source \"my-source\" not found in the branch.",
    );
    assert_eq!(
        world.get(&format!("{S}/deleted")).await.ok()["sources"],
        json!([])
    );
    world.done(world.post(S, source("My Source")).await).await;
    assert_eq!(world.get(SOURCE).await.ok()["version"]["number"], 1);
}

#[tokio::test]
async fn a_cascade_waits_for_records_in_flight_up_to_a_timeout() {
    let world = World::with(|c| c.task_timeout = HumanDuration::secs(1)).await;
    world.done(world.post(S, source("My Source")).await).await;
    let path = format!("{SOURCE}/sinks");
    world.done(world.post(&path, sink("My Sink")).await).await;
    let task = world
        .finish(&world.delete(&format!("{SOURCE}?cascade=1")).await)
        .await;
    assert_eq!(task["status"], "error");
    assert_eq!(
        task["error"],
        "The source is deleted, its tables are not: records are still in flight (1 file), try again when they are delivered."
    );
    assert!(world.tables.dropped.lock().is_empty());
    world
        .done(world.put(&format!("{SOURCE}/undelete")).await)
        .await;
    assert_eq!(open_files(&world).await, 1);
}

#[tokio::test]
async fn the_aggregation_is_complete_and_paged() {
    let world = World::with_sink().await;
    world
        .done(world.post(&format!("{SOURCE}/sinks"), sink("Second")).await)
        .await;
    for name in ["A", "B", "C", "D"] {
        world.done(world.post(S, source(name)).await).await;
    }
    let path = "/v1/branches/default/aggregation/sources";
    let mut after = String::new();
    let mut pages = Vec::new();
    loop {
        let page = world
            .get(&format!("{path}?limit=2&afterId={after}"))
            .await
            .ok();
        let ids: Vec<String> = page["sources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["sourceId"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(page["page"]["totalCount"], 5);
        after = page["page"]["lastId"].as_str().unwrap().to_owned();
        if ids.is_empty() {
            break;
        }
        if let Some(with) = page["sources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["sourceId"] == "my-source")
        {
            let sinks = with["sinks"].as_array().unwrap();
            assert_eq!(sinks.len(), 2);
            let mut alone = sinks[0].clone();
            let statistics = alone.as_object_mut().unwrap().remove("statistics").unwrap();
            assert_eq!(alone, world.get(SINK).await.ok());
            assert_eq!(statistics["levels"], json!({}));
            let balance = world
                .get(&format!("{SINK}/statistics/reconciliation"))
                .await
                .ok();
            assert_eq!(statistics["reconciliation"], balance);
            assert_eq!(statistics["files"][0]["state"], "writing");
        }
        pages.push(ids);
    }
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["my-source"]]);
    assert_eq!(world.get(path).await.ok()["sources"][0]["sinks"], json!([]));
}

#[tokio::test]
async fn statistics_are_cleared_with_an_empty_answer() {
    let world = World::with_sink().await;
    world.done(world.delete(SINK).await).await;
    import_closed(&world).await;
    world
        .done(world.put(&format!("{SINK}/undelete")).await)
        .await;
    for path in [
        format!("{SOURCE}/statistics/clear"),
        format!("{SINK}/statistics/clear"),
    ] {
        let reply = world.delete(&path).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
    }
    let files = world.get(&format!("{SINK}/statistics/files")).await.ok();
    assert_eq!(files["files"].as_array().unwrap().len(), 1, "{files}");
    let none = world
        .delete(&format!("{SOURCE}/sinks/x/statistics/clear"))
        .await;
    none.is_error(404, "sinkNotFound", "Sink \"x\" not found in the source.");
}
