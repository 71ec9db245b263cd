//! Dead letters of topics on a disk that loses its power at each step of a replay.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::dead_letter::DeadLetterError;
use forebay_buffer::scripted::ScriptedProvider;
use forebay_buffer::{Message, encode_standalone};
use forebay_ingest::pipeline::{AppendOutcome, BlockToAppend};
use forebay_log::{LogConfig, MemEnv};
use forebay_model::{
    Actor, AuditStamp, BlockCompression, DeadLetterEdit, DeadLetterFilter, DeadLetterReplay,
    DeadLetterSelection, DefinitionVersion, HttpMethod, HumanDuration, ManualClock, MessageMapping,
    SettingsPatch, Sink, SinkTarget, Timestamp, TopicKind, TopicState, TopicStatistics,
};
use forebay_record::SealedBlock;

/// Messages that are rejected, and become dead letters.
const REJECTED: [&str; 5] = ["m0", "m1", "m2", "m3", "m4"];
/// Messages that wait beside them.
const WAITING: [&str; 2] = ["w0", "w1"];

/// A machine: its disk and its provider.
struct Machine {
    env: MemEnv,
    provider: Arc<Mutex<ScriptedProvider>>,
}

/// A process on it.
struct Node {
    env: MemEnv,
    log: Log,
    topics: Arc<TopicRegistry>,
    sink: Sink,
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn key() -> SinkKey {
    "1/2/src/snk".parse().unwrap()
}

fn sink() -> Sink {
    let stamp = AuditStamp {
        at: Timestamp::from_millis(1),
        by: Actor::system(),
    };
    Sink {
        key: key(),
        name: "s".to_owned(),
        description: String::new(),
        target: SinkTarget::Topic(TopicSink {
            kind: TopicKind::Http,
            provider: "p".to_owned(),
            topic: "t".to_owned(),
            batches: false,
            method: HttpMethod::Post,
            message: MessageMapping::default(),
        }),
        settings: SettingsPatch::new(),
        definition_set: None,
        version: DefinitionVersion {
            number: 1,
            hash: String::new(),
            description: String::new(),
            stamp: stamp.clone(),
        },
        created: stamp,
        deleted: None,
        disabled: None,
        paused: None,
    }
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self {
            env: MemEnv::new(seed),
            provider: Arc::default(),
        }
    }

    /// Makes the provider reject these for good.
    fn rejecting(&self, payloads: &[&str]) {
        let provider = ScriptedProvider::new();
        payloads.iter().for_each(|p| provider.poison(p.as_bytes()));
        *self.provider.lock() = provider;
    }

    /// Messages that the provider received, each once: what was delivered just before a crash is
    /// repeated under its number.
    fn delivered(&self) -> Vec<String> {
        let taken = self.provider.lock().taken();
        let numbered: BTreeMap<_, _> = taken.iter().map(|d| (d.sequence, &d.message)).collect();
        let text = |message: &&Message| {
            String::from_utf8(message.payload.clone().unwrap().to_vec()).unwrap()
        };
        numbered.values().map(text).collect()
    }

    fn start(&self) -> Node {
        let env: Arc<dyn Env> = Arc::new(self.env.clone());
        let config = LogConfig {
            segment_size: 64 << 10,
            max_bytes: 1 << 20,
            ..LogConfig::default()
        };
        let (log, _) = Log::open(Arc::clone(&env), Path::new("/log"), config).unwrap();
        let provider = Arc::clone(&self.provider);
        let connect = move |_: &TopicSink| {
            let provider: Arc<dyn Provider> = Arc::new(provider.lock().clone());
            Ok(provider)
        };
        let topics = TopicRegistry::new(TopicDeps {
            log: log.clone(),
            env,
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_000))),
            config: TopicConfig {
                attempts: 1,
                backoff: HumanDuration::millis(1),
                backoff_max: HumanDuration::millis(1),
                ..TopicConfig::default()
            },
            connect: Arc::new(connect),
        });
        Node {
            env: self.env.clone(),
            log,
            topics,
            sink: sink(),
        }
    }
}

impl Node {
    fn send(&self, payload: &'static str) {
        assert!(matches!(self.try_send(payload), Ok(AppendOutcome::Stored)));
    }

    fn try_send(&self, payload: &'static str) -> Result<AppendOutcome, BlockAppendError> {
        let mut bytes = Vec::new();
        let message = Message {
            payload: Some(payload.into()),
            ..Message::default()
        };
        encode_standalone(&mut bytes, "t", &message, 1);
        let block = BlockToAppend {
            sealed: SealedBlock {
                raw_len: bytes.len(),
                payload: bytes,
                records: 1,
            },
            first_at: Timestamp::from_millis(1),
            last_at: Timestamp::from_millis(1),
            compression: BlockCompression::None,
        };
        let ticket = Arc::clone(&self.topics).open(&key())?.append(block)?;
        Ok(block_on(ticket))
    }

    /// Starts the delivery; whether nothing is pending.
    fn reconcile(&self) -> bool {
        let streams = self.topics.streams(TOPIC_PREFIX).remove(&key());
        let streams = streams.unwrap_or_default();
        let topic = self.sink.target.topic().unwrap();
        self.topics
            .reconcile_sink(&self.sink, topic, false, &streams);
        streams.iter().all(SinkStream::is_drained)
    }

    /// Delivers until nothing is pending.
    fn deliver(&self) {
        while !self.reconcile() {
            self.advance();
        }
        self.topics.shared_topic(&key()).detach();
    }

    /// Lets time pass: the cursor is written from time to time.
    fn advance(&self) {
        self.env.advance(Duration::from_secs(1));
        self.topics.shared_topic(&key()).wake_worker();
        std::thread::yield_now();
    }

    fn dead_letters(&self) -> Vec<(u64, String)> {
        let all = DeadLetterSelection::ALL.into();
        let found = self.topics.list(&key(), &all, 100);
        let text = |l: &forebay_buffer::DeadLetterMessage| {
            String::from_utf8(l.message.payload.clone().unwrap().to_vec()).unwrap()
        };
        let (found, _) = found.unwrap();
        found
            .iter()
            .map(|l| (l.number, text(&l.dead_letter)))
            .collect()
    }

    fn replay(&self, selection: &DeadLetterSelection) -> u64 {
        let replay = selection.clone().into();
        self.topics.replay(&key(), &replay).unwrap().replayed
    }

    fn discard(&self, selection: &DeadLetterSelection) -> u64 {
        let query = selection.clone().into();
        self.topics.discard(&key(), &query).unwrap().dropped
    }

    fn counts(&self) -> TopicStatistics {
        let counts = self.topics.statistics(&self.sink);
        let parts = counts.delivered + counts.dead + counts.discarded + counts.lost;
        assert_eq!(counts.accepted, parts + counts.waiting, "{counts:?}");
        counts
    }
}

/// Five dead letters, and two messages that wait.
fn with_dead_letters(machine: &Machine) -> Node {
    machine.rejecting(&REJECTED);
    let node = machine.start();
    REJECTED.into_iter().for_each(|m| node.send(m));
    node.deliver();
    assert_eq!(node.counts().dead, 5);
    machine.rejecting(&[]);
    WAITING.into_iter().for_each(|m| node.send(m));
    node
}

fn these(numbers: &[u64]) -> DeadLetterSelection {
    DeadLetterSelection::These(numbers.to_vec())
}

#[test]
fn any_dead_letter_is_replayed_or_dropped_and_counted_once() {
    let machine = Machine::new(1);
    let node = with_dead_letters(&machine);
    assert_eq!(node.replay(&these(&[3, 1])), 2);
    let counts = node.counts();
    assert_eq!((counts.accepted, counts.waiting, counts.dead), (7, 4, 3));
    assert_eq!(node.discard(&these(&[2])), 1);
    for resolved in [1, 2, 3, 5] {
        let selection = these(&[0, resolved]);
        let rejected = [
            node.topics
                .replay(&key(), &selection.clone().into())
                .unwrap_err(),
            node.topics.discard(&key(), &selection.into()).unwrap_err(),
        ];
        assert!(
            rejected
                .iter()
                .all(|e| matches!(e, DeadLetterError::NotFound(n) if *n == resolved)),
            "{resolved}: {rejected:?}"
        );
    }
    let left = [(0, "m0".to_owned()), (4, "m4".to_owned())];
    assert_eq!(node.dead_letters(), left);
    node.deliver();
    let payloads = machine.provider.lock().payloads("t");
    assert_eq!(payloads, ["w0", "w1", "m1", "m3"]);
    let counts = node.counts();
    assert_eq!(
        (
            counts.accepted,
            counts.delivered,
            counts.dead,
            counts.discarded
        ),
        (7, 4, 2, 1)
    );
    machine.env.kill();
    drop(node);
    // The next process knows what was done; the oldest ones are freed with all behind them.
    let node = machine.start();
    assert_eq!(
        node.counts(),
        TopicStatistics {
            state: TopicState::Idle,
            retries: 0,
            ..counts
        }
    );
    assert_eq!(node.dead_letters(), left);
    assert_eq!(node.replay(&DeadLetterSelection::ALL), 2);
    let freed: Vec<_> = node.topics.dead_letter_streams(&key());
    assert!(freed.iter().all(|(_, s)| s.is_drained()), "{freed:?}");
    node.deliver();
    let counts = node.counts();
    assert_eq!(
        (
            counts.accepted,
            counts.delivered,
            counts.dead,
            counts.discarded
        ),
        (7, 6, 0, 1)
    );
}

#[test]
fn a_dead_letter_that_is_rejected_again_is_a_dead_letter_again() {
    let machine = Machine::new(2);
    let node = with_dead_letters(&machine);
    machine.rejecting(&["m1"]);
    node.topics.replay(&key(), &these(&[1]).into()).unwrap();
    node.deliver();
    let dead_letters = node.dead_letters();
    assert_eq!(
        dead_letters.last(),
        Some(&(5, "m1".to_owned())),
        "{dead_letters:?}"
    );
    let counts = node.counts();
    assert_eq!((counts.accepted, counts.delivered, counts.dead), (7, 2, 5));
}

#[test]
fn messages_are_delivered_and_stay_while_dead_letters_move() {
    let machine = Machine::new(4);
    let node = with_dead_letters(&machine);
    let place = node.topics.shared_topic(&key());
    let trimmed = || {
        let streams = node.topics.streams(TOPIC_PREFIX).remove(&key()).unwrap();
        streams.first().unwrap().stats.trimmed_to
    };
    while !node.reconcile() {
        node.advance();
    }
    place.hold_statistics(Some(TopicStatistics::NOTHING));
    let before = trimmed();
    // The second of them is appended after all that was done about the first.
    for (n, payload) in (3..).zip(["x0", "x1"]) {
        node.send(payload);
        while machine.provider.lock().taken().len() < n {
            node.advance();
        }
    }
    // Whatever was appended to the log before is on disk after it.
    node.send("x2");
    assert_eq!(trimmed(), before);
    place.hold_statistics(None);
    node.deliver();
    assert_eq!(trimmed(), before + 3);
}

#[test]
fn power_fails_at_each_step_of_a_replay() {
    let (mut moved, mut kept) = (0, 0);
    // The rest of a torn write is random: several seeds, so that each case occurs.
    for seed in 0..6 {
        let (m, k) = power_cuts(seed);
        moved += m;
        kept += k;
    }
    assert!(moved > 2 * 6 && kept > 2 * 6, "{moved} moved, {kept} kept");
}

/// Counts of dead letters that were moved, and that were kept.
fn power_cuts(seed: u64) -> (usize, usize) {
    let (mut moved, mut kept) = (0, 0);
    for cut in 0.. {
        let machine = Machine::new(seed * 1_000 + cut);
        let node = with_dead_letters(&machine);
        // What is moved is delivered as soon as it exists.
        node.reconcile();
        machine.env.cut_power_after(cut);
        let done = node.topics.replay(&key(), &these(&[1, 3]).into());
        let calls_left = node.log.health().is_ok();
        if cut % 2 == 0 {
            machine.env.crash();
        } else {
            machine.env.kill();
        }
        drop(node);
        machine.env.heal();
        let node = machine.start();
        node.deliver();
        let counts = node.counts();
        assert_eq!((counts.accepted, counts.lost), (7, 0), "{cut}: {counts:?}");
        let dead_letters = node.dead_letters();
        let mut all = machine.delivered();
        if done.is_ok() {
            assert_eq!(all, ["w0", "w1", "m1", "m3"], "{cut}");
        }
        moved += all.len() - WAITING.len();
        kept += dead_letters.len() - 3;
        all.extend(dead_letters.into_iter().map(|(_, payload)| payload));
        all.sort();
        let wanted: Vec<_> = REJECTED.iter().chain(&WAITING).copied().collect();
        assert_eq!(all, wanted, "{cut}: each of them once");
        if done.is_ok() && calls_left {
            break;
        }
        assert!(cut < 500, "the replay never comes to its end");
    }
    (moved, kept)
}

#[test]
fn a_full_volume_rejects_a_replay_and_frees_space_when_dead_letters_are_dropped() {
    let machine = Machine::new(5);
    let node = with_dead_letters(&machine);
    let large: &'static str = Box::leak("x".repeat(16 << 10).into_boxed_str());
    // To the last byte: what a replay writes is small.
    for payload in [large, "x"] {
        while let Ok(AppendOutcome::Stored) = node.try_send(payload) {
            // Until its writer has released it, a block counts twice.
            while node.log.volume_stats().queued_bytes > 0 {
                std::thread::yield_now();
            }
        }
    }
    let before = node.dead_letters();
    let rejected = node.topics.replay(&key(), &these(&[1]).into()).unwrap_err();
    assert!(
        matches!(rejected, DeadLetterError::Append(_)),
        "{rejected:?}"
    );
    assert_eq!(node.dead_letters(), before);
    assert_eq!(node.discard(&these(&[0, 1])), 2);
    assert_eq!(node.dead_letters(), before[2..]);
    assert_eq!(node.counts().discarded, 2);
}

#[test]
fn what_is_recorded_of_dead_letters_is_bounded() {
    let machine = Machine::new(3);
    let node = with_dead_letters(&machine);
    let place = node.topics.shared_topic(&key());
    let scattered = (0..acked_ranges::ACKED_RANGES_MAX as u64).map(|i| (10 + 2 * i, 11 + 2 * i));
    let acked = replay_state::AckedRanges {
        resolved: scattered.collect::<Vec<_>>().into(),
        ..replay_state::AckedRanges::default()
    };
    node.topics.persist(&place, &key(), acked).unwrap();
    let rejected = node
        .topics
        .discard(&key(), &these(&[1]).into())
        .unwrap_err();
    assert!(
        matches!(rejected, DeadLetterError::TooScattered(_)),
        "{rejected}"
    );
    assert_eq!(node.discard(&these(&[0, 1])), 2);
}

#[test]
fn dead_letters_are_listed_in_pages_and_unreadable_ones_are_passed_over() {
    let machine = Machine::new(6);
    let node = with_dead_letters(&machine);
    let (_, stream) = node.topics.dead_letter_streams(&key()).remove(0);
    let unreadable = forebay_log::NewBlock {
        stream: stream.stats.id,
        records: 1,
        codec: forebay_buffer::CODEC_DEAD_LETTER,
        raw_len: 1,
        first_at_ms: 1,
        last_at_ms: 1,
        payload: bytes::Bytes::from_static(b"\xff"),
    };
    let ticket = node.log.append_wait(unreadable).unwrap();
    ticket.wait().unwrap();
    let page = |after, limit| -> Vec<u64> {
        let selection = DeadLetterSelection::After(after);
        let found = node.topics.list(&key(), &selection.into(), limit).unwrap();
        found.0.iter().map(|l| l.number).collect()
    };
    assert_eq!(page(None, 2), [0, 1]);
    assert_eq!(page(Some(1), 2), [2, 3]);
    assert_eq!(page(Some(3), 9), [4]);
    let missing = node
        .topics
        .discard(&key(), &these(&[4, 5]).into())
        .unwrap_err();
    assert!(matches!(missing, DeadLetterError::NotFound(5)), "{missing}");
    assert_eq!(node.discard(&DeadLetterSelection::ALL), 5);
    let freed = node.topics.dead_letter_streams(&key());
    assert!(freed.iter().all(|(_, s)| s.is_drained()), "{freed:?}");
}

#[test]
fn an_edited_message_is_delivered_once_and_a_dry_run_moves_nothing() {
    let machine = Machine::new(7);
    let node = with_dead_letters(&machine);
    let edit = DeadLetterEdit {
        body: Some(b"mended".to_vec()),
        headers: Some([("H".to_owned(), "v".to_owned())].into()),
    };
    let mut replay = DeadLetterReplay::of_edits([(3, edit)].into());
    replay.dry_run = true;
    let before = node.counts();
    let dry = node.topics.replay(&key(), &replay).unwrap();
    assert_eq!((dry.replayed, dry.rejected.len()), (1, 0));
    assert_eq!((node.counts(), node.dead_letters().len()), (before, 5));
    replay.dry_run = false;
    let done = node.topics.replay(&key(), &replay).unwrap();
    assert_eq!((done.replayed, done.skipped), (1, Vec::new()));
    let again = node.topics.replay(&key(), &replay).unwrap();
    assert_eq!((again.replayed, again.skipped), (0, vec![3]));
    node.deliver();
    let payloads = machine.provider.lock().payloads("t");
    assert_eq!(payloads, ["w0", "w1", "mended"]);
    let report = node
        .topics
        .causes(&key(), None, &DeadLetterFilter::default());
    let report = report.unwrap();
    assert_eq!(
        (report.causes.len(), report.causes[0].count),
        (1, 4),
        "{report:?}"
    );
}
