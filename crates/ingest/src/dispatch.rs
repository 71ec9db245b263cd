//! Dispatches the records of a request as rows to the open blocks of its sinks.
//!
//! What needs no waiting is done at once: a sink never waits for another sink's templates, for
//! another's slice to be opened, or for capacity in another's pipeline.

mod large_request;
mod outcome;
mod record_batch;
mod route_table;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use forebay_record::{CompiledMapping, RandomBits, RecordContext};
use futures::future::join_all;
use parking_lot::RwLock;
use tokio::time::{Instant, timeout_at};

pub use large_request::LargeRequest;
pub use outcome::{
    BrokenRecord, BrokenRecords, KeptRecords, REJECTIONS_MAX, RecordRejection, RejectedRecords,
    RequestProgress, SinkFailure, SinkResult, WriteOutcome,
};
pub use record_batch::RecordBatch;
pub use route_table::{BranchRoute, RouteTable, SinkRoute, SourceRoute};
use rows::{DispatchAttempt, PendingRows, RenderSummary, SinkStep, TemplateResult, try_append};

use crate::fair_thread_pool::FairThreadPool;
use crate::metrics::{ROWS_ACCEPTED, ROWS_DEAD, ROWS_FAILED, ROWS_REJECTED, SourceMeters};
use crate::pipeline::Pipeline;
use crate::tap::RecordTaps;
use crate::template::TemplatePool;

/// How long a record waits for its sink's first slice.
const SLICE_WAIT: Duration = Duration::from_secs(3);

/// Bytes of records up to which rows are rendered in one go; above that, rendering yields to other
/// requests.
const AT_ONCE_MAX: usize = 256 << 10;

/// Dispatches records to their sinks.
pub struct Dispatcher {
    table: RwLock<Arc<RouteTable>>,
    templates: Option<Arc<TemplatePool>>,
    random: RandomBits,
    meters: DispatchMeters,
    /// Reads and renders large requests: few at a time, so that small requests have the rest of the
    /// machine, and few indices of large bodies are in memory.
    large_pool: Arc<FairThreadPool>,
    /// Runs large requests whose templates are being evaluated.
    templated_pool: Arc<FairThreadPool>,
    taps: Arc<RecordTaps>,
}

/// Large requests whose templates are evaluated at a time: enough to keep the workers busy.
const TEMPLATED_MAX: usize = 4;

struct DispatchMeters {
    accepted: metrics::Counter,
    rejected: metrics::Counter,
    dead: metrics::Counter,
    failed: metrics::Counter,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// Creates a dispatcher without sources. `templates` evaluates template columns; without it
    /// records of sinks that have some are rejected as unavailable.
    pub fn new(templates: Option<Arc<TemplatePool>>, random: RandomBits) -> Arc<Self> {
        Self::with_workers(templates, random, 0)
    }

    /// As [`Self::new`], with so many threads for large requests; 0 is one for every two cores.
    pub fn with_workers(
        templates: Option<Arc<TemplatePool>>,
        random: RandomBits,
        workers: usize,
    ) -> Arc<Self> {
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from) / 2,
            workers => workers,
        };
        Arc::new(Self {
            large_pool: FairThreadPool::new(workers),
            templated_pool: FairThreadPool::new(TEMPLATED_MAX),
            taps: RecordTaps::new(),
            table: RwLock::default(),
            templates,
            random,
            meters: DispatchMeters {
                accepted: metrics::counter!(ROWS_ACCEPTED),
                rejected: metrics::counter!(ROWS_REJECTED),
                dead: metrics::counter!(ROWS_DEAD),
                failed: metrics::counter!(ROWS_FAILED),
            },
        })
    }

    /// Returns the current route table.
    pub fn table(&self) -> Arc<RouteTable> {
        let table = self.table.read();
        Arc::clone(&table)
    }

    /// Replaces the route table.
    pub fn set_table(&self, table: RouteTable) {
        let table = Arc::new(table);
        *self.table.write() = table;
    }

    /// Finds the route of an address.
    pub fn find(&self, project: u64, source: &str, secret: &str) -> Option<Arc<SourceRoute>> {
        let table = self.table.read();
        table.find(project, source, secret).cloned()
    }

    /// Taps of the records.
    pub fn taps(&self) -> &Arc<RecordTaps> {
        &self.taps
    }

    /// Pool of large requests.
    pub fn large_pool(&self) -> &Arc<FairThreadPool> {
        &self.large_pool
    }

    /// Writes the records to all sinks of the route and waits as each sink's settings require. The
    /// results are in the order of [`SourceRoute::sinks`]; `progress` tells whether rows may be
    /// stored.
    ///
    /// For few and small records: they are read on the calling thread.
    pub async fn dispatch(
        &self,
        route: &SourceRoute,
        mut batch: RecordBatch,
        progress: &RequestProgress,
    ) -> Vec<SinkResult> {
        if self.taps.is_open() {
            let records = &batch.records;
            self.offer_received(route, records.len(), |i| {
                records.get(i).map(RecordContext::unparsed)
            });
        }
        let size: usize = batch.records.iter().map(|r| r.body().len()).sum();
        let mut steps: Vec<SinkStep> = route
            .sinks()
            .map(|sink| match sink.pipeline() {
                Some(pipeline) if size <= AT_ONCE_MAX => {
                    self.try_dispatch_inline(&pipeline, &batch, progress)
                }
                _ => SinkStep::Todo,
            })
            .collect();
        if steps.iter().any(|s| matches!(s, SinkStep::Todo)) {
            for record in &mut batch.records {
                *record = record.unparsed();
            }
            // Rare, and large: on the heap, so that the usual request stays small.
            Box::pin(self.dispatch_deferred(route, &mut steps, &batch, progress)).await;
        }
        let good = batch.records.len() - batch.broken.len();
        drop(batch);
        self.await_results(route, steps, good).await
    }

    /// Offers received records to taps.
    fn offer_received(
        &self,
        route: &SourceRoute,
        count: usize,
        record: impl Fn(usize) -> Option<RecordContext>,
    ) {
        for branch in route.branches.iter().filter(|b| !b.disabled) {
            for index in 0..count {
                self.taps.received(&branch.key, || record(index));
            }
        }
    }

    /// Waits for the outcomes of all sinks.
    async fn await_results(
        &self,
        route: &SourceRoute,
        steps: Vec<SinkStep>,
        good: usize,
    ) -> Vec<SinkResult> {
        let mut results = Vec::with_capacity(steps.len());
        for step in steps {
            let result = match step {
                SinkStep::Done(result) => result,
                SinkStep::Waiting(rows, dead_letters, rendered) => {
                    let outcome = match rows {
                        Some(wait) => wait.await.into(),
                        None => WriteOutcome::Nothing,
                    };
                    let kept = match dead_letters {
                        Some(ticket) => ticket.await.into(),
                        None => WriteOutcome::Nothing,
                    };
                    rendered.into_result(outcome, kept)
                }
                SinkStep::Todo => {
                    RenderSummary::with_rows(good).into_failure(SinkFailure::NoOpenSlice)
                }
            };
            self.count_rows(&route.meters, &result);
            results.push(result);
        }
        results
    }

    /// Counts in total and for the source.
    fn count_rows(&self, source: &SourceMeters, result: &SinkResult) {
        let add = |counters: [&metrics::Counter; 2], rows: u64| {
            for counter in counters.into_iter().filter(|_| rows > 0) {
                counter.increment(rows);
            }
        };
        let accepted = [&self.meters.accepted, &source.accepted];
        let dead = [&self.meters.dead, &source.dead];
        let outcomes = [
            (&result.outcome, u64::from(result.rows), accepted),
            (
                &result.kept.outcome,
                result.kept.records.count() as u64,
                dead,
            ),
        ];
        for (outcome, rows, stored) in outcomes {
            match outcome {
                WriteOutcome::Processed | WriteOutcome::Accepted => add(stored, rows),
                WriteOutcome::Failed(_) | WriteOutcome::Unknown(_) => {
                    add([&self.meters.failed, &source.failed], rows);
                }
                WriteOutcome::Nothing => {}
            }
        }
        let rejected = [&self.meters.rejected, &source.rejected];
        add(rejected, result.rejected.count() as u64);
    }

    /// Fast path: renders the rows and appends them to the open block.
    fn try_dispatch_inline(
        &self,
        pipeline: &Arc<Pipeline>,
        batch: &RecordBatch,
        progress: &RequestProgress,
    ) -> SinkStep {
        // Queries may take milliseconds per record: the slow path yields between records.
        if !pipeline.mapping().templates().is_empty() || pipeline.mapping().has_queries() {
            return SinkStep::Todo;
        }
        rows::with_scratch(|rows| {
            let mut rendered = RenderSummary::default();
            for record in batch.valid_records() {
                rendered.render_record(pipeline, record, &[], &self.random, rows);
            }
            match try_append(pipeline, rows, &mut rendered, batch.received(), progress) {
                DispatchAttempt::Done(step) => step,
                DispatchAttempt::Full | DispatchAttempt::Retired => SinkStep::Todo,
            }
        })
    }

    /// Runs everything that has to wait, concurrently.
    async fn dispatch_deferred(
        &self,
        route: &SourceRoute,
        steps: &mut [SinkStep],
        batch: &RecordBatch,
        progress: &RequestProgress,
    ) {
        let todo: Vec<_> = steps
            .iter()
            .zip(route.sinks())
            .enumerate()
            .filter(|(_, (step, _))| matches!(step, SinkStep::Todo))
            .map(|(i, (_, sink))| (i, sink, sink.pipeline()))
            .collect();
        let (templated, plain): (Vec<_>, Vec<_>) = todo.into_iter().partition(|(_, _, p)| {
            p.as_ref()
                .is_some_and(|p| !p.mapping().templates().is_empty())
        });
        let plain = join_all(plain.into_iter().map(|(i, sink, _)| async move {
            (
                i,
                self.dispatch_with_retry(sink, batch, None, progress).await,
            )
        }));
        let templated = async {
            let mappings = templated
                .iter()
                .filter_map(|(_, _, p)| Some(p.as_ref()?.mapping()));
            let mappings: Vec<_> = mappings.cloned().collect();
            let evaluated = self.evaluate(&mappings, &batch.records).await;
            join_all(templated.iter().zip(mappings).zip(evaluated).map(
                |(((i, sink, _), mapping), cells)| async move {
                    let evaluated = Some((mapping, cells));
                    (
                        *i,
                        self.dispatch_with_retry(sink, batch, evaluated, progress)
                            .await,
                    )
                },
            ))
            .await
        };
        let (plain, templated) = futures::join!(plain, templated);
        for (i, step) in plain.into_iter().chain(templated) {
            steps[i] = step;
        }
    }

    /// Evaluates the templates of several mappings in one round trip: for each mapping and record,
    /// its cells.
    async fn evaluate(
        &self,
        mappings: &[Arc<CompiledMapping>],
        records: &[RecordContext],
    ) -> Vec<Vec<Vec<TemplateResult>>> {
        let templates = mappings.iter().flat_map(|m| m.templates());
        let templates: Vec<_> = templates.cloned().collect();
        let mut results = match &self.templates {
            Some(pool) => pool.evaluate_batch(&templates, records).await,
            None => Vec::new(),
        };
        results.resize_with(records.len(), Vec::new);
        let mut by_mapping = vec![Vec::with_capacity(records.len()); mappings.len()];
        for cells in results {
            let mut cells = cells.into_iter();
            for (mapping, out) in mappings.iter().zip(&mut by_mapping) {
                out.push(cells.by_ref().take(mapping.templates().len()).collect());
            }
        }
        by_mapping
    }

    /// Retries until the rows are in a block: through rotations, while the pipeline is full, and
    /// for a while without an open slice.
    async fn dispatch_with_retry(
        &self,
        sink: &SinkRoute,
        batch: &RecordBatch,
        mut evaluated: Option<(Arc<CompiledMapping>, Vec<Vec<TemplateResult>>)>,
        progress: &RequestProgress,
    ) -> SinkStep {
        let deadline = Instant::now() + SLICE_WAIT;
        loop {
            // Subscribe before the attempt, so that no change is missed.
            let changed = sink.changed();
            let Some(pipeline) = sink.pipeline().filter(|p| !p.is_retired()) else {
                if timeout_at(deadline, changed).await.is_err() {
                    return SinkStep::Todo;
                }
                continue;
            };
            let mapping = pipeline.mapping();
            let known = evaluated
                .as_ref()
                .is_some_and(|(m, _)| Arc::ptr_eq(m, mapping));
            if !mapping.templates().is_empty() && !known {
                let cells = self
                    .evaluate(std::slice::from_ref(mapping), &batch.records)
                    .await;
                let cells = cells.into_iter().next().unwrap_or_default();
                evaluated = Some((Arc::clone(mapping), cells));
            }
            let cells = evaluated.as_ref().map(|(_, cells)| cells.as_slice());
            let rows = PendingRows::render_batch(&pipeline, batch, cells, &self.random).await;
            match rows.put(&pipeline, batch.received(), progress).await {
                SinkStep::Todo => {}
                step => return step,
            }
        }
    }
}
