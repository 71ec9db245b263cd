//! Middleware of every request.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};

use super::world::{S, World, bare};

#[tokio::test]
async fn the_index_links_the_documentation() {
    let world = World::new().await;
    let root = world.send(bare(Method::GET, "/")).await;
    assert_eq!(
        (root.status.as_u16(), root.header("location")),
        (301, "/v1")
    );
    let index = world.send(bare(Method::GET, "/v1")).await;
    let text = "{\n  \"api\": \"stream\",\n  \"documentation\": \"https://stream.example/v1/documentation\"\n}\n";
    assert_eq!(index.text, text);
    assert_eq!(index.header("content-type"), "application/json");
    let id = index.header("x-request-id");
    assert!(id.len() == 15 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    let head = world.send(bare(Method::HEAD, "/v1")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let world = World::new().await;
    for path in [
        "/foo/bar",
        "/v2",
        "/v1/branches",
        "//evil.example/",
        "/v1/x//",
        "/v1/branches/default/sources/a/nope",
    ] {
        let reply = world.send(bare(Method::GET, path)).await;
        let text = format!("No endpoint found for path \"{path}\".");
        reply.is_error(404, "endpointNotFound", &text);
        assert_eq!(reply.header("x-request-id").len(), 15);
    }
}

#[tokio::test]
async fn trailing_slashes_are_redirected() {
    let world = World::new().await;
    for (path, location) in [
        ("/v1/", "/v1"),
        ("/foo/", "/foo"),
        (
            "/v1/branches/default/sources/?limit=1",
            "/v1/branches/default/sources?limit=1",
        ),
        ("/v1/tasks/a/b/", "/v1/tasks/a/b"),
        ("/a%2F%2Fevil.example/", "/a%2F%2Fevil.example"),
    ] {
        let reply = world.send(bare(Method::GET, path)).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("location")),
            (301, location)
        );
    }
    for path in ["//evil.example/", "//evil.example//", "///x/"] {
        assert_eq!(
            world.send(bare(Method::GET, path)).await.header("location"),
            ""
        );
    }
}

#[tokio::test]
async fn a_wrong_method_gets_the_allowed_ones() {
    let world = World::new().await;
    for (method, path, allow) in [
        (Method::DELETE, S.to_owned(), "POST,GET,HEAD"),
        (Method::PUT, format!("{S}/x"), "GET,HEAD,PATCH,DELETE"),
        (Method::POST, "/v1".to_owned(), "GET,HEAD"),
        (Method::OPTIONS, "/v1".to_owned(), "GET,HEAD"),
    ] {
        let reply = world.send(bare(method, &path)).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (405, ""));
        let mut given: Vec<&str> = reply.header("allow").split(',').collect();
        let mut expected: Vec<&str> = allow.split(',').collect();
        given.sort_unstable();
        expected.sort_unstable();
        assert_eq!(given, expected, "{path}");
    }
}

#[tokio::test]
async fn cors_allows_browsers() {
    let world = World::new().await;
    let preflight = Request::options(S)
        .header("Origin", "https://app.example")
        .header("Access-Control-Request-Method", "PUT")
        .body(Body::empty())
        .unwrap();
    let reply = world.send(preflight).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
    let methods = reply.header("access-control-allow-methods");
    assert_eq!(methods, "GET, POST, PATCH, PUT, DELETE");
    let headers = reply.header("access-control-allow-headers");
    assert!(headers.contains("Content-Type") && headers.contains("X-StorageApi-Token"));
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://app.example"
    );
    // Also on errors, or a page could not read them.
    let request = Request::get(S).header("Origin", "https://app.example");
    let reply = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.status.as_u16(), 400);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(reply.header("vary"), "Origin");
    let without = world.send(bare(Method::GET, "/v1")).await;
    assert_eq!(without.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_panic_ends_its_own_request_only() {
    let world = World::with_source().await;
    let path = format!("{S}/my-source/test");
    for (body, name) in [("panic", "panicError"), ("internal", "internalError")] {
        let reply = world.call(Method::POST, &path, body).await;
        let id = format!("keboola-stream-api-{}", reply.header("x-request-id"));
        assert_eq!(reply.json()["exceptionId"], id);
        let text = format!(
            "Application error. Please contact our support with exception id ({id}) attached."
        );
        reply.is_error(500, name, &text);
    }
    world.call(Method::POST, &path, "fine").await.ok();
}

#[tokio::test]
async fn the_support_contact_is_named_if_there_is_one() {
    let world = World::with(|c| c.support_contact = "ops@example.com".to_owned()).await;
    world
        .done(world.post(S, super::sample::source("My Source")).await)
        .await;
    let reply = world
        .call(Method::POST, &format!("{S}/my-source/test"), "panic")
        .await;
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("Application error. Please contact our support ops@example.com with")
    );
}

#[tokio::test]
async fn requests_time_out() {
    let world = World::with(|c| c.request_timeout = forebay_model::HumanDuration::secs(1)).await;
    world
        .done(world.post(S, super::sample::source("My Source")).await)
        .await;
    let path = format!("{S}/my-source/test");
    let hang = world.call(Method::POST, &path, "hang");
    let reply = tokio::time::timeout(Duration::from_secs(20), hang)
        .await
        .unwrap();
    reply.is_error(408, "requestTimeout", "The request took longer than 1s.");
    let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let stalled = world.call(Method::POST, S, Body::from_stream(never)).await;
    assert_eq!(stalled.status.as_u16(), 408);
}

#[tokio::test]
async fn other_routes_can_be_merged_in() {
    let world = World::new().await;
    let health = axum::Router::new().route("/health/live", axum::routing::get(|| async { "OK" }));
    let router = world.api.router().merge(health);
    let send = async |path: &str| {
        use tower::ServiceExt;
        router
            .clone()
            .oneshot(bare(Method::GET, path))
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(
        (
            send("/health/live").await,
            send("/v1").await,
            send("/x").await
        ),
        (200, 200, 404)
    );
}
