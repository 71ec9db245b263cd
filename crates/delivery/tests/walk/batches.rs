//! Batches: many records in one request.

use forebay_model::{ByteSize, ColumnKind};
use serde_json::json;

use crate::client::post;
use crate::world::{SinkDef, World, config, path, plain, stream};

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

#[tokio::test]
async fn every_record_of_a_batch_is_a_row_of_every_sink() {
    let sinks = vec![
        SinkDef("a", vec![path("n")], plain()),
        SinkDef("b", vec![ColumnKind::Body], plain()),
    ];
    let w = World::start(config(), sinks).await;
    let mut client = w.client().await;
    let answer = client
        .send(&post(
            &stream(),
            NDJSON,
            b"{\"n\":1}\n\n{\"n\":2}\r\n{\"n\":3}",
        ))
        .await;
    assert_eq!(answer.status, 200);
    let report = answer.json();
    assert_eq!(report["message"], "All 3 records are stored.");
    assert_eq!(
        (&report["records"], &report["accepted"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(report["rejected"], json!([]));
    assert_eq!(
        report["sinks"][1],
        json!({"branchId": 2, "sinkId": "b", "statusCode": 200, "message": "processed", "accepted": 3, "rejected": 0})
    );
    assert_eq!(w.rows("a").await, ["\"1\"", "\"2\"", "\"3\""]);
    assert_eq!(w.rows("b").await[1], r#""{""n"":2}""#);
    for content_type in [
        "application/jsonl",
        "application/x-jsonlines",
        "application/ndjson",
    ] {
        let header = format!("Content-Type: {content_type}\r\n");
        let answer = client
            .send(&post(&stream(), &header, b"{\"n\":4}\n{\"n\":5}\n"))
            .await;
        assert_eq!(answer.json()["accepted"], 2, "{content_type}");
    }
}

#[tokio::test]
async fn an_array_is_a_batch_only_when_the_request_says_so() {
    let w = World::bodies(config()).await;
    let mut client = w.client().await;
    let body = r#"[{"n":1}, {"n":2}]"#;
    assert_eq!(client.post(&stream(), body).await.text(), "OK");
    assert_eq!(w.rows("k").await.len(), 1);
    let answer = client.post(&format!("{}?batch=true", stream()), body).await;
    assert_eq!(
        (answer.status, &answer.json()["accepted"]),
        (200, &json!(2))
    );
    assert_eq!(w.rows("k").await[1..], [r#""{""n"":1}""#, r#""{""n"":2}""#]);
    for broken in ["{\"n\":1}", "[1,", "[1}", ""] {
        let answer = client
            .post(&format!("{}?batch=true", stream()), broken)
            .await;
        assert_eq!(answer.status, 400, "{broken}");
        assert_eq!(answer.json()["error"], "stream.in.badRequest");
    }
    let answer = client.post(&format!("{}?batch=true", stream()), "[]").await;
    assert_eq!((answer.status, &answer.json()["records"]), (200, &json!(0)));
    assert_eq!(w.rows("k").await.len(), 3);
}

#[tokio::test]
async fn rejected_records_are_named_with_line_sink_and_column_and_the_others_are_stored() {
    let sinks = vec![
        SinkDef("all", vec![ColumnKind::Body], plain()),
        SinkDef("picky", vec![ColumnKind::Uuid, path("n")], plain()),
    ];
    let w = World::start(config(), sinks).await;
    let mut client = w.client().await;
    let body = b"{\"n\":1}\n{broken\n\n{\"m\":2}\n{\"n\":3}\n";
    let answer = client.send(&post(&stream(), NDJSON, body)).await;
    assert_eq!(answer.status, 422);
    let report = answer.json();
    assert_eq!(report["error"], "stream.in.recordsRejected");
    assert_eq!(report["records"], 4);
    assert_eq!(report["accepted"], 2, "records that all sinks have");
    assert_eq!(report["rejectedCount"], 2);
    assert!(report["note"].as_str().unwrap().contains("stored twice"));
    let refused = report["rejected"].as_array().unwrap();
    assert_eq!(refused.len(), 2);
    assert_eq!(
        (&refused[0]["index"], &refused[0]["line"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        (&refused[0]["statusCode"], refused[0].get("sinkId")),
        (&json!(400), None)
    );
    assert!(refused[0]["message"].as_str().unwrap().contains("line 2"));
    assert_eq!(
        refused[1],
        json!({
            "index": 2, "line": 4, "sinkId": "picky", "column": "c1", "statusCode": 422,
            "error": "stream.in.pathNotFound",
            "message": "Column \"c1\": path \"n\" not found in the body.",
        })
    );
    let counts = |sink: &serde_json::Value| (sink["accepted"].clone(), sink["rejected"].clone());
    assert_eq!(counts(&report["sinks"][0]), (json!(3), json!(0)));
    assert_eq!(counts(&report["sinks"][1]), (json!(2), json!(1)));
    assert_eq!(w.rows("all").await.len(), 3);
    assert_eq!(w.rows("picky").await.len(), 2);
}

#[tokio::test]
async fn the_list_of_rejected_records_is_bounded_but_their_count_is_not() {
    let w = World::start(config(), vec![SinkDef("k", vec![path("n")], plain())]).await;
    let mut body = "{}\n".repeat(250);
    body.push_str("{\"n\":1}\n");
    let answer = w
        .client()
        .await
        .send(&post(&stream(), NDJSON, body.as_bytes()))
        .await;
    let report = answer.json();
    assert_eq!(report["rejectedCount"], 250);
    assert_eq!(report["rejected"].as_array().unwrap().len(), 100);
    assert_eq!(report["accepted"], 1);
    assert_eq!(w.rows("k").await, ["\"1\""]);
}

#[tokio::test]
async fn the_number_of_records_is_bounded_at_its_edge() {
    let mut config = config();
    config.max_records_per_batch = 3;
    let w = World::bodies(config).await;
    let mut client = w.client().await;
    let answer = client.send(&post(&stream(), NDJSON, b"1\n2\n3\n\n")).await;
    assert_eq!(answer.status, 200);
    let answer = client.send(&post(&stream(), NDJSON, b"1\n2\n3\n4")).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"], "stream.in.tooManyRecords");
    let answer = client
        .post(&format!("{}?batch=true", stream()), "[1,2,3,4]")
        .await;
    assert_eq!(answer.status, 413);
    assert_eq!(
        w.rows("k").await.len(),
        3,
        "nothing of the others is stored"
    );
}

#[tokio::test]
async fn large_batches_are_one_block_even_when_they_exceed_its_size() {
    let mut small = plain();
    small.sync.uncompressed = ByteSize(1000);
    let mut config = config();
    config.max_request_body_size = ByteSize::mb(4);
    let w = World::start(config, vec![SinkDef("k", vec![ColumnKind::Body], small)]).await;
    let line = format!("{{\"n\":\"{}\"}}\n", "x".repeat(1000));
    let answer = w
        .client()
        .await
        .send(&post(&stream(), NDJSON, line.repeat(2000).as_bytes()))
        .await;
    assert_eq!(answer.json()["accepted"], 2000);
    assert_eq!(w.rows("k").await.len(), 2000);
    assert_eq!(w.limiter.held(), 0);
}
