//! Sources: create, read, list, update, delete.

use axum::body::Body;
use forebay_model::DefinitionLimits;
use http::Method;
use serde_json::{Value, json};

use super::sample::{sink, source};
use super::world::{S, World};

#[tokio::test]
async fn a_source_is_created_by_a_task_and_returned() {
    let world = World::new().await;
    let accepted = world.post(S, source("My Source")).await;
    let task = accepted.json();
    let id = task["taskId"].as_str().unwrap().to_owned();
    let (path, suffix) = id.rsplit_once('_').unwrap();
    assert_eq!(
        path,
        format!("api.create.source/111/my-source/{}", world.now())
    );
    assert_eq!(suffix.len(), 5);
    let expected = json!({
        "taskId": id, "type": "api.create.source",
        "url": format!("https://stream.example/v1/tasks/{id}"),
        "status": "processing", "isFinished": false, "createdAt": world.now(),
    });
    assert_eq!(task, expected);
    let keys: Vec<&String> = task.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["taskId", "type", "url", "status", "isFinished", "createdAt"]
    );

    let task = world.finish(&accepted).await;
    assert_eq!(task["status"], "success");
    assert_eq!(task["result"], "Source has been created successfully.");
    assert_eq!(task["finishedAt"], world.now());
    assert_eq!(task["duration"], 0);
    assert_eq!(task.get("error"), None);
    let outputs = json!({
        "url": "https://stream.example/v1/branches/111/sources/my-source",
        "projectId": 123, "branchId": 111, "sourceId": "my-source",
    });
    assert_eq!(task["outputs"], outputs);

    let reply = world.get(&format!("{S}/my-source")).await;
    assert!(
        reply
            .text
            .starts_with("{\n  \"projectId\": 123,\n  \"branchId\": 111,\n")
    );
    assert!(reply.text.ends_with("}\n"));
    let shown = reply.ok();
    let by = json!({ "type": "user", "tokenId": "admin", "tokenDesc": "Token admin", "userId": "admin", "userName": "Token admin" });
    let url = shown["http"]["url"].as_str().unwrap().to_owned();
    let secret = url
        .strip_prefix("https://in.example/stream/123/my-source/")
        .unwrap();
    assert!(secret.len() == 48 && secret.bytes().all(|b| b.is_ascii_alphanumeric()));
    let hash = shown["version"]["hash"].as_str().unwrap().to_owned();
    assert!(hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    let expected = json!({
        "projectId": 123, "branchId": 111, "sourceId": "my-source", "type": "http",
        "name": "My Source", "description": "", "http": { "url": url },
        "version": { "number": 1, "hash": hash, "description": "New source.", "at": world.now(), "by": by },
        "created": { "at": world.now(), "by": by },
    });
    assert_eq!(
        shown.to_string(),
        expected.to_string(),
        "order of fields included"
    );
}

#[tokio::test]
async fn ids_come_from_the_id_or_the_name() {
    let world = World::new().await;
    for (body, id) in [
        (
            json!({ "type": "http", "name": "!!!!~~~~weird|||id##" }),
            "weird-id",
        ),
        (
            json!({ "type": "http", "name": "x", "sourceId": "Given ID" }),
            "given-id",
        ),
        (
            json!({ "type": "http", "name": "Straße 7", "more": [1] }),
            "straße-7",
        ),
    ] {
        let task = world.done(world.post(S, body).await).await;
        assert_eq!(task["outputs"]["sourceId"], id);
    }
    world.get(&format!("{S}/stra%C3%9Fe-7")).await.ok();
    for (name, given, message) in [
        ("日本語", None, "\"sourceId\" must not be empty."),
        ("x", Some("---"), "\"sourceId\" must not be empty."),
        (
            "Deleted",
            None,
            "\"sourceId\" must not be \"deleted\", which is reserved.",
        ),
        (
            "AbAbAbAbAbAbAbAbAbAbAbAbAbAbAbAbAbAbAbAb",
            None,
            "Invalid \"sourceId\": \"ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab\" has 59 characters, the maximum is 48.",
        ),
    ] {
        let body = json!({ "type": "http", "name": name, "sourceId": given });
        world
            .post(S, body)
            .await
            .is_error(400, "badRequest", message);
    }
}

#[tokio::test]
async fn duplicate_source_ids_conflict() {
    let world = World::with_source().await;
    let again = world.post(S, source("My Source")).await;
    let text = "Source \"my-source\" already exists in the branch.";
    again.is_error(409, "sourceAlreadyExists", text);
}

#[tokio::test]
async fn lists_are_paged() {
    let world = World::new().await;
    let empty = world.get(S).await.ok();
    let page = json!({ "limit": 100, "totalCount": 0, "afterId": "", "lastId": "" });
    let expected = json!({ "projectId": 123, "branchId": 111, "page": page, "sources": [] });
    assert_eq!(empty.to_string(), expected.to_string());
    for name in ["c", "a", "b", "B2"] {
        world.done(world.post(S, source(name)).await).await;
    }
    let ids = |list: &Value| -> Vec<String> {
        let sources = list["sources"].as_array().unwrap().iter();
        sources
            .map(|s| s["sourceId"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world.get(&format!("{S}?limit=3")).await.ok();
    assert_eq!(ids(&first), ["a", "b", "b2"]);
    let page = json!({ "limit": 3, "totalCount": 4, "afterId": "", "lastId": "b2" });
    assert_eq!(first["page"], page);
    let second = world
        .get(&format!("{S}?limit=3&afterId=b2&unknown=1"))
        .await
        .ok();
    assert_eq!(ids(&second), ["c"]);
    let page = json!({ "limit": 3, "totalCount": 4, "afterId": "b2", "lastId": "c" });
    assert_eq!(second["page"], page);
    for after in ["zzz", "%00", "c%00", "%F4%8F%BF%BF", "c/x"] {
        let past = world.get(&format!("{S}?afterId={after}")).await.ok();
        assert_eq!(past["page"]["totalCount"], 4, "{after}");
        assert_eq!(
            past["page"]["lastId"].as_str().unwrap().is_empty(),
            ids(&past).is_empty()
        );
    }
}

#[tokio::test]
async fn the_page_limit_has_a_range() {
    let world = World::new().await;
    for limit in ["1", "100", "", "&limit=0"] {
        world.get(&format!("{S}?limit={limit}")).await.ok();
    }
    for (limit, name, message) in [
        (
            "0",
            "invalidRange",
            "Limit must be greater or equal than 1 but got value 0.",
        ),
        (
            "101",
            "invalidRange",
            "Limit must be lesser or equal than 100 but got value 101.",
        ),
        (
            "-1",
            "invalidRange",
            "Limit must be greater or equal than 1 but got value -1.",
        ),
        (
            "asfasf",
            "invalidFieldType",
            "Invalid value \"asfasf\" for \"limit\", must be a integer; limit must be greater or equal than 1 but got value 0.",
        ),
        (
            "99999999999999999999",
            "invalidFieldType",
            "Invalid value \"99999999999999999999\" for \"limit\", must be a integer; limit must be greater or equal than 1 but got value 0.",
        ),
    ] {
        let reply = world.get(&format!("{S}?limit={limit}")).await;
        reply.is_error(400, name, message);
    }
}

#[tokio::test]
async fn a_change_is_a_new_version_even_without_a_difference() {
    let world = World::with_source().await;
    let path = format!("{S}/my-source");
    let before = world.get(&path).await.ok();
    world.clock.advance(std::time::Duration::from_secs(1));
    let body = json!({ "name": "New", "description": "d", "changeDescription": "Why." });
    let task = world.done(world.patch(&path, body).await).await;
    assert_eq!(task["type"], "api.update.source");
    assert_eq!(task["result"], "Source has been updated successfully.");
    let after = world.get(&path).await.ok();
    assert_eq!(
        (&after["name"], &after["description"]),
        (&json!("New"), &json!("d"))
    );
    assert_eq!(after["version"]["number"], 2);
    assert_eq!(after["version"]["description"], "Why.");
    assert_eq!(after["version"]["at"], world.now());
    assert_ne!(after["version"]["hash"], before["version"]["hash"]);
    assert_eq!(
        (&after["created"], &after["http"]),
        (&before["created"], &before["http"])
    );
    world
        .done(world.patch(&path, json!({ "name": null })).await)
        .await;
    let same = world.get(&path).await.ok();
    assert_eq!(same["version"]["number"], 3);
    assert_eq!(same["version"]["description"], "Updated.");
    assert_eq!(same["version"]["hash"], after["version"]["hash"]);
    assert_eq!(same["name"], "New");
}

#[tokio::test]
async fn a_deleted_source_is_not_found_and_can_be_recreated() {
    let world = World::with_sink().await;
    let path = format!("{S}/my-source");
    let task = world.done(world.delete(&path).await).await;
    assert_eq!(task["type"], "api.delete.source");
    assert_eq!(task["result"], "Source has been deleted successfully.");
    let text = "Source \"my-source\" not found in the branch.";
    for path in [path.clone(), format!("{path}/sinks/my-sink")] {
        world.get(&path).await.is_error(404, "sourceNotFound", text);
        world
            .delete(&path)
            .await
            .is_error(404, "sourceNotFound", text);
    }
    let patched = world.patch(&path, json!({})).await;
    patched.is_error(404, "sourceNotFound", text);
    world.done(world.post(S, source("My Source")).await).await;
    let again = world.get(&path).await.ok();
    assert_eq!(again["version"]["number"], 2);
    assert_eq!(again["version"]["description"], "New source.");
    let sinks = world.get(&format!("{path}/sinks")).await.ok();
    assert_eq!(sinks["sinks"], json!([]));
}

#[tokio::test]
async fn cascade_is_a_boolean() {
    let world = World::with_source().await;
    let path = format!("{S}/my-source");
    let foo = world.delete(&format!("{path}?cascade=foo")).await;
    let text = "Invalid value \"foo\" for \"cascade\", must be a boolean.";
    foo.is_error(400, "invalidFieldType", text);
    world
        .done(world.delete(&format!("{path}?cascade=false")).await)
        .await;
    let deleted = world.get(&format!("{S}/deleted")).await.ok();
    assert_eq!(deleted["page"]["totalCount"], 1, "it can be undeleted");
    for yes in ["1", "true"] {
        let path = format!("{path}?cascade={yes}");
        world.done(world.delete(&path).await).await;
        world.done(world.post(S, source("My Source")).await).await;
    }
}

#[tokio::test]
async fn no_path_reaches_another_key() {
    let world = World::with_sink().await;
    for id in [
        "my-source%2Fsinks",
        "my-source%00",
        "My-Source",
        "%20",
        "my-sourc",
        "..%2F..",
    ] {
        let reply = world.get(&format!("{S}/{id}")).await;
        assert_eq!(reply.json()["error"], "stream.api.sourceNotFound", "{id}");
    }
    for id in ["my-sink%2F1", "my-sink%00", "%F0%9F%98%80"] {
        let reply = world.get(&format!("{S}/my-source/sinks/{id}")).await;
        assert_eq!(reply.json()["error"], "stream.api.sinkNotFound", "{id}");
    }
    let bad = world.get(&format!("{S}/%FF")).await;
    assert_eq!(bad.json()["error"], "stream.api.badRequest");
    let long = "x".repeat(49);
    let reply = world
        .call(Method::GET, &format!("{S}/{long}"), Body::empty())
        .await;
    let text = format!(
        "Length of sourceId must be lesser or equal than 48 but got value \"{long}\" (len=49)"
    );
    reply.is_error(400, "invalidLength", &text);
    let edge = "x".repeat(48);
    assert_eq!(world.get(&format!("{S}/{edge}")).await.status, 404);
}

#[tokio::test]
async fn sources_of_a_branch_are_limited_by_the_setting() {
    let limits = DefinitionLimits {
        sources_per_branch: 3,
        ..DefinitionLimits::default()
    };
    let world = World::limited(limits, |_| {}).await;
    for n in 0..3 {
        world
            .done(world.post(S, source(&format!("s{n}"))).await)
            .await;
    }
    let task = world.finish(&world.post(S, source("one more")).await).await;
    assert_eq!(task["status"], "error");
    let text = "Source count limit reached in the branch, the maximum is 3. The setting limits.sourcesPerBranch raises it.";
    assert_eq!(task["error"], text);
    assert_eq!(task.get("result"), None);
}

/// More sinks than one page of the store: all are listed, in bounded pages.
#[tokio::test]
async fn a_source_of_a_thousand_sinks_is_listed_in_pages() {
    const SINKS: usize = 1010;
    let world = World::with_source().await;
    let source = format!("{S}/my-source");
    for first in (0..SINKS).step_by(101) {
        let some = (first..first + 101).map(|n| {
            let body = sink(&format!("s{n:04}"));
            let path = format!("{source}/sinks?wait=20s");
            let world = &world;
            async move { world.post(&path, body).await }
        });
        for made in futures::future::join_all(some).await {
            assert_eq!(made.json()["status"], "success", "{made:?}");
        }
    }
    let shown = world.get("/v1/branches/default/aggregation/sources").await;
    let shown = &shown.ok()["sources"][0];
    assert_eq!(shown["sinksTotal"], SINKS);
    assert_eq!(shown["sinks"].as_array().unwrap().len(), 100);
    let page = "/v1/branches/default/aggregation/sources/my-source?limit=10&afterId=s1002";
    let page = world.get(page).await.ok();
    assert_eq!(page["sinks"].as_array().unwrap().len(), 7);
    assert_eq!(page["sinks"][0]["sinkId"], "s1003");
    let list = world.get(&format!("{source}/sinks?limit=100")).await.ok();
    assert_eq!(list["page"]["totalCount"], SINKS);
    let gone = world.delete(&format!("{source}?wait=20s")).await;
    assert_eq!(gone.json()["status"], "success");
    let back = world.put(&format!("{source}/undelete?wait=20s")).await;
    assert_eq!(back.json()["status"], "success");
    let list = world.get(&format!("{source}/sinks?limit=1")).await.ok();
    assert_eq!(list["page"]["totalCount"], SINKS);
}
