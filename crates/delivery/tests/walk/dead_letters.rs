//! Dead letters: records that a mapping rejects are kept, and delivered once after the mapping was
//! fixed.

use std::sync::Arc;

use forebay_delivery::dead_letter::{DeadLetterError, SinkDeadLetters};
use forebay_ingest::pipeline::{AppendOutcome, BlockToAppend};
use forebay_model::settings::{RejectionAction, RejectionSettings};
use forebay_model::{
    BlockCompression, ByteSize, Clock, ColumnKind, DeadLetterEdit, DeadLetterFilter,
    DeadLetterQuery, DeadLetterReplay, DeadLetterSelection, ManualClock, PathColumn, ReplayedRow,
    SettingsPatch, SinkSettings, SliceState,
};
use forebay_record::{RowLimits, SealedBlock};
use serde_json::json;

use crate::client::post;
use crate::node::{Machine, Node, sink_key, table};
use crate::volume::{rows, volume_id};
use crate::world::{NOW, SinkDef, World, config, path, plain, stream};

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

fn keeping(max: ByteSize) -> SinkSettings {
    SinkSettings {
        rejection: RejectionSettings {
            action: RejectionAction::DeadLetter,
            dead_letters_max: max,
        },
        ..plain()
    }
}

fn with_default(path: &str) -> ColumnKind {
    ColumnKind::Path(PathColumn {
        path: path.to_owned(),
        default_value: Some("none".to_owned()),
        raw_string: true,
    })
}

/// A node whose sink `k` has the column `n` and keeps what has none.
pub(crate) async fn node(machine: &Machine) -> Node {
    let mut node = machine.start().await;
    node.create_source().await;
    let settings: SettingsPatch = [(
        "storage.level.local.mapping.rejected.action".to_owned(),
        json!("dead_letter"),
    )]
    .into();
    node.create_sink_with("k", &[path("n")], settings).await;
    node
}

pub(crate) fn sink_dead_letters(machine: &Machine, node: &Node) -> SinkDeadLetters {
    SinkDeadLetters {
        repo: node.repo.clone(),
        log: machine.volume.log.clone(),
        volume: volume_id(),
        appender: machine.volume.shared(),
        clock: Arc::new(ManualClock::new(machine.now())),
        templates: None,
        random: Arc::new(|| 0),
        limits: RowLimits::default(),
        lock: Arc::default(),
    }
}

pub(crate) async fn fix_mapping(node: &mut Node) {
    let stamp = forebay_model::AuditStamp {
        at: NOW.parse().unwrap(),
        by: forebay_model::Actor::system(),
    };
    let changed = node
        .repo
        .update_sink(&sink_key("k"), "Fixed.", &[volume_id()], &stamp, |sink| {
            sink.target = table(&[with_default("n"), ColumnKind::Datetime]).into();
            Ok(())
        })
        .await
        .unwrap();
    node.processed(changed.revision).await;
}

/// Counts of the reconciliation: accepted, dead, expired, in flight.
pub(crate) async fn reconciliation(node: &Node) -> [u64; 4] {
    node.reporter.report().await.unwrap();
    let b = node.repo.reconciliation(&sink_key("k")).await.unwrap();
    assert!(b.holds(), "{b:?}");
    [b.accepted, b.dead, b.expired, b.in_flight]
}

/// Rows of the slices that replays made.
pub(crate) async fn replayed(machine: &Machine, node: &Node) -> Vec<String> {
    let slices = node.slices("k").await;
    let uploading = slices.iter().filter(|s| s.state == SliceState::Uploading);
    uploading
        .flat_map(|s| {
            let rows = rows(&machine.volume.log, &s.key);
            assert_eq!(rows.len() as u64, s.statistics.records);
            rows
        })
        .collect()
}

#[tokio::test]
async fn rejected_records_are_accepted_by_sinks_that_keep_them_and_by_no_others() {
    let sinks = vec![
        SinkDef("keeps", vec![path("n")], keeping(ByteSize::mb(1))),
        SinkDef("rejects", vec![path("n")], plain()),
        SinkDef("takes", vec![ColumnKind::Body], plain()),
    ];
    let w = World::start(config(), sinks).await;
    let mut client = w.client().await;
    let answer = client.post(&stream(), r#"{"m":1}"#).await;
    assert_eq!(answer.status, 422);
    let report = answer.json();
    assert_eq!(
        report["sources"][0]["sinks"],
        json!([
            {
                "sinkId": "keeps", "statusCode": 200, "column": "c0",
                "message": "dead letter: Column \"c0\": path \"n\" not found in the body."
            },
            {
                "sinkId": "rejects", "statusCode": 422, "column": "c0",
                "error": "stream.in.pathNotFound",
                "message": "Column \"c0\": path \"n\" not found in the body."
            },
            {"sinkId": "takes", "statusCode": 200, "message": "processed"},
        ])
    );
    let lines = b"{\"n\":1}\n{\"m\":2}\n{\"n\":3}\n{\"m\":4}\n";
    let answer = client.send(&post(&stream(), NDJSON, lines)).await;
    let report = answer.json();
    assert_eq!(report["sinks"][0]["accepted"], 2);
    assert_eq!(report["sinks"][0]["dead"], 2);
    assert_eq!(report["sinks"][1]["rejected"], 2);
    assert_eq!(report["rejectedCount"], 2, "one sink has rejected them");
    assert_eq!(w.rows("keeps").await, ["\"1\"", "\"3\""]);
    let kept = w.volume.log.find("dead-letter/1/2/s/keeps").unwrap();
    assert_eq!(w.volume.log.stats(kept).unwrap().records, 3);
    assert!(w.volume.log.find("dead-letter/1/2/s/rejects").is_none());
}

#[tokio::test]
async fn a_single_kept_record_is_answered_ok() {
    let sinks = vec![SinkDef("k", vec![path("n")], keeping(ByteSize::mb(1)))];
    let w = World::start(config(), sinks).await;
    let answer = w.post(r#"{"m":1}"#).await;
    assert_eq!((answer.status, answer.text()), (200, "OK"));
    let answer = w.post("no JSON").await;
    assert_eq!(answer.status, 200);
    let text = b"\xff\xfe";
    let answer = w.client().await.send(&post(&stream(), "", text)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn records_over_the_size_limit_are_rejected_again() {
    let sinks = vec![SinkDef("k", vec![path("n")], keeping(ByteSize(100)))];
    let w = World::start(config(), sinks).await;
    assert_eq!(w.post(r#"{"m":1}"#).await.status, 200);
    let answer = w.post(r#"{"m":2}"#).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json()["sources"][0]["sinks"][0]["message"],
        "Column \"c0\": path \"n\" not found in the body; not kept, since the sink has 100B of dead letters, the maximum."
    );
    assert_eq!(w.post(r#"{"n":3}"#).await.status, 200);
    let lines = b"{\"n\":4}\n{\"m\":5}\n";
    let answer = w.client().await.send(&post(&stream(), NDJSON, lines)).await;
    assert_eq!(answer.status, 422);
    let report = answer.json();
    assert_eq!(report["rejected"][0]["index"], 1);
    assert_eq!(report["sinks"][0].get("dead"), None);
}

#[tokio::test]
async fn dead_letters_are_delivered_once_after_the_mapping_was_fixed() {
    let machine = Machine::new();
    let mut node = node(&machine).await;
    let mut client = node.client().await;
    for body in [r#"{"n":1}"#, r#"{"m":1}"#, r#"{"m":2}"#, "[3]"] {
        assert_eq!(client.post(&stream(), body).await.status, 200);
    }
    assert_eq!(reconciliation(&node).await, [4, 3, 0, 1]);
    let dead_letters = sink_dead_letters(&machine, &node);
    let key = sink_key("k");
    let all = dead_letters
        .list(&key, &DeadLetterSelection::ALL.into(), 100)
        .await
        .unwrap()
        .0;
    let numbers: Vec<u64> = all.iter().map(|k| k.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(&all[1].dead_letter.body[..], br#"{"m":2}"#);
    assert_eq!(all[1].dead_letter.error, "pathNotFound");
    let page = dead_letters
        .list(&key, &DeadLetterSelection::After(Some(0)).into(), 1)
        .await
        .unwrap();
    assert_eq!((page.0.len(), page.0[0].number, page.1), (1, 1, Some(1)));

    // The mapping is not fixed yet.
    let none = dead_letters
        .replay(&key, &DeadLetterSelection::ALL.into())
        .await
        .unwrap();
    assert_eq!((none.replayed, none.rejected.len()), (0, 3));
    assert_eq!(reconciliation(&node).await, [4, 3, 0, 1]);

    fix_mapping(&mut node).await;
    let some = dead_letters
        .replay(&key, &DeadLetterSelection::These(vec![1]).into())
        .await
        .unwrap();
    assert_eq!((some.replayed, some.rejected.len()), (1, 0));
    assert_eq!(reconciliation(&node).await, [4, 2, 0, 2]);
    let rest = dead_letters
        .replay(&key, &DeadLetterSelection::ALL.into())
        .await
        .unwrap();
    assert_eq!(rest.replayed, 2);
    assert_eq!(reconciliation(&node).await, [4, 0, 0, 4]);
    let row = format!("\"none\",\"{NOW}\"");
    assert_eq!(replayed(&machine, &node).await, [row.as_str(), &row, &row]);

    // Each one once.
    let again = dead_letters
        .replay(&key, &DeadLetterSelection::ALL.into())
        .await
        .unwrap();
    assert_eq!(again.replayed, 0);
    let dropped = dead_letters
        .replay(&key, &DeadLetterSelection::These(vec![1]).into())
        .await;
    assert!(matches!(dropped, Err(DeadLetterError::NotFound(1))));
    assert!(
        dead_letters
            .list(&key, &DeadLetterSelection::ALL.into(), 9)
            .await
            .unwrap()
            .0
            .is_empty()
    );
    let stream_id = machine.volume.log.find("dead-letter/1/2/s/k").unwrap();
    let stats = machine.volume.log.stats(stream_id).unwrap();
    assert_eq!((stats.records, stats.next_seq), (0, 3), "trimmed");
    machine.stop(node).await;
}

#[tokio::test]
async fn dropped_dead_letters_are_counted_and_removed() {
    let machine = Machine::new();
    let node = node(&machine).await;
    let mut client = node.client().await;
    let lines: String = (0..2_500).map(|i| format!("{{\"m\":{i}}}\n")).collect();
    let answer = client
        .send(&post(&stream(), NDJSON, lines.as_bytes()))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = answer.json();
    assert_eq!(report["sinks"][0]["dead"], 2_500);
    assert_eq!(report["sinks"][0]["message"], "kept as dead letters");
    assert_eq!(
        report["message"],
        "All 2500 records are stored (as dead letters: 2500)."
    );
    let dead_letters = sink_dead_letters(&machine, &node);
    let key = sink_key("k");
    let first = dead_letters
        .discard(&key, &DeadLetterSelection::ALL.into())
        .await
        .unwrap();
    assert_eq!((first.dropped, first.more_after), (1_000, Some(999)));
    assert_eq!(reconciliation(&node).await, [2_500, 1_500, 1_000, 0]);
    let named = dead_letters
        .discard(&key, &DeadLetterSelection::These(vec![2_000, 2_499]).into())
        .await;
    assert_eq!(named.unwrap().dropped, 2);
    let missing = dead_letters
        .discard(&key, &DeadLetterSelection::These(vec![1_500, 2_000]).into())
        .await;
    assert!(matches!(missing, Err(DeadLetterError::NotFound(2_000))));
    assert_eq!(reconciliation(&node).await, [2_500, 1_498, 1_002, 0]);
    machine.stop(node).await;
}

#[tokio::test]
async fn dead_letters_outlive_the_process_and_an_interrupted_replay_delivers_nothing() {
    let mut machine = Machine::new();
    let first = node(&machine).await;
    let mut client = first.client().await;
    for i in 0..5 {
        let body = format!("{{\"m\":{i}}}");
        assert_eq!(client.post(&stream(), &body).await.status, 200);
    }
    drop(client);
    // A replay that died before its transaction: rows in a stream that the store does not know.
    let volume = volume_id();
    let (slice, _) = first
        .repo
        .new_replay_slice(&sink_key("k"), &volume, machine.now())
        .await
        .unwrap();
    let orphan = machine.volume.shared().open(&slice).unwrap();
    let row = BlockToAppend {
        sealed: SealedBlock {
            payload: b"\"of nobody\"\n".to_vec(),
            raw_len: 12,
            records: 1,
        },
        first_at: machine.now(),
        last_at: machine.now(),
        compression: BlockCompression::None,
    };
    let stored = orphan.append(row).unwrap().await;
    assert!(matches!(stored, AppendOutcome::Stored), "{stored:?}");
    drop(orphan);
    first.kill().await;
    machine.volume = machine.volume.reopen();
    let mut node = machine.start().await;
    assert_eq!(reconciliation(&node).await, [5, 5, 0, 0]);
    fix_mapping(&mut node).await;
    let dead_letters = sink_dead_letters(&machine, &node);
    let clock: &dyn Clock = &*dead_letters.clock;
    assert!(clock.now() > NOW.parse().unwrap());
    let all = dead_letters
        .replay(&sink_key("k"), &DeadLetterSelection::ALL.into())
        .await;
    assert_eq!(all.unwrap().replayed, 5);
    let rows = replayed(&machine, &node).await;
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|r| r.starts_with("\"none\"")), "{rows:?}");
    assert_eq!(reconciliation(&node).await, [5, 0, 0, 5]);
    machine.stop(node).await;
}

#[tokio::test]
async fn dead_letters_are_counted_by_cause_and_dropped_by_a_filter() {
    let machine = Machine::new();
    let node = node(&machine).await;
    let mut client = node.client().await;
    // Two causes that alternate, more of them than a call processes.
    let letters: u64 = 4_200;
    for of_half in [0..letters / 2, letters / 2..letters] {
        let line = |i: u64| match i % 2 {
            0 => format!("{{\"m\":{i}}}\n"),
            _ => format!("[{i}]\n"),
        };
        let lines: String = of_half.map(line).collect();
        let answer = client
            .send(&post(&stream(), NDJSON, lines.as_bytes()))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let dead_letters = sink_dead_letters(&machine, &node);
    let key = sink_key("k");
    let filter = DeadLetterFilter {
        contains: Some("\"m\"".to_owned()),
        ..DeadLetterFilter::default()
    };
    let none = DeadLetterFilter::default();
    let report = dead_letters.causes(&key, None, &none).await.unwrap();
    assert_eq!((report.causes.len(), report.others), (1, 0), "{report:?}");
    assert_eq!(report.causes[0].count, letters);
    let objects = dead_letters.causes(&key, None, &filter).await.unwrap();
    assert_eq!(
        (objects.causes[0].count, objects.more_after),
        (letters / 2, None)
    );
    let mut query = DeadLetterQuery {
        selection: DeadLetterSelection::ALL,
        filter,
    };
    let (page, more) = dead_letters.list(&key, &query, 2).await.unwrap();
    let numbers: Vec<u64> = page.iter().map(|l| l.number).collect();
    assert_eq!((numbers, more), (vec![0, 2], Some(2)));
    // Dropping every other one leaves as many ranges; all of them must fit.
    let mut dropped = 0;
    loop {
        let done = dead_letters.discard(&key, &query).await.unwrap();
        dropped += done.dropped;
        let Some(last) = done.more_after else { break };
        query.selection = DeadLetterSelection::After(Some(last));
    }
    assert_eq!(dropped, letters / 2);
    let left = dead_letters.causes(&key, None, &none).await.unwrap();
    assert_eq!(left.causes[0].count, letters / 2);
    assert_eq!(
        reconciliation(&node).await,
        [letters, letters / 2, letters / 2, 0]
    );
    machine.stop(node).await;
}

#[tokio::test]
async fn edited_records_are_delivered_once_and_a_dry_run_changes_nothing() {
    let machine = Machine::new();
    let node = node(&machine).await;
    let mut client = node.client().await;
    for body in [r#"{"m":1}"#, r#"{"m":2}"#, r#"{"m":3}"#] {
        assert_eq!(client.post(&stream(), body).await.status, 200);
    }
    let dead_letters = sink_dead_letters(&machine, &node);
    let key = sink_key("k");
    let edit = |body: &str| DeadLetterEdit {
        body: Some(body.as_bytes().to_vec()),
        headers: None,
    };
    let edits = [(0, edit(r#"{"n":"one"}"#)), (2, edit(r#"{"m":"still"}"#))];
    let mut replay = DeadLetterReplay::of_edits(edits.into());
    replay.dry_run = true;
    for _ in 0..2 {
        let dry = dead_letters.replay(&key, &replay).await.unwrap();
        assert_eq!(
            (dry.replayed, dry.rejected.len(), dry.skipped),
            (1, 1, Vec::new())
        );
        let cells = vec![("c0".to_owned(), b"one".to_vec())];
        assert_eq!(dry.rows, [ReplayedRow { id: 0, cells }]);
        assert_eq!(reconciliation(&node).await, [3, 3, 0, 0]);
    }
    replay.dry_run = false;
    let done = dead_letters.replay(&key, &replay).await.unwrap();
    assert_eq!(
        (done.replayed, done.rejected[0].0, done.rows),
        (1, 2, Vec::new())
    );
    assert_eq!(reconciliation(&node).await, [3, 2, 0, 1]);
    // The same request again, after a lost response: nothing is delivered twice.
    let again = dead_letters.replay(&key, &replay).await.unwrap();
    assert_eq!((again.replayed, again.skipped), (0, vec![0]));
    assert_eq!(again.rejected[0].0, 2);
    // What the mapping rejects again is kept as it was received.
    let (left, _) = dead_letters
        .list(&key, &DeadLetterSelection::These(vec![2]).into(), 1)
        .await
        .unwrap();
    assert_eq!(&left[0].dead_letter.body[..], br#"{"m":3}"#);
    let unknown = DeadLetterReplay::of_edits([(9, edit("{}"))].into());
    let missing = dead_letters.replay(&key, &unknown).await;
    assert!(matches!(missing, Err(DeadLetterError::NotFound(9))));
    assert_eq!(reconciliation(&node).await, [3, 2, 0, 1]);
    machine.stop(node).await;
}
