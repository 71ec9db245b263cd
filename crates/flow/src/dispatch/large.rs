//! Requests whose records are many, or large.
//!
//! Their records are made one after the other on a thread beside those that answer requests, and
//! each is forgotten with its rows: of a batch there are its text, the places of its records and the
//! rows that it has become, and the index of one record at a time. Rows are paid for as they grow
//! (`crate::budget`); when they outgrow what may be held, none of them is stored.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use forebay_model::Timestamp;
use forebay_record::{BodyFormat, Parts, RecordContext, RequestInfo};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::outcome::{BrokenRecords, Failure, Progress, SinkResult};
use super::rows::{Put, Random, Rendered, Rows};
use super::{Dispatcher, SLICE_WAIT, SinkRoute, Step, Target};
use crate::budget::{Budget, Charge, NoRoom};
use crate::lane::{Turn, beside};
use crate::pipeline::{AppendError, Pipeline};

/// Bytes of rows that are paid for ahead.
const STEP: u64 = 64 << 10;
/// Records whose templates are evaluated at a time, the first time and at most: their results can
/// take 4 MB each.
const FIRST_WINDOW: usize = 8;
const WINDOW_MAX: usize = 256;
/// Bytes of results that the records of a window should have.
const WINDOW_BYTES: u64 = 1 << 20;

/// A large request.
#[derive(Debug)]
pub struct Large {
    /// What its records have in common.
    pub request: Arc<RequestInfo>,
    /// Where they are.
    pub parts: Parts,
    /// What the one record is that it is; `None` is a batch.
    pub format: Option<BodyFormat>,
    /// For its body, and the places of its records.
    pub charge: Charge,
}

impl Large {
    fn record(&self, index: usize) -> Option<RecordContext> {
        let part = self.parts.get(index)?;
        let request = Arc::clone(&self.request);
        Some(match &self.format {
            Some(format) => RecordContext::with_format(request, part.body, format.clone()),
            None => RecordContext::of_batch(request, part),
        })
    }

    fn received(&self) -> Timestamp {
        self.request.received
    }

    fn budget(&self) -> &Arc<Budget> {
        self.charge.budget()
    }

    /// Makes the rows of several sinks that need no template.
    fn make(&self, sinks: &[Arc<Pipeline>], random: &Random) -> Result<Made, NoRoom> {
        let mut payer = Payer::new(self.budget());
        let mut broken = BrokenRecords::default();
        let mut rows: Vec<Rows> = sinks.iter().map(|_| Rows::new()).collect();
        for index in 0..self.parts.len() {
            let Some(record) = self.record(index) else {
                break;
            };
            if self.format.is_none() && !broken.check(index, &record) {
                payer.pay(size_of::<usize>() as u64)?;
                continue;
            }
            for (rows, pipeline) in rows.iter_mut().zip(sinks) {
                payer.pay(rows.add(pipeline, (index, &record), &[], random))?;
            }
        }
        let rows = rows.into_iter().map(|rows| payer.charge(rows)).collect();
        let held = payer.rest();
        Ok(Made { broken, rows, held })
    }
}

/// What became of a large request's records.
struct Made {
    broken: BrokenRecords,
    rows: Vec<Rows>,
    /// For what is kept of broken records.
    held: Charge,
}

/// Pays for rows as they grow, a little ahead.
struct Payer {
    charge: Charge,
    owed: u64,
}

impl Payer {
    fn new(budget: &Arc<Budget>) -> Self {
        Self {
            charge: budget.rows(0),
            owed: 0,
        }
    }

    fn pay(&mut self, more: u64) -> Result<(), NoRoom> {
        self.owed += more;
        let Some(lacks) = self.owed.checked_sub(self.charge.bytes() + 1) else {
            return Ok(());
        };
        let exactly = lacks + 1;
        // The last bytes that there are need not be paid for ahead.
        self.charge
            .extend(exactly + STEP)
            .or_else(|_| self.charge.extend(exactly))
    }

    /// Gives the rows their part of what was paid.
    fn charge(&mut self, rows: Rows) -> Rows {
        let held = rows.held();
        self.owed = self.owed.saturating_sub(held);
        let charge = self.charge.split(held);
        rows.charged(charge)
    }

    /// What is left of it.
    fn rest(mut self) -> Charge {
        let ahead = self.charge.bytes().saturating_sub(self.owed);
        self.charge.shrink(ahead);
        self.charge
    }
}

/// How far a sink is when the request's turn ends.
enum Begun {
    Step(Step),
    /// They wait for room in their pipeline.
    Rows(Arc<Pipeline>, Rows),
    Nothing,
}

/// Slices that may be closed while rows are made for them, before the request waits for a turn again.
const TRIES: usize = 4;

/// What the steps of one request have in common.
struct Common<'a> {
    large: Arc<Large>,
    broken: BrokenRecords,
    key: u64,
    progress: &'a Progress,
}

impl Common<'_> {
    fn good(&self) -> usize {
        self.large.parts.len() - self.broken.indices.len()
    }
}

impl Target {
    /// Whose turn it is when large requests wait.
    #[must_use]
    pub fn lane_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.project.0, self.source.as_str()).hash(&mut hasher);
        hasher.finish()
    }
}

impl Dispatcher {
    /// As [`Self::dispatch`] for a large request, in its turn. The broken records of a batch are
    /// named, too.
    ///
    /// # Errors
    /// When its rows can't be held; nothing of it is stored then.
    pub async fn dispatch_large(
        &self,
        target: &Target,
        large: Large,
        turn: Turn,
        progress: &Progress,
    ) -> Result<(BrokenRecords, Vec<SinkResult>), NoRoom> {
        let large = Arc::new(large);
        large.budget().room().await;
        let plain = |p: &Arc<Pipeline>| p.mapping().templates().is_empty() && !p.is_retired();
        // Looked at once: a slice that is closed meanwhile must not move rows to another sink.
        let open: Vec<Option<Arc<Pipeline>>> =
            target.sinks().map(|s| s.pipeline().filter(plain)).collect();
        let given = open.iter().flatten().cloned().collect();
        let (turn, made) = self.make(&large, given, turn).await;
        let made = made?;
        let mut rows = made.rows.into_iter();
        let common = Common {
            large,
            broken: made.broken,
            key: target.lane_key(),
            progress,
        };
        let (mut turn, mut begun) = (Some(turn), Vec::with_capacity(open.len()));
        for (sink, pipeline) in target.sinks().zip(open) {
            let ready = pipeline.and_then(|p| Some((p, rows.next()?)));
            begun.push(self.put_in_turn(&common, sink, ready, &mut turn).await);
        }
        drop(turn);
        let sinks = target.sinks().zip(begun);
        let steps = join_all(sinks.map(|(sink, begun)| self.settle(&common, sink, begun))).await;
        let good = common.good();
        let Common { large, broken, .. } = common;
        drop(large);
        let results = self.finish(steps, good).await;
        drop(made.held);
        Ok((broken, results))
    }

    async fn make(
        &self,
        large: &Arc<Large>,
        sinks: Vec<Arc<Pipeline>>,
        turn: Turn,
    ) -> (Turn, Result<Made, NoRoom>) {
        let (large, random) = (Arc::clone(large), Arc::clone(&self.random));
        beside(turn, move || large.make(&sinks, &random)).await
    }

    /// Puts the rows of one sink into a block if that needs no waiting. When their slice was closed
    /// while they were made, they are made for the next one in the same turn: otherwise it would be
    /// closed, too, by the time of the next turn.
    async fn put_in_turn(
        &self,
        common: &Common<'_>,
        sink: &SinkRoute,
        ready: Option<(Arc<Pipeline>, Rows)>,
        turn: &mut Option<Turn>,
    ) -> Begun {
        let Some((mut pipeline, mut rows)) = ready else {
            return Begun::Nothing;
        };
        for _ in 0..TRIES {
            match rows.try_put(&pipeline, common.large.received(), common.progress) {
                Put::Done(step) => return Begun::Step(step),
                Put::Full => return Begun::Rows(pipeline, rows),
                Put::Retired => {}
            }
            let plain = |p: &Arc<Pipeline>| p.mapping().templates().is_empty() && !p.is_retired();
            let next = sink.pipeline().filter(plain);
            let (Some(next), Some(held)) = (next, turn.take()) else {
                return Begun::Nothing;
            };
            // Nobody makes rows while he has some.
            drop(rows);
            let made = self.make(&common.large, vec![Arc::clone(&next)], held);
            let (held, made) = made.await;
            *turn = Some(held);
            let made = made.ok().and_then(|made| made.rows.into_iter().next());
            let Some(made) = made else {
                return Begun::Nothing;
            };
            (pipeline, rows) = (next, made);
        }
        Begun::Nothing
    }

    /// Puts the rows of one sink into a block: those that are ready, or else, and when their slice
    /// was closed meanwhile, new ones.
    async fn settle(&self, common: &Common<'_>, sink: &SinkRoute, begun: Begun) -> Step {
        let mut ready = match begun {
            Begun::Step(step) => return step,
            Begun::Rows(pipeline, rows) => Some((pipeline, rows)),
            Begun::Nothing => None,
        };
        let deadline = Instant::now() + SLICE_WAIT;
        loop {
            // It misses nothing from here on.
            let changed = sink.changed();
            let (pipeline, rows) = match ready.take() {
                Some(ready) => ready,
                None => {
                    let Some(pipeline) = sink.pipeline().filter(|p| !p.is_retired()) else {
                        if timeout_at(deadline, changed).await.is_err() {
                            return Step::Todo;
                        }
                        continue;
                    };
                    match self.make_again(common, &pipeline).await {
                        Ok(rows) => (pipeline, rows),
                        // The next attempt begins when there is room.
                        Err(NoRoom::Now) => continue,
                        Err(NoRoom::Ever(limit)) => {
                            let limit = forebay_model::ByteSize(limit);
                            let text = format!("{limit} in flight");
                            let failure = Failure::Append(AppendError::TooLarge(text.into()));
                            return Step::Done(Rendered::of(common.good()).failed(failure));
                        }
                    }
                }
            };
            let received = common.large.received();
            match rows.put(&pipeline, received, common.progress).await {
                Step::Todo => {}
                step => return step,
            }
        }
    }

    async fn make_again(
        &self,
        common: &Common<'_>,
        pipeline: &Arc<Pipeline>,
    ) -> Result<Rows, NoRoom> {
        if !pipeline.mapping().templates().is_empty() {
            return self.make_templated(common, pipeline).await;
        }
        // It holds all of its body: it is not to wait behind those who have not begun.
        let turn = self.large.enter_first(common.key).await;
        common.large.budget().room().await;
        let made = self.make(&common.large, vec![Arc::clone(pipeline)], turn);
        let rows = made.await.1?.rows;
        Ok(rows.into_iter().next().unwrap_or_else(Rows::new))
    }

    /// Makes the rows of a sink that has templates, a window of records after the other. Those that
    /// are made wait for the templates of the next ones, which need no room.
    async fn make_templated(
        &self,
        common: &Common<'_>,
        pipeline: &Arc<Pipeline>,
    ) -> Result<Rows, NoRoom> {
        let large = &common.large;
        let mut turn = self.templated.enter(common.key).await;
        large.budget().room().await;
        let mut payer = Payer::new(large.budget());
        let mut rows = Rows::new();
        let (mut next, mut window) = (0, FIRST_WINDOW);
        while next < large.parts.len() {
            let end = large.parts.len().min(next + window);
            let good = (next..end).filter(|i| !common.broken.has(*i));
            let records = good.filter_map(|i| Some((i, large.record(i)?)));
            let (indices, records): (Vec<_>, Vec<_>) = records.unzip();
            let mapping = pipeline.mapping();
            let cells = self.evaluate(std::slice::from_ref(mapping), &records).await;
            let cells = cells.into_iter().next().unwrap_or_default();
            let (pipeline, random) = (Arc::clone(pipeline), Arc::clone(&self.random));
            let before = payer.owed;
            let work = move || {
                let mut made = Ok(());
                let records = indices.into_iter().zip(records).zip(cells);
                for ((index, record), cells) in records {
                    let more = rows.add(&pipeline, (index, &record), &cells, &random);
                    made = payer.pay(more);
                    if made.is_err() {
                        break;
                    }
                }
                (rows, payer, made)
            };
            let made;
            (turn, (rows, payer, made)) = beside(turn, work).await;
            made?;
            let each = (payer.owed - before) / (end - next) as u64 + 1;
            let fits = usize::try_from(WINDOW_BYTES / each).unwrap_or(WINDOW_MAX);
            (next, window) = (end, fits.clamp(1, WINDOW_MAX));
        }
        drop(turn);
        Ok(payer.charge(rows))
    }
}
