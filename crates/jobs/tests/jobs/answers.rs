//! Compressed responses, and `Retry-After` across restarts.

use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use forebay_jobs::JobOutcome;
use forebay_test_support::poll_until;
use serde_json::json;

use crate::apis::PostApi;
use crate::ends::{Api, failure, job, json, page, run};
use crate::files::gzip;
use crate::world::{World, dead};

fn packed(coding: &str, body: Vec<u8>) -> Response {
    Response::builder()
        .header("content-encoding", coding)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn compressed_pages_are_decompressed_within_the_limit() {
    let body = json!({ "results": page(0..50), "cursor": null }).to_string();
    let zstd = zstd::encode_all(body.as_bytes(), 1).unwrap();
    for (coding, bytes) in [
        ("gzip", gzip(body.as_bytes())),
        ("x-gzip", gzip(body.as_bytes())),
        ("zstd", zstd),
    ] {
        let bytes = bytes.clone();
        let (_, base) = Api::serve(move |_, headers| {
            assert!(
                headers["accept-encoding"]
                    .to_str()
                    .unwrap()
                    .contains("gzip")
            );
            packed(coding, bytes.clone())
        })
        .await;
        let (end, summary) = run(&World::new(), &base, "  until: { noNext: true }").await;
        assert_eq!((end, summary.read), (JobOutcome::Complete, 50), "{coding}");
    }
    // A page that exceeds the limit only when decompressed, a damaged one, and an unsupported encoding.
    let large = json!({ "results": [{ "id": 1, "text": "x".repeat(20_000) }] }).to_string();
    let damaged = gzip(body.as_bytes());
    let damaged = damaged[..damaged.len() - 4].to_vec();
    for (coding, bytes, part) in [
        ("gzip", gzip(large.as_bytes()), "longer than 10240 bytes"),
        ("gzip", damaged, "can't be unpacked"),
        ("compress", vec![1, 2, 3], "Content-Encoding \"compress\""),
    ] {
        let (_, base) = Api::serve(move |_, _| packed(coding, bytes.clone())).await;
        let settings = "  until: { noNext: true }\n  maxPageSize: 10KB";
        let text = failure(run(&World::new(), &base, settings).await.0);
        assert!(text.contains(part), "{text}");
    }
}

fn posting(base: &str, more: &str) -> String {
    format!(
        "source: {{ type: files, paths: [in.jsonl] }}\n{more}\ndestination:\n  type: http\n  url: {base}\n\
         \x20 retry: {{ attempts: 2, wait: 1ms, waitMax: 2s }}\n"
    )
}

#[tokio::test]
async fn compressed_responses_of_stages_are_decompressed_and_damage_undoes_no_delivery() {
    let (_, processing) =
        Api::serve(|_, _| packed("gzip", gzip(b"{\"id\":7,\"name\":\"new\"}"))).await;
    let storage = PostApi::new(|_| String::new());
    let world = World::new();
    std::fs::write(world.path("in.jsonl"), "{\"id\":1}\n").unwrap();
    let yaml = posting(
        &storage.serve().await,
        &format!("processing: {{ url: '{processing}' }}"),
    );
    let (end, _) = world.run(&world.define(&yaml)).await;
    assert_eq!((end, storage.ids()), (JobOutcome::Complete, vec![7]));
    // The status confirmed the delivery.
    let (api, destination) = Api::serve(|_, _| packed("gzip", b"no gzip".to_vec())).await;
    let world = World::new();
    std::fs::write(world.path("in.jsonl"), "{\"id\":1}\n").unwrap();
    let (end, summary) = world.run(&world.define(&posting(&destination, ""))).await;
    assert_eq!(
        (end, summary.written, api.paths().len()),
        (JobOutcome::Complete, 1, 1)
    );
    // The response of a processing API is the record.
    let world = World::new();
    std::fs::write(world.path("in.jsonl"), "{\"id\":1}\n").unwrap();
    let stage = format!("processing: {{ url: '{destination}', retry: {{ attempts: 1 }} }}");
    let definition = world.define(&posting(&destination, &stage));
    assert_eq!(world.run(&definition).await.0, JobOutcome::Complete);
    let dead_letters = dead(&definition.state_dir()).await;
    assert!(
        dead_letters[0].error.contains("can't be unpacked"),
        "{}",
        dead_letters[0].error
    );
}

fn slow_down(wait: &'static str) -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [("retry-after", wait)]).into_response()
}

/// Responds to the first request with `Retry-After`, and to all others normally.
fn once(wait: &'static str, then: fn(&str) -> Response) -> impl Fn(&str, &HeaderMap) -> Response {
    let is_first = Mutex::new(true);
    move |address, _| match std::mem::take(&mut *is_first.lock().unwrap()) {
        true => slow_down(wait),
        false => then(address),
    }
}

#[tokio::test]
async fn a_retry_after_outlives_the_process() {
    let one_page = |_: &str| json(json!({ "results": page(0..5) }));
    let (api, base) = Api::serve(once("2", one_page)).await;
    let world = World::new();
    let definition = world.define(&job(&base, "  until: { noNext: true, pages: 1 }"));
    let running = world.start(&definition);
    poll_until("the stored wait", || {
        definition.state_dir().join("pause-source").exists()
    })
    .await;
    running.kill().await;
    let (end, _) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    let asked = api.asked.lock().unwrap();
    let waited = asked[1].0 - asked[0].0;
    assert!(waited >= Duration::from_millis(1990), "{waited:?}");
}

#[tokio::test]
async fn the_next_run_of_a_failed_job_waits_as_well() {
    let one_page = |_: &str| json(json!({ "results": page(0..5) }));
    let (api, base) = Api::serve(once("1", one_page)).await;
    let world = World::new();
    let settings = "  until: { noNext: true, pages: 1 }";
    let yaml = job(&base, settings).replace("giveUpAfter: 3", "giveUpAfter: 1");
    let definition = world.define(&yaml);
    assert!(failure(world.run(&definition).await.0).contains("429"));
    assert_eq!(world.run(&definition).await.0, JobOutcome::Complete);
    let asked = api.asked.lock().unwrap();
    let waited = asked[1].0 - asked[0].0;
    assert!(waited >= Duration::from_millis(990), "{waited:?}");
}

#[tokio::test]
async fn a_retry_after_is_limited_by_the_setting() {
    let one_page = |_: &str| json(json!({ "results": page(0..5) }));
    let (_, base) = Api::serve(once("3600", one_page)).await;
    let world = World::new();
    let settings = "  retryAfterMax: 300ms\n  until: { noNext: true, pages: 1 }";
    let definition = world.define(&job(&base, settings));
    let running = world.start(&definition);
    poll_until("the stored wait", || {
        definition.state_dir().join("pause-source").exists()
    })
    .await;
    running.kill().await;
    assert_eq!(world.run(&definition).await.0, JobOutcome::Complete);
}

#[tokio::test]
async fn a_retry_after_of_a_destination_delays_all_workers_and_the_next_run() {
    let (api, base) = Api::serve(once("1.5", |_| StatusCode::OK.into_response())).await;
    let world = World::new();
    std::fs::write(world.path("in.jsonl"), "{\"id\":1}\n").unwrap();
    let definition = world.define(&posting(&base, ""));
    let running = world.start(&definition);
    poll_until("the stored wait", || {
        definition.state_dir().join("pause-storage").exists()
    })
    .await;
    running.kill().await;
    let (end, summary) = world.run(&definition).await;
    assert_eq!((end, summary.written), (JobOutcome::Complete, 1));
    let asked = api.asked.lock().unwrap();
    let waited = asked[1].0 - asked[0].0;
    assert!(waited >= Duration::from_millis(1490), "{waited:?}");
}

#[tokio::test]
async fn a_retry_after_of_a_redirect_is_respected() {
    let redirect = |to: &'static str| {
        let headers = [("retry-after", "1"), ("location", to)];
        (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
    };
    let (pages, base) = Api::serve(move |address, _| match address {
        "/items" => redirect("/there"),
        "/there" => json(json!({ "results": page(0..5) })),
        "/post" => redirect("/taken"),
        _ => StatusCode::OK.into_response(),
    })
    .await;
    let settings = "  until: { noNext: true, pages: 1 }";
    assert_eq!(
        run(&World::new(), &base, settings).await.0,
        JobOutcome::Complete
    );
    let world = World::new();
    std::fs::write(world.path("in.jsonl"), "{\"id\":1}\n").unwrap();
    let (end, _) = world
        .run(&world.define(&posting(&format!("{base}/post"), "")))
        .await;
    assert_eq!(end, JobOutcome::Complete);
    assert_eq!(pages.paths(), ["/items", "/there", "/post", "/taken"]);
    let asked = pages.asked.lock().unwrap();
    for pair in [&asked[..2], &asked[2..]] {
        assert!(
            pair[1].0 - pair[0].0 >= Duration::from_millis(990),
            "{asked:?}"
        );
    }
}
