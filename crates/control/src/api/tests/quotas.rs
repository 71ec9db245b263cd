//! Quotas set through the API, and the rate limit of tokens.

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use super::world::{Reply, S, World};

const QUOTA: &str = "/v1/admin/quotas/123";

async fn put(world: &World, token: &str, path: &str, body: Value) -> Reply {
    world
        .call_as(token, Method::PUT, path, body.to_string())
        .await
}

async fn get(world: &World, token: &str, path: &str) -> Reply {
    world.call_as(token, Method::GET, path, Body::empty()).await
}

#[tokio::test]
async fn an_operator_sets_the_quota_of_a_project_and_its_admin_can_read_it() {
    let world = World::new().await;
    let before = get(&world, "admin", QUOTA).await.ok();
    assert_eq!(before["own"], json!({}));
    assert_eq!(before["effective"], before["default"]);
    assert_eq!(before["default"]["requestsPerSecond"], 200_000);
    let own = json!({ "requestsPerSecond": 5, "diskBytes": "1GB", "connections": 0,
        "sourceBytesPerSecond": "1MB" });
    let set = put(&world, "operator", QUOTA, own.clone()).await.ok();
    assert_eq!(set["own"], own);
    let expected = json!({ "requestsPerSecond": 5, "bytesPerSecond": "2GB", "connections": 0,
        "diskBytes": "1GB", "sourceRequestsPerSecond": 100_000, "sourceBytesPerSecond": "1MB" });
    assert_eq!(set["effective"], expected);
    assert_eq!(get(&world, "admin", QUOTA).await.ok(), set);
    world.clock.advance(std::time::Duration::from_millis(1));
    // A request replaces all overrides; an empty one restores the configuration.
    let cleared = put(&world, "operator", QUOTA, json!({})).await.ok();
    assert_eq!(cleared["effective"], before["default"]);
    let audit = world.get("/v1/admin/audit").await.ok();
    let changes = audit["changes"].as_array().unwrap();
    let described: Vec<_> = changes.iter().map(|c| &c["description"]).collect();
    let text = "requestsPerSecond: default to 5, connections: default to 0, \
        diskBytes: default to 1GB, sourceBytesPerSecond: default to 1MB";
    assert_eq!(described[0], text);
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0]["by"]["tokenId"], "operator");
}

#[tokio::test]
async fn quota_changes_are_validated_and_need_an_operator() {
    let world = World::new().await;
    let body = json!({ "requestsPerSecond": 5 });
    let text = "Only an operator's token can set quotas.";
    put(&world, "admin", QUOTA, body.clone())
        .await
        .is_error(403, "forbidden", text);
    assert_eq!(get(&world, "reader", QUOTA).await.status, 403);
    let text = "Project \"456\" not found.";
    get(&world, "admin", "/v1/admin/quotas/456")
        .await
        .is_error(404, "projectNotFound", text);
    let other = put(&world, "operator", "/v1/admin/quotas/456", body).await;
    assert_eq!(other.ok()["effective"]["requestsPerSecond"], 5);
    let size = json!({ "diskBytes": "2PB" });
    let text = "Invalid \"diskBytes\" value: \"2PB\" is not a size: a number with B, KB, MB, GB or TB, like 512KB.";
    put(&world, "operator", QUOTA, size)
        .await
        .is_error(400, "badRequest", text);
    let much = json!({ "diskBytes": "2000TB", "sourceBytesPerSecond": "65GB" });
    let text = "DiskBytes is 2000TB, allowed is 0B to 1024TB; sourceBytesPerSecond is 65GB, allowed is 0B to 64GB.";
    put(&world, "operator", QUOTA, much)
        .await
        .is_error(400, "badRequest", text);
    for bad in [
        json!({ "connections": -1 }),
        json!({ "requestsPerSecond": 100_000_001 }),
        json!({ "requestsPerSecond": "5" }),
        json!([]),
    ] {
        assert_eq!(put(&world, "operator", QUOTA, bad).await.status, 400);
    }
    let own = get(&world, "operator", QUOTA).await.ok();
    assert_eq!(own["own"], json!({}));
}

#[tokio::test]
async fn only_operators_change_the_quota_setting_of_a_source() {
    let world = World::with_source().await;
    let path = format!("{S}/my-source/settings");
    let key = "source.quota.requestsPerSecond";
    let change = |value: Value| json!({ "settings": [{ "key": key, "value": value }] });
    let as_admin = world.patch(&path, change(json!(7))).await;
    let text = format!("Cannot modify protected keys: \"{key}\".");
    as_admin.is_error(403, "forbidden", &text);
    let patch = async |body: Value| {
        world
            .call_as("operator", Method::PATCH, &path, body.to_string())
            .await
    };
    let text =
        format!("Invalid \"{key}\" value \"-1\": must be a whole number between 0 and 100000000.");
    let bad = patch(change(json!(-1))).await;
    bad.is_error(400, "badRequest", &text);
    let level = "storage.level.local.encoding.compression.gzip.level";
    let other = json!({ "settings": [{ "key": level, "value": 7 }] });
    let text = format!("Cannot modify protected keys: \"{level}\".");
    patch(other).await.is_error(403, "forbidden", &text);
    let started = patch(change(json!(7))).await;
    assert_eq!(started.status, 202, "{started:?}");
    let shown = async || {
        let all = world.get(&path).await.ok();
        let all = all["settings"].as_array().unwrap().clone();
        all.into_iter().find(|s| s["key"] == key).unwrap()
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while shown().await["value"] != 7 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let quota = shown().await;
    assert_eq!(
        (
            &quota["overwritten"],
            &quota["protected"],
            &quota["defaultValue"]
        ),
        (&json!(true), &json!(true), &json!(100_000))
    );
}

#[tokio::test]
async fn a_token_over_its_rate_limit_gets_retry_after() {
    let world = World::with(|config| config.requests_per_second = 1).await;
    let reply = world.get(S).await;
    assert_eq!(reply.header("ratelimit"), "\"token\";r=9;t=1");
    assert_eq!(reply.header("ratelimit-policy"), "\"token\";q=10;w=10");
    let rejected = loop {
        let reply = world.get(S).await;
        if reply.status != 200 {
            break reply;
        }
    };
    let text = "The token is limited to 1 requests per second, retry in 1 s.";
    rejected.is_error(429, "tooManyRequests", text);
    assert_eq!(rejected.header("retry-after"), "1");
    // Other tokens are not affected.
    assert_eq!(get(&world, "other", S).await.status, 200);
    let world = World::with(|config| config.requests_per_second = 0).await;
    let reply = world.get(S).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("ratelimit")),
        (200, "")
    );
}
