//! One record per request: which sinks get it, and what the response reports.

use forebay_model::ColumnKind;
use serde_json::json;

use crate::client::post;
use crate::volume::Volume;
use crate::world::{SECRET, SinkDef, World, config, path, plain, stream};

#[tokio::test]
async fn a_record_is_a_row_when_the_response_arrives() {
    let columns = vec![
        ColumnKind::Datetime,
        ColumnKind::Ip,
        path("a.b"),
        ColumnKind::Body,
    ];
    let w = World::start(config(), vec![SinkDef("k", columns, plain())]).await;
    let mut client = w.client().await;
    for n in 1..=3 {
        let answer = client
            .post(&stream(), &format!(r#"{{"a":{{"b":"x{n}"}}}}"#))
            .await;
        assert_eq!((answer.status, answer.text()), (200, "OK"));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("server"), Some("Forebay"));
        assert_eq!(answer.header("date"), None);
        assert_eq!(w.rows("k").await.len(), n);
    }
    assert_eq!(
        w.rows("k").await[2],
        r#""2026-11-21T05:01:49.120Z","127.0.0.1","x3","{""a"":{""b"":""x3""}}""#
    );
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn an_address_that_is_not_exactly_right_is_not_found() {
    let w = World::bodies(config()).await;
    let wrong = SECRET.replace('a', "b");
    let mut bodies = Vec::new();
    for path in [
        format!("/stream/1/s/{wrong}"),
        format!("/stream/1/s/{}", SECRET.trim_end_matches('L')),
        format!("/stream/1/s/{SECRET}x"),
        // The reference service looks sources up by the beginning of their key.
        format!("/stream/1/ss/{SECRET}"),
        format!("/stream/1//{SECRET}"),
        format!("/stream/2/s/{SECRET}"),
    ] {
        let answer = w.client().await.post(&path, "{}").await;
        assert_eq!(answer.status, 404, "{path}");
        bodies.push(answer.json());
    }
    bodies.dedup();
    assert_eq!(
        bodies,
        [json!({
            "statusCode": 404,
            "error": "stream.in.noSourceFound",
            "message": "The specified combination of projectID, sourceID and secret was not found.",
        })],
        "the response does not tell which part was wrong"
    );
    assert!(w.rows("k").await.is_empty());
}

#[tokio::test]
async fn other_paths_and_methods_get_an_explanation() {
    let w = World::bodies(config()).await;
    let mut client = w.client().await;
    let get = |path: &str, method: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: t\r\n\r\n").into_bytes()
    };
    let answer = client.send(&post("/x", "", b"")).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (404, &json!("stream.in.routeNotFound"))
    );
    let answer = client.post(&format!("/stream/foo/s/{SECRET}"), "{}").await;
    assert_eq!(
        (answer.status, &answer.json()["message"]),
        (400, &json!("Invalid project ID \"foo\"."))
    );
    let answer = client.send(&get(&stream(), "GET")).await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("OPTIONS, POST"))
    );
    assert_eq!(answer.json()["error"], "stream.in.methodNotAllowed");
    let answer = client.send(&get("/health-check", "GET")).await;
    assert_eq!((answer.status, answer.text()), (200, "OK\n"));
    client.write(&get("/health-check", "HEAD")).await;
    let answer = client.send(&get(&stream(), "OPTIONS")).await;
    // That was the response to HEAD, which has a length but no body; the next one follows.
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_record_that_one_sink_rejects_is_stored_in_the_others_and_reported() {
    let sinks = vec![
        SinkDef("all", vec![ColumnKind::Body], plain()),
        SinkDef("picky", vec![ColumnKind::Uuid, path("a")], plain()),
    ];
    let w = World::start(config(), sinks).await;
    let answer = w.post(r#"{"b":1}"#).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json(),
        json!({
            "statusCode": 422,
            "error": "stream.in.writeFailed",
            "message": "Written to 1/2 sinks.",
            "note": "What is stored is not taken back. Do not send it again, it would be stored twice.",
            "sources": [{
                "projectId": 1,
                "sourceId": "s",
                "branchId": 2,
                "statusCode": 422,
                "error": "stream.in.writeFailed",
                "message": "Written to 1/2 sinks.",
                "sinks": [
                    {"sinkId": "all", "statusCode": 200, "message": "processed"},
                    {
                        "sinkId": "picky",
                        "statusCode": 422,
                        "error": "stream.in.pathNotFound",
                        "column": "c1",
                        "message": "Column \"c1\": path \"a\" not found in the body.",
                    },
                ],
            }],
        })
    );
    assert_eq!(w.rows("all").await.len(), 1);
    assert!(w.rows("picky").await.is_empty());
}

#[tokio::test]
async fn rejected_bodies_get_their_status() {
    let w = World::start(config(), vec![SinkDef("k", vec![path("a")], plain())]).await;
    let mut client = w.client().await;
    for (content_type, body, status, error) in [
        ("application/json", &b"{"[..], 400, "badRequest"),
        ("application/json", b"", 400, "badRequest"),
        ("application/json", b"{\"a\":\"\xff\"}", 400, "badRequest"),
        ("application/json", b"{\"b\":1}", 422, "pathNotFound"),
        ("text/plain", b"a", 415, "unsupportedMediaType"),
        (
            "application/x-www-form-urlencoded",
            b"b=1",
            422,
            "pathNotFound",
        ),
    ] {
        let header = format!("Content-Type: {content_type}\r\n");
        let answer = client.send(&post(&stream(), &header, body)).await;
        assert_eq!(answer.status, status, "{content_type} {body:?}");
        let sink = &answer.json()["sources"][0]["sinks"][0];
        assert_eq!(
            sink["error"],
            format!("stream.in.{error}"),
            "{content_type} {body:?}"
        );
    }
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x+json",
    ] {
        let header = format!("Content-Type: {content_type}\r\n");
        let answer = client.send(&post(&stream(), &header, br#"{"a":1}"#)).await;
        assert_eq!(answer.status, 200, "{content_type}");
    }
    assert_eq!(w.rows("k").await, ["\"1\"", "\"1\"", "\"1\""]);
}

#[tokio::test]
async fn verbose_answers_name_every_sink() {
    let mut quick = plain();
    quick.sync.wait = false;
    let sinks = vec![
        SinkDef("a", vec![ColumnKind::Body], plain()),
        SinkDef("b", vec![ColumnKind::Body], quick),
    ];
    let w = World::start(config(), sinks).await;
    let mut client = w.client().await;
    let answer = client
        .post(&format!("{}?verbose=true", stream()), "{}")
        .await;
    assert_eq!(answer.status, 202, "one sink does not wait");
    let report = answer.json();
    assert_eq!(report["message"], "Successfully written to 2/2 sinks.");
    assert_eq!(report.get("error"), None);
    let sinks = &report["sources"][0]["sinks"];
    assert_eq!(
        sinks[0],
        json!({"sinkId": "a", "statusCode": 200, "message": "processed"})
    );
    assert_eq!(
        sinks[1],
        json!({"sinkId": "b", "statusCode": 202, "message": "accepted"})
    );
    let answer = client.post(&format!("{}?verbose=1", stream()), "{}").await;
    assert_eq!((answer.status, answer.text()), (202, "OK"));
}

#[tokio::test]
async fn a_source_without_sinks_accepts_records_and_reports_it() {
    let w = World::start(config(), Vec::new()).await;
    let mut client = w.client().await;
    let answer = client
        .post(&format!("{}?verbose=true", stream()), "{}")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["message"], "No enabled sink found.");
    assert_eq!(client.post(&stream(), "{}").await.text(), "OK");
}

#[tokio::test(start_paused = true)]
async fn a_sink_without_a_slice_fails_after_a_while_and_does_not_delay_the_others() {
    let sinks = vec![
        SinkDef("a", vec![ColumnKind::Body], plain()),
        SinkDef("b", vec![ColumnKind::Body], plain()),
    ];
    let w = World::start_on(Volume::manual(), config(), sinks).await;
    w.sinks[0].set_pipeline(None);
    let answer = w.post("{}").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let sinks = &answer.json()["sources"][0]["sinks"];
    assert_eq!(sinks[0]["error"], "stream.in.noOpenedSliceFound");
    assert_eq!(sinks[0]["message"], "No opened slice found.");
    assert_eq!(sinks[1]["statusCode"], 200);
    assert_eq!(w.rows("b").await.len(), 1);
}

#[tokio::test]
async fn concurrent_clients_never_get_each_others_data() {
    let columns = vec![
        ColumnKind::Uuid,
        path("id"),
        ColumnKind::Headers,
        path("id"),
    ];
    let sinks = vec![
        SinkDef("a", columns.clone(), plain()),
        SinkDef("b", columns, plain()),
    ];
    let w = World::start(config(), sinks).await;
    let address = w.source.address();
    let clients: Vec<_> = (0..16)
        .map(|c| {
            tokio::spawn(async move {
                let mut client = crate::client::Client::connect(address).await;
                for n in 0..50 {
                    let id = format!("{c}-{n}-");
                    let header = format!("Content-Type: application/json\r\nX-Id: {id}\r\n");
                    let body = format!(r#"{{"pad":"{}","id":"{id}"}}"#, "x".repeat(n * 7));
                    let answer = client
                        .send(&post(&stream(), &header, body.as_bytes()))
                        .await;
                    assert_eq!(answer.status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    for sink in ["a", "b"] {
        let rows = w.rows(sink).await;
        assert_eq!(rows.len(), 800);
        let mut ids = std::collections::HashSet::new();
        for row in &rows {
            let cells: Vec<_> = row.trim_matches('"').split("\",\"").collect();
            let id = cells[1];
            assert!(row.contains(&format!("\"\"X-Id\"\":\"\"{id}\"\"")), "{row}");
            assert!(row.ends_with(&format!("\"{id}\"")), "{row}");
            ids.insert(id.to_owned());
        }
        assert_eq!(ids.len(), 800, "each record once");
    }
}
