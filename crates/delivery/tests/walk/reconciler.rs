//! The node reconciles with the store: rotations lose and duplicate nothing, and a restart
//! continues.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use forebay_model::{ColumnKind, SliceState, SourceKind};

use crate::node::{Machine, Node, sink_key, table};
use crate::volume::{Volume, rows, volume_id};
use crate::world::{SECRET, path, stream};

/// All rows of a sink, over all its slices.
async fn all_rows(node: &Node, volume: &Volume, sink: &str) -> Vec<String> {
    let slices = node.slices(sink).await;
    slices
        .iter()
        .flat_map(|s| rows(&volume.log, &s.key))
        .collect()
}

#[tokio::test]
async fn definitions_become_routes() {
    let machine = Machine::new();
    let mut node = machine.start().await;
    let mut client = node.client().await;
    assert_eq!(client.post(&stream(), "{}").await.status, 404);
    node.create_source().await;
    node.create_sink("k", &[path("n")]).await;
    assert_eq!(client.post(&stream(), r#"{"n":1}"#).await.status, 200);
    // A new mapping: a new file, and the rows after it are made by it.
    let key = sink_key("k");
    let changed = node
        .repo
        .update_sink(&key, "Updated.", &[volume_id()], &stamp(), |content| {
            content.target = table(&[path("n"), ColumnKind::Body]).into();
            Ok(())
        })
        .await
        .unwrap();
    node.processed(changed.revision).await;
    assert_eq!(client.post(&stream(), r#"{"n":2}"#).await.status, 200);
    let slices = node.slices("k").await;
    assert_eq!(slices.len(), 2);
    assert_eq!(rows(&machine.volume.log, &slices[0].key), ["\"1\""]);
    assert_eq!(
        rows(&machine.volume.log, &slices[1].key),
        [r#""2","{""n"":2}""#]
    );
    // A new secret: the old one is invalid at once.
    let new_secret = SECRET.replace('a', "b");
    let changed = node
        .repo
        .update_source(&key.source, "Rotated secret.", &stamp(), |content| {
            content.kind = SourceKind::Http {
                secret: new_secret.clone(),
                verify: None,
            };
            Ok(())
        })
        .await
        .unwrap();
    node.processed(changed.revision).await;
    assert_eq!(client.post(&stream(), r#"{"n":3}"#).await.status, 404);
    let path = format!("/stream/1/s/{new_secret}");
    assert_eq!(client.post(&path, r#"{"n":3}"#).await.status, 200);
    let deleted = node.repo.delete_sink(&key, &stamp()).await.unwrap();
    node.processed(deleted).await;
    assert_eq!(
        client.post(&path, r#"{"n":4}"#).await.status,
        200,
        "a source without sinks"
    );
    let slices = node.slices("k").await;
    assert!(slices.iter().all(|s| s.state == SliceState::Closing));
    let deleted = node
        .repo
        .delete_source(&key.source, &stamp())
        .await
        .unwrap();
    node.processed(deleted).await;
    assert_eq!(client.post(&path, r#"{"n":5}"#).await.status, 404);
    assert_eq!(all_rows(&node, &machine.volume, "k").await.len(), 3);
    machine.stop(node).await;
}

fn stamp() -> forebay_model::AuditStamp {
    forebay_model::AuditStamp {
        at: crate::world::NOW.parse().unwrap(),
        by: forebay_model::Actor::system(),
    }
}

#[tokio::test]
async fn a_closed_slice_accepts_nothing_more_and_its_final_counts_are_stored() {
    let machine = Machine::new();
    let mut node = machine.start().await;
    node.create_source().await;
    node.create_sink("k", &[path("n")]).await;
    let mut client = node.client().await;
    for n in 0..5 {
        assert_eq!(
            client
                .post(&stream(), &format!("{{\"n\":{n}}}"))
                .await
                .status,
            200
        );
    }
    node.reporter.report().await.unwrap();
    let slice = node.writing("k").await;
    let reported = node
        .repo
        .reported_statistics(Some(&sink_key("k")))
        .await
        .unwrap();
    assert_eq!(reported[&slice].records, 5, "open slices are reported");
    assert_eq!(client.post(&stream(), "{\"n\":5}").await.status, 200);
    let rotated = node.repo.rotate_slice(&slice, machine.now()).await.unwrap();
    node.processed(rotated.closed.revision).await;
    let reported = node
        .repo
        .reported_statistics(Some(&sink_key("k")))
        .await
        .unwrap();
    let last = reported[&slice];
    assert_eq!(
        last.records, 6,
        "the last count was stored before the revision was reported"
    );
    assert_eq!(last.uncompressed_bytes, 6 * 4);
    assert_eq!(
        last.first_record_at,
        Some(crate::world::NOW.parse().unwrap())
    );
    let stream_id = machine.volume.log.find(&slice.to_string()).unwrap();
    assert!(machine.volume.log.stats(stream_id).unwrap().closed);
    // An empty slice has no stream, and is detached all the same.
    let empty = node.writing("k").await;
    let rotated = node.repo.rotate_slice(&empty, machine.now()).await.unwrap();
    node.processed(rotated.closed.revision).await;
    assert_eq!(machine.volume.log.find(&empty.to_string()), None);
    assert_eq!(client.post(&stream(), "{\"n\":6}").await.status, 200);
    assert_eq!(
        rows(&machine.volume.log, &node.writing("k").await),
        ["\"6\""]
    );
    machine.stop(node).await;
}

/// Clients that send numbered records until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: std::net::SocketAddr, tag: &str) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..8).map(|c| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let tag = tag.to_owned();
            tokio::spawn(async move {
                let mut client = crate::client::Client::connect(address).await;
                let mut sent = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let id = format!("{tag}-{c}-{}", sent.len());
                    let answer = client.post(&stream(), &format!("{{\"n\":\"{id}\"}}")).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    sent.push(format!("\"{id}\""));
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                sent
            })
        });
        Self {
            clients: clients.collect(),
            stop,
            acknowledged,
        }
    }

    /// Waits until so many more records are acknowledged.
    async fn more(&self, records: usize) {
        let until = self.acknowledged.load(Ordering::SeqCst) + records;
        while self.acknowledged.load(Ordering::SeqCst) < until {
            tokio::task::yield_now().await;
        }
    }

    async fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.unwrap());
        }
        all
    }
}

fn assert_each_once(rows: &[String], sent: &[String]) {
    let mut times: HashMap<&String, usize> = HashMap::new();
    for row in rows {
        *times.entry(row).or_default() += 1;
    }
    for row in sent {
        assert_eq!(times.remove(row), Some(1), "{row}");
    }
    assert!(times.is_empty(), "never sent: {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_under_load_lose_and_duplicate_nothing() {
    let machine = Machine::new();
    let mut node = machine.start().await;
    node.create_source().await;
    node.create_sink("a", &[path("n")]).await;
    node.create_sink("b", &[path("n")]).await;
    let load = Load::start(node.source.address(), "x");
    for round in 0..20 {
        load.more(20).await;
        for sink in ["a", "b"] {
            let slice = node.writing(sink).await;
            if round % 3 == 2 {
                let (file, volumes) = (&slice.file, &[volume_id()]);
                let rotated = node
                    .repo
                    .rotate_file(file, volumes, machine.now())
                    .await
                    .unwrap();
                node.processed(rotated.closed.revision).await;
            } else {
                let rotated = node.repo.rotate_slice(&slice, machine.now()).await.unwrap();
                node.processed(rotated.closed.revision).await;
            }
            // A slice that was reported as detached is never written again.
            let before = rows(&machine.volume.log, &slice).len();
            load.more(5).await;
            assert_eq!(rows(&machine.volume.log, &slice).len(), before);
        }
    }
    let sent = load.finish().await;
    for sink in ["a", "b"] {
        assert_eq!(node.slices(sink).await.len(), 21);
        assert_each_once(&all_rows(&node, &machine.volume, sink).await, &sent);
    }
    machine.stop(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_continues_where_the_process_was() {
    let mut machine = Machine::new();
    let mut node = machine.start().await;
    node.create_source().await;
    node.create_sink("k", &[path("n")]).await;
    let load = Load::start(node.source.address(), "before");
    load.more(50).await;
    let mut sent = load.finish().await;
    let slice = node.writing("k").await;
    // The slice is closed while no reconciler runs.
    node.reconciler.abort();
    let (repo, now) = (node.repo.clone(), machine.now());
    let rotated = repo.rotate_slice(&slice, now).await.unwrap();
    drop(repo);
    machine.volume = kill(node, machine.volume).await;

    let mut node = machine.start().await;
    node.processed(rotated.closed.revision).await;
    let stream_id = machine.volume.log.find(&slice.to_string()).unwrap();
    assert!(machine.volume.log.stats(stream_id).unwrap().closed);
    let reported = node.repo.reported_statistics(None).await.unwrap();
    assert_eq!(reported[&slice].records, sent.len() as u64);
    let load = Load::start(node.source.address(), "after");
    load.more(50).await;
    let after = load.finish().await;
    let open = node.writing("k").await;
    machine.volume = kill(node, machine.volume).await;

    // An open slice is continued.
    let node = machine.start().await;
    let mut progress = node.progress.clone();
    progress.wait_for(Option::is_some).await.unwrap();
    assert_eq!(node.writing("k").await, open);
    let mut client = node.client().await;
    assert_eq!(client.post(&stream(), "{\"n\":\"last\"}").await.status, 200);
    assert_eq!(rows(&machine.volume.log, &open).len(), after.len() + 1);
    sent.extend(after);
    sent.push("\"last\"".to_owned());
    assert_each_once(&all_rows(&node, &machine.volume, "k").await, &sent);
    machine.stop(node).await;
}

/// Kills a process, and reopens its log.
async fn kill(node: Node, volume: Volume) -> Volume {
    node.kill().await;
    volume.reopen()
}
