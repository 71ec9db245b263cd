//! Workers that write rows into a table.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use forebay_connect::cache::RowHash;
use forebay_connect::keyed::{KeyedBatch, KeyedTable, TableSchema};
use forebay_connect::table::TableError;
use forebay_model::Backoff;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::route::{BatchPart, IdleWorkers, channels};
use super::row_hash_cache::RowHashCache;
use crate::convert::RowConverter;
use crate::definition::TableDestination;
use crate::engine::execution::JobExecution;
use crate::engine::outcome::{JobFailure, add};
use crate::engine::queue::QueueReceiver;
use crate::record::{self, DeadRecord, JobStage, Record, RecordOutcomes};

/// Waits while a store is unavailable.
const OUTAGE_BACKOFF: Backoff =
    Backoff::doubling(Duration::from_millis(200), Duration::from_secs(5));

pub(crate) struct KeyedTableWriter {
    execution: Arc<JobExecution>,
    config: TableDestination,
    store: Arc<dyn KeyedTable>,
    shape: TableSchema,
    hash_cache: Option<RowHashCache>,
}

impl KeyedTableWriter {
    /// Prepares the table; waits up to `outageMax` for an unavailable store.
    pub(crate) async fn new(
        execution: Arc<JobExecution>,
        config: &TableDestination,
    ) -> Result<Self, JobFailure> {
        let store = super::open(&config.store).map_err(JobFailure::Destination)?;
        let mut writer = Self {
            execution,
            config: config.clone(),
            store,
            shape: config.shape(),
            hash_cache: None,
        };
        let prepared = writer
            .with_outage_retries(|| writer.store.prepare(&writer.shape))
            .await;
        let prepared = match prepared {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                return Err(JobFailure::Destination(
                    "stopped before the table was prepared".to_owned(),
                ));
            }
            Err(e) => return Err(JobFailure::Destination(e.to_string())),
        };
        writer.hash_cache =
            RowHashCache::open(&writer.execution, &config.cache, &writer.shape, &prepared).await?;
        Ok(writer)
    }

    /// Writes records until there are no more.
    pub(crate) async fn work(self: Arc<Self>, records: QueueReceiver<record::StageBatch>) {
        let (senders, receivers) = channels(self.config.writers() as usize);
        let idle = Arc::new(IdleWorkers::default());
        let mut workers = tokio::task::JoinSet::new();
        for receiver in receivers {
            workers.spawn(Arc::clone(&self).worker(receiver, Arc::clone(&idle)));
        }
        let converter = Arc::new(RowConverter::new(&self.config, &self.execution.progress));
        let (execution, shape) = (Arc::clone(&self.execution), self.shape.clone());
        super::route(execution, converter, shape, records, senders, idle).await;
        while let Some(ended) = workers.join_next().await {
            if let Err(e) = ended {
                let text = format!("a table worker failed: {e}");
                self.execution.control.fail(JobFailure::Destination(text));
            }
        }
    }

    async fn worker(self: Arc<Self>, mut parts: mpsc::Receiver<BatchPart>, idle: Arc<IdleWorkers>) {
        let most = self.config.batch as usize;
        let mut waiting = GatheredParts::default();
        loop {
            if waiting.count == 0 {
                let _idle = idle.enter();
                match parts.recv().await {
                    Some(more) => waiting.push(more),
                    None => return,
                }
            }
            // Add parts that arrived meanwhile.
            while waiting.count < most {
                match parts.try_recv() {
                    Ok(more) => waiting.push(more),
                    Err(_) => break,
                }
            }
            if let Err(failure) = self.write(waiting.take(most)).await {
                self.execution.control.fail(failure);
                // The next run reads the rest again; it is drained so that the router is not blocked.
                parts.close();
                while parts.recv().await.is_some() {}
                return;
            }
        }
    }

    /// Writes rows. When it returns, each of their records is in the table or dead; or the run ends and they are
    /// read again.
    async fn write(&self, parts: Vec<BatchPart>) -> Result<(), JobFailure> {
        let places = || {
            let parts = parts.iter().enumerate();
            parts.flat_map(|(number, part)| part.places.iter().map(move |place| (number, *place)))
        };
        let buffers: Vec<_> = parts.iter().map(|p| Arc::clone(&p.table().rows)).collect();
        let batch = KeyedBatch::new(buffers, places());
        let mut wanted = self.shape.last_of_each_key(&batch);
        let progress = &self.execution.progress;
        add(&progress.superseded, batch.len() - wanted.len());
        let plan = match &self.hash_cache {
            None => None,
            Some(known) => {
                // A row must not be compared with the hashes of another one.
                let hashes = hashes(&parts, &wanted).ok_or_else(|| {
                    JobFailure::Destination("rows lack the hashes for the cache".to_owned())
                })?;
                let plan = known.plan(&wanted, hashes).await?;
                add(&progress.unchanged, wanted.len() - plan.wanted.len());
                wanted.clone_from(&plan.wanted);
                Some(plan)
            }
        };
        let Some(rejected) = self.upsert(&batch, wanted).await? else {
            return Ok(());
        };
        if let (Some(known), Some(plan)) = (&self.hash_cache, plan) {
            known
                .record_written(plan, |index| !rejected.contains_key(&index))
                .await;
        }
        self.execution
            .acknowledge(self.outcomes(&parts, &rejected))
            .await;
        Ok(())
    }

    /// Writes some rows of a batch. Returns the rejected rows and their errors, or `None` if the run was stopped
    /// during an outage: then no row is acknowledged.
    async fn upsert(
        &self,
        batch: &KeyedBatch,
        wanted: Vec<usize>,
    ) -> Result<Option<HashMap<usize, String>>, JobFailure> {
        let mut rejected = HashMap::new();
        let mut left = vec![wanted];
        while let Some(part) = left.pop() {
            if part.is_empty() {
                continue;
            }
            let chosen = batch.select(part.iter().copied());
            let written = self
                .with_outage_retries(|| self.store.upsert(&self.shape, &chosen))
                .await;
            match written {
                Ok(Some(())) => add(&self.execution.progress.written, part.len()),
                Ok(None) => return Ok(None),
                Err(TableError::Retryable(text)) => return Err(JobFailure::Destination(text)),
                // Bisect the batch to find the rejected rows.
                Err(TableError::Terminal(_)) if part.len() > 1 => {
                    let (a, b) = part.split_at(part.len() / 2);
                    left.extend([b.to_vec(), a.to_vec()]);
                }
                Err(TableError::Terminal(text)) => {
                    rejected.extend(part.into_iter().map(|place| (place, text.clone())));
                }
            }
        }
        Ok(Some(rejected))
    }

    /// The outcomes of a batch with these rejected rows.
    fn outcomes(&self, parts: &[BatchPart], rejected: &HashMap<usize, String>) -> RecordOutcomes {
        let mut outcomes = RecordOutcomes::default();
        let mut before = 0;
        for part in parts {
            if rejected.is_empty() {
                part.acknowledge(part.places.iter().copied(), &mut outcomes);
                continue;
            }
            let numbered = || (before..).zip(part.places.iter().copied());
            let good = numbered().filter(|(number, _)| !rejected.contains_key(number));
            part.acknowledge(good.map(|(_, place)| place), &mut outcomes);
            let dead = numbered().filter_map(|(number, place)| {
                let error = rejected.get(&number)?;
                Some(self.dead_record(part.record(place)?, error))
            });
            outcomes.dead.extend(dead);
            before += part.places.len();
        }
        outcomes
    }

    fn dead_record(&self, record: Record, error: &str) -> DeadRecord {
        DeadRecord {
            position: record.position,
            origin: record.origin,
            stage: JobStage::Storage,
            body: record.body,
            request: format!("row of table {}", self.shape.table),
            status: None,
            error: error.to_owned(),
            attempts: 1,
        }
    }

    /// Retries retryable errors until `outageMax` has passed. `None` when the run ends meanwhile.
    async fn with_outage_retries<'a, T>(
        &'a self,
        work: impl Fn() -> BoxFuture<'a, Result<T, TableError>> + Send,
    ) -> Result<Option<T>, TableError> {
        let mut failures = 0;
        let begin = Instant::now();
        loop {
            let error = match work().await {
                Ok(done) => return Ok(Some(done)),
                Err(error) => error,
            };
            if !error.is_retryable() {
                return Err(error);
            }
            failures += 1;
            if begin.elapsed() >= self.config.outage_max.0 {
                return Err(error);
            }
            add(&self.execution.progress.retries, 1);
            let wait = OUTAGE_BACKOFF.delay(failures);
            tracing::warn!(%error, failures, ?wait, "table write failed");
            if !self.execution.control.wait(wait).await {
                return Ok(None);
            }
        }
    }
}

/// Parts that wait for a worker.
#[derive(Debug, Default)]
struct GatheredParts {
    parts: VecDeque<BatchPart>,
    /// Total number of rows.
    count: usize,
}

impl GatheredParts {
    fn push(&mut self, part: BatchPart) {
        self.count += part.places.len();
        self.parts.push_back(part);
    }

    /// Removes the first rows, at most `most`.
    fn take(&mut self, most: usize) -> Vec<BatchPart> {
        let mut parts = Vec::new();
        let mut left = most;
        while let Some(mut part) = self.parts.pop_front() {
            if part.places.len() > left {
                let mut rest = part.clone();
                rest.places.drain(..left);
                part.places.truncate(left);
                self.parts.push_front(rest);
            }
            left -= part.places.len();
            self.count -= part.places.len();
            if !part.places.is_empty() {
                parts.push(part);
            }
            if left == 0 {
                break;
            }
        }
        parts
    }
}

/// The hashes of some rows of a batch, in order; `None` if one is missing.
fn hashes(parts: &[BatchPart], wanted: &[usize]) -> Option<Vec<(RowHash, RowHash)>> {
    let of_part = |part: &'_ BatchPart| {
        let hashes = &part.table().hashes;
        let of_place = |place: &usize| hashes.get(*place).copied();
        part.places.iter().map(of_place).collect::<Vec<_>>()
    };
    let all: Vec<_> = parts.iter().flat_map(of_part).collect();
    let wanted = wanted
        .iter()
        .map(|place| all.get(*place).copied().flatten());
    wanted.collect()
}
