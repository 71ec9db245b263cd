//! Template pool: routes evaluations to worker processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_record::{RecordContext, TemplateError, TemplateProgram};
use parking_lot::RwLock;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::circuit_breaker::EvaluationRoute;
use super::config::PoolConfig;
use super::frame::{self, RequiredParts};
use super::process::WorkerCommand;
use super::shared::PoolShared;
use super::supervisor::WorkerSupervisor;
use super::task::{EvaluationTask, TaskPermit, TemplateResult, tripped_error};

/// Statistics of a pool, for its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Records that wait or are evaluated.
    pub queued: usize,
    /// Processes started so far.
    pub worker_starts: u64,
    /// Evaluations that exceeded a limit so far.
    pub trips: u64,
    /// Templates that are blocked now.
    pub tripped_templates: usize,
}

/// A worker as the pool uses it.
#[derive(Debug)]
struct WorkerHandle {
    tasks: mpsc::Sender<Vec<EvaluationTask>>,
    /// Records that it was sent and has not answered.
    load: Arc<AtomicUsize>,
}

/// Batches of tasks queued for a worker; above that, callers wait.
const HANDLE_CAPACITY: usize = 64;

/// Records of a batch sent to one worker at once.
const CHUNK: usize = 32;

/// Pool of worker processes. Dropping it releases them at once; [`Self::close`] waits for
/// evaluations in progress.
#[derive(Debug)]
pub struct TemplatePool {
    shared: Arc<PoolShared>,
    /// The last one is for templates in quarantine.
    workers: RwLock<Vec<WorkerHandle>>,
    bytes: Arc<Semaphore>,
    queued: Arc<AtomicUsize>,
    supervisors: Mutex<JoinSet<()>>,
}

impl TemplatePool {
    /// Creates a pool without processes; to be called within a tokio runtime.
    pub fn new(config: PoolConfig, command: WorkerCommand) -> Self {
        let permits = usize::try_from(config.in_flight.0).unwrap_or(usize::MAX);
        let permits = permits.clamp(1, u32::MAX as usize);
        let workers = config.workers.max(1);
        let shared = PoolShared::new(config, command);
        let mut slots = JoinSet::new();
        let handles = (0..=workers).map(|i| {
            let (sender, receiver) = mpsc::channel(HANDLE_CAPACITY);
            slots.spawn(WorkerSupervisor::new(Arc::clone(&shared), i == workers, receiver).run());
            WorkerHandle {
                tasks: sender,
                load: Arc::default(),
            }
        });
        let handles = handles.collect();
        Self {
            shared,
            workers: RwLock::new(handles),
            bytes: Arc::new(Semaphore::new(permits)),
            queued: Arc::default(),
            supervisors: Mutex::new(slots),
        }
    }

    /// Evaluates templates (of all sinks) for one record: one result for each, in their order.
    /// Results for a cancelled caller cost nothing further.
    pub async fn evaluate(
        &self,
        templates: &[Arc<TemplateProgram>],
        record: &RecordContext,
    ) -> Vec<TemplateResult> {
        let records = std::slice::from_ref(record);
        self.evaluate_batch(templates, records)
            .await
            .pop()
            .unwrap_or_default()
    }

    /// As [`Self::evaluate`], for several records, spread over the workers: for each record one
    /// result for each template.
    pub async fn evaluate_batch(
        &self,
        templates: &[Arc<TemplateProgram>],
        records: &[RecordContext],
    ) -> Vec<Vec<TemplateResult>> {
        if templates.is_empty() {
            return vec![Vec::new(); records.len()];
        }
        let plan = self.plan(templates);
        let mut results = vec![plan.rejected; records.len()];
        let mut replies = Vec::new();
        for (number, chunk) in records.chunks(CHUNK).enumerate() {
            for (quarantine, indices) in [(false, &plan.main), (true, &plan.quarantine)] {
                if indices.is_empty() {
                    continue;
                }
                let chosen: Vec<_> = indices.iter().map(|i| Arc::clone(&templates[*i])).collect();
                let sent = self.send(quarantine, &chosen, chunk).await;
                for (i, reply) in sent.into_iter().enumerate() {
                    replies.push((number * CHUNK + i, indices, reply));
                }
            }
        }
        for (record, indices, reply) in replies {
            let evaluated = match reply {
                Ok(reply) => reply.await.unwrap_or_default(),
                Err(e) => vec![Err(e); indices.len()],
            };
            // Without an answer of its worker, a record keeps its initial results.
            for (i, result) in indices.iter().zip(evaluated) {
                results[record][*i] = result;
            }
        }
        results
    }

    /// Routes each template.
    fn plan(&self, templates: &[Arc<TemplateProgram>]) -> EvaluationPlan {
        let ids = templates.iter().map(|t| t.id());
        let routes = self.shared.breakers.routes(ids, Instant::now());
        let mut plan = EvaluationPlan::default();
        for (i, route) in routes.into_iter().enumerate() {
            let mut rejection = TemplateError::unavailable("the template pool is closed");
            match route {
                EvaluationRoute::Main => plan.main.push(i),
                EvaluationRoute::Quarantine => plan.quarantine.push(i),
                EvaluationRoute::Blocked(remaining) => rejection = tripped_error(remaining),
            }
            plan.rejected.push(Err(rejection));
        }
        plan
    }

    /// Sends the records to a worker; returns the receiver of each one's answers.
    async fn send(
        &self,
        quarantine: bool,
        templates: &[Arc<TemplateProgram>],
        records: &[RecordContext],
    ) -> Vec<Result<oneshot::Receiver<Vec<TemplateResult>>, TemplateError>> {
        let needs = RequiredParts {
            body: templates.iter().any(|t| t.uses().body),
            headers: templates.iter().any(|t| t.uses().headers),
        };
        let Some((handle, load)) = self.least_loaded_worker(quarantine) else {
            let closed = TemplateError::unavailable("the template pool is closed");
            return vec_of(records.len(), || Err(closed.clone()));
        };
        let (mut tasks, mut replies) = (Vec::new(), Vec::new());
        for record in records {
            if self.queued.load(Ordering::Relaxed) >= self.shared.config.queue {
                let full = "too many records wait for their templates";
                replies.push(Err(TemplateError::unavailable(full)));
                continue;
            }
            let size = frame::record_size(record, needs);
            let Some(bytes) = self.permit(size, &mut tasks, &handle).await else {
                let closed = "the template pool is closed";
                replies.push(Err(TemplateError::unavailable(closed)));
                continue;
            };
            let encoded = frame::encode_record(record, needs);
            let permit = TaskPermit::acquire(bytes, [Arc::clone(&load), Arc::clone(&self.queued)]);
            let (sender, receiver) = oneshot::channel();
            tasks.push(EvaluationTask::new(
                encoded,
                templates.to_vec(),
                sender,
                permit,
            ));
            replies.push(Ok(receiver));
        }
        // If the worker has ended, the tasks are dropped, and their receivers notice.
        drop(handle.send(tasks).await);
        replies
    }

    /// Acquires so many bytes. Tasks that wait to be sent hold theirs, so they are sent first when
    /// there are none.
    async fn permit(
        &self,
        bytes: usize,
        tasks: &mut Vec<EvaluationTask>,
        handle: &mpsc::Sender<Vec<EvaluationTask>>,
    ) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let all = usize::try_from(self.shared.config.in_flight.0).unwrap_or(usize::MAX);
        let wanted = u32::try_from(bytes.clamp(1, all.max(1))).unwrap_or(u32::MAX);
        let semaphore = Arc::clone(&self.bytes);
        if let Ok(permit) = Arc::clone(&semaphore).try_acquire_many_owned(wanted) {
            return Some(permit);
        }
        if !tasks.is_empty() {
            drop(handle.send(std::mem::take(tasks)).await);
        }
        semaphore.acquire_many_owned(wanted).await.ok()
    }

    fn least_loaded_worker(
        &self,
        quarantine: bool,
    ) -> Option<(mpsc::Sender<Vec<EvaluationTask>>, Arc<AtomicUsize>)> {
        let handles = self.workers.read();
        let (last, main) = handles.split_last()?;
        let handle = if quarantine {
            last
        } else {
            main.iter().min_by_key(|d| d.load.load(Ordering::Relaxed))?
        };
        Some((handle.tasks.clone(), Arc::clone(&handle.load)))
    }

    pub fn stats(&self) -> PoolStats {
        PoolStats {
            queued: self.queued.load(Ordering::Relaxed),
            worker_starts: self.shared.starts.load(Ordering::Relaxed),
            trips: self.shared.trips.load(Ordering::Relaxed),
            tripped_templates: self.shared.breakers.tripped_count(Instant::now()),
        }
    }

    /// Accepts nothing more, finishes what is queued, and ends the workers.
    pub async fn close(&self) {
        self.workers.write().clear();
        let mut slots = self.supervisors.lock().await;
        while slots.join_next().await.is_some() {}
    }
}

/// Indices of templates by route, and the errors of those that are blocked.
#[derive(Default)]
struct EvaluationPlan {
    main: Vec<usize>,
    quarantine: Vec<usize>,
    rejected: Vec<TemplateResult>,
}

fn vec_of<T>(n: usize, make: impl FnMut() -> T) -> Vec<T> {
    std::iter::repeat_with(make).take(n).collect()
}
