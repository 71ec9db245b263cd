//! Files into PostgreSQL: a real server, also with an outage.

use std::sync::Arc;
use std::time::Duration;

use forebay_jobs::{JobFailure, JobOutcome};
use forebay_test_support::poll_until;
use forebay_test_support::services;

use crate::files::lines;
use crate::switch::Switch;
use crate::world::World;

fn job(url: &str, table: &str, extra: &str) -> String {
    format!(
        "source: {{ type: files, paths: ['*.jsonl'], chunkSize: 16KB }}\n\
         destination:\n  type: table\n  store: {{ type: postgres, url: '{url}' }}\n  table: {table}\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}, {{ name: whole, type: json, path: '' }}]\n{extra}"
    )
}

async fn failure(world: &World, yaml: &str) -> String {
    let (end, _) = world.run(&world.define(yaml)).await;
    let JobOutcome::Failed(JobFailure::Destination(text)) = end else {
        panic!("{end:?}")
    };
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stores_rows_despite_an_outage() {
    let Some(service) = services::postgres("postgres_stores_rows_despite_an_outage") else {
        return;
    };
    let config: tokio_postgres::Config = service.url.parse().unwrap();
    let port = config.get_ports().first().copied().unwrap();
    let table = format!("pull{}.products", std::process::id());
    let world = World::new();
    std::fs::write(world.path("a.jsonl"), lines(0, 20_000)).unwrap();
    let switch = Switch::to(([127, 0, 0, 1], port).into()).await;
    let through = |user: &str| format!("postgres://{user}@{}/postgres", switch.address);
    let running = world.start(&world.define(&job(&through("forebay"), &table, "")));
    let progress = Arc::clone(&running.progress);
    let so_far = || progress.summary(Duration::from_secs(1));
    poll_until("some rows", || so_far().written > 1000 || running.is_over()).await;
    // An outage in the middle: the job waits.
    switch.set_on(false);
    poll_until("a write that fails", || {
        so_far().retries > 0 || running.is_over()
    })
    .await;
    switch.set_on(true);
    let (end, summary) = running.end().await;
    assert_eq!(
        (end, summary.written, summary.dead),
        (JobOutcome::Complete, 20_000, 0)
    );
    let (client, connection) = tokio_postgres::connect(&service.url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE whole->>'name' = name AND name = 'product ' || id) FROM {table}"
    );
    let row = client.query_one(&sql, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (20_000_i64, 20_000_i64));

    // Over TLS, whose certificate is for the server's address.
    let ca = service.ca_file.clone().unwrap_or_default();
    let direct = format!("postgres://forebay@127.0.0.1:{port}/postgres");
    let verified = format!("{direct}?sslmode=verify-full");
    let (end, _) = world
        .run(&world.define(&job(&format!("{verified}&sslrootcert={ca}"), &table, "")))
        .await;
    assert_eq!(end, JobOutcome::Complete);
    let text = failure(&world, &job(&verified, &table, "  outageMax: 1ms\n")).await;
    assert!(text.contains("certificate"), "{text}");

    // Keys that the server rejects.
    for (name, is_text) in [(table.clone(), false), (format!("{table}_texts"), true)] {
        let kind = if is_text { "text" } else { "integer" };
        let yaml = job(&direct, &name, "").replace("type: integer", &format!("type: {kind}"));
        assert_eq!(
            world.run(&world.define(&yaml)).await.0,
            JobOutcome::Complete
        );
        let yaml = format!(
            "store: {{ type: postgres, url: '{direct}' }}\nroutes: [{{ path: /product, table: {name} }}]\n"
        );
        let (address, _stop) = crate::lookup::serve(&world, &yaml).await;
        crate::lookup::unusual_keys_are_rejected(address, "/product", is_text).await;
    }

    // A table with other columns, wrong credentials, a server that stays down.
    let other = job(&direct, &table, "").replace("name: name", "name: title");
    let text = failure(&world, &other).await;
    assert!(text.contains("no column \"title\""), "{text}");
    let text = failure(&world, &job(&through("nobody:hunter2"), &table, "")).await;
    assert!(
        text.contains("nobody") && !text.contains("hunter2"),
        "{text}"
    );
    switch.set_on(false);
    let away = job(&through("forebay"), &table, "  outageMax: 1s\n");
    let text = failure(&world, &away).await;
    assert!(text.contains("can't connect"), "{text}");
}
