//! The lookup service on a table that a job loaded.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_connect::keyed::sqlite::SqliteKeyed;
use forebay_connect::keyed::{KeyedTable, conformance};
use forebay_jobs::definition::LookupConfig;
use forebay_jobs::lookup::LookupService;
use forebay_listener::Listener;
use serde_json::{Value, json};

use crate::world::World;

fn read(dir: &Path, yaml: &str) -> Result<LookupConfig, String> {
    let file = dir.join("lookup.yaml");
    std::fs::write(&file, yaml).unwrap();
    LookupConfig::read(&file, &|_| Ok(None)).map_err(|e| e.to_string())
}

const CONFIG: &str = "\
store: { type: sqlite, path: rows.db }
routes: [{ path: /product, table: products, key: id }]
";

pub(crate) async fn serve(world: &World, yaml: &str) -> (SocketAddr, Listener) {
    let config = read(world.dir.path(), yaml).unwrap();
    let metrics = Arc::new(|| "metrics here".to_owned());
    let service = LookupService::new(&config, metrics).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, service.serve(listener))
}

async fn filled(world: &World) -> SqliteKeyed {
    let store = SqliteKeyed::new(world.path("rows.db"));
    let shape = conformance::sample_schema("products");
    store.prepare(&shape).await.unwrap();
    let rows = [
        conformance::row(42, "Kettle ☕"),
        conformance::row(i64::MAX, ""),
    ];
    store.upsert(&shape, &rows.into()).await.unwrap();
    store
}

async fn get(url: &str, etag: Option<&str>) -> (u16, Option<String>, String) {
    let mut request = reqwest::Client::new().get(url);
    if let Some(etag) = etag {
        request = request.header("if-none-match", etag);
    }
    let response = request.send().await.unwrap();
    let etag = response.headers().get("etag");
    let etag = etag.map(|v| v.to_str().unwrap().to_owned());
    (
        response.status().as_u16(),
        etag,
        response.text().await.unwrap(),
    )
}

#[tokio::test]
async fn rows_are_returned_with_their_types() {
    let world = World::new();
    filled(&world).await;
    let (address, _stop) = serve(&world, CONFIG).await;
    let url = |path: &str| format!("http://{address}{path}");
    let (status, etag, body) = get(&url("/product/42"), None).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        "{\"id\":42,\"name\":\"Kettle ☕\",\"price\":12.5,\"in_stock\":true,\
         \"added\":\"2026-11-21T08:00:00.123Z\",\"tags\":{\"a\": [1, 2.50]}}"
    );
    let etag = etag.unwrap();
    let (status, again, body) = get(&url("/product/42"), Some(&etag)).await;
    assert_eq!((status, again, body.as_str()), (304, Some(etag), ""));
    let (status, _, body) = get(&url("/product/9223372036854775807"), None).await;
    assert!(
        status == 200 && body.starts_with("{\"id\":9223372036854775807,"),
        "{body}"
    );
    for (path, status, message) in [
        ("/product/43", 404, "there is no row with id 43"),
        ("/product/abc", 400, "id: \"abc\" is not a whole number"),
        ("/product/4.2", 400, "not a whole number"),
        ("/nothing", 404, "no such route"),
    ] {
        let (given, _, body) = get(&url(path), None).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((given, &body["statusCode"]), (status, &json!(status)));
        assert!(
            body["message"].as_str().unwrap().contains(message),
            "{body}"
        );
    }
    assert_eq!(get(&url("/health"), None).await.0, 200);
    assert_eq!(get(&url("/metrics"), None).await.2, "metrics here");
    let (_, _, document) = get(&url("/openapi.json"), None).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    let row = &document["paths"]["/product/{key}"]["get"]["responses"]["200"];
    let row = &row["content"]["application/json"]["schema"]["properties"];
    assert_eq!(row["id"]["type"], "integer");
    assert_eq!(row["name"]["type"], json!(["string", "null"]));
}

#[tokio::test]
async fn a_cached_row_is_returned_without_reading_the_table() {
    let world = World::new();
    let store = filled(&world).await;
    let yaml = format!("{CONFIG}cache: {{ rows: 1, ttl: 1h }}\n");
    let (address, _stop) = serve(&world, &yaml).await;
    let url = |id: i64| format!("http://{address}/product/{id}");
    let shape = conformance::sample_schema("products");
    assert_eq!(get(&url(42), None).await.0, 200);
    store
        .upsert(&shape, &[conformance::row(42, "changed")].into())
        .await
        .unwrap();
    assert!(get(&url(42), None).await.2.contains("Kettle"), "cached");
    assert_eq!(get(&url(i64::MAX), None).await.0, 200);
    assert!(
        get(&url(42), None).await.2.contains("changed"),
        "evicted by another row"
    );
}

#[tokio::test]
async fn a_stopped_service_closes_its_socket() {
    let world = World::new();
    filled(&world).await;
    let (address, stop) = serve(&world, CONFIG).await;
    let url = format!("http://{address}/product/42");
    assert_eq!(get(&url, None).await.0, 200);
    assert!(stop.stop(Duration::from_secs(60)).await);
    let refused = async || reqwest::get(&url).await.is_err();
    while !refused().await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn invalid_configuration_is_reported_before_listening() {
    let world = World::new();
    filled(&world).await;
    for (yaml, message) in [
        (CONFIG.replace("routes", "rutes"), "did you mean routes?"),
        (
            CONFIG.replace("/product", "product"),
            "it has to be like /product",
        ),
        (CONFIG.replace("/product", "/health"), "which is reserved"),
        (
            format!("{CONFIG}cache: {{ rows: 5 }}\n"),
            "needs a cache.ttl",
        ),
    ] {
        let error = read(world.dir.path(), &yaml).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    for (yaml, message) in [
        (
            CONFIG.replace("products", "orders"),
            "there is no table \"orders\"",
        ),
        (
            CONFIG.replace("key: id", "key: name"),
            "has the key id, but the configuration has name",
        ),
        (
            CONFIG.replace("rows.db", "no.db"),
            "there is no SQLite file",
        ),
    ] {
        let config = read(world.dir.path(), &yaml).unwrap();
        let error = LookupService::new(&config, Arc::new(String::new))
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// Sends a raw request that a client would not send; returns the status and the JSON body.
async fn raw(address: SocketAddr, request: &[u8]) -> (u16, Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/json"), "{answer}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// Sends keys that no row has in any store: each is rejected, and none is a failure of the table.
pub(crate) async fn unusual_keys_are_rejected(address: SocketAddr, path: &str, is_text: bool) {
    let long = "k".repeat(7_000);
    let (text, number) = (
        if is_text { 404 } else { 400 },
        if is_text { 404 } else { 400 },
    );
    for (key, status) in [
        ("%00", text),
        ("a%00b", text),
        ("%C0", 400),
        ("%ff%fe", 400),
        ("%ED%A0%80", 400),
        ("%E2%98", 400),
        (long.as_str(), text),
        ("%F0%9F%98%80", number),
        ("%EF%BF%BD", number),
        (
            "'; DROP TABLE products; --".replace(' ', "%20").as_str(),
            number,
        ),
    ] {
        let request = format!("GET {path}/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (given, body) = raw(address, request.as_bytes()).await;
        let shown: String = key.chars().take(40).collect();
        assert_eq!(given, status, "{shown}: {body}");
        assert_eq!(body["statusCode"], json!(status), "{shown}");
        assert!(body["error"].is_string(), "{shown}");
        let message = body["message"].as_str().unwrap();
        assert!(!message.is_empty() && message.len() < 1000, "{shown}");
    }
}

#[tokio::test]
async fn unusual_keys_and_methods_are_rejected_in_json() {
    let world = World::new();
    filled(&world).await;
    let (address, _stop) = serve(&world, CONFIG).await;
    unusual_keys_are_rejected(address, "/product", false).await;
    let long = format!("GET /product/{}", "7".repeat(9_000));
    for (request, status) in [
        ("POST /product/42", 405),
        ("DELETE /product/%00", 405),
        ("POST /health", 405),
        ("GET /product/", 404),
        ("GET /product/1/2", 404),
        ("GET /%00", 404),
        ("GET /%C0", 404),
        (long.as_str(), 431),
    ] {
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (given, body) = raw(address, request.as_bytes()).await;
        assert_eq!(
            (given, &body["statusCode"]),
            (status, &json!(status)),
            "{request}"
        );
    }
    // A text as the key.
    let store = SqliteKeyed::new(world.path("texts.db"));
    let columns = conformance::sample_schema("texts").columns.into_iter();
    let columns = columns.map(|mut c| {
        c.is_key = c.name == "name";
        c
    });
    let shape = forebay_connect::keyed::TableSchema {
        table: "texts".to_owned(),
        columns: columns
            .filter(|c| c.name == "name" || c.name == "price")
            .collect(),
    };
    store.prepare(&shape).await.unwrap();
    let yaml = CONFIG
        .replace("rows.db", "texts.db")
        .replace("products, key: id", "texts");
    let (address, _stop) = serve(&world, &yaml).await;
    unusual_keys_are_rejected(address, "/product", true).await;
}
