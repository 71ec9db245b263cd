//! The message buffer compared with its limits, in one run: `cargo run --release --features buffer
//! --bin buffer -- --kafka HOST:PORT`.
//!
//! Writes compared with the log's own append of the same bytes, delivery to Kafka compared with the
//! same client without a buffer.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use forebay_buffer::{
    Batch, Buffer, BufferConfig, Closing, Connection, Done, Lane, Message, Provider, SendError,
};
use forebay_log::{Log, LogConfig, NewBlock, StdEnv};
use forebay_connect::provider::kafka::{KafkaConfig, KafkaProvider};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

#[derive(Parser)]
struct Arguments {
    /// Kafka broker; without it the Kafka cases are skipped
    #[arg(long)]
    kafka: Option<String>,
    /// Messages per write case
    #[arg(long, default_value_t = 4_000_000)]
    messages: usize,
    /// Messages per delivery case
    #[arg(long, default_value_t = 500_000)]
    delivered: usize,
    /// GiB of backlog to drain; 0: none
    #[arg(long, default_value_t = 1)]
    backlog: u64,
    /// Numbers of writers
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    writers: Vec<usize>,
    /// Rounds of a write case; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Parent of a temporary directory for the files
    #[arg(long, default_value = "/var/tmp")]
    dir: std::path::PathBuf,
}

const PAYLOAD: [u8; 100] = [b'x'; 100];
/// Messages per batch, and batches in flight per writer.
const BATCH: usize = 1_000;
const UNDER_WAY: usize = 32;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!("| case | writers | messages/s | CPU ns a message | of the limit |");
    println!("| --- | --- | --- | --- | --- |");
    for &writers in &arguments.writers {
        writing(&arguments, writers)?;
    }
    if let Some(brokers) = &arguments.kafka {
        let limit = median(|| client(brokers, arguments.delivered))?;
        row("limit: the client alone", 1, limit, None);
        let buffered = median(|| deliver(&arguments, brokers))?;
        row("write and deliver to Kafka", 1, buffered, Some(limit));
        idle(&arguments, brokers)?;
    }
    if arguments.backlog > 0 {
        drain(&arguments)?;
    }
    Ok(())
}

/// The three write cases, interleaved, so that other load on the machine affects all of them.
fn writing(arguments: &Arguments, writers: usize) -> anyhow::Result<()> {
    let mut runs: [Vec<Figures>; 3] = Default::default();
    for _ in 0..arguments.rounds.max(1) {
        runs[0].push(append(arguments, writers)?);
        runs[1].push(write(arguments, writers, BATCH)?);
        runs[2].push(write(arguments, writers, 1)?);
    }
    let limit = middle(&mut runs[0]);
    row("limit: the log's append", writers, limit, None);
    row(
        "batches of 1,000",
        writers,
        middle(&mut runs[1]),
        Some(limit),
    );
    row(
        "single messages",
        writers,
        middle(&mut runs[2]),
        Some(limit),
    );
    Ok(())
}

#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    /// CPU of all threads, including kernel time.
    cpu_ns: f64,
}

/// Measures from its creation.
struct Watch {
    started: Instant,
    cpu: f64,
}

impl Watch {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    fn figures(&self, messages: usize) -> Figures {
        let messages = messages as f64;
        Figures {
            rate: messages / self.started.elapsed().as_secs_f64(),
            cpu_ns: (cpu_seconds() - self.cpu) * 1e9 / messages,
        }
    }
}

fn cpu_seconds() -> f64 {
    // SAFETY: `getrusage` fills what it is given, and any bytes are a valid `rusage`.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn row(case: &str, writers: usize, figures: Figures, limit: Option<Figures>) {
    let ratio = limit.map_or_else(String::new, |limit| {
        format!("{:.2}", figures.rate / limit.rate)
    });
    let Figures { rate, cpu_ns } = figures;
    println!("| {case} | {writers} | {rate:.0} | {cpu_ns:.0} | {ratio} |");
}

fn middle(runs: &mut [Figures]) -> Figures {
    runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    runs[runs.len() / 2]
}

fn median(mut run: impl FnMut() -> anyhow::Result<Figures>) -> anyhow::Result<Figures> {
    Ok(middle(&mut [run()?, run()?, run()?]))
}

/// The log alone: the bytes of a batch as one block, fdatasync.
fn append(arguments: &Arguments, writers: usize) -> anyhow::Result<Figures> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), LogConfig::default())?;
    let stream = log.stream("bench")?;
    let blocks = arguments.messages / BATCH / writers;
    let watch = Watch::start();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            let log = log.clone();
            scope.spawn(move || {
                let mut tickets = VecDeque::new();
                for _ in 0..blocks {
                    // Builds the bytes anew for each block, as every producer has to.
                    let mut bytes = Vec::with_capacity(BATCH * PAYLOAD.len());
                    for _ in 0..BATCH {
                        bytes.extend_from_slice(&PAYLOAD);
                    }
                    let block = NewBlock {
                        stream,
                        records: BATCH as u32,
                        codec: 0,
                        raw_len: bytes.len() as u32,
                        first_at_ms: 0,
                        last_at_ms: 0,
                        payload: Bytes::from(bytes),
                    };
                    tickets.push_back(log.append_wait(block).expect("the log accepts it"));
                    if tickets.len() > UNDER_WAY {
                        tickets.pop_front().expect("some").wait().expect("on disk");
                    }
                }
                for ticket in tickets {
                    ticket.wait().expect("on disk");
                }
            });
        }
    });
    Ok(watch.figures(blocks * BATCH * writers))
}

/// A provider that is down, or that accepts everything.
struct Sink {
    takes: bool,
}

impl Provider for Sink {
    fn name(&self) -> &str {
        "sink"
    }
    fn open(&self, _: &Lane) -> Result<Box<dyn Connection>, SendError> {
        if self.takes {
            Ok(Box::new(Self { takes: true }))
        } else {
            Err(SendError::retry("away"))
        }
    }
}

impl Connection for Sink {
    fn send(&mut self, _: &Batch, done: Done) {
        done.taken();
    }
}

fn config(dir: &Path) -> BufferConfig {
    BufferConfig {
        in_flight_messages: 100_000,
        repeat_window: 400_000,
        batch_messages: 5_000,
        max_bytes: 64 << 30,
        ..BufferConfig::new(dir)
    }
}

/// The buffer with its provider down: until all is on disk.
fn write(arguments: &Arguments, writers: usize, batch: usize) -> anyhow::Result<Figures> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let buffer = Buffer::open(config(dir.path()), Sink { takes: false })?;
    let topic = buffer.topic("bench")?;
    let batches = arguments.messages / batch / writers;
    let under_way = UNDER_WAY * BATCH / batch;
    let watch = Watch::start();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            let topic = topic.clone();
            scope.spawn(move || put(&topic, batches, batch, under_way));
        }
    });
    let figures = watch.figures(batches * batch * writers);
    buffer.close(Closing::Leave)?;
    Ok(figures)
}

fn put(topic: &forebay_buffer::Topic, batches: usize, batch: usize, under_way: usize) {
    let messages = vec![Message::new(Bytes::from_static(&PAYLOAD)); batch];
    let mut receipts = VecDeque::new();
    for _ in 0..batches {
        receipts.push_back(topic.hand_over_blocking(&messages).expect("taken"));
        if receipts.len() > under_way {
            receipts.pop_front().expect("some").wait().expect("on disk");
        }
    }
    for receipt in receipts {
        receipt.wait().expect("on disk");
    }
}

fn new_topic(case: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("bench-{case}-{}-{number}", std::process::id())
}

struct Count(Arc<AtomicU64>);

impl rdkafka::ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a message failed");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same client with the provider's settings.
fn client(brokers: &str, messages: usize) -> anyhow::Result<Figures> {
    let count = Arc::new(AtomicU64::new(0));
    let producer: ThreadedProducer<Count> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", "100000")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .create_with_context(Count(count.clone()))?;
    let topic = new_topic("client");
    let mut warm = BaseRecord::<(), [u8]>::to(&topic).payload(&PAYLOAD[..]);
    while let Err((_, back)) = producer.send(warm) {
        warm = back;
    }
    producer.flush(Duration::from_secs(60))?;
    let watch = Watch::start();
    for _ in 0..messages {
        let mut record = BaseRecord::<(), [u8]>::to(&topic).payload(&PAYLOAD[..]);
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(120))?;
    assert_eq!(count.load(Ordering::Relaxed), messages as u64 + 1);
    Ok(watch.figures(messages))
}

/// The buffer before Kafka: until all is acknowledged.
fn deliver(arguments: &Arguments, brokers: &str) -> anyhow::Result<Figures> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let provider = KafkaProvider::new(KafkaConfig::new(brokers))?;
    let buffer = Buffer::open(config(dir.path()), provider)?;
    let topic = buffer.topic(&new_topic("buffer"))?;
    topic.write_blocking(&[Message::new(Bytes::from_static(&PAYLOAD))])?;
    buffer.flush_blocking(Duration::from_secs(60))?;
    let watch = Watch::start();
    put(&topic, arguments.delivered / BATCH, BATCH, UNDER_WAY);
    buffer.flush_blocking(Duration::from_secs(120))?;
    let figures = watch.figures(arguments.delivered / BATCH * BATCH);
    buffer.close(Closing::Drain(Duration::from_secs(10)))?;
    Ok(figures)
}

/// Occasional messages: latency from the call to the broker's acknowledgement.
fn idle(arguments: &Arguments, brokers: &str) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let provider = KafkaProvider::new(KafkaConfig::new(brokers))?;
    let buffer = Buffer::open(config(dir.path()), provider)?;
    let topic = buffer.topic(&new_topic("idle"))?;
    let mut delays = Vec::new();
    for _ in 0..501 {
        let started = Instant::now();
        topic.write_blocking(&[Message::new(Bytes::from_static(&PAYLOAD))])?;
        buffer.flush_blocking(Duration::from_secs(60))?;
        delays.push(started.elapsed());
        std::thread::sleep(Duration::from_millis(7));
    }
    // The first one opens the connection and creates the topic.
    delays.remove(0);
    delays.sort();
    let ms = |i: usize| delays[i].as_secs_f64() * 1e3;
    println!(
        "\nidle, write to confirmation, linger 5 ms: p50 {:.1} ms, p99 {:.1} ms",
        ms(250),
        ms(495)
    );
    Ok(())
}

/// Writes and drains a backlog: memory growth.
fn drain(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let messages = (arguments.backlog << 30) as usize / 105;
    let buffer = Buffer::open(config(dir.path()), Sink { takes: false })?;
    put(&buffer.topic("bench")?, messages / BATCH, BATCH, UNDER_WAY);
    buffer.close(Closing::Leave)?;
    drop(buffer);
    let before = resident_mb()?;
    let started = Instant::now();
    let buffer = Buffer::open(config(dir.path()), Sink { takes: true })?;
    let mut peak = 0;
    while buffer.flush_blocking(Duration::from_millis(100)).is_err() {
        peak = peak.max(resident_mb()?);
    }
    let rate = messages as f64 / started.elapsed().as_secs_f64();
    println!(
        "\ndrain of {} GiB: {rate:.0} messages/s, resident {before} MB before, {peak} MB peak during the drain",
        arguments.backlog
    );
    Ok(())
}

fn resident_mb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kb: u64 = line
        .unwrap_or_default()
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kb / 1024)
}
