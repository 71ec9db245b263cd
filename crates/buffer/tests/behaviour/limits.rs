//! Full buffers and disks, expiry, and errors that name their limit.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::scripted::{ScriptedPlan, ScriptedProvider};
use forebay_buffer::{
    Buffer, BufferConfig, BufferEvent, BufferMode, BufferOpenError, CloseMode, Message,
    OverflowPolicy, WriteError,
};
use forebay_log::MemEnv;

use crate::{World, all, numbers, put};

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
