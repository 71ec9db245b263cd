//! Behavior of a buffer, step by step: no threads, a disk in memory and a scripted provider.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::scripted::{ScriptedPlan, ScriptedProvider};
use forebay_buffer::{
    Buffer, BufferConfig, BufferEvent, BufferMode, BufferOpenError, CloseMode, EventStream,
    Message, OverflowPolicy, ProviderHealth, WriteError,
};
use forebay_log::MemEnv;

struct World {
    env: MemEnv,
    provider: ScriptedProvider,
    config: BufferConfig,
}

impl World {
    fn new(mode: BufferMode) -> Self {
        Self {
            env: MemEnv::new(7),
            provider: ScriptedProvider::new(),
            config: BufferConfig {
                mode,
                manual: true,
                max_bytes: 64 << 20,
                segment_size: Some(64 << 10),
                min_free_bytes: 0,
                ..BufferConfig::new("/buffer")
            },
        }
    }

    fn open(&self) -> Buffer {
        let provider = Arc::new(self.provider.clone());
        Buffer::open_in(Arc::new(self.env.clone()), self.config.clone(), provider).unwrap()
    }

    /// Advances the clock until the buffer is idle, for at most 200 steps.
    fn run(&self, buffer: &Buffer) {
        for _ in 0..200 {
            let max_wait = buffer.step();
            if max_wait >= Duration::from_secs(60) {
                return;
            }
            self.env.advance(max_wait);
        }
    }
}

fn put(buffer: &Buffer, topic: &str, range: std::ops::Range<u32>) {
    for i in range {
        buffer
            .write_blocking(topic, Message::new(i.to_string()))
            .unwrap();
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

fn all(events: &EventStream) -> Vec<BufferEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

#[test]
fn messages_are_delivered_in_order_with_all_their_parts() {
    let world = World::new(BufferMode::Always);
    let buffer = world.open();
    let message = Message::keyed(&b"k\0\n"[..], &b"\xff\n\0"[..])
        .header("h", &b"\n"[..])
        .at(5);
    let accepted = buffer.write_blocking("t", message.clone()).unwrap();
    assert_eq!((accepted.sequence, accepted.buffered), (Some(0), true));
    let tombstone = Message {
        key: Some("k".into()),
        timestamp_ms: Some(6),
        ..Message::default()
    };
    assert_eq!(
        buffer
            .write_blocking("t", tombstone.clone())
            .unwrap()
            .sequence,
        Some(1)
    );
    world.run(&buffer);
    let taken: Vec<_> = world
        .provider
        .taken()
        .into_iter()
        .map(|d| d.message)
        .collect();
    assert_eq!(taken, [message, tombstone]);
}

#[test]
fn messages_wait_during_an_outage_which_is_reported() {
    let world = World::new(BufferMode::Always);
    let buffer = world.open();
    let events = buffer.events();
    world.provider.plan(ScriptedPlan::Unavailable);
    put(&buffer, "t", 0..500);
    for _ in 0..5 {
        let max_wait = buffer.step();
        world.env.advance(max_wait);
    }
    let stats = buffer.stats();
    assert_eq!(
        (stats.partitions[0].waiting, stats.partitions[0].delivered),
        (500, 0)
    );
    assert!(matches!(
        stats.partitions[0].provider,
        ProviderHealth::Down { .. }
    ));
    world.provider.plan(ScriptedPlan::Take);
    world.run(&buffer);
    assert_eq!(world.provider.payloads("t"), numbers(0..500));
    let reported = all(&events);
    assert!(
        matches!(
            reported[..],
            [
                BufferEvent::ProviderDown { .. },
                BufferEvent::ProviderUp { .. }
            ]
        ),
        "{reported:?}"
    );
    assert_eq!(buffer.stats().partitions[0].waiting, 0);
}

#[test]
fn undelivered_messages_are_delivered_after_a_power_cut() {
    let world = World::new(BufferMode::Always);
    for round in 0..20 {
        world.provider.plan(if round % 3 == 0 {
            ScriptedPlan::Half
        } else {
            ScriptedPlan::Unavailable
        });
        let buffer = world.open();
        put(&buffer, "t", round * 10..round * 10 + 10);
        buffer.step();
        world.env.crash();
        drop(buffer);
    }
    world.provider.plan(ScriptedPlan::Take);
    let buffer = world.open();
    world.run(&buffer);
    let mut firsts = Vec::new();
    for payload in world.provider.payloads("t") {
        if !firsts.contains(&payload) {
            firsts.push(payload);
        }
    }
    assert_eq!(
        firsts,
        numbers(0..200),
        "no message is lost, and first deliveries are in order"
    );
}

/// Cuts the power at every call during delivery, with a window that is no multiple of a batch.
#[test]
fn a_power_cut_repeats_no_more_than_the_window() {
    const WINDOW: u64 = 10;
    let mut most = 0;
    for calls in 0..60 {
        let mut world = World::new(BufferMode::Always);
        world.config.batch_messages = 7;
        world.config.in_flight_messages = 10;
        world.config.repeat_window = WINDOW;
        world.provider.plan(ScriptedPlan::Unavailable);
        let buffer = world.open();
        put(&buffer, "t", 0..100);
        world.provider.plan(ScriptedPlan::Take);
        world.env.cut_power_after(calls);
        for _ in 0..20 {
            let max_wait = buffer.step();
            world.env.advance(max_wait);
        }
        world.env.crash();
        drop(buffer);
        let buffer = world.open();
        world.run(&buffer);
        let payloads = world.provider.payloads("t");
        let all: std::collections::BTreeSet<_> = payloads.iter().collect();
        assert_eq!(all.len(), 100, "no message is lost");
        let repeated = (payloads.len() - all.len()) as u64;
        assert!(repeated <= WINDOW, "{repeated} after {calls} calls");
        most = most.max(repeated);
    }
    assert!(most > 0, "some cuts are between a batch and its cursor");
}

#[test]
fn a_provider_that_stores_the_cursor_gets_no_repeats() {
    for (round, plan) in [
        ScriptedPlan::LoseAnswers,
        ScriptedPlan::Take,
        ScriptedPlan::LoseAnswers,
        ScriptedPlan::Unavailable,
    ]
    .into_iter()
    .cycle()
    .take(40)
    .enumerate()
    {
        let world = World {
            provider: ScriptedProvider::keeping_cursor(),
            ..World::new(BufferMode::Always)
        };
        world.provider.plan(plan);
        let buffer = world.open();
        put(&buffer, "t", 0..30);
        for _ in 0..round {
            let max_wait = buffer.step();
            world.env.advance(max_wait);
        }
        world.env.crash();
        drop(buffer);
        world.provider.plan(ScriptedPlan::Take);
        let buffer = world.open();
        put(&buffer, "t", 30..40);
        world.run(&buffer);
        assert_eq!(world.provider.payloads("t"), numbers(0..40), "{plan:?}");
    }
}

#[test]
fn a_poison_message_becomes_a_dead_letter_and_the_partition_continues() {
    let world = World::new(BufferMode::Always);
    world.provider.poison(b"3");
    world.provider.poison(b"7");
    let buffer = world.open();
    let events = buffer.events();
    put(&buffer, "t", 0..10);
    world.run(&buffer);
    let mut taken = world.provider.payloads("t");
    taken.sort_unstable();
    assert_eq!(taken, ["0", "1", "2", "4", "5", "6", "8", "9"]);
    let dead_letters: Vec<_> = buffer.dead_letters(0).map(Result::unwrap).collect();
    let seen: Vec<_> = dead_letters
        .iter()
        .map(|l| (&*l.topic, l.sequence, l.attempts, l.error.as_str()))
        .collect();
    assert_eq!(seen, [("t", 3, 3, "poison"), ("t", 7, 3, "poison")]);
    assert_eq!(dead_letters[0].message.payload.as_deref(), Some(&b"3"[..]));
    assert!(
        all(&events)
            .iter()
            .any(|e| matches!(e, BufferEvent::DeadLetter { sequence: 7, .. }))
    );
    let stats = buffer.stats();
    assert_eq!(
        (
            stats.partitions[0].waiting,
            stats.partitions[0].dead,
            stats.dead_letters
        ),
        (0, 2, 2)
    );
    buffer.discard_dead_letters(1).unwrap();
    assert_eq!(buffer.dead_letters(0).count(), 1);
    assert_eq!(buffer.replay_dead_letters(u64::MAX).unwrap(), 1);
    world.run(&buffer);
    assert_eq!(
        buffer.stats().partitions[0].dead,
        3,
        "the replayed message is rejected again"
    );
}

#[test]
fn a_poison_message_does_not_block_transactions() {
    let world = World {
        provider: ScriptedProvider::keeping_cursor(),
        ..World::new(BufferMode::Always)
    };
    world.provider.poison(b"1");
    let buffer = world.open();
    world.provider.plan(ScriptedPlan::Unavailable);
    put(&buffer, "t", 0..4);
    buffer.step();
    world.provider.plan(ScriptedPlan::Take);
    world.run(&buffer);
    assert_eq!(world.provider.payloads("t"), ["0", "2", "3"]);
    assert_eq!(buffer.stats().partitions[0].dead, 1);
}

#[test]
fn topics_of_a_group_share_one_order_and_others_do_not() {
    let mut world = World::new(BufferMode::Always);
    let topics = vec!["a".to_owned(), "b".to_owned()];
    world.config.groups.insert("both".to_owned(), topics);
    let buffer = world.open();
    for i in 0..20_u32 {
        let topic = ["a", "b", "c"][i as usize % 3];
        buffer
            .write_blocking(topic, Message::new(i.to_string()))
            .unwrap();
    }
    world.run(&buffer);
    let taken = world.provider.taken();
    let both: Vec<_> = taken
        .iter()
        .filter(|d| &*d.topic != "c")
        .map(|d| d.sequence)
        .collect();
    assert_eq!(both, (0..14).collect::<Vec<u64>>());
    assert_eq!(world.provider.payloads("c").len(), 6);
    let partitions: Vec<_> = buffer
        .stats()
        .partitions
        .iter()
        .map(|l| l.partition.to_string())
        .collect();
    assert_eq!(partitions, ["both", "c"]);
}

fn payload(i: u32) -> Message {
    Message::new(format!("{i:>1000}"))
}

#[test]
fn a_full_buffer_rejects_writes() {
    let mut world = World::new(BufferMode::Always);
    world.config.max_bytes = 1 << 20;
    world.provider.plan(ScriptedPlan::Unavailable);
    let buffer = world.open();
    let mut count = 0;
    let error = loop {
        match buffer.write_blocking("t", payload(count)) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            &error,
            WriteError::Full {
                allowed: 1_048_576,
                ..
            }
        ),
        "{error}"
    );
    assert!((900..1_100).contains(&count), "{count}");
    world.provider.plan(ScriptedPlan::Take);
    world.run(&buffer);
    buffer.write_blocking("t", payload(count)).unwrap();
}

#[test]
fn a_full_buffer_drops_counts_and_reports_the_oldest() {
    let mut world = World::new(BufferMode::Always);
    world.config.max_bytes = 1 << 20;
    world.config.overflow = OverflowPolicy::DropOldest;
    let buffer = world.open();
    let events = buffer.events();
    world.provider.plan(ScriptedPlan::Unavailable);
    for i in 0..3_000 {
        buffer.write_blocking("t", payload(i)).unwrap();
    }
    assert!(buffer.stats().waiting_bytes <= 1 << 20);
    assert!(buffer.stats().file_bytes <= (1 << 20) + 6 * (64 << 10));
    world.provider.plan(ScriptedPlan::Take);
    world.run(&buffer);
    let taken: Vec<u32> = world
        .provider
        .payloads("t")
        .iter()
        .map(|p| p.trim().parse().unwrap())
        .collect();
    assert!(taken.is_sorted());
    assert_eq!(taken.last(), Some(&2_999));
    let stats = buffer.stats();
    let partition = &stats.partitions[0];
    assert_eq!(
        partition.dropped + partition.delivered,
        3_000,
        "each message is counted once"
    );
    assert_eq!(partition.delivered, taken.len() as u64);
    assert!(
        all(&events)
            .iter()
            .any(|e| matches!(e, BufferEvent::Dropped { .. }))
    );
}

#[test]
fn a_failed_drain_reports_progress_and_cause() {
    let world = World::new(BufferMode::Always);
    world.provider.plan(ScriptedPlan::Unavailable);
    let buffer = world.open();
    put(&buffer, "t", 0..11);
    let error = buffer
        .close(CloseMode::Drain(Duration::from_secs(3)))
        .unwrap_err();
    let text = error.to_string();
    let WriteError::Undelivered {
        delivered,
        all,
        cause,
        ..
    } = error
    else {
        panic!("{text}")
    };
    assert_eq!((delivered, all), (0, 11));
    assert!(
        text.starts_with("delivered 0 of 11 messages in 3s: "),
        "{text}"
    );
    assert!(!cause.is_empty() && text.ends_with(&cause), "{text}");
}

#[test]
fn a_full_buffer_blocks_writes_until_the_timeout() {
    let mut world = World::new(BufferMode::Always);
    world.config.max_bytes = 1 << 20;
    world.config.overflow = OverflowPolicy::Block(Duration::from_millis(1));
    world.provider.plan(ScriptedPlan::Unavailable);
    let buffer = world.open();
    let events = buffer.events();
    let error = (0..3_000)
        .find_map(|i| buffer.write_blocking("t", payload(i)).err())
        .unwrap();
    assert!(matches!(error, WriteError::Timeout { .. }), "{error}");
    assert!(
        all(&events)
            .iter()
            .any(|e| matches!(e, BufferEvent::Blocked { .. }))
    );
}

#[test]
fn a_partition_has_its_own_limit() {
    let mut world = World::new(BufferMode::Always);
    world.config.max_partition_bytes = 100_000;
    world.provider.plan(ScriptedPlan::Unavailable);
    let buffer = world.open();
    let error = (0..200)
        .find_map(|i| buffer.write_blocking("t", payload(i)).err())
        .unwrap();
    assert!(error.to_string().contains("partition t"), "{error}");
    buffer.write_blocking("other", payload(0)).unwrap();
}

#[test]
fn expired_messages_are_dropped_and_a_clock_set_back_drops_nothing() {
    let mut world = World::new(BufferMode::Always);
    world.config.max_age = Some(Duration::from_secs(60));
    world.provider.plan(ScriptedPlan::Unavailable);
    let buffer = world.open();
    put(&buffer, "t", 0..10);
    world.env.set_now_ms(1_600_000_000_000);
    put(&buffer, "t", 10..20);
    buffer.step();
    assert_eq!(buffer.stats().partitions[0].waiting, 20);
    world.env.set_now_ms(1_700_000_030_000);
    buffer.step();
    assert_eq!(
        buffer.stats().partitions[0].waiting,
        20,
        "the first message is not too old"
    );
    world.env.set_now_ms(1_700_000_090_000);
    world.provider.plan(ScriptedPlan::Take);
    put(&buffer, "t", 20..21);
    world.run(&buffer);
    assert_eq!(world.provider.payloads("t"), ["20"]);
    assert_eq!(buffer.stats().partitions[0].dropped, 20);
}

#[test]
fn a_clock_set_back_changes_neither_order_nor_delivery() {
    let world = World::new(BufferMode::Always);
    world.provider.plan(ScriptedPlan::Unavailable);
    let buffer = world.open();
    put(&buffer, "t", 0..10);
    world.env.set_now_ms(-5);
    put(&buffer, "t", 10..20);
    world.run(&buffer);
    drop(buffer);
    world.env.crash();
    world.env.set_now_ms(1_000);
    let buffer = world.open();
    put(&buffer, "t", 20..30);
    world.provider.plan(ScriptedPlan::Take);
    world.run(&buffer);
    assert_eq!(world.provider.payloads("t"), numbers(0..30));
    let times: Vec<_> = world
        .provider
        .taken()
        .iter()
        .map(|d| d.message.timestamp_ms)
        .collect();
    assert_eq!(
        (times[10], times[20]),
        (Some(-5), Some(1_000)),
        "times are those of the clock"
    );
    assert_eq!(buffer.stats().partitions[0].dropped, 0);
}

#[test]
fn a_full_disk_rejects_writes_until_messages_are_delivered() {
    let world = World::new(BufferMode::Always);
    world.env.set_capacity(Some(1 << 20));
    world.provider.plan(ScriptedPlan::Unavailable);
    let buffer = world.open();
    let error = (0..3_000)
        .find_map(|i| buffer.write_blocking("t", payload(i)).err())
        .unwrap();
    assert!(
        matches!(&error, WriteError::Full { what, .. } if what == "the disk"),
        "{error}"
    );
    let waiting = buffer.stats().partitions[0].waiting;
    world.provider.plan(ScriptedPlan::Take);
    world.run(&buffer);
    assert_eq!(buffer.stats().partitions[0].delivered, waiting);
    buffer.write_blocking("t", payload(0)).unwrap();
}

#[test]
fn a_failed_disk_is_reported_and_stored_messages_are_delivered() {
    let world = World::new(BufferMode::Always);
    let buffer = world.open();
    let events = buffer.events();
    world.provider.plan(ScriptedPlan::Unavailable);
    put(&buffer, "t", 0..5);
    world.env.fail(Some(forebay_log::DiskCall::Sync), 0, 5);
    let error = buffer.write_blocking("t", Message::new("5")).unwrap_err();
    assert!(matches!(error, WriteError::MayHaveHappened(_)), "{error}");
    let error = buffer.write_blocking("t", Message::new("6")).unwrap_err();
    assert!(matches!(error, WriteError::Disk(_)), "{error}");
    world.provider.plan(ScriptedPlan::Take);
    for _ in 0..20 {
        let max_wait = buffer.step();
        world.env.advance(max_wait);
    }
    assert_eq!(world.provider.payloads("t"), numbers(0..5));
    assert!(
        all(&events)
            .iter()
            .any(|e| matches!(e, BufferEvent::DiskFailed { .. }))
    );
}

#[test]
fn errors_name_the_limit() {
    let mut world = World::new(BufferMode::Always);
    world.config.max_partitions = 1;
    let buffer = world.open();
    for (topic, message, want) in [
        (
            "",
            Message::new("x"),
            "`topic` is 0 bytes long, allowed is 1 to 249 bytes",
        ),
        (
            "t",
            Message::new(vec![0; (1 << 20) + 1]),
            "`message` is 1048577 bytes long, allowed is up to 1048576",
        ),
    ] {
        let error = buffer
            .write_blocking(topic, message)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(want), "{error}");
    }
    buffer.write_blocking("t", Message::new("x")).unwrap();
    let error = buffer
        .write_blocking("u", Message::new("x"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("max_partitions"), "{error}");
    let config = BufferConfig {
        attempts: 0,
        ..world.config
    };
    let opened = Buffer::open_in(
        Arc::new(MemEnv::new(1)),
        config,
        Arc::new(ScriptedProvider::new()),
    );
    let error = opened.unwrap_err();
    assert!(
        matches!(
            error,
            BufferOpenError::Config {
                name: "attempts",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn closing_drains_or_detaches() {
    let world = World::new(BufferMode::Always);
    let buffer = world.open();
    put(&buffer, "t", 0..5);
    buffer
        .close(CloseMode::Drain(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(world.provider.payloads("t"), numbers(0..5));
    assert_eq!(
        buffer.write_blocking("t", Message::new("x")),
        Err(WriteError::Closed)
    );
    let buffer = world.open();
    world.provider.plan(ScriptedPlan::Unavailable);
    put(&buffer, "t", 5..10);
    buffer.close(CloseMode::Detach).unwrap();
    world.provider.plan(ScriptedPlan::Take);
    let buffer = world.open();
    world.run(&buffer);
    assert_eq!(world.provider.payloads("t"), numbers(0..10));
}
