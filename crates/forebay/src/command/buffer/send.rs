//! `forebay buffer send` and `drain`: a buffer in a process of its own.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::ValueEnum;
use forebay_buffer::{
    Buffer, BufferConfig, Closing, Message, Mode, Overflow, Provider, Receipt, StdEnv, SyncMode,
    Topic, WriteError,
};
use forebay_model::words::counted;
use forebay_model::{ByteSize, Span};

use super::Place;
use super::input::{Format, Incoming, Input, Problem};
use super::provider::{Options, Target, build};
use super::status::Status;
use crate::config::Environment;
use crate::failure::Failure;
use crate::signals::StopSignals;
use crate::terminal;

/// Messages that are handed over together, at most.
const TOGETHER: usize = 1_000;
/// How often the status is noted.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Batches that are handed over and not yet accepted.
const UNDER_WAY: usize = 64;

/// Reads messages from standard input or a FIFO, has them on disk, and delivers them.
///
/// It ends at the end of the input, or on SIGTERM or SIGINT: then it delivers what waits, for the
/// time that --drain allows. What is left stays on disk for the next `send` or `drain`. A FIFO has
/// no end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tail -F app.log | forebay buffer send --topic app --dir ./buffer --kafka localhost:9092
  forebay buffer send --format ndjson --dir ./buffer --http https://example.com/in --token-file ./token < events.ndjson
  mkfifo ./fifo; forebay buffer send --topic app --dir ./buffer --kafka localhost:9092 --input ./fifo --transactions")]
pub(crate) struct Args {
    /// Topic of the messages that name none
    #[arg(long)]
    topic: Option<String>,
    /// What the input looks like
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// A file or FIFO to read instead of standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Go on after a message that makes no sense, instead of ending
    #[arg(long)]
    skip_invalid: bool,
    #[command(flatten)]
    common: Common,
}

/// Delivers what waits in a buffer, and ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay buffer drain --dir ./buffer --kafka localhost:9092")]
pub(crate) struct Drain {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: Options,
    /// When messages go through the disk
    #[arg(long, value_enum, default_value_t)]
    mode: ModeName,
    /// What it takes for a message to be accepted
    #[arg(long, value_enum, default_value_t)]
    sync: SyncName,
    /// Bytes that may wait
    #[arg(long, value_name = "SIZE", default_value = "10 GB")]
    max_bytes: ByteSize,
    /// What happens when so many wait
    #[arg(long, value_enum, default_value_t)]
    overflow: OverflowName,
    /// How long a message may wait before it is dropped
    #[arg(long, value_name = "TIME")]
    max_age: Option<Span>,
    /// How often a message that is refused for good is tried before it is set aside
    #[arg(long, value_name = "N", default_value_t = 3)]
    attempts: u32,
    /// How long to deliver at the end
    #[arg(long, value_name = "TIME", default_value = "30s")]
    drain: Span,
}

/// See `BufferMode`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ModeName {
    /// Always
    #[default]
    Always,
    /// From the first error of the provider until what waits is delivered
    OnError,
    /// Never: wait until the provider takes them
    Block,
    /// Never: end with the provider's error
    Error,
}

/// See `LogSyncMode`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SyncName {
    /// It survives a power cut
    #[default]
    Disk,
    /// It survives the end of this process
    Cache,
    /// It survives nothing
    None,
}

/// See `OverflowPolicy`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum OverflowName {
    /// The input waits
    #[default]
    Block,
    /// The oldest messages are dropped
    DropOldest,
    /// It ends with an error
    Refuse,
}

impl Common {
    fn config(&self) -> BufferConfig {
        BufferConfig {
            mode: match self.mode {
                ModeName::Always => Mode::Always,
                ModeName::OnError => Mode::OnError,
                ModeName::Block => Mode::Block,
                ModeName::Error => Mode::Error,
            },
            sync: match self.sync {
                SyncName::Disk => SyncMode::Disk,
                SyncName::Cache => SyncMode::Cache,
                SyncName::None => SyncMode::None,
            },
            max_bytes: self.max_bytes.0,
            overflow: match self.overflow {
                OverflowName::Block => Overflow::Block(Duration::from_secs(365 * 86_400)),
                OverflowName::DropOldest => Overflow::DropOldest,
                OverflowName::Refuse => Overflow::Refuse,
            },
            max_age: self.max_age.map(|age| age.0),
            attempts: self.attempts,
            ..BufferConfig::new(self.place.log())
        }
    }

    fn open(&self, env: &Environment) -> Result<(Buffer, Arc<dyn Provider>), Failure> {
        let provider = build(&self.target, &self.options, &self.place.dir, env)?;
        let opened = Buffer::open_in(Arc::new(StdEnv::new()), self.config(), provider.clone());
        let buffer = opened.map_err(Failure::new)?;
        if !buffer.recovery().is_clean() {
            terminal::note(
                "the buffer's files were damaged; `forebay buffer stat` tells what is lost",
            );
        }
        Ok((buffer, provider))
    }

    /// Delivers what waits, and notes the status each second meanwhile.
    fn close(&self, buffer: &Buffer, provider: &str) -> Result<(), Failure> {
        let dir = &self.place.dir;
        let (end, ended) = mpsc::sync_channel::<()>(0);
        let closed = std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut before = None;
                loop {
                    let now = buffer.stats();
                    Status::of(provider, &now, before.as_ref()).write(dir);
                    before = Some(now);
                    let waited = ended.recv_timeout(STATUS_EVERY);
                    if waited != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
            let closed = buffer.close(Closing::Drain(self.drain.0));
            drop(end);
            closed
        });
        match &closed {
            Err(WriteError::Undelivered { cause, .. }) => Status::leave(dir, cause),
            _ => Status::remove(dir),
        }
        closed.map_err(|e| {
            Failure::new(e).hint("what is left is on disk: `forebay buffer drain` delivers it")
        })
    }
}

/// What ended the work.
enum End {
    Input(Result<(), Failure>),
    Signal(&'static str),
}

/// Runs `send`.
pub(crate) fn run(args: Args, env: &Environment) -> Result<(), Failure> {
    let source = open_input(args.input.as_deref())?;
    let (buffer, provider) = args.common.open(env)?;
    let topics = Topics::new(buffer.clone(), args.topic.as_deref())?;
    let (format, skip) = (args.format, args.skip_invalid);
    let max = args.common.config().max_message_bytes;
    let name = provider.name().to_owned();
    let end = until_the_end(&args.common.place.dir, &name, &buffer, move || {
        let input = Input::new(BufReader::with_capacity(1 << 20, source), format, max);
        feed(input, topics, skip)
    })?;
    if let End::Signal(signal) = &end {
        terminal::note(format_args!("{signal}: delivering what waits"));
    }
    let closed = args.common.close(&buffer, &name);
    match end {
        End::Input(Err(failure)) => Err(failure),
        _ => closed,
    }
}

/// Runs `drain`.
pub(crate) fn drain(args: &Drain, env: &Environment) -> Result<(), Failure> {
    let (buffer, provider) = args.common.open(env)?;
    let before: u64 = buffer.stats().lanes.iter().map(|l| l.waiting).sum();
    args.common.close(&buffer, provider.name())?;
    let messages = counted(before, "message");
    terminal::note(format_args!("{messages} delivered or set aside"));
    Ok(())
}

fn open_input(path: Option<&Path>) -> Result<Box<dyn Read + Send>, Failure> {
    let Some(path) = path else {
        return Ok(Box::new(io::stdin()));
    };
    let failed = |e| Failure::usage(format_args!("--input {}: {e}", path.display()));
    let is_fifo = std::fs::metadata(path)
        .map_err(failed)?
        .file_type()
        .is_fifo();
    // Opened for writing too, a FIFO has no end when its last writer goes.
    let file: File = OpenOptions::new()
        .read(true)
        .write(is_fifo)
        .open(path)
        .map_err(failed)?;
    Ok(Box::new(file))
}

/// Runs the work on a thread, notes the status each second, and hears signals. A thread that waits
/// for input can't be ended: it ends with the process.
fn until_the_end(
    dir: &Path,
    provider: &str,
    buffer: &Buffer,
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<End, Failure> {
    let (tell, done) = tokio::sync::oneshot::channel();
    let feeder = std::thread::Builder::new().name("input".to_owned());
    let started = feeder.spawn(move || {
        // Nobody listens any more: a signal was faster.
        drop(tell.send(work()));
    });
    started.map_err(|e| Failure::new(format_args!("can't start a thread: {e}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| Failure::new(format_args!("can't start a runtime: {e}")))?;
    runtime.block_on(async {
        let mut signals = StopSignals::catch()?;
        let mut tick = tokio::time::interval(STATUS_EVERY);
        let mut before = None;
        let mut done = done;
        loop {
            tokio::select! {
                ended = &mut done => {
                    let ended = ended.unwrap_or_else(|_| Err(Failure::new("the input's thread has panicked")));
                    return Ok(End::Input(ended));
                }
                signal = signals.next() => return Ok(End::Signal(signal)),
                _ = tick.tick() => {
                    let now = buffer.stats();
                    Status::of(provider, &now, before.as_ref()).write(dir);
                    before = Some(now);
                }
            }
        }
    })
}

/// Topics that were written to.
struct Topics {
    buffer: Buffer,
    default: Option<Topic>,
    known: HashMap<Arc<str>, Topic>,
}

impl Topics {
    fn new(buffer: Buffer, default: Option<&str>) -> Result<Self, Failure> {
        let default = default.map(|name| buffer.topic(name)).transpose();
        Ok(Self {
            default: default.map_err(Failure::usage)?,
            buffer,
            known: HashMap::new(),
        })
    }

    fn find(&mut self, name: Option<&Arc<str>>) -> Result<Topic, String> {
        let Some(name) = name else {
            let missing = "it names no topic, and --topic is not given";
            return self.default.clone().ok_or_else(|| missing.to_owned());
        };
        if let Some(topic) = self.known.get(name) {
            return Ok(topic.clone());
        }
        let topic = self.buffer.topic(name).map_err(|e| e.to_string())?;
        self.known.insert(name.clone(), topic.clone());
        Ok(topic)
    }
}

/// Messages of one topic that came one after another.
struct Batch {
    topic: Option<Arc<str>>,
    messages: Vec<Message>,
}

/// Reads until the end. One thread parses, this one hands over what it has found by then: so a
/// message never waits for the next one.
fn feed<R: io::BufRead + Send + 'static>(
    input: Input<R>,
    mut topics: Topics,
    skip: bool,
) -> Result<(), Failure> {
    let (give, take) = mpsc::sync_channel(4 * TOGETHER);
    let parser = std::thread::Builder::new().name("parser".to_owned());
    // It may wait for input when there is nobody left to give it to: it ends with the process.
    let started = parser.spawn(move || parse(input, &give));
    started.map_err(|e| Failure::new(format_args!("can't start a thread: {e}")))?;
    let mut receipts: VecDeque<Receipt> = VecDeque::new();
    let mut ended = Ok(());
    while let Ok(first) = take.recv() {
        let mut batch: Option<Batch> = None;
        for next in std::iter::once(first).chain(take.try_iter().take(TOGETHER - 1)) {
            match next {
                Ok((topic, message)) => {
                    if batch.as_ref().is_some_and(|b| b.topic != topic) {
                        hand_over(&mut topics, batch.take(), &mut receipts)?;
                    }
                    let messages = Vec::new();
                    let batch = batch.get_or_insert_with(|| Batch { topic, messages });
                    batch.messages.push(message);
                }
                Err(Problem::Invalid(problem)) if skip => {
                    terminal::note(format_args!("left out: {problem}"));
                }
                Err(problem) => {
                    ended = Err(failure(problem));
                    break;
                }
            }
        }
        hand_over(&mut topics, batch, &mut receipts)?;
        if ended.is_err() {
            break;
        }
    }
    for receipt in receipts {
        receipt.wait().map_err(Failure::new)?;
    }
    ended
}

fn parse<R: io::BufRead>(mut input: Input<R>, give: &mpsc::SyncSender<Result<Incoming, Problem>>) {
    loop {
        let next = match input.next() {
            Ok(None) => return,
            Ok(Some(message)) => Ok(message),
            Err(problem) => Err(problem),
        };
        let last = matches!(next, Err(Problem::Broken(_)));
        if give.send(next).is_err() || last {
            return;
        }
    }
}

fn failure(problem: Problem) -> Failure {
    match problem {
        Problem::Invalid(problem) => {
            Failure::new(problem).hint("--skip-invalid leaves such messages out")
        }
        Problem::Broken(error) => Failure::new(format_args!("can't read the input: {error}")),
    }
}

fn hand_over(
    topics: &mut Topics,
    batch: Option<Batch>,
    receipts: &mut VecDeque<Receipt>,
) -> Result<(), Failure> {
    let Some(batch) = batch else {
        return Ok(());
    };
    let topic = topics.find(batch.topic.as_ref()).map_err(Failure::new)?;
    receipts.push_back(
        topic
            .hand_over_blocking(&batch.messages)
            .map_err(Failure::new)?,
    );
    while receipts.len() > UNDER_WAY {
        let Some(oldest) = receipts.pop_front() else {
            break;
        };
        oldest.wait().map_err(Failure::new)?;
    }
    Ok(())
}
