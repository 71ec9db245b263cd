//! Failing disks: no record is reported as stored when it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_log::{DiskCall, MemEnv};
use forebay_model::ColumnKind;

use crate::client::{Client, post};
use crate::volume::Volume;
use crate::world::{SinkDef, World, config, path, plain, slice, stream};

const EIO: i32 = 5;

async fn world(disk: &MemEnv) -> World {
    let sinks = vec![SinkDef("k", vec![path("n")], plain())];
    World::start_on(Volume::on(disk), config(), sinks).await
}

/// Rows that are found after the machine has lost power.
async fn rows_after_power_cut(w: World, disk: &MemEnv) -> Vec<String> {
    let key = slice(&w.sinks[0], 0);
    let volume = w.volume.clone();
    w.source.stop(std::time::Duration::ZERO).await;
    w.shared.drained().await;
    drop((w.dispatcher, w.sinks, w.volume, w.shared));
    disk.crash();
    volume.reopen_on(disk).rows(&key).await
}

#[tokio::test]
async fn a_failed_sync_is_final_and_reported() {
    let disk = MemEnv::new(1);
    let w = world(&disk).await;
    let mut client = w.client().await;
    assert_eq!(client.post(&stream(), r#"{"n":1}"#).await.status, 200);
    disk.fail(Some(DiskCall::Sync), 0, EIO);
    let answer = client.post(&stream(), r#"{"n":2}"#).await;
    assert_eq!(answer.status, 500);
    let sink = &answer.json()["sources"][0]["sinks"][0];
    assert_eq!(sink["error"], "stream.in.outcomeUnknown");
    let message = sink["message"].as_str().unwrap();
    assert!(
        message.starts_with("It is unknown whether this was stored: "),
        "{message}"
    );
    for _ in 0..2 {
        let answer = client.post(&stream(), r#"{"n":3}"#).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        let sink = &answer.json()["sources"][0]["sinks"][0];
        assert_eq!(sink["error"], "stream.in.volumeFailed");
        assert!(
            sink["message"]
                .as_str()
                .unwrap()
                .starts_with("Not stored: ")
        );
    }
    let answer = client
        .send(b"GET /health-check HTTP/1.1\r\nHost: t\r\n\r\n")
        .await;
    assert_eq!(answer.status, 200, "it is alive");
    assert_eq!(w.limiter.held(), 0);
    let rows = rows_after_power_cut(w, &disk).await;
    assert_eq!(rows[0], "\"1\"");
    assert!(
        !rows.contains(&"\"3\"".to_owned()),
        "rejected records are not stored"
    );
}

#[tokio::test]
async fn sinks_that_do_not_wait_reject_on_a_failed_volume_too() {
    let disk = MemEnv::new(2);
    let mut quick = plain();
    quick.sync.wait = false;
    let sinks = vec![SinkDef("k", vec![ColumnKind::Body], quick)];
    let w = World::start_on(Volume::on(&disk), config(), sinks).await;
    let mut client = w.client().await;
    disk.fail(Some(DiskCall::Sync), 0, EIO);
    assert_eq!(
        client.post(&stream(), "{}").await.status,
        202,
        "the sink does not wait"
    );
    // Once it is known, nothing is accepted any more.
    while client.post(&stream(), "{}").await.status == 202 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.post(&stream(), "{}").await.status, 503);
}

#[tokio::test]
async fn a_full_disk_rejects_records_and_keeps_what_it_has() {
    let disk = MemEnv::new(3);
    let w = world(&disk).await;
    let mut client = w.client().await;
    assert_eq!(client.post(&stream(), r#"{"n":0}"#).await.status, 200);
    let used: usize = disk.files().iter().map(|(_, bytes)| bytes.len()).sum();
    disk.set_capacity(Some(used as u64));
    let mut acknowledged = 1;
    let mut noise = 7_u64;
    let rejected = loop {
        // Not compressible.
        let text: String = (0..200_000)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'!' + u8::try_from(noise >> 58).unwrap())
            })
            .filter(|c| !matches!(c, '"' | '\\'))
            .collect();
        let answer = client
            .post(&stream(), &format!(r#"{{"n":"{acknowledged}{text}"}}"#))
            .await;
        if answer.status != 200 {
            break answer;
        }
        acknowledged += 1;
    };
    assert!(
        matches!(rejected.status, 503 | 500),
        "{}: {}",
        rejected.status,
        rejected.text()
    );
    if rejected.status == 503 {
        let text = rejected.text();
        assert!(text.contains("stream.in.insufficientStorage"), "{text}");
        assert_eq!(rejected.header("retry-after"), Some("10"));
    }
    assert_eq!(w.limiter.held(), 0);
    let rows = rows_after_power_cut(w, &disk).await;
    assert!(
        rows.len() >= acknowledged,
        "{} of {acknowledged}",
        rows.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_a_power_cut_under_load() {
    for seed in 10..20 {
        let disk = MemEnv::new(seed);
        let w = world(&disk).await;
        let address = w.source.address();
        let count = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..6)
            .map(|c| {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut client = Client::connect(address).await;
                    let mut sent = Vec::new();
                    loop {
                        let id = format!("{c}-{}", sent.len());
                        let body = format!("{{\"n\":\"{id}\"}}\n{{\"n\":\"{id}+\"}}\n");
                        let header = "Content-Type: application/x-ndjson\r\n";
                        let answer = client.send(&post(&stream(), header, body.as_bytes())).await;
                        if answer.status != 200 {
                            return sent;
                        }
                        sent.push(id);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        while count.load(Ordering::SeqCst) < 40 {
            tokio::task::yield_now().await;
        }
        disk.crash();
        let mut acknowledged = Vec::new();
        for client in clients {
            acknowledged.extend(client.await.unwrap());
        }
        let rows = rows_after_power_cut(w, &disk).await;
        let mut unique = rows.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), rows.len(), "nothing twice, seed {seed}");
        for id in acknowledged {
            for row in [format!("\"{id}\""), format!("\"{id}+\"")] {
                assert!(unique.binary_search(&row).is_ok(), "{row}, seed {seed}");
            }
        }
        // A batch is stored as a whole or not at all.
        for row in rows.iter().filter(|r| !r.ends_with("+\"")) {
            let second = format!("{}+\"", row.trim_end_matches('"'));
            assert!(
                unique.binary_search(&second).is_ok(),
                "{second}, seed {seed}"
            );
        }
    }
}
