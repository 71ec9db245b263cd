//! The dashboard's page and the routes made for it.

use std::io::Read;

use axum::body::Body;
use flate2::read::GzDecoder;
use forebay_meta::catalog::slices::StepFailure;
use forebay_model::Backoff;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::world::{World, bare};

const K: &str = "/v1/branches/default/sources/my-source/sinks/my-sink";
const TEST_MAPPING: &str = "/v1/branches/default/test-mapping";
const PARTS: [(&str, &str); 4] = [
    ("/ui", "text/html; charset=utf-8"),
    ("/ui/app.js", "text/javascript; charset=utf-8"),
    ("/ui/app.css", "text/css; charset=utf-8"),
    ("/ui/icon.svg", "image/svg+xml"),
];

#[tokio::test]
async fn the_page_and_its_assets_are_served_with_a_content_security_policy() {
    let world = World::new().await;
    for (path, kind) in PARTS {
        let reply = world.send(bare(Method::GET, path)).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        assert_eq!(reply.header("content-type"), kind);
        assert_eq!(reply.header("cache-control"), "no-cache");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        let policy = reply.header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!reply.text.is_empty(), "{path}: run npm run build in ui/");
        assert!(!reply.text.contains("://cdn"), "{path}");
    }
    let slash = world.send(bare(Method::GET, "/ui/")).await;
    assert_eq!(slash.header("location"), "/ui");
    let unknown = world.send(bare(Method::GET, "/ui/other.js")).await;
    let text = "No endpoint found for path \"/ui/other.js\".";
    unknown.is_error(404, "endpointNotFound", text);
}

#[tokio::test]
async fn the_dashboard_is_small() {
    let world = World::new().await;
    let mut total = 0;
    for (path, _) in PARTS {
        total += world.send(bare(Method::GET, path)).await.text.len();
    }
    // About 30 KB compressed.
    assert!(total < 120_000, "{total} bytes");
}

#[tokio::test]
async fn assets_are_compressed_and_revalidated() {
    let world = World::new().await;
    let plain = world.send(bare(Method::GET, "/ui/app.js")).await;
    let request = |name: &str, value: &str| {
        let request = Request::get("/ui/app.js").header(name, value);
        request.body(Body::empty()).unwrap()
    };
    let wanted = request("Accept-Encoding", "br, gzip;q=0.8");
    let response = world.router.clone().oneshot(wanted).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.headers()["vary"], "Accept-Encoding");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.len() < plain.text.len() / 2, "{}", bytes.len());
    let mut text = String::new();
    GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, plain.text);
    let rejected = world.send(request("Accept-Encoding", "gzip;q=0")).await;
    assert_eq!(
        (rejected.header("content-encoding"), &rejected.text),
        ("", &plain.text)
    );

    let known = plain.header("etag").to_owned();
    for (tags, status) in [
        (known.clone(), 304),
        (format!("W/\"other\", {known}"), 304),
        ("W/\"other\"".to_owned(), 200),
    ] {
        let again = world.send(request("If-None-Match", &tags)).await;
        assert_eq!(again.status.as_u16(), status, "{tags}");
        assert_eq!(again.header("etag"), known);
        assert_eq!(again.text.is_empty(), status == 304);
    }
}

#[tokio::test]
async fn slices_have_their_state_and_error() {
    let world = World::with_sink().await;
    let path = format!("{K}/statistics/slices");
    let slices = world.get(&path).await.ok();
    let slice = &slices["slices"][0];
    assert_eq!(slice["state"], "writing");
    assert_eq!(slice["volumeId"], "vol1");
    assert_eq!(slice["fileOpenedAt"], world.now());
    assert_eq!(slice["statistics"]["recordsCount"], 0);
    assert!(slice.get("retryReason").is_none(), "{slice}");

    let key = world.repo.active_files(None).await.unwrap()[0].slices[0]
        .slice
        .key
        .clone();
    let failure = StepFailure {
        reason: "staging is unavailable".to_owned(),
        terminal: false,
        backoff: Backoff::default(),
        random: 100,
    };
    let now = world.now().parse().unwrap();
    world.repo.slice_failed(&key, &failure, now).await.unwrap();
    let slices = world.get(&path).await.ok();
    let slice = &slices["slices"][0];
    assert_eq!(slice["retryReason"], "staging is unavailable");
    assert_eq!(slice["retryAttempt"], 1);
    assert!(slice["retryAfter"].is_string(), "{slice}");
    // The list of sources also has it.
    let all = "/v1/branches/default/aggregation/sources";
    let list = world.get(all).await.ok();
    let failed = &list["sources"][0]["sinks"][0]["statistics"]["files"][0]["failedSlice"];
    assert_eq!(failed["state"], "writing");
    assert_eq!(failed["retryReason"], "staging is unavailable");
}

#[tokio::test]
async fn one_source_is_returned_as_in_the_list() {
    let world = World::with_sink().await;
    let all = "/v1/branches/default/aggregation/sources";
    let list = world.get(all).await.ok();
    let one = world.get(&format!("{all}/my-source")).await.ok();
    assert_eq!(one, list["sources"][0]);
    let none = world.get(&format!("{all}/other")).await;
    let text = "Source \"other\" not found in the branch.";
    none.is_error(404, "sourceNotFound", text);
}

fn sample(columns: Value, body: &str) -> Value {
    json!({
        "mapping": { "columns": columns },
        "record": { "body": body, "headers": [{ "name": "X-Kind", "value": "a" }], "clientIp": "192.0.2.7" },
    })
}

#[tokio::test]
async fn a_mapping_is_tested_without_a_sink() {
    let world = World::new().await;
    let columns = json!([
        { "type": "ip", "name": "ip" },
        { "type": "headers", "name": "headers" },
        { "type": "body", "name": "body" },
    ]);
    let tried = world
        .post(TEST_MAPPING, sample(columns.clone(), "text"))
        .await
        .ok();
    assert_eq!(tried["violations"], json!([]));
    assert_eq!(
        tried["row"][0],
        json!({ "name": "ip", "value": "192.0.2.7" })
    );
    assert_eq!(
        tried["row"][1],
        json!({ "name": "headers", "value": "{\"x-kind\": \"a\"}" })
    );
    assert_eq!(tried["row"][2]["value"], "text");
    // Templates cost CPU time that senders need: not for read-only tokens.
    let body = sample(columns, "text").to_string();
    let rejected = world
        .call_as("reader", Method::POST, TEST_MAPPING, body)
        .await;
    let text = "Only admin token can do write operations on streams.";
    rejected.is_error(403, "forbidden", text);
}

#[tokio::test]
async fn problems_name_their_column() {
    let world = World::new().await;
    let named = |name: &str| json!({ "type": "path", "name": name, "path": "key" });
    let template = |content: &str| json!({ "type": "template", "name": "t", "template": { "language": "jsonnet", "content": content } });
    for (columns, body, column, message) in [
        (
            json!([named("a"), { "type": "path", "name": "b" }]),
            "{}",
            1,
            "Column \"b\" is missing path.",
        ),
        (
            json!([named("a"), named("b"), named("A")]),
            "{}",
            2,
            "Column name \"A\" is used more than once (upper and lower case count as the same)",
        ),
        (
            json!([named("a"), named("")]),
            "{}",
            1,
            "Column 2 has an empty name.",
        ),
        (
            json!([named("a"), template("Invalid")]),
            "{}",
            1,
            "Column \"t\" template is invalid: 1:1-8 Unknown variable: Invalid.",
        ),
        (
            json!([named("a"), named("path")]),
            "refused",
            1,
            "Path \"key\" not found in the body.",
        ),
    ] {
        let tried = world.post(TEST_MAPPING, sample(columns, body)).await.ok();
        assert_eq!(tried["row"], json!([]), "{tried}");
        let problem = json!([{ "column": column, "message": message }]);
        assert_eq!(tried["violations"], problem);
    }
}

#[tokio::test]
async fn sample_records_must_be_valid_requests() {
    let world = World::new().await;
    for (key, value, text) in [
        (
            "clientIp",
            json!("home"),
            "Invalid \"clientIp\" value \"home\": expected an IP address like 192.0.2.7.",
        ),
        (
            "headers",
            json!([{ "name": "a b", "value": "c" }]),
            "Invalid header \"a b\" of the record: the name must be letters, digits and \"-\".",
        ),
        (
            "headers",
            json!([{ "name": "a", "value": "b\nc" }]),
            "Invalid header \"a\" of the record: the value must be one line of visible characters.",
        ),
    ] {
        let mut body = sample(json!([{ "type": "uuid", "name": "id" }]), "{}");
        body["record"][key] = value;
        world
            .post(TEST_MAPPING, body)
            .await
            .is_error(400, "badRequest", text);
    }
}

#[tokio::test]
async fn a_record_has_a_hundred_headers_at_most() {
    let world = World::new().await;
    let columns = json!([{ "type": "uuid", "name": "id" }]);
    for (count, status) in [(100, 200), (101, 400)] {
        let header = |i| json!({ "name": format!("h{i}"), "value": "" });
        let mut body = sample(columns.clone(), "{}");
        body["record"]["headers"] = (0..count).map(header).collect();
        let reply = world.post(TEST_MAPPING, body).await;
        assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    }
}
