//! The broker goes and comes back.

use std::time::Duration;

use forebay_buffer::{Buffer, BufferConfig, Closing, Event, Message, Mode, Topic};
use forebay_remote::provider::kafka::KafkaProvider;
use forebay_remote::services;

use crate::broker::{LIMIT, OwnBroker, make_topic, read_all};
use crate::delivery::config;

fn write(topic: &Topic, range: std::ops::Range<u32>) {
    let hand_over = |i: u32| {
        topic
            .hand_over_blocking(&[Message::new(i.to_string())])
            .unwrap()
    };
    let receipts: Vec<_> = range.map(hand_over).collect();
    for receipt in receipts {
        receipt.wait().unwrap();
    }
}

fn wait_for(events: &forebay_buffer::Events, wanted: fn(&Event) -> bool) {
    loop {
        let event = events.wait(LIMIT).expect("the event comes in time");
        if wanted(&event) {
            return;
        }
    }
}

fn is_down(event: &Event) -> bool {
    matches!(event, Event::ProviderDown { .. })
}

/// Killed, stopped and frozen under load: nothing is lost, nothing comes twice as long as the
/// process lives, nothing is overtaken.
#[test]
fn outages_lose_repeat_and_reorder_nothing() {
    if services::kafka("outages_lose_repeat_and_reorder_nothing").is_none() {
        return;
    }
    let broker = OwnBroker::start();
    let brokers = broker.brokers();
    for transactions in [false, true] {
        let name = make_topic(&brokers, &format!("outage-{transactions}"), 1);
        let dir = tempfile::tempdir().unwrap();
        let settings = BufferConfig {
            stall: Duration::from_millis(500),
            ..BufferConfig::new(dir.path())
        };
        let buffer = Buffer::open(
            settings,
            KafkaProvider::new(config(&brokers, transactions)).unwrap(),
        )
        .unwrap();
        let events = buffer.events();
        let topic = buffer.topic(&name).unwrap();
        write(&topic, 0..300);
        broker.kill();
        write(&topic, 300..600);
        wait_for(&events, is_down);
        broker.start_again();
        write(&topic, 600..900);
        wait_for(&events, |e| matches!(e, Event::ProviderUp { .. }));
        broker.freeze();
        write(&topic, 900..1_200);
        wait_for(&events, is_down);
        broker.thaw();
        write(&topic, 1_200..1_500);
        buffer.close(Closing::Drain(LIMIT)).unwrap();
        let read = read_all(&brokers, &name, 1).remove(0);
        let numbers: Vec<u32> = read.iter().map(|m| m.text().parse().unwrap()).collect();
        assert_eq!(
            numbers,
            (0..1_500).collect::<Vec<_>>(),
            "transactions: {transactions}"
        );
    }
}

/// Straight to the broker until it goes, through the disk until that is drained.
#[test]
fn buffer_on_error_takes_the_disk_while_the_broker_is_away() {
    if services::kafka("buffer_on_error_takes_the_disk_while_the_broker_is_away").is_none() {
        return;
    }
    let broker = OwnBroker::start();
    let brokers = broker.brokers();
    let name = make_topic(&brokers, "on-error", 1);
    let dir = tempfile::tempdir().unwrap();
    let settings = BufferConfig {
        mode: Mode::OnError,
        direct_timeout: Duration::from_secs(2),
        ..BufferConfig::new(dir.path())
    };
    let buffer = Buffer::open(
        settings,
        KafkaProvider::new(config(&brokers, false)).unwrap(),
    )
    .unwrap();
    let topic = buffer.topic(&name).unwrap();
    let put = |i: u32| {
        topic
            .write_blocking(&[Message::new(i.to_string())])
            .unwrap()
            .buffered
    };
    let mut last = 0;
    let straight = |last: &mut u32| {
        // A broker that has just started takes some time for the first message.
        while put(*last) {
            *last += 1;
            buffer.flush_blocking(LIMIT).unwrap();
        }
    };
    straight(&mut last);
    let there = read_all(&brokers, &name, 1).remove(0);
    assert_eq!(there.last().unwrap().text(), last.to_string());
    broker.stop();
    for _ in 0..50 {
        last += 1;
        assert!(put(last), "what fails is on disk when the write returns");
    }
    broker.start_again();
    for _ in 0..50 {
        last += 1;
        put(last);
    }
    buffer.flush_blocking(LIMIT).unwrap();
    last += 1;
    straight(&mut last);
    buffer.close(Closing::Drain(LIMIT)).unwrap();
    let read = read_all(&brokers, &name, 1).remove(0);
    let mut numbers: Vec<u32> = read.iter().map(|m| m.text().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    // What was on the wire when it was given up may have been taken.
    numbers.dedup();
    assert_eq!(numbers, (0..=last).collect::<Vec<_>>());
}
