//! Large requests: few are worked on at a time, none of them is in the way of small ones, and what
//! they become is paid for.

use std::io::Write;

use forebay_flow::fair_thread_pool::WorkPermit;
use forebay_model::{ByteSize, ColumnKind, HumanDuration};
use futures::FutureExt;
use serde_json::json;

use crate::client::{Client, post};
use crate::world::{SinkDef, World, config, open, path, plain, slice, stream};

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";
const GZIP: &str = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `[1,1,1,…`, of so many bytes: the body of which the index is largest.
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

/// All turns that there are.
fn take_all_turns(w: &World) -> Vec<WorkPermit> {
    let lane = w.dispatcher.large_pool();
    std::iter::from_fn(|| lane.acquire(0).now_or_never()).collect()
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
async fn small_requests_are_answered_while_large_ones_wait_and_those_hold_what_was_sent() {
    const NOISY: usize = 16;
    let mut config = config();
    // What is asserted is the order; a slow machine may take its time for 16 bodies of 16 MB.
    config.request_timeout = HumanDuration::secs(60);
    let w = World::start(config, vec![SinkDef("k", vec![path("[0]")], plain())]).await;
    let turns = take_all_turns(&w);
    let bomb = gzip(&ones(8_000_000));
    assert!(bomb.len() < 10_000);
    let mut noisy = Vec::new();
    for _ in 0..NOISY {
        let mut client = w.client().await;
        client.write(&post(&stream(), GZIP, &bomb)).await;
        noisy.push(client);
    }
    until_waiting(&w, NOISY).await;
    // They hold what has come in, and not what it becomes.
    assert_eq!(w.budget.held(), (NOISY * bomb.len()) as u64);
    let mut quiet = w.client().await;
    for _ in 0..10 {
        assert_eq!(quiet.post(&stream(), "[7]").await.status, 200);
    }
    assert_eq!(
        w.dispatcher.large_pool().waiting(),
        NOISY,
        "none has had a turn"
    );
    drop(turns);
    for client in &mut noisy {
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    assert_eq!(w.rows("k").await.len(), NOISY + 10);
    assert_eq!(w.budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_whose_turn_does_not_come_is_told_that_nothing_is_stored() {
    let mut config = config();
    config.request_timeout = HumanDuration::secs(5);
    let w = World::timed(config).await;
    let turns = take_all_turns(&w);
    let answer = w
        .client()
        .await
        .send(&post(&stream(), NDJSON, &large_batch(2000)))
        .await;
    let found = (answer.status, answer.header("retry-after"));
    assert_eq!(found, (503, Some("1")));
    assert_eq!(answer.json()["error"], "stream.in.notTakenInTime");
    drop(turns);
    assert!(w.rows("k").await.is_empty());
    assert_eq!(w.budget.held(), 0);
}

#[tokio::test]
async fn while_rows_wait_for_the_disk_no_more_are_made() {
    let w = World::bodies(config()).await;
    let limit = w.budget.limit();
    let rows = w.budget.acquire_for_rows(limit + 1);
    let mut small = w.client().await;
    let answer = small.send(&post(&stream(), "", b"")).await;
    let found = (answer.status, answer.header("retry-after"));
    assert_eq!(found, (429, Some("1")));
    drop(rows);
    // Rows up to the limit, and one body: that is as much as may be.
    let rows = w.budget.acquire_for_rows(limit - 50_000);
    let mut large = w.client().await;
    large
        .write(&post(&stream(), NDJSON, &large_batch(3000)))
        .await;
    assert_eq!(large.answer().await.unwrap().json()["accepted"], 3000);
    drop(rows);
    assert_eq!(w.rows("k").await.len(), 3000);
    assert_eq!(w.budget.held(), 0);
}

#[tokio::test]
async fn rows_that_can_not_be_held_are_refused_and_none_of_them_is_stored() {
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
    assert_eq!(w.budget.held(), 0);
}

#[tokio::test]
async fn a_large_batch_has_the_same_answer_as_a_small_one() {
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
    assert_eq!(w.budget.held(), 0);
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
    assert_eq!(w.budget.held(), 0);
}
