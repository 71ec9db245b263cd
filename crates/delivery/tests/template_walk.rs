//! Template columns from a request to the log. This binary is its own template worker, so it has a
//! main function of its own instead of the test harness.
#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    reason = "a test, which the lints can't tell without the harness"
)]

#[path = "walk/client.rs"]
mod client;
#[path = "walk/volume.rs"]
mod volume;
#[path = "walk/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use client::post;
use forebay_ingest::template::{
    PoolConfig, TemplatePool, WORKER_SUBCOMMAND, WorkerCommand, worker_main,
};
use forebay_model::{ColumnKind, TemplateColumn};
use serde_json::json;
use volume::Volume;
use world::{SinkDef, World, config, path, plain, stream};

fn main() -> ExitCode {
    if std::env::args().any(|a| a == WORKER_SUBCOMMAND) {
        return worker_main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        records_and_batches().await;
        sinks_without_templates_do_not_wait_for_templates().await;
    });
    ExitCode::SUCCESS
}

fn template(content: &str) -> ColumnKind {
    ColumnKind::Template(TemplateColumn {
        content: content.to_owned(),
        raw_string: true,
    })
}

async fn start(sinks: Vec<SinkDef>) -> World {
    let pool = TemplatePool::new(PoolConfig::default(), WorkerCommand::this_binary().unwrap());
    World::start_with(Some(Arc::new(pool)), Volume::new(), config(), sinks).await
}

async fn records_and_batches() {
    let sinks = vec![
        SinkDef(
            "a",
            vec![template("Body('n') + 1"), path("n"), template("'x' + Ip()")],
            plain(),
        ),
        SinkDef("b", vec![ColumnKind::Body], plain()),
        SinkDef("c", vec![template("Body('m')")], plain()),
    ];
    let w = start(sinks).await;
    let mut client = w.client().await;
    let answer = client.post(&stream(), r#"{"n":1,"m":"é"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(w.rows("a").await, [r#""2","1","x127.0.0.1""#]);
    assert_eq!(w.rows("c").await, ["\"é\""]);
    let body = b"{\"n\":10,\"m\":1}\n{broken\n{\"n\":20}\n{\"m\":3}\n";
    let request = post(&stream(), "Content-Type: application/x-ndjson\r\n", body);
    let answer = client.send(&request).await;
    assert_eq!(answer.status, 422);
    let report = answer.json();
    assert_eq!(
        (&report["accepted"], &report["rejectedCount"]),
        (&json!(1), &json!(3))
    );
    let named: Vec<_> = report["rejected"].as_array().unwrap().iter().collect();
    let of = |i: usize| (named[i]["index"].clone(), named[i]["sinkId"].clone());
    assert_eq!(
        of(0),
        (json!(1), json!(null)),
        "no sink gets a malformed record"
    );
    assert_eq!(of(1), (json!(2), json!("c")));
    assert_eq!(of(2), (json!(3), json!("a")));
    assert_eq!(named[1]["error"], "stream.in.pathNotFound");
    assert!(
        named[1]["message"]
            .as_str()
            .unwrap()
            .starts_with("Column \"c0\": ")
    );
    assert_eq!(
        w.rows("a").await[1..],
        [r#""11","10","x127.0.0.1""#, r#""21","20","x127.0.0.1""#]
    );
    assert_eq!(w.rows("b").await.len(), 4);
    assert_eq!(w.rows("c").await[1..], ["\"1\"", "\"3\""]);
}

async fn sinks_without_templates_do_not_wait_for_templates() {
    let endless = template("local f(x) = f(x + 1) tailstrict; f(0)");
    let sinks = vec![
        SinkDef("endless", vec![endless], plain()),
        SinkDef("plain", vec![ColumnKind::Body], plain()),
    ];
    let w = start(sinks).await;
    let mut client = w.client().await;
    let request = post(&stream(), "Content-Type: application/json\r\n", b"{}");
    client.write(&request).await;
    while w.rows("plain").await.is_empty() {
        tokio::task::yield_now().await;
    }
    // The row was on disk while the template still ran; the response has to wait for both.
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.status, 422);
    let sinks = &answer.json()["sources"][0]["sinks"];
    assert_eq!(sinks[0]["statusCode"], 422, "{}", answer.text());
    assert_eq!(sinks[1]["statusCode"], 200);
    assert!(w.rows("endless").await.is_empty());
}
