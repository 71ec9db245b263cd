//! Topics of the real broker and their contents.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Timeout of the broker.
const LIMIT: Duration = Duration::from_secs(60);

/// A separate topic for each test, with one partition.
pub(crate) fn make_topic(brokers: &str, name: &str) -> String {
    let name = format!("{name}-{}", std::process::id());
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let made = runtime.block_on(admin.create_topics([&new], &AdminOptions::new()));
    for result in made.unwrap() {
        result.unwrap();
    }
    name
}

/// Payloads of all committed messages, in order.
pub(crate) fn read_all(brokers: &str, topic: &str) -> Vec<Vec<u8>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "forebay-test-reader")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut places = TopicPartitionList::new();
    places
        .add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&places).unwrap();
    let mut all = Vec::new();
    loop {
        match consumer.poll(LIMIT).expect("the broker answers in time") {
            Ok(message) => all.push(message.payload().unwrap_or_default().to_vec()),
            Err(KafkaError::PartitionEOF(_)) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}
