//! Order, outages, dead letters, and the end of a buffer.

use std::time::Duration;

use forebay_buffer::scripted::{ScriptedPlan, ScriptedProvider};
use forebay_buffer::{BufferEvent, BufferMode, CloseMode, Message, ProviderHealth, WriteError};

use crate::{World, all, numbers, put};

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
