//! Files into Cassandra: a real node, also with an outage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_jobs::definition::LookupConfig;
use forebay_jobs::lookup::LookupService;
use forebay_jobs::{JobFailure, JobOutcome};
use forebay_test_support::poll_until;
use forebay_test_support::services;

use crate::files::lines;
use crate::switch::Switch;
use crate::world::World;

fn job(node: &str, table: &str, extra: &str) -> String {
    format!(
        "source: {{ type: files, paths: ['*.jsonl'], chunkSize: 16KB }}\n\
         destination:\n  type: table\n  store: {{ type: cassandra, nodes: ['{node}'] }}\n  table: {table}\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}, {{ name: whole, type: json, path: '' }}]\n{extra}"
    )
}

fn lookup(node: &str, table: &str) -> String {
    format!(
        "store: {{ type: cassandra, nodes: ['{node}'] }}\n\
         routes: [{{ path: /product, table: {table}, json: [whole] }}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_stores_rows_despite_an_outage_and_serves_lookups() {
    let test = "cassandra_stores_rows_despite_an_outage_and_serves_lookups";
    let Some(node) = services::cassandra(test) else {
        return;
    };
    let server: SocketAddr = node.parse().unwrap();
    let table = format!("pull{}.products", std::process::id());
    let world = World::new();
    std::fs::write(world.path("a.jsonl"), lines(0, 20_000)).unwrap();
    let switch = Switch::to(server).await;
    let definition = world.define(&job(&switch.address.to_string(), &table, ""));
    let running = world.start(&definition);
    let progress = Arc::clone(&running.progress);
    let written = || progress.summary(Duration::from_secs(1)).written;
    poll_until("some rows", || written() > 1000 || running.is_over()).await;
    // An outage in the middle: the job waits.
    switch.set_on(false);
    let retries = || progress.summary(Duration::from_secs(1)).retries;
    poll_until("a write that fails", || retries() > 0).await;
    switch.set_on(true);
    let (end, summary) = running.end().await;
    assert_eq!(
        (end, summary.written, summary.dead),
        (JobOutcome::Complete, 20_000, 0)
    );

    let file = world.path("lookup.yaml");
    std::fs::write(&file, lookup(&node, &table)).unwrap();
    let config = LookupConfig::read(&file, &|_| Ok(None)).unwrap();
    let service = LookupService::new(&config, Arc::new(String::new))
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _listener = service.serve(listener);
    for id in [0, 7, 19_999] {
        let answer = reqwest::get(format!("http://{address}/product/{id}")).await;
        let body = answer.unwrap().text().await.unwrap();
        let row = format!("{{\"id\":{id},\"name\":\"product {id}\"");
        assert_eq!(body, format!("{row},\"whole\":{row}}}}}"));
    }
    let answer = reqwest::get(format!("http://{address}/product/20000")).await;
    assert_eq!(answer.unwrap().status(), 404);
    crate::lookup::unusual_keys_are_rejected(address, "/product", false).await;
    // With a text key.
    let texts = job(&node, &format!("{table}_texts"), "").replace("type: integer, ", "");
    let other = World::new();
    std::fs::write(other.path("a.jsonl"), lines(0, 1)).unwrap();
    assert_eq!(
        other.run(&other.define(&texts)).await.0,
        JobOutcome::Complete
    );
    std::fs::write(&file, lookup(&node, &format!("{table}_texts"))).unwrap();
    let config = LookupConfig::read(&file, &|_| Ok(None)).unwrap();
    let service = LookupService::new(&config, Arc::new(String::new))
        .await
        .unwrap();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let texts = socket.local_addr().unwrap();
    let _texts = service.serve(socket);
    crate::lookup::unusual_keys_are_rejected(texts, "/product", true).await;

    // A table with other columns.
    let other = job(&node, &table, "").replace("name: name", "name: title");
    let (end, _) = world.run(&world.define(&other)).await;
    let JobOutcome::Failed(JobFailure::Destination(text)) = end else {
        panic!("{end:?}")
    };
    assert!(text.contains("no column \"title\""), "{text}");
    // A cluster that stays down: the job ends and reports it.
    switch.set_on(false);
    let away = job(&switch.address.to_string(), &table, "  outageMax: 1s\n");
    let (end, _) = world.run(&world.define(&away)).await;
    let JobOutcome::Failed(JobFailure::Destination(text)) = end else {
        panic!("{end:?}")
    };
    assert!(text.contains("can't connect"), "{text}");
}
