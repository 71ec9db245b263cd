//! Redirects of APIs: a POST never becomes a GET, pages are followed on their own server and count for the
//! rate limit, and no secret is sent to another server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use forebay_jobs::{JobFailure, JobOutcome};

use crate::apis::listen;
use crate::world::{World, dead};

/// A request that a server received.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// Requests that a server received.
type Log = Arc<Mutex<Vec<Seen>>>;

/// A server that responds with `answer`.
async fn serve(
    answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
) -> (String, Log) {
    let log = Log::default();
    let requests = Arc::clone(&log);
    let app = Router::new().fallback(async move |request: Request| {
        let (parts, body) = request.into_parts();
        let seen = Seen {
            at: Instant::now(),
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body: axum::body::to_bytes(body, 1 << 20).await.unwrap(),
        };
        let response = answer(&seen);
        requests.lock().unwrap().push(seen);
        response
    });
    (format!("http://{}", listen(app).await), log)
}

fn lines(log: &Log) -> Vec<String> {
    let log = log.lock().unwrap();
    log.iter()
        .map(|s| format!("{} {}", s.method, s.uri))
        .collect()
}

fn redirect(status: u16, location: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("location", location)]).into_response()
}

/// A response without an end.
fn endless() -> Response {
    let chunk = || async {
        Some((
            Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8192])),
            (),
        ))
    };
    Body::from_stream(futures::stream::unfold((), move |()| chunk())).into_response()
}

/// A job that posts two records of a file.
fn posting(
    world: &World,
    processing: &str,
    destination: &str,
) -> forebay_jobs::definition::JobDefinition {
    std::fs::write(world.path("a.jsonl"), "{\"id\":1}\n{\"id\":2}\n").unwrap();
    world.define(&format!(
        "source: {{ type: files, paths: [a.jsonl] }}\n{processing}\n\
         destination:\n  type: http\n  url: {destination}\n  retry: {{ wait: 5ms }}\n\
         \x20 headers: {{ X-Tenant: acme, Content-Type: application/vnd.x+json }}\n\
         \x20 auth: {{ token: s3cret }}\n"
    ))
}

#[tokio::test]
async fn a_posted_record_never_becomes_a_get() {
    let (elsewhere, stolen) = serve(|_| StatusCode::OK.into_response()).await;
    let other = format!("{elsewhere}/other");
    for status in [300, 301, 302, 303, 304, 305, 306, 307, 308] {
        let location = if status < 307 {
            "/other".to_owned()
        } else {
            other.clone()
        };
        let leads_to = location.clone();
        let (url, log) = serve(move |seen| match seen.uri.path() {
            "/in" => redirect(status, &leads_to),
            _ => StatusCode::OK.into_response(),
        })
        .await;
        let world = World::new();
        let definition = posting(&world, "", &format!("{url}/in"));
        let (end, summary) = world.run(&definition).await;
        assert_eq!(end, JobOutcome::Complete);
        assert_eq!((summary.written, summary.dead, summary.retries), (0, 2, 4));
        assert_eq!(lines(&log), ["POST /in"; 6], "{status}");
        for dead_letter in dead(&definition.state_dir()).await {
            assert_eq!(dead_letter.status, Some(status));
            assert!(
                dead_letter.error.contains(&location),
                "{}",
                dead_letter.error
            );
            assert!(
                dead_letter.error.contains("not followed"),
                "{}",
                dead_letter.error
            );
        }
    }
    assert_eq!(lines(&stolen), Vec::<String>::new());
}

#[tokio::test]
async fn a_post_is_redirected_unchanged_on_its_server() {
    for status in [307, 308] {
        let (url, log) = serve(move |seen| match seen.uri.path() {
            "/in" => redirect(status, "in/"),
            "/in/" => redirect(status, "/last"),
            _ => StatusCode::CREATED.into_response(),
        })
        .await;
        let world = World::new();
        let definition = posting(&world, "", &format!("{url}/in"));
        let (end, summary) = world.run(&definition).await;
        assert_eq!(
            (end, summary.written, summary.dead),
            (JobOutcome::Complete, 2, 0)
        );
        let seen = log.lock().unwrap().clone();
        let last: Vec<_> = seen.iter().filter(|s| s.uri.path() == "/last").collect();
        assert_eq!((seen.len(), last.len()), (6, 2));
        for record in seen.chunk_by(|a, b| a.body == b.body) {
            for hop in record {
                assert_eq!(hop.headers, record[0].headers);
                assert_eq!(hop.headers["content-type"], "application/vnd.x+json");
                assert_eq!(hop.headers["x-tenant"], "acme");
                assert_eq!(hop.headers["x-auth-token"], "s3cret");
                assert!(hop.headers.contains_key("idempotency-key"));
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_target_is_not_a_processed_record() {
    let (storage, stored) = serve(|_| StatusCode::OK.into_response()).await;
    let (url, log) = serve(|seen| match seen.uri.path() {
        "/in" => redirect(302, "/login"),
        _ => axum::Json(serde_json::json!({ "please": "sign in" })).into_response(),
    })
    .await;
    let world = World::new();
    let processing = format!("processing: {{ url: '{url}/in', retry: {{ wait: 5ms }} }}");
    let definition = posting(&world, &processing, &storage);
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.processed, summary.dead),
        (JobOutcome::Complete, 0, 2)
    );
    assert_eq!(lines(&log), ["POST /in"; 6]);
    assert_eq!(lines(&stored), Vec::<String>::new());
    let dead_letters = dead(&definition.state_dir()).await;
    assert!(
        dead_letters[0]
            .error
            .contains("302 Found, Location: /login"),
        "{}",
        dead_letters[0].error
    );
}

#[tokio::test]
async fn an_endless_response_is_read_up_to_the_limit() {
    let (storage, stored) = serve(|_| endless()).await;
    let world = World::new();
    let definition = posting(&world, "", &storage);
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.written, summary.dead),
        (JobOutcome::Complete, 2, 0)
    );
    assert_eq!(stored.lock().unwrap().len(), 2, "its success counts");
    let source = format!(
        "source:\n  type: http_api\n  baseUrl: {storage}\n  giveUpAfter: 2\n  errorWait: 1ms\n\
         \x20 maxPageSize: 1MB\ndestination:\n  type: http\n  url: {storage}\n"
    );
    let world = World::new();
    let (end, _) = world.run(&world.define(&source)).await;
    let JobOutcome::Failed(JobFailure::Source(text)) = end else {
        panic!("{end:?}")
    };
    assert!(text.contains("longer than 1048576 bytes"), "{text}");
}

/// A job that reads pages.
fn paging(world: &World, url: &str, more: &str) -> forebay_jobs::definition::JobDefinition {
    world.define(&format!(
        "source:\n  type: http_api\n  baseUrl: {url}\n  results: ''\n  paging: {{ type: page }}\n\
         \x20 errorWait: 5ms\n  until: {{ emptyPage: true }}\n  headers: {{ X-Api-Key: k }}\n\
         \x20 auth: {{ token: s3cret }}\n{more}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}]\n"
    ))
}

/// Five pages of one record each.
fn page(seen: &Seen) -> Response {
    let query = seen.uri.query().unwrap_or_default();
    let n: usize = query.rsplit('=').next().unwrap().parse().unwrap();
    let records: Vec<_> = (n..6)
        .take(1)
        .map(|id| serde_json::json!({ "id": id }))
        .collect();
    axum::Json(records).into_response()
}

#[tokio::test]
async fn each_redirect_of_a_page_counts_for_the_rate_limit() {
    for status in [301, 302, 303, 307, 308] {
        let (url, log) = serve(move |seen| match seen.uri.path() {
            "/messages" => {
                let query = seen.uri.query().unwrap();
                redirect(status, &format!("/really?{query}"))
            }
            _ => page(seen),
        })
        .await;
        let world = World::new();
        let limit = "  rateLimit: { requests: 4, period: 300ms }";
        let (end, summary) = world.run(&paging(&world, &url, limit)).await;
        assert_eq!(
            (end, summary.written, summary.requests),
            (JobOutcome::Complete, 5, 12)
        );
        let seen = log.lock().unwrap().clone();
        assert_eq!(seen.len(), 12);
        for window in seen.windows(5) {
            let between = window[4].at - window[0].at;
            assert!(between >= Duration::from_millis(300), "{between:?}");
        }
        assert!(seen.iter().all(|s| s.headers["x-api-key"] == "k"));
    }
}

#[tokio::test]
async fn a_page_is_not_requested_from_another_server() {
    let (elsewhere, stolen) = serve(page).await;
    let port = elsewhere.rsplit(':').next().unwrap().to_owned();
    for (status, location) in [
        (301, elsewhere.clone()),
        (308, format!("{elsewhere}/messages?page=1")),
        (302, format!("//localhost:{port}/x")),
        (302, format!("/\\127.0.0.1:{port}/x")),
        (302, format!("ftp://127.0.0.1:{port}/x")),
        (302, "https:x".to_owned()),
        (302, "HOST-OTHER-USER".to_owned()),
        (300, "/messages".to_owned()),
        (304, "/messages".to_owned()),
        (302, "/messages?page=1".to_owned()),
    ] {
        let leads_to = location.clone();
        let (url, log) = serve(move |seen| {
            let host = seen.headers["host"].to_str().unwrap();
            let own = format!("http://user:hush@{host}/messages");
            let location = leads_to.replace("HOST-OTHER-USER", &own);
            redirect(status, &location)
        })
        .await;
        let world = World::new();
        let definition = paging(&world, &url, "  giveUpAfter: 1");
        let (end, summary) = world.run(&definition).await;
        let JobOutcome::Failed(JobFailure::Source(text)) = end else {
            panic!("{location}: {end:?}")
        };
        assert!(text.contains(&status.to_string()), "{text}");
        assert!(!text.contains("hush") && !text.contains("s3cret"), "{text}");
        // Only this redirect may be followed; it loops.
        let requests = if location == "/messages?page=1" { 6 } else { 1 };
        assert_eq!(log.lock().unwrap().len(), requests, "{location}");
        assert_eq!(summary.requests, requests as u64);
    }
    assert_eq!(lines(&stolen), Vec::<String>::new());
}

#[tokio::test]
async fn the_next_url_is_relative_to_the_final_url() {
    let (url, log) = serve(|seen| match seen.uri.path() {
        "/messages" => redirect(302, "/v2/items"),
        "/v2/items" => {
            let link = [("link", "<more?p=2>; rel=next")];
            (link, axum::Json(serde_json::json!([{ "id": 1 }]))).into_response()
        }
        _ => axum::Json(serde_json::json!([])).into_response(),
    })
    .await;
    let world = World::new();
    let definition = world.define(&format!(
        "source:\n  type: http_api\n  baseUrl: {url}\n  results: ''\n  paging: {{ type: link }}\n\
         \x20 until: {{ noNext: true }}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}]\n"
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!((end, summary.written), (JobOutcome::Complete, 1));
    assert_eq!(
        lines(&log),
        ["GET /messages", "GET /v2/items", "GET /v2/more?p=2"]
    );
}
