//! The engine: stages between bounded queues.
//!
//! ```text
//! source ─► queue ─► processing × N ─► queue ─► storage × N ─► settled ─► state
//! ```
//!
//! A record that has left the source is in exactly one place: in a queue, with a worker, or
//! settled; and what is not settled when a run ends, however it ends, is read again by the next
//! one. The parts end one after another, each when the one before it has: so a run that is stopped
//! finishes what it has begun.

use std::sync::Arc;

use forebay_model::Clock;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::convert::Reader;
use crate::definition::{Definition, Destination, Source};
use crate::record::{Batch, Dead, Origin, Position, Settled, Stage};
use crate::source::api::ApiSource;
use crate::source::files::FileSource;
use crate::source::replay::{self, Replay, Selection};
use crate::stage::Poster;
use crate::state::{State, StateError};
use crate::store::TableWriter;

pub(crate) mod outcome;
pub(crate) mod queue;
pub(crate) mod retry;
pub(crate) mod settle;

use outcome::{Control, Failure, Progress, add};
use queue::{Giver, Taker, queue};
use settle::{Book, FileBook, settle};

/// What is settled waits here to be noted.
const SETTLED_AHEAD: usize = 256;
/// Records that go together where they may.
const UNIT: usize = 500;

/// Bytes of an idempotency key at most; some servers take no longer ones.
const KEY_MAX: usize = 255;

/// Variables of the environment by name.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a run is given from outside.
#[derive(Clone)]
pub struct Surroundings {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Variables of the environment, for S3.
    pub variable: Variables,
    /// Cancelled to stop in order.
    pub stop: CancellationToken,
    /// Counts what happens.
    pub progress: Arc<Progress>,
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The source has no more.
    Complete,
    /// It was asked to; the next run goes on.
    Stopped,
    /// It could not go on; the next run does, once the reason is gone.
    Failed(Failure),
}

/// What the parts of a run share.
pub(crate) struct Run {
    pub(crate) state: State,
    pub(crate) control: Control,
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Records that go together: one where an API takes them one by one.
    pub(crate) unit: usize,
    /// Records may wait for a consumer: reading them costs nobody a request.
    pub(crate) reads_ahead: bool,
    id: String,
    settled: mpsc::Sender<Settled>,
}

impl Run {
    /// Notes what has become of records.
    pub(crate) async fn settle(&self, settled: Settled) {
        if settled.done.is_empty() && settled.dead.is_empty() {
            return;
        }
        add(&self.progress.dead, settled.dead.len());
        // Whoever notes is gone only when noting has failed: the run ends.
        drop(self.settled.send(settled).await);
    }

    pub(crate) async fn done(&self, position: Position) {
        self.settle(Settled {
            done: vec![(position, 1)],
            dead: Vec::new(),
        })
        .await;
    }

    pub(crate) async fn dead(&self, dead: Dead) {
        tracing::warn!(origin = %dead.origin, stage = dead.stage.name(), error = dead.error, "a record is set aside");
        self.settle(Settled {
            done: Vec::new(),
            dead: vec![dead],
        })
        .await;
    }

    /// The same for each attempt of a record, and for no other record of any job.
    pub(crate) fn idempotency_key(&self, origin: &Origin) -> String {
        idempotency_key(&self.id, origin)
    }

    pub(crate) fn state_failed(&self) -> impl Fn(StateError) -> Failure + use<> {
        |e| Failure::State(e.to_string())
    }
}

/// A text that a header can have, and another one for each origin: what it can't have is written as
/// `%0A`, and what is long as its hash.
fn idempotency_key(id: &str, origin: &Origin) -> String {
    let text = origin.to_string();
    let mut key = format!("{id}-");
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            key.push(char::from(byte));
        } else {
            key.push_str(&format!("%{byte:02X}"));
        }
    }
    if key.len() <= KEY_MAX {
        return key;
    }
    let hash = Sha256::digest(text);
    let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("{id}-{hash}")
}

/// Runs a job to its end, a stop or a failure.
pub async fn run(definition: &Definition, state: State, around: &Surroundings) -> End {
    let unit = if definition.processing.is_some()
        || matches!(definition.destination, Destination::Http(_))
    {
        1
    } else {
        UNIT
    };
    let reads_ahead = matches!(definition.source, Source::Files(_));
    let (run, settled) = match begin(state, around, unit, reads_ahead).await {
        Ok(begun) => begun,
        Err(failure) => return End::Failed(failure),
    };
    let is_complete = match &definition.source {
        Source::HttpApi(api) => {
            let noting = Noting::begin(&run, settled, Book::Inbox);
            let read = async |out| match ApiSource::new(Arc::clone(&run), api).await {
                Ok(source) => source.read(out).await,
                Err(failure) => {
                    run.control.fail(failure);
                    false
                }
            };
            let read = with_stages(&run, definition, true, read).await;
            noting.end(&run).await;
            read
        }
        Source::Files(files) => {
            let book = Arc::new(FileBook::default());
            let noting = Noting::begin(&run, settled, Book::Files(Arc::clone(&book)));
            let source = FileSource {
                run: Arc::clone(&run),
                files: files.clone(),
                book,
                reader: Reader::new(definition, &around.progress),
                concurrency: definition.concurrency(),
            };
            let read = async |out| source.read(around, out).await;
            let read = with_stages(&run, definition, true, read).await;
            noting.end(&run).await;
            if read
                && run.control.failure().is_none()
                && let Err(e) = run.state.forget_files().await
            {
                run.control.fail(run.state_failed()(e));
            }
            read
        }
    };
    end(&run, is_complete)
}

/// Puts dead letters through the stages again, each from the one where it failed.
pub async fn replay(
    definition: &Definition,
    selection: &Selection,
    state: State,
    around: &Surroundings,
) -> End {
    let (run, settled) = match begin(state, around, 1, false).await {
        Ok(begun) => begun,
        Err(failure) => return End::Failed(failure),
    };
    let noting = Noting::begin(&run, settled, Book::Dead);
    let last = match replay::last_id(&run).await {
        Ok(last) => last,
        Err(failure) => return End::Failed(failure),
    };
    let replay = Replay {
        selection,
        last,
        reader: Reader::new(definition, &around.progress),
        max_errors: match &definition.source {
            Source::Files(files) => files.max_errors,
            // Its records are parsed with their pages.
            Source::HttpApi(_) => u64::MAX,
        },
    };
    let mut is_complete = true;
    let before: &[Stage] = &[Stage::Parse, Stage::Processing];
    for (stages, with_processing) in [(before, true), (&[Stage::Storage], false)] {
        let read = async |out| {
            let read = replay::read(&run, &replay, stages, out).await;
            read.unwrap_or_else(|failure| {
                run.control.fail(failure);
                false
            })
        };
        is_complete &= with_stages(&run, definition, with_processing, read).await;
    }
    noting.end(&run).await;
    end(&run, is_complete)
}

async fn begin(
    state: State,
    around: &Surroundings,
    unit: usize,
    reads_ahead: bool,
) -> Result<(Arc<Run>, mpsc::Receiver<Settled>), Failure> {
    let id = state
        .id()
        .await
        .map_err(|e| Failure::State(e.to_string()))?;
    let (sender, receiver) = mpsc::channel(SETTLED_AHEAD);
    let run = Run {
        state,
        control: Control::new(around.stop.child_token()),
        progress: Arc::clone(&around.progress),
        clock: Arc::clone(&around.clock),
        unit,
        reads_ahead,
        id,
        settled: sender,
    };
    Ok((Arc::new(run), receiver))
}

fn end(run: &Run, is_complete: bool) -> End {
    match run.control.failure() {
        Some(failure) => End::Failed(failure),
        None if is_complete => End::Complete,
        None => End::Stopped,
    }
}

/// The task that notes what is settled.
struct Noting {
    drained: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Noting {
    fn begin(run: &Arc<Run>, settled: mpsc::Receiver<Settled>, book: Book) -> Self {
        let drained = CancellationToken::new();
        let task = settle(Arc::clone(run), settled, book, drained.clone());
        Self {
            drained,
            task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// Waits until everything that was settled is noted; nobody settles anything any more.
    async fn end(self, run: &Run) {
        self.drained.cancel();
        if let Err(e) = self.task.await {
            run.control
                .fail(Failure::State(format!("noting has ended: {e}")));
        }
    }
}

/// Runs the stages behind a source that `read` reads, until all have ended. Answers what `read`
/// did.
async fn with_stages(
    run: &Arc<Run>,
    definition: &Definition,
    with_processing: bool,
    read: impl AsyncFnOnce(Giver<Batch>) -> bool,
) -> bool {
    let capacity = if run.unit == 1 {
        definition.queue as usize
    } else {
        2
    };
    let (giver, taker) = queue(capacity);
    let mut tasks = JoinSet::new();
    let started = start(run, definition, with_processing, taker, &mut tasks).await;
    if let Err(failure) = started {
        run.control.fail(failure);
        tasks.abort_all();
        return false;
    }
    let is_end = read(giver).await;
    while let Some(ended) = tasks.join_next().await {
        if let Err(e) = ended {
            let text = format!("a worker has ended: {e}");
            run.control.fail(Failure::Destination(text));
        }
    }
    is_end
}

async fn start(
    run: &Arc<Run>,
    definition: &Definition,
    with_processing: bool,
    taker: Taker<Batch>,
    tasks: &mut JoinSet<()>,
) -> Result<(), Failure> {
    let mut taker = taker;
    if let Some(config) = definition.processing.as_ref().filter(|_| with_processing) {
        let poster = Arc::new(Poster::new(Arc::clone(run), config, Stage::Processing)?);
        let (giver, next) = queue(definition.queue as usize);
        for _ in 0..poster.workers() {
            tasks.spawn(Arc::clone(&poster).work(taker.clone(), Some(giver.clone())));
        }
        taker = next;
    }
    match &definition.destination {
        Destination::Http(config) => {
            let poster = Arc::new(Poster::new(Arc::clone(run), config, Stage::Storage)?);
            for _ in 0..poster.workers() {
                tasks.spawn(Arc::clone(&poster).work(taker.clone(), None));
            }
        }
        Destination::Table(config) => {
            let writer = TableWriter::new(Arc::clone(run), config).await?;
            tasks.spawn(Arc::new(writer).work(taker));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_has_a_key_of_its_own() {
        let key = |file: &str, line| idempotency_key("id", &Origin::Line(file.into(), line, 0));
        assert_eq!(key("a.jsonl", 7), "id-a.jsonl:7");
        assert_ne!(key("a b", 1), key("a-b", 1));
        assert_ne!(key("é", 1), key("è", 1));
        assert_ne!(key("a b", 1), key("a%20b", 1));
        let (long, other) = ("é".repeat(200), format!("{}e", "é".repeat(199)));
        assert_ne!(key(&long, 1), key(&other, 1));
        assert_ne!(key(&long, 1), key(&long, 2));
        let is_plain =
            |key: &str| key.len() <= KEY_MAX && key.bytes().all(|b| b.is_ascii_graphic());
        assert!(is_plain(&key(&long, 1)) && is_plain(&key("\n\t\u{fffd}", 1)));
    }
}
