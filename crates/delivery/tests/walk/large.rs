//! Large requests: few are processed at a time, small ones don't wait for them, and their memory is
//! accounted for.

use forebay_ingest::fair_thread_pool::WorkPermit;
use forebay_model::{ByteSize, ColumnKind, HumanDuration};
use futures::FutureExt;
use serde_json::json;

use crate::client::{Client, gzip, post};
use crate::world::{SinkDef, World, config, open, path, plain, slice, stream};

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";
const GZIP: &str = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";

/// `[1,1,1,…`, of so many bytes: the body with the largest index.
fn ones(bytes: usize) -> Vec<u8> {
    let mut body = b"[1".to_vec();
    body.resize(bytes - 1, b',');
    for one in body.iter_mut().skip(1).step_by(2) {
        *one = b'1';
    }
    if body.last() == Some(&b',') {
        body.push(b'1');
    }
    body.push(b']');
    body
}

/// Acquires all permits.
fn acquire_all_permits(w: &World) -> Vec<WorkPermit> {
    let pool = w.dispatcher.large_pool();
    std::iter::from_fn(|| pool.acquire(0).now_or_never()).collect()
}

async fn until_waiting(w: &World, count: usize) {
    while w.dispatcher.large_pool().waiting() < count {
        tokio::task::yield_now().await;
    }
}

fn large_batch(count: usize) -> Vec<u8> {
    "{\"n\":1}\n".repeat(count).into_bytes()
}

#[tokio::test]
async fn small_requests_are_answered_while_large_ones_wait_and_hold_only_their_bodies() {
    const NOISY: usize = 16;
    let mut config = config();
    // The order is asserted; a slow machine may take its time for 16 bodies of 16 MB.
    config.request_timeout = HumanDuration::secs(60);
    let w = World::start(config, vec![SinkDef("k", vec![path("[0]")], plain())]).await;
    let permits = acquire_all_permits(&w);
    let bomb = gzip(&ones(8_000_000));
    assert!(bomb.len() < 10_000);
    let mut noisy = Vec::new();
    for _ in 0..NOISY {
        let mut client = w.client().await;
        client.write(&post(&stream(), GZIP, &bomb)).await;
        noisy.push(client);
    }
    until_waiting(&w, NOISY).await;
    // They hold what was received, and not what it is decoded to.
    assert_eq!(w.limiter.held(), (NOISY * bomb.len()) as u64);
    let mut quiet = w.client().await;
    for _ in 0..10 {
        assert_eq!(quiet.post(&stream(), "[7]").await.status, 200);
    }
    assert_eq!(
        w.dispatcher.large_pool().waiting(),
        NOISY,
        "none has had a permit"
    );
    drop(permits);
    for client in &mut noisy {
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    assert_eq!(w.rows("k").await.len(), NOISY + 10);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_that_gets_no_permit_is_told_that_nothing_is_stored() {
    let mut config = config();
    config.request_timeout = HumanDuration::secs(5);
    let w = World::timed(config).await;
    let permits = acquire_all_permits(&w);
    let answer = w
        .client()
        .await
        .send(&post(&stream(), NDJSON, &large_batch(2000)))
        .await;
    let found = (answer.status, answer.header("retry-after"));
    assert_eq!(found, (503, Some("1")));
    assert_eq!(answer.json()["error"], "stream.in.notTakenInTime");
    drop(permits);
    assert!(w.rows("k").await.is_empty());
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn no_rows_are_rendered_while_rows_wait_for_the_disk() {
    let w = World::bodies(config()).await;
    let limit = w.limiter.limit();
    let rows = w.limiter.acquire_for_rows(limit + 1);
    let mut small = w.client().await;
    let answer = small.send(&post(&stream(), "", b"")).await;
    let found = (answer.status, answer.header("retry-after"));
    assert_eq!(found, (429, Some("1")));
    drop(rows);
    // Rows up to the limit, and one body: the maximum.
    let rows = w.limiter.acquire_for_rows(limit - 50_000);
    let mut large = w.client().await;
    large
        .write(&post(&stream(), NDJSON, &large_batch(3000)))
        .await;
    assert_eq!(large.answer().await.unwrap().json()["accepted"], 3000);
    drop(rows);
    assert_eq!(w.rows("k").await.len(), 3000);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn rows_over_the_memory_limit_are_rejected_and_none_of_them_is_stored() {
    let mut config = config();
    config.max_bytes_in_flight = ByteSize::mb(1);
    let value = "x".repeat(1000);
    let wide = vec![ColumnKind::Static { value }];
    let sinks = vec![
        SinkDef("narrow", vec![path("n")], plain()),
        SinkDef("wide", wide, plain()),
    ];
    let w = World::start(config, sinks).await;
    let mut client = w.client().await;
    let send = async |client: &mut Client, count: usize| {
        client
            .send(&post(&stream(), NDJSON, &large_batch(count)))
            .await
    };
    assert_eq!(send(&mut client, 900).await.json()["accepted"], 900);
    let answer = send(&mut client, 1500).await;
    assert_eq!(answer.status, 413);
    let message =
        "The rows of the request are over the maximum of 1MB in flight. Nothing was stored.";
    assert_eq!(answer.json()["message"], message);
    for sink in ["narrow", "wide"] {
        assert_eq!(w.rows(sink).await.len(), 900);
    }
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn a_large_batch_gets_the_same_response_as_a_small_one() {
    let sinks = vec![
        SinkDef("all", vec![ColumnKind::Body], plain()),
        SinkDef("picky", vec![ColumnKind::Uuid, path("n")], plain()),
    ];
    let w = World::start(config(), sinks).await;
    let mut body = large_batch(300);
    body.extend_from_slice(b"{broken\n{\"m\":2}\n");
    body.extend_from_slice(&large_batch(300));
    let mut client = w.client().await;
    let answer = client.send(&post(&stream(), NDJSON, &body)).await;
    assert_eq!(answer.status, 422);
    let report = answer.json();
    let counts = ["records", "accepted", "rejectedCount"].map(|name| report[name].clone());
    assert_eq!(counts, [json!(602), json!(600), json!(2)]);
    let refused = report["rejected"].as_array().unwrap();
    let place = |i: usize| (refused[i]["index"].clone(), refused[i]["line"].clone());
    assert_eq!(place(0), (json!(300), json!(301)));
    assert_eq!(place(1), (json!(301), json!(302)));
    assert_eq!(refused[1]["sinkId"], "picky");
    let all = w.rows("all").await;
    assert_eq!((all.len(), all[300].as_str()), (601, "\"{\"\"m\"\":2}\""));
    assert_eq!(w.rows("picky").await.len(), 600);
    // As an array, and one large record.
    let array = format!("[{}{{\"n\":1}}]", "{\"n\":1},".repeat(299));
    let answer = client
        .post(&format!("{}?batch=true", stream()), &array)
        .await;
    assert_eq!(answer.json()["accepted"], 300);
    let single = format!("{{\"n\":2,\"pad\":\"{}\"}}", "x".repeat(200_000));
    assert_eq!(client.post(&stream(), &single).await.text(), "OK");
    let picky = w.rows("picky").await;
    assert!(picky[900].ends_with(",\"2\""), "{}", picky[900]);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn a_large_batch_waits_for_its_sinks_slice() {
    let sinks = vec![
        SinkDef("open", vec![ColumnKind::Body], plain()),
        SinkDef("opens", vec![path("n")], plain()),
    ];
    let w = World::start(config(), sinks).await;
    w.sinks[1].set_pipeline(None);
    let mut client = w.client().await;
    client
        .write(&post(&stream(), NDJSON, &large_batch(2000)))
        .await;
    while w.rows("open").await.len() < 2000 {
        tokio::task::yield_now().await;
    }
    open(
        &w.sinks[1],
        1,
        &[path("n")],
        &plain(),
        &w.volume.shared(),
        &w.shared,
    );
    assert_eq!(client.answer().await.unwrap().json()["accepted"], 2000);
    let rows = w.volume.rows(&slice(&w.sinks[1], 1)).await;
    assert_eq!(rows, vec!["\"1\""; 2000]);
    assert_eq!(w.limiter.held(), 0);
}
