//! `forebay buffer send` and `drain`: a buffer as a process.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::ValueEnum;
use forebay_buffer::{
    AppendReceipt, Buffer, BufferConfig, BufferMode, BufferStats, CloseMode, Message,
    OverflowPolicy, Provider, StdEnv, SyncPolicy, Topic, WriteError,
};
use forebay_model::words::counted;
use forebay_model::{ByteSize, HumanDuration};

use super::BufferArgs;
use super::input::{IncomingMessage, InputError, InputFormat, InputReader};
use super::provider::{ProviderArgs, ProviderOptionArgs, build};
use super::status::BufferStatus;
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::monitoring::{self, MetricsArgs};
use crate::signals::StopSignals;
use crate::terminal;

/// Most messages in one append.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// Interval of the status file.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Appends in flight.
const IN_FLIGHT_BATCHES_MAX: usize = 64;

/// Buffers messages from standard input or a FIFO on disk and delivers them.
///
/// Stops at the end of the input, or on SIGTERM or SIGINT, and then delivers queued messages for at
/// most --drain. The rest stays on disk for the next `send` or `drain`. A FIFO has no end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tail -F app.log | forebay buffer send --topic app --dir ./buffer --kafka localhost:9092
  forebay buffer send --format ndjson --dir ./buffer --http https://example.com/in --token-file ./token < events.ndjson
  mkfifo ./fifo; forebay buffer send --topic app --dir ./buffer --kafka localhost:9092 --input ./fifo --transactions")]
pub(crate) struct BufferSendArgs {
    /// Topic of messages without one
    #[arg(long)]
    topic: Option<String>,
    /// Format of the input
    #[arg(long, value_enum, default_value_t)]
    format: InputFormat,
    /// File or FIFO to read instead of standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Skip invalid messages instead of stopping
    #[arg(long)]
    skip_invalid: bool,
    #[command(flatten)]
    common: BufferCommonArgs,
}

/// Delivers the queued messages of a buffer and exits.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay buffer drain --dir ./buffer --kafka localhost:9092")]
pub(crate) struct BufferDrainArgs {
    #[command(flatten)]
    common: BufferCommonArgs,
}

#[derive(Debug, clap::Args)]
struct BufferCommonArgs {
    #[command(flatten)]
    place: BufferArgs,
    #[command(flatten)]
    target: ProviderArgs,
    #[command(flatten)]
    options: ProviderOptionArgs,
    /// When messages are buffered on disk
    #[arg(long, value_enum, default_value_t)]
    mode: ModeName,
    /// Durability of an accepted message
    #[arg(long, value_enum, default_value_t)]
    sync: SyncName,
    /// Maximum size of queued messages
    #[arg(long, value_name = "SIZE", default_value = "10 GB")]
    max_bytes: ByteSize,
    /// Action when the buffer is full
    #[arg(long, value_enum, default_value_t)]
    overflow: OverflowName,
    /// Drop messages that were queued for longer
    #[arg(long, value_name = "TIME")]
    max_age: Option<HumanDuration>,
    /// Attempts for a message that is rejected before it becomes a dead letter
    #[arg(long, value_name = "N", default_value_t = 3)]
    attempts: u32,
    /// How long to deliver at the end
    #[arg(long, value_name = "TIME", default_value = "30s")]
    drain: HumanDuration,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// See `BufferMode`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ModeName {
    /// Always
    #[default]
    Always,
    /// From the first error of the provider until the queue is empty
    OnError,
    /// Never: block until the provider accepts
    Block,
    /// Never: exit with the provider's error
    Error,
}

/// See `LogSyncMode`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SyncName {
    /// Survives a power failure
    #[default]
    Disk,
    /// Survives the end of this process
    Cache,
    /// Survives nothing
    None,
}

/// See `OverflowPolicy`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum OverflowName {
    /// Block the input
    #[default]
    Block,
    /// Drop the oldest messages
    DropOldest,
    /// Exit with an error
    Reject,
}

impl BufferCommonArgs {
    fn config(&self) -> BufferConfig {
        BufferConfig {
            mode: match self.mode {
                ModeName::Always => BufferMode::Always,
                ModeName::OnError => BufferMode::OnError,
                ModeName::Block => BufferMode::Block,
                ModeName::Error => BufferMode::Error,
            },
            sync: match self.sync {
                SyncName::Disk => SyncPolicy::Disk,
                SyncName::Cache => SyncPolicy::Cache,
                SyncName::None => SyncPolicy::None,
            },
            max_bytes: self.max_bytes.0,
            overflow: match self.overflow {
                OverflowName::Block => OverflowPolicy::Block(Duration::from_secs(365 * 86_400)),
                OverflowName::DropOldest => OverflowPolicy::DropOldest,
                OverflowName::Reject => OverflowPolicy::Reject,
            },
            max_age: self.max_age.map(|age| age.0),
            attempts: self.attempts,
            ..BufferConfig::new(self.place.log_dir())
        }
    }

    fn open(&self, env: &Environment) -> Result<(Buffer, Arc<dyn Provider>), CliError> {
        let provider = build(&self.target, &self.options, &self.place.dir, env)?;
        let opened = Buffer::open_in(Arc::new(StdEnv::new()), self.config(), provider.clone());
        let buffer = opened.map_err(CliError::new)?;
        if !buffer.recovery().is_clean() {
            terminal::note(
                "the files of the buffer were damaged; `forebay buffer stat` shows the loss",
            );
        }
        Ok((buffer, provider))
    }

    /// Writes the status and the metrics.
    fn show(&self, provider: &str, now: &BufferStats, before: Option<&BufferStats>) {
        BufferStatus::from_stats(provider, now, before).write(&self.place.dir);
        // A closed buffer has no partitions any more: the file keeps their last values.
        let written = match now.partitions.is_empty() {
            true => Ok(()),
            false => self.metrics.write(|| monitoring::buffer(now)),
        };
        if let Err(error) = written {
            terminal::note(error.message());
        }
    }

    /// Delivers the queued messages and writes the status every second meanwhile.
    fn close(&self, buffer: &Buffer, provider: &str) -> Result<(), CliError> {
        let dir = &self.place.dir;
        self.metrics.write(|| monitoring::buffer(&buffer.stats()))?;
        let (end, ended) = mpsc::sync_channel::<()>(0);
        let closed = std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut before = None;
                loop {
                    let now = buffer.stats();
                    self.show(provider, &now, before.as_ref());
                    before = Some(now);
                    let waited = ended.recv_timeout(STATUS_INTERVAL);
                    if waited != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
            let closed = buffer.close(CloseMode::Drain(self.drain.0));
            drop(end);
            closed
        });
        match &closed {
            Err(WriteError::Undelivered { cause, .. }) => {
                BufferStatus::write_undelivered(dir, cause)
            }
            _ => BufferStatus::remove(dir),
        }
        closed.map_err(|e| {
            CliError::new(e)
                .hint("the remaining messages are on disk: `forebay buffer drain` delivers them")
        })
    }
}

/// Reason to stop.
enum StopCause {
    Input(Result<(), CliError>),
    Signal(&'static str),
}

pub(crate) fn run(args: BufferSendArgs, env: &Environment) -> Result<(), CliError> {
    let source = open_input(args.input.as_deref())?;
    let (buffer, provider) = args.common.open(env)?;
    let topics = TopicCache::new(buffer.clone(), args.topic.as_deref())?;
    let (format, skip) = (args.format, args.skip_invalid);
    let max = args.common.config().max_message_bytes;
    let name = provider.name().to_owned();
    let end = run_with_signals(&args.common, &name, &buffer, move || {
        let input = InputReader::new(BufReader::with_capacity(1 << 20, source), format, max);
        feed(input, topics, skip)
    })?;
    if let StopCause::Signal(signal) = &end {
        terminal::note(format_args!("{signal}: delivering queued messages"));
    }
    let closed = args.common.close(&buffer, &name);
    match end {
        StopCause::Input(Err(failure)) => Err(failure),
        _ => closed,
    }
}

pub(crate) fn drain(args: &BufferDrainArgs, env: &Environment) -> Result<(), CliError> {
    let (buffer, provider) = args.common.open(env)?;
    let before: u64 = buffer.stats().partitions.iter().map(|l| l.waiting).sum();
    args.common.close(&buffer, provider.name())?;
    let messages = counted(before, "message");
    terminal::note(format_args!(
        "{messages} delivered or moved to the dead-letter queue"
    ));
    Ok(())
}

fn open_input(path: Option<&Path>) -> Result<Box<dyn Read + Send>, CliError> {
    let Some(path) = path else {
        return Ok(Box::new(io::stdin()));
    };
    let failed = |e| CliError::usage(format_args!("--input {}: {e}", path.display()));
    let is_fifo = std::fs::metadata(path)
        .map_err(failed)?
        .file_type()
        .is_fifo();
    // Also opened for writing, so that a FIFO has no end when its last writer closes it.
    let file: File = OpenOptions::new()
        .read(true)
        .write(is_fifo)
        .open(path)
        .map_err(failed)?;
    Ok(Box::new(file))
}

/// Runs the work on a thread, writes the status every second and handles signals. A thread blocked on
/// input can't be cancelled: it ends with the process.
fn run_with_signals(
    common: &BufferCommonArgs,
    provider: &str,
    buffer: &Buffer,
    work: impl FnOnce() -> Result<(), CliError> + Send + 'static,
) -> Result<StopCause, CliError> {
    let (result_sender, done) = tokio::sync::oneshot::channel();
    let feeder = std::thread::Builder::new().name("input".to_owned());
    let started = feeder.spawn(move || {
        // The receiver is gone after a signal.
        drop(result_sender.send(work()));
    });
    started.map_err(|e| CliError::new(format_args!("can't start a thread: {e}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| CliError::new(format_args!("can't start a runtime: {e}")))?;
    runtime.block_on(async {
        let mut signals = StopSignals::catch()?;
        let shown = buffer.clone();
        let families = move || monitoring::buffer(&shown.stats());
        let _listener = common.metrics.serve(families).await?;
        let mut tick = tokio::time::interval(STATUS_INTERVAL);
        let mut before = None;
        let mut done = done;
        loop {
            tokio::select! {
                ended = &mut done => {
                    let ended = ended.unwrap_or_else(|_| Err(CliError::new("the input thread panicked")));
                    return Ok(StopCause::Input(ended));
                }
                signal = signals.next() => return Ok(StopCause::Signal(signal)),
                _ = tick.tick() => {
                    let now = buffer.stats();
                    common.show(provider, &now, before.as_ref());
                    before = Some(now);
                }
            }
        }
    })
}

/// Topics in use.
struct TopicCache {
    buffer: Buffer,
    default: Option<Topic>,
    opened: HashMap<Arc<str>, Topic>,
}

impl TopicCache {
    fn new(buffer: Buffer, default: Option<&str>) -> Result<Self, CliError> {
        let default = default.map(|name| buffer.topic(name)).transpose();
        Ok(Self {
            default: default.map_err(CliError::usage)?,
            buffer,
            opened: HashMap::new(),
        })
    }

    fn find(&mut self, name: Option<&Arc<str>>) -> Result<Topic, String> {
        let Some(name) = name else {
            let missing = "it has no topic, and --topic is not set";
            return self.default.clone().ok_or_else(|| missing.to_owned());
        };
        if let Some(topic) = self.opened.get(name) {
            return Ok(topic.clone());
        }
        let topic = self.buffer.topic(name).map_err(|e| e.to_string())?;
        self.opened.insert(name.clone(), topic.clone());
        Ok(topic)
    }
}

/// Consecutive messages of one topic.
struct InputBatch {
    topic: Option<Arc<str>>,
    messages: Vec<Message>,
}

/// Reads to the end. One thread parses, this one appends whatever is parsed by then, so a message never
/// waits for the next one.
fn feed<R: io::BufRead + Send + 'static>(
    input: InputReader<R>,
    mut topics: TopicCache,
    skip: bool,
) -> Result<(), CliError> {
    let (sender, receiver) = mpsc::sync_channel(4 * BATCH_MESSAGES_MAX);
    let parser = std::thread::Builder::new().name("parser".to_owned());
    // It may block on input after the receiver is gone: it ends with the process.
    let started = parser.spawn(move || parse(input, &sender));
    started.map_err(|e| CliError::new(format_args!("can't start a thread: {e}")))?;
    let mut receipts: VecDeque<AppendReceipt> = VecDeque::new();
    let mut ended = Ok(());
    while let Ok(first) = receiver.recv() {
        let mut batch: Option<InputBatch> = None;
        for next in std::iter::once(first).chain(receiver.try_iter().take(BATCH_MESSAGES_MAX - 1)) {
            match next {
                Ok((topic, message)) => {
                    if batch.as_ref().is_some_and(|b| b.topic != topic) {
                        enqueue_batch(&mut topics, batch.take(), &mut receipts)?;
                    }
                    let messages = Vec::new();
                    let batch = batch.get_or_insert_with(|| InputBatch { topic, messages });
                    batch.messages.push(message);
                }
                Err(InputError::Invalid(problem)) if skip => {
                    terminal::note(format_args!("skipped: {problem}"));
                }
                Err(problem) => {
                    ended = Err(input_failure(problem));
                    break;
                }
            }
        }
        enqueue_batch(&mut topics, batch, &mut receipts)?;
        if ended.is_err() {
            break;
        }
    }
    for receipt in receipts {
        receipt.wait().map_err(CliError::new)?;
    }
    ended
}

fn parse<R: io::BufRead>(
    mut input: InputReader<R>,
    sender: &mpsc::SyncSender<Result<IncomingMessage, InputError>>,
) {
    loop {
        let next = match input.next() {
            Ok(None) => return,
            Ok(Some(message)) => Ok(message),
            Err(problem) => Err(problem),
        };
        let last = matches!(next, Err(InputError::Broken(_)));
        if sender.send(next).is_err() || last {
            return;
        }
    }
}

fn input_failure(problem: InputError) -> CliError {
    match problem {
        InputError::Invalid(problem) => {
            CliError::new(problem).hint("--skip-invalid skips such messages")
        }
        InputError::Broken(error) => CliError::new(format_args!("can't read the input: {error}")),
    }
}

fn enqueue_batch(
    topics: &mut TopicCache,
    batch: Option<InputBatch>,
    receipts: &mut VecDeque<AppendReceipt>,
) -> Result<(), CliError> {
    let Some(batch) = batch else {
        return Ok(());
    };
    let topic = topics.find(batch.topic.as_ref()).map_err(CliError::new)?;
    receipts.push_back(
        topic
            .hand_over_blocking(&batch.messages)
            .map_err(CliError::new)?,
    );
    while receipts.len() > IN_FLIGHT_BATCHES_MAX {
        let Some(oldest) = receipts.pop_front() else {
            break;
        };
        oldest.wait().map_err(CliError::new)?;
    }
    Ok(())
}
