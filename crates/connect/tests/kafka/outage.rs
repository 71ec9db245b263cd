//! Outages of the broker.

use std::time::Duration;

use forebay_buffer::{Buffer, BufferConfig, BufferEvent, BufferMode, CloseMode, Message, Topic};
use forebay_connect::provider::kafka::KafkaProvider;
use forebay_test_support::services;

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

fn wait_for(events: &forebay_buffer::EventStream, wanted: fn(&BufferEvent) -> bool) {
    loop {
        let event = events.wait(LIMIT).expect("the event is received in time");
        if wanted(&event) {
            return;
        }
    }
}

fn is_down(event: &BufferEvent) -> bool {
    matches!(event, BufferEvent::ProviderDown { .. })
}

/// A buffer that writes to its own topic.
struct OutageRun {
    buffer: Buffer,
    events: forebay_buffer::EventStream,
    topic: Topic,
    name: String,
    _dir: tempfile::TempDir,
}

impl OutageRun {
    fn start(brokers: &str, transactions: bool) -> Self {
        let name = make_topic(brokers, &format!("outage-{transactions}"), 1);
        let dir = tempfile::tempdir().unwrap();
        let settings = BufferConfig {
            stall: Duration::from_millis(500),
            backoff_max: Duration::from_millis(500),
            ..BufferConfig::new(dir.path())
        };
        let mut kafka = config(brokers, transactions);
        // Timeout of a transaction that was begun before the outage.
        kafka.timeout = Duration::from_secs(5);
        let buffer = Buffer::open(settings, KafkaProvider::new(kafka).unwrap()).unwrap();
        Self {
            events: buffer.events(),
            topic: buffer.topic(&name).unwrap(),
            buffer,
            name,
            _dir: dir,
        }
    }
}

/// The broker is killed and suspended under load: as long as the process lives, no message is lost,
/// duplicated or reordered. With and without transactions, in the same outages.
#[test]
fn outages_lose_repeat_and_reorder_nothing() {
    if services::kafka("outages_lose_repeat_and_reorder_nothing").is_none() {
        return;
    }
    let broker = OwnBroker::start();
    let brokers = broker.brokers();
    let runs = [false, true].map(|transactions| OutageRun::start(&brokers, transactions));
    let all = |range: std::ops::Range<u32>| {
        for run in &runs {
            write(&run.topic, range.clone());
        }
    };
    let wait_all = |wanted: fn(&BufferEvent) -> bool| {
        for run in &runs {
            wait_for(&run.events, wanted);
        }
    };
    all(0..300);
    broker.kill();
    all(300..600);
    wait_all(is_down);
    broker.start_again();
    all(600..900);
    wait_all(|e| matches!(e, BufferEvent::ProviderUp { .. }));
    broker.freeze();
    all(900..1_200);
    wait_all(is_down);
    broker.thaw();
    all(1_200..1_500);
    for run in runs {
        run.buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        let read = read_all(&brokers, &run.name, 1).remove(0);
        let numbers: Vec<u32> = read.iter().map(|m| m.text().parse().unwrap()).collect();
        assert_eq!(numbers, (0..1_500).collect::<Vec<_>>(), "{}", run.name);
    }
}

/// Confirmed messages survive a kill of the broker, also in a topic created by the first message: a
/// confirmation relies on the page cache, which outlives the broker's process.
#[test]
fn messages_confirmed_in_a_new_topic_survive_a_kill_of_the_broker() {
    if services::kafka("messages_confirmed_in_a_new_topic_survive_a_kill_of_the_broker").is_none() {
        return;
    }
    let rounds: u32 = std::env::var("FOREBAY_TEST_BROKER_KILLS").map_or(1, |n| n.parse().unwrap());
    let broker = OwnBroker::start();
    let brokers = broker.brokers();
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let settings = BufferConfig {
            mode: BufferMode::Block,
            ..BufferConfig::new(dir.path())
        };
        let provider = KafkaProvider::new(config(&brokers, false)).unwrap();
        let buffer = Buffer::open(settings, provider).unwrap();
        let names: Vec<String> = (0..4).map(|n| format!("new-{round}-{n}")).collect();
        for name in &names {
            let accepted = buffer.write_blocking(name, Message::new(name.clone()));
            assert!(!accepted.unwrap().buffered, "confirmed by the broker");
        }
        broker.kill();
        drop(buffer);
        broker.start_again();
        for name in names {
            let read = read_all(&brokers, &name, 1).remove(0);
            let texts: Vec<String> = read.iter().map(super::broker::Read::text).collect();
            assert_eq!(texts, [name]);
        }
    }
}

/// Delivers directly until the broker fails, then through the disk until that is drained.
#[test]
fn buffer_on_error_uses_the_disk_while_the_broker_is_unavailable() {
    if services::kafka("buffer_on_error_uses_the_disk_while_the_broker_is_unavailable").is_none() {
        return;
    }
    let broker = OwnBroker::start();
    let brokers = broker.brokers();
    let name = make_topic(&brokers, "on-error", 1);
    let dir = tempfile::tempdir().unwrap();
    let settings = BufferConfig {
        mode: BufferMode::OnError,
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
        // A restarted broker takes some time for the first message.
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
        assert!(
            put(last),
            "a failed message is on disk when the write returns"
        );
    }
    broker.start_again();
    for _ in 0..50 {
        last += 1;
        put(last);
    }
    buffer.flush_blocking(LIMIT).unwrap();
    last += 1;
    straight(&mut last);
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    let read = read_all(&brokers, &name, 1).remove(0);
    let mut numbers: Vec<u32> = read.iter().map(|m| m.text().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    // Messages on the wire when delivery was aborted may have been stored.
    numbers.dedup();
    assert_eq!(numbers, (0..=last).collect::<Vec<_>>());
}
