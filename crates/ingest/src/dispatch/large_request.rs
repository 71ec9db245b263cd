//! Dispatches requests with many or large records.
//!
//! Their records are read one after the other on a thread apart from those that serve requests, and
//! each is dropped with its rows rendered: of a batch, memory holds its text, the positions of its
//! records, the rows so far, and the index of one record. Memory for rows is acquired as they grow
//! (`crate::memory_limiter`); when they exceed the limit, none of them is stored.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use forebay_model::Timestamp;
use forebay_record::{BodyFormat, BodyParts, RandomBits, RecordContext, RequestInfo};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::outcome::{BrokenRecords, RequestProgress, SinkFailure, SinkResult};
use super::rows::{DispatchAttempt, PendingRows, RenderSummary, SinkStep};
use super::{Dispatcher, SLICE_WAIT, SinkRoute, SourceRoute};
use crate::fair_thread_pool::{WorkPermit, run_on_pool};
use crate::memory_limiter::{MemoryLimitError, MemoryLimiter, MemoryPermit};
use crate::pipeline::{BlockAppendError, Pipeline};

/// Bytes of row memory acquired ahead.
const RESERVATION_STEP: u64 = 64 << 10;
/// Records per template evaluation, at first and at most: their results can take 4 MB each.
const FIRST_WINDOW: usize = 8;
const WINDOW_MAX: usize = 256;
/// Target size of the results of a window, in bytes.
const WINDOW_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub struct LargeRequest {
    /// Common part of its records.
    pub request: Arc<RequestInfo>,
    /// Positions of its records.
    pub parts: BodyParts,
    /// Format of the single record; `None` for a batch.
    pub format: Option<BodyFormat>,
    /// Covers the body, and the positions of its records.
    pub memory_permit: MemoryPermit,
}

impl LargeRequest {
    fn record(&self, index: usize) -> Option<RecordContext> {
        let part = self.parts.get(index)?;
        let request = Arc::clone(&self.request);
        Some(match &self.format {
            Some(format) => RecordContext::with_format(request, part.body, format.clone()),
            None => RecordContext::from_batch_part(request, part),
        })
    }

    fn received(&self) -> Timestamp {
        self.request.received
    }

    fn memory_limiter(&self) -> &Arc<MemoryLimiter> {
        self.memory_permit.limiter()
    }

    /// Renders the rows of several sinks without templates.
    fn render_rows(
        &self,
        sinks: &[Arc<Pipeline>],
        random: &RandomBits,
    ) -> Result<RenderedRequest, MemoryLimitError> {
        let mut reservation = MemoryReservation::new(self.memory_limiter());
        let mut broken = BrokenRecords::default();
        let mut rows: Vec<PendingRows> = sinks.iter().map(|_| PendingRows::new()).collect();
        for index in 0..self.parts.len() {
            let Some(record) = self.record(index) else {
                break;
            };
            if self.format.is_none() && !broken.check(index, &record) {
                reservation.reserve(size_of::<usize>() as u64)?;
                continue;
            }
            for (rows, pipeline) in rows.iter_mut().zip(sinks) {
                reservation.reserve(rows.add(pipeline, (index, &record), &[], random))?;
            }
        }
        let rows = rows
            .into_iter()
            .map(|rows| reservation.transfer_to(rows))
            .collect();
        let held = reservation.into_unused();
        Ok(RenderedRequest {
            broken,
            rows,
            memory_permit: held,
        })
    }
}

/// Result of rendering a large request.
struct RenderedRequest {
    broken: BrokenRecords,
    rows: Vec<PendingRows>,
    /// Covers what is kept of broken records.
    memory_permit: MemoryPermit,
}

/// Acquires memory for rows as they grow, a little ahead.
struct MemoryReservation {
    memory_permit: MemoryPermit,
    used: u64,
}

impl MemoryReservation {
    fn new(memory_limiter: &Arc<MemoryLimiter>) -> Self {
        Self {
            memory_permit: memory_limiter.acquire_for_rows(0),
            used: 0,
        }
    }

    fn reserve(&mut self, more: u64) -> Result<(), MemoryLimitError> {
        self.used += more;
        let Some(lacks) = self.used.checked_sub(self.memory_permit.bytes() + 1) else {
            return Ok(());
        };
        let exactly = lacks + 1;
        // Near the limit, nothing is acquired ahead.
        self.memory_permit
            .try_grow_rows(exactly + RESERVATION_STEP)
            .or_else(|_| self.memory_permit.try_grow_rows(exactly))
    }

    /// Transfers the rows' share to them.
    fn transfer_to(&mut self, rows: PendingRows) -> PendingRows {
        let held = rows.held_bytes();
        self.used = self.used.saturating_sub(held);
        let memory_permit = self.memory_permit.split(held);
        rows.with_permit(memory_permit)
    }

    /// Returns the unused rest.
    fn into_unused(mut self) -> MemoryPermit {
        let ahead = self.memory_permit.bytes().saturating_sub(self.used);
        self.memory_permit.shrink(ahead);
        self.memory_permit
    }
}

/// State of a sink when the request's first work permit ends.
enum FirstAttempt {
    Step(SinkStep),
    /// Rows that wait for capacity in their pipeline.
    Rows(Arc<Pipeline>, PendingRows),
    Nothing,
}

/// How often a slice may be closed while rows are rendered for it, before the request waits for a
/// new permit.
const TRIES: usize = 4;

/// Common state of one request.
struct LargeRequestContext<'a> {
    request: Arc<LargeRequest>,
    broken: BrokenRecords,
    key: u64,
    progress: &'a RequestProgress,
}

impl LargeRequestContext<'_> {
    fn valid_count(&self) -> usize {
        self.request.parts.len() - self.broken.indices.len()
    }
}

impl SourceRoute {
    /// Key by which large requests are scheduled fairly.
    pub(crate) fn fairness_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.project.0, self.source.as_str()).hash(&mut hasher);
        hasher.finish()
    }
}

impl Dispatcher {
    /// As [`Self::dispatch`], for a large request with a work permit. Also returns the broken
    /// records of a batch.
    ///
    /// # Errors
    /// When its rows exceed the memory limit; nothing of it is stored then.
    pub(crate) async fn dispatch_large(
        &self,
        route: &SourceRoute,
        large: LargeRequest,
        work_permit: WorkPermit,
        progress: &RequestProgress,
    ) -> Result<(BrokenRecords, Vec<SinkResult>), MemoryLimitError> {
        let large = Arc::new(large);
        if self.taps.is_open() {
            self.offer_received(route, large.parts.len(), |i| large.record(i));
        }
        large.memory_limiter().wait_for_capacity().await;
        let plain = |p: &Arc<Pipeline>| p.mapping().templates().is_empty() && !p.is_retired();
        // Read once: a slice that is closed meanwhile must not move rows to another sink.
        let open: Vec<Option<Arc<Pipeline>>> =
            route.sinks().map(|s| s.pipeline().filter(plain)).collect();
        let given = open.iter().flatten().cloned().collect();
        let (work_permit, made) = self.render_on_pool(&large, given, work_permit).await;
        let made = made?;
        let mut rows = made.rows.into_iter();
        let context = LargeRequestContext {
            request: large,
            broken: made.broken,
            key: route.fairness_key(),
            progress,
        };
        let (mut work_permit, mut first_attempt) =
            (Some(work_permit), Vec::with_capacity(open.len()));
        for (sink, pipeline) in route.sinks().zip(open) {
            let ready = pipeline.and_then(|p| Some((p, rows.next()?)));
            first_attempt.push(
                self.put_with_permit(&context, sink, ready, &mut work_permit)
                    .await,
            );
        }
        drop(work_permit);
        let sinks = route.sinks().zip(first_attempt);
        let steps =
            join_all(sinks.map(|(sink, first_attempt)| {
                self.put_until_accepted(&context, sink, first_attempt)
            }))
            .await;
        let good = context.valid_count();
        let LargeRequestContext {
            request: large,
            broken,
            ..
        } = context;
        drop(large);
        let results = self.await_results(route, steps, good).await;
        drop(made.memory_permit);
        Ok((broken, results))
    }

    async fn render_on_pool(
        &self,
        large: &Arc<LargeRequest>,
        sinks: Vec<Arc<Pipeline>>,
        work_permit: WorkPermit,
    ) -> (WorkPermit, Result<RenderedRequest, MemoryLimitError>) {
        let (large, random) = (Arc::clone(large), Arc::clone(&self.random));
        run_on_pool(work_permit, move || large.render_rows(&sinks, &random)).await
    }

    /// Puts the rows of one sink into a block if that needs no waiting. If their slice was closed
    /// while they were rendered, they are rendered for the next one with the same work permit:
    /// otherwise that slice would be closed, too, by the time of the next permit.
    async fn put_with_permit(
        &self,
        context: &LargeRequestContext<'_>,
        sink: &SinkRoute,
        ready: Option<(Arc<Pipeline>, PendingRows)>,
        work_permit: &mut Option<WorkPermit>,
    ) -> FirstAttempt {
        let Some((mut pipeline, mut rows)) = ready else {
            return FirstAttempt::Nothing;
        };
        for _ in 0..TRIES {
            match rows.try_put(&pipeline, context.request.received(), context.progress) {
                DispatchAttempt::Done(step) => return FirstAttempt::Step(step),
                DispatchAttempt::Full => return FirstAttempt::Rows(pipeline, rows),
                DispatchAttempt::Retired => {}
            }
            let plain = |p: &Arc<Pipeline>| p.mapping().templates().is_empty() && !p.is_retired();
            let next = sink.pipeline().filter(plain);
            let (Some(next), Some(held)) = (next, work_permit.take()) else {
                return FirstAttempt::Nothing;
            };
            // A request that renders rows must hold none.
            drop(rows);
            let made = self.render_on_pool(&context.request, vec![Arc::clone(&next)], held);
            let (held, made) = made.await;
            *work_permit = Some(held);
            let made = made.ok().and_then(|made| made.rows.into_iter().next());
            let Some(made) = made else {
                return FirstAttempt::Nothing;
            };
            (pipeline, rows) = (next, made);
        }
        FirstAttempt::Nothing
    }

    /// Puts the rows of one sink into a block: those that are ready or, if there are none or their
    /// slice was closed meanwhile, new ones.
    async fn put_until_accepted(
        &self,
        context: &LargeRequestContext<'_>,
        sink: &SinkRoute,
        first_attempt: FirstAttempt,
    ) -> SinkStep {
        let mut ready = match first_attempt {
            FirstAttempt::Step(step) => return step,
            FirstAttempt::Rows(pipeline, rows) => Some((pipeline, rows)),
            FirstAttempt::Nothing => None,
        };
        let deadline = Instant::now() + SLICE_WAIT;
        loop {
            // Subscribe before the attempt, so that no change is missed.
            let changed = sink.changed();
            let (pipeline, rows) = match ready.take() {
                Some(ready) => ready,
                None => {
                    let Some(pipeline) = sink.pipeline().filter(|p| !p.is_retired()) else {
                        if timeout_at(deadline, changed).await.is_err() {
                            return SinkStep::Todo;
                        }
                        continue;
                    };
                    match self.render_again(context, &pipeline).await {
                        Ok(rows) => (pipeline, rows),
                        // The next attempt begins when memory is free.
                        Err(MemoryLimitError::Now) => continue,
                        Err(MemoryLimitError::Ever(limit)) => {
                            let limit = forebay_model::ByteSize(limit);
                            let text = format!("{limit} in flight");
                            let failure =
                                SinkFailure::Append(BlockAppendError::TooLarge(text.into()));
                            return SinkStep::Done(
                                RenderSummary::with_rows(context.valid_count())
                                    .into_failure(failure),
                            );
                        }
                    }
                }
            };
            let received = context.request.received();
            match rows.put(&pipeline, received, context.progress).await {
                SinkStep::Todo => {}
                step => return step,
            }
        }
    }

    async fn render_again(
        &self,
        context: &LargeRequestContext<'_>,
        pipeline: &Arc<Pipeline>,
    ) -> Result<PendingRows, MemoryLimitError> {
        if !pipeline.mapping().templates().is_empty() {
            return self.render_templated(context, pipeline).await;
        }
        // The request holds its whole body: it must not wait behind those that have not begun.
        let work_permit = self.large_pool.acquire_next(context.key).await;
        context.request.memory_limiter().wait_for_capacity().await;
        let made = self.render_on_pool(&context.request, vec![Arc::clone(pipeline)], work_permit);
        let rows = made.await.1?.rows;
        Ok(rows.into_iter().next().unwrap_or_else(PendingRows::new))
    }

    /// Renders the rows of a sink with templates, one window of records after the other. Finished
    /// rows wait for the templates of the next window, which need no row memory.
    async fn render_templated(
        &self,
        context: &LargeRequestContext<'_>,
        pipeline: &Arc<Pipeline>,
    ) -> Result<PendingRows, MemoryLimitError> {
        let large = &context.request;
        let mut work_permit = self.templated_pool.acquire(context.key).await;
        large.memory_limiter().wait_for_capacity().await;
        let mut reservation = MemoryReservation::new(large.memory_limiter());
        let mut rows = PendingRows::new();
        let (mut next, mut window) = (0, FIRST_WINDOW);
        while next < large.parts.len() {
            let end = large.parts.len().min(next + window);
            let good = (next..end).filter(|i| !context.broken.contains(*i));
            let records = good.filter_map(|i| Some((i, large.record(i)?)));
            let (indices, records): (Vec<_>, Vec<_>) = records.unzip();
            let mapping = pipeline.mapping();
            let cells = self.evaluate(std::slice::from_ref(mapping), &records).await;
            let cells = cells.into_iter().next().unwrap_or_default();
            let (pipeline, random) = (Arc::clone(pipeline), Arc::clone(&self.random));
            let before = reservation.used;
            let work = move || {
                let mut made = Ok(());
                let records = indices.into_iter().zip(records).zip(cells);
                for ((index, record), cells) in records {
                    let more = rows.add(&pipeline, (index, &record), &cells, &random);
                    made = reservation.reserve(more);
                    if made.is_err() {
                        break;
                    }
                }
                (rows, reservation, made)
            };
            let made;
            (work_permit, (rows, reservation, made)) = run_on_pool(work_permit, work).await;
            made?;
            let each = (reservation.used - before) / (end - next) as u64 + 1;
            let fits = usize::try_from(WINDOW_BYTES / each).unwrap_or(WINDOW_MAX);
            (next, window) = (end, fits.clamp(1, WINDOW_MAX));
        }
        drop(work_permit);
        Ok(reservation.transfer_to(rows))
    }
}
