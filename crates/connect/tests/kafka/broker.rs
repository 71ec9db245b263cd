//! Brokers, and reads of their messages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};

/// Limit of any step.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// A message as stored by a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl Read {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let headers = message.headers().map_or_else(Vec::new, |all| {
            all.iter()
                .map(|h| (h.key.to_owned(), own(h.value)))
                .collect()
        });
        Self {
            key: own(message.key()),
            payload: own(message.payload()),
            headers,
            timestamp_ms: message.timestamp().to_millis(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.payload.as_deref().unwrap_or_default()).into_owned()
    }
}

/// Creates a topic for one test.
pub(crate) fn make_topic(brokers: &str, name: &str, partitions: i32) -> String {
    let name = format!("{name}-{}", std::process::id());
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let made = runtime
        .block_on(admin.create_topics([&new], &AdminOptions::new()))
        .unwrap();
    for result in made {
        result.unwrap();
    }
    name
}

/// All committed messages of a topic, by partition, in order.
pub(crate) fn read_all(brokers: &str, topic: &str, partitions: i32) -> Vec<Vec<Read>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "forebay-test-reader")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut places = TopicPartitionList::new();
    for partition in 0..partitions {
        places
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&places).unwrap();
    let mut all = vec![Vec::new(); usize::try_from(partitions).unwrap()];
    let mut ends = 0;
    while ends < partitions {
        match consumer.poll(LIMIT).expect("the broker responds in time") {
            Ok(message) => {
                all[usize::try_from(message.partition()).unwrap()].push(Read::of(&message))
            }
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
    all
}

/// A broker that the test can stop, with its own directory.
pub(crate) struct OwnBroker {
    dir: tempfile::TempDir,
    port: u16,
    /// Additional lines of the broker's settings.
    settings: String,
}

impl OwnBroker {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts with settings besides those of the script.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        let broker = Self {
            dir: tempfile::tempdir().unwrap(),
            port: two_free_ports(),
            settings: settings.iter().map(|(n, v)| format!("{n}={v}\n")).collect(),
        };
        broker.run("start");
        broker
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn run(&self, verb: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/services/kafka.sh");
        let mut command = Command::new(script);
        command
            .arg(verb)
            .arg(self.dir.path())
            .env("KAFKA_SETTINGS", &self.settings)
            .env("FOREBAY_OWNER_PID", std::process::id().to_string());
        if verb == "start" {
            command.arg(self.port.to_string());
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Restarts after [`OwnBroker::kill`].
    pub(crate) fn start_again(&self) {
        self.run("start");
    }

    pub(crate) fn stop(&self) {
        self.run("stop");
    }

    fn signal(&self, signal: Signal) {
        let file: PathBuf = self.dir.path().join("kafka.pid");
        let text = std::fs::read_to_string(file).unwrap();
        let pid = text.split(' ').next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Suspends the broker: it accepts connections and never responds.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Below the kernel's range of ephemeral ports; different for each broker of this process.
fn two_free_ports() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap() * 2;
    loop {
        let port = start + 2 * TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no free ports");
        if free(port) && free(port + 1) {
            return port;
        }
    }
}
