//! Client settings as received by a broker, and the broker's errors of a topic.

use std::path::Path;
use std::time::Duration;

use forebay_buffer::{Buffer, BufferConfig, BufferEvent, CloseMode, Message, WriteError};
use forebay_connect::provider::kafka::{KafkaConfig, KafkaProvider};
use forebay_test_support::services;

use crate::broker::{LIMIT, OwnBroker, make_topic};

/// Codec of the first batch of a partition in the broker's log: the lowest bits of the batch's
/// attributes.
fn codec(log: &Path) -> u8 {
    let bytes = std::fs::read(log).unwrap();
    bytes[22] & 7
}

/// The log of the first partition of a topic.
fn log_of(dir: &Path, topic: &str) -> std::path::PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name == format!("{topic}-0") {
                return path.join("00000000000000000000.log");
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    panic!("no partition of {topic}");
}

fn deliver(config: KafkaConfig, topic: &str) {
    let dir = tempfile::tempdir().unwrap();
    let provider = KafkaProvider::new(config).unwrap();
    let buffer = Buffer::open(BufferConfig::new(dir.path()), provider).unwrap();
    let message = Message::new("the same again ".repeat(500));
    buffer.write_blocking(topic, message).unwrap();
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
}

#[test]
fn a_setting_under_its_alias_overrides_the_default() {
    if services::kafka("a_setting_under_its_alias_overrides_the_default").is_none() {
        return;
    }
    let broker = OwnBroker::start();
    let brokers = broker.brokers();
    let mut number = 0;
    // By chance one of two would be right.
    for (name, value, wanted) in [
        ("compression.codec", "gzip", 1),
        ("compression.codec", "none", 0),
        ("compression.codec", "snappy", 2),
        ("compression.type", "gzip", 1),
        ("compression.codec", "gzip", 1),
        ("compression.codec", "none", 0),
    ] {
        number += 1;
        let topic = make_topic(&brokers, &format!("codec-{number}"), 1);
        let mut config = KafkaConfig::new(&brokers);
        config.settings = [(name.to_owned(), value.to_owned())].into();
        deliver(config, &topic);
        assert_eq!(
            codec(&log_of(broker.dir(), &topic)),
            wanted,
            "{name}={value}"
        );
    }
    let two = [("compression.codec", "gzip"), ("compression.type", "none")];
    let mut config = KafkaConfig::new(&brokers);
    config.settings = two.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let error = KafkaProvider::new(config).err().unwrap().to_string();
    assert!(
        error.contains("compression.codec") && error.contains("another value"),
        "{error}"
    );
}

#[test]
fn a_missing_topic_is_reported_by_name() {
    if services::kafka("a_missing_topic_is_reported_by_name").is_none() {
        return;
    }
    let broker = OwnBroker::start_with(&[("auto.create.topics.enable", "false")]);
    let brokers = broker.brokers();
    let good = make_topic(&brokers, "good", 1);
    for transactions in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let settings = BufferConfig {
            stall: Duration::from_secs(10),
            ..BufferConfig::new(dir.path())
        };
        let config = KafkaConfig {
            transactions,
            timeout: Duration::from_secs(3),
            ..KafkaConfig::new(&brokers)
        };
        // A broker that was just started has no coordinators and leaders yet.
        deliver(config.clone(), &good);
        let provider = KafkaProvider::new(config).unwrap();
        let buffer = Buffer::open(settings, provider).unwrap();
        let events = buffer.events();
        buffer.write_blocking(&good, Message::new("1")).unwrap();
        buffer.write_blocking("missing", Message::new("2")).unwrap();
        let reported = loop {
            let event = events.wait(LIMIT).expect("the event is received in time");
            if let BufferEvent::ProviderDown { partition, error } = event {
                break (partition.to_string(), error);
            }
        };
        assert_eq!(
            reported,
            ("missing".to_owned(), "unknown topic missing".to_owned())
        );
        let closed = buffer.close(CloseMode::Drain(Duration::from_secs(4)));
        let Err(WriteError::Undelivered {
            delivered,
            all,
            cause,
            ..
        }) = closed
        else {
            panic!("{closed:?}")
        };
        assert!(
            all - delivered == 1 && cause == "unknown topic missing",
            "{delivered} of {all}: {cause}"
        );
    }
}
