//! Delivery to a broker.

use forebay_buffer::{Buffer, BufferConfig, BufferMode, CloseMode, Message, WriteError};
use forebay_connect::provider::kafka::{KafkaCompression, KafkaConfig, KafkaProvider};
use forebay_test_support::services;

use crate::broker::{LIMIT, Read, make_topic, read_all};

pub(crate) fn config(brokers: &str, transactions: bool) -> KafkaConfig {
    KafkaConfig {
        transactions,
        ..KafkaConfig::new(brokers)
    }
}

#[test]
fn all_parts_of_a_message_arrive_with_any_bytes() {
    let Some(brokers) = services::kafka("all_parts_of_a_message_arrive_with_any_bytes") else {
        return;
    };
    for (name, transactions, compression) in [
        ("parts-none", false, KafkaCompression::None),
        ("parts-gzip", false, KafkaCompression::Gzip),
        ("parts-snappy", false, KafkaCompression::Snappy),
        ("parts-lz4", true, KafkaCompression::Lz4),
    ] {
        let topic = make_topic(&brokers, name, 1);
        let dir = tempfile::tempdir().unwrap();
        let kafka = KafkaConfig {
            compression,
            ..config(&brokers, transactions)
        };
        let buffer = Buffer::open(
            BufferConfig::new(dir.path()),
            KafkaProvider::new(kafka).unwrap(),
        )
        .unwrap();
        let messages = [
            Message::keyed(&b"k\0\xff\n"[..], &b"line\nline\0\xc3\x28"[..])
                .header("h", &b"\xff"[..])
                .header("h", "twice")
                .at(1_700_000_000_123),
            Message {
                key: Some("deleted".into()),
                timestamp_ms: Some(5),
                ..Message::default()
            },
            Message::new("").at(6),
        ];
        buffer.write_batch_blocking(&topic, &messages).unwrap();
        buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        let read = read_all(&brokers, &topic, 1).remove(0);
        let own = |bytes: &Option<_>| Option::<&bytes::Bytes>::map(bytes.as_ref(), |b| b.to_vec());
        let sent: Vec<Read> = messages
            .iter()
            .map(|m| Read {
                key: own(&m.key),
                payload: own(&m.payload),
                headers: m
                    .headers
                    .iter()
                    .map(|(n, v)| (n.to_string(), own(v)))
                    .collect(),
                timestamp_ms: m.timestamp_ms,
            })
            .collect();
        assert_eq!(read, sent, "{name}");
    }
}

#[test]
fn keys_stay_in_order_across_partitions() {
    let Some(brokers) = services::kafka("keys_stay_in_order_across_partitions") else {
        return;
    };
    for transactions in [false, true] {
        let topic = make_topic(&brokers, &format!("order-{transactions}"), 3);
        let dir = tempfile::tempdir().unwrap();
        let provider = KafkaProvider::new(config(&brokers, transactions)).unwrap();
        let buffer = Buffer::open(BufferConfig::new(dir.path()), provider).unwrap();
        let messages: Vec<_> = (0..30_000)
            .map(|i| Message::keyed(format!("{}", i % 100), i.to_string()))
            .collect();
        for batch in messages.chunks(1_000) {
            buffer.write_batch_blocking(&topic, batch).unwrap();
        }
        buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        let partitions = read_all(&brokers, &topic, 3);
        assert_eq!(partitions.iter().map(Vec::len).sum::<usize>(), 30_000);
        for partition in partitions {
            let numbers: Vec<u32> = partition
                .iter()
                .map(|m| m.text().parse().unwrap())
                .collect();
            assert!(
                numbers.is_sorted(),
                "the buffer's partition is in order, so each Kafka partition is"
            );
        }
    }
}

#[test]
fn a_message_that_the_broker_rejects_becomes_a_dead_letter() {
    let Some(brokers) = services::kafka("a_message_that_the_broker_rejects_becomes_a_dead_letter")
    else {
        return;
    };
    for transactions in [false, true] {
        let topic = make_topic(&brokers, &format!("poison-{transactions}"), 1);
        let dir = tempfile::tempdir().unwrap();
        let mut kafka = config(&brokers, transactions);
        // Lets the client accept it, so that the broker rejects it.
        kafka
            .settings
            .insert("message.max.bytes".to_owned(), "8000000".to_owned());
        kafka.compression = KafkaCompression::None;
        let settings = BufferConfig {
            max_message_bytes: 4 << 20,
            ..BufferConfig::new(dir.path())
        };
        let buffer = Buffer::open(settings, KafkaProvider::new(kafka).unwrap()).unwrap();
        buffer
            .write_blocking(&topic, Message::new("before"))
            .unwrap();
        buffer
            .write_blocking(&topic, Message::new(vec![b'x'; 2 << 20]))
            .unwrap();
        buffer
            .write_blocking(&topic, Message::new("after"))
            .unwrap();
        buffer.flush_blocking(LIMIT).unwrap();
        let dead: Vec<_> = buffer.dead_letters(0).map(Result::unwrap).collect();
        let sizes: Vec<_> = dead.iter().map(|d| d.message.len()).collect();
        assert_eq!(sizes, [2 << 20], "transactions: {transactions}");
        assert!(dead[0].error.contains("size"), "{}", dead[0].error);
        buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        let texts: Vec<_> = read_all(&brokers, &topic, 1)
            .remove(0)
            .iter()
            .map(Read::text)
            .collect();
        assert_eq!(texts, ["before", "after"]);
    }
}

#[test]
fn direct_modes_confirm_messages_that_the_broker_has() {
    let Some(brokers) = services::kafka("direct_modes_confirm_messages_that_the_broker_has") else {
        return;
    };
    let topic = make_topic(&brokers, "direct", 1);
    let dir = tempfile::tempdir().unwrap();
    let settings = BufferConfig {
        mode: BufferMode::Error,
        ..BufferConfig::new(dir.path())
    };
    let buffer = Buffer::open(
        settings,
        KafkaProvider::new(config(&brokers, false)).unwrap(),
    )
    .unwrap();
    assert!(
        !buffer
            .write_blocking(&topic, Message::new("1"))
            .unwrap()
            .buffered
    );
    assert_eq!(read_all(&brokers, &topic, 1)[0].len(), 1);
    drop(buffer);
    let unavailable = KafkaProvider::new(KafkaConfig::new("127.0.0.1:1")).unwrap();
    let settings = BufferConfig {
        mode: BufferMode::Error,
        direct_timeout: std::time::Duration::from_millis(300),
        ..BufferConfig::new(dir.path())
    };
    let buffer = Buffer::open(settings, unavailable).unwrap();
    let error = buffer
        .write_blocking(&topic, Message::new("2"))
        .unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::Provider {
                retryable: true,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_setting_unknown_to_librdkafka_is_rejected() {
    let mut kafka = config("127.0.0.1:1", false);
    kafka
        .settings
        .insert("no.such.setting".to_owned(), "1".to_owned());
    let error = KafkaProvider::new(kafka).err().unwrap().to_string();
    assert!(error.contains("no.such.setting"), "{error}");
}
