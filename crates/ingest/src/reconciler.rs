//! Reconciles this node with the metadata store: its sources and sinks, and the slices that their
//! records go into. The control plane decides; this applies.
//!
//! A slice that is `closing` is detached: its sink gets the next one, rows in flight are completed,
//! its stream is closed for ever, and its final statistics are stored. When all slices that were
//! closed up to a revision are detached, the node reports it; only then may they be uploaded.
//! Streams that the store does not know are left to the garbage collector.

mod deps;
mod pipelines;
mod routes;
mod store_snapshot;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use forebay_meta::catalog::files::FileError;
use forebay_meta::{Repo, Revision, StoreError, WatchCache, catalog::keys};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::quota::QuotaOverrides;
use forebay_model::{File, Sink, Slice, Source};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::PROCESSED_REVISION;
pub use deps::ReconcilerDeps;
use pipelines::{DetachedSlice, SlicePipelines};
use routes::SinkRoutes;
use store_snapshot::{StoreSnapshot, staged};
use topics::TopicPipelines;

/// Delay before failed work is retried.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// The node's lease has ended: other nodes assume that it is down. It must stop writing.
    #[error("this node's lease has ended: {0}")]
    Lease(StoreError),
    /// The watch caches have stopped.
    #[error("the watch caches of the metadata store have stopped")]
    Stopped,
}

/// Reconciles until it is stopped.
#[derive(Debug)]
pub struct RouteReconciler {
    deps: ReconcilerDeps,
    progress: watch::Sender<Option<Revision>>,
}

/// Watch caches of the reconciler.
struct CacheView {
    sources: WatchCache<Source>,
    sinks: WatchCache<Sink>,
    files: WatchCache<File>,
    slices: WatchCache<Slice>,
    quotas: WatchCache<QuotaOverrides>,
}

impl CacheView {
    fn start(repo: &Repo, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Self {
        let store = repo.store();
        let (sources, a) = WatchCache::new(Arc::clone(store), keys::SOURCES);
        let (sinks, b) = WatchCache::new(Arc::clone(store), keys::SINKS);
        let (files, c) = WatchCache::new(Arc::clone(store), keys::FILES);
        let (slices, d) = WatchCache::new(Arc::clone(store), keys::SLICES);
        let (quotas, e) = WatchCache::new(Arc::clone(store), keys::QUOTAS);
        tasks.spawn(a.run(stop.clone()));
        tasks.spawn(b.run(stop.clone()));
        tasks.spawn(c.run(stop.clone()));
        tasks.spawn(d.run(stop.clone()));
        tasks.spawn(e.run(stop.clone()));
        Self {
            sources,
            sinks,
            files,
            slices,
            quotas,
        }
    }

    /// Returns everything as of the last transaction that any of the caches has seen, or later. So
    /// it contains the change that woke the reconciler, and the file of each slice: that was
    /// written before the slice or together with it.
    async fn snapshot(&self) -> Result<StoreSnapshot, ReconcilerError> {
        let seen = [
            self.sources.snapshot().revision,
            self.sinks.snapshot().revision,
            self.files.snapshot().revision,
            self.slices.snapshot().revision,
            self.quotas.snapshot().revision,
        ];
        let at = seen.into_iter().max().unwrap_or_default();
        let stopped = |_| ReconcilerError::Stopped;
        // Slices first, so that the others are never behind them.
        let slices = self.slices.wait_for(at).await.map_err(stopped)?;
        let at = slices.revision;
        Ok(StoreSnapshot {
            sources: self.sources.wait_for(at).await.map_err(stopped)?,
            sinks: self.sinks.wait_for(at).await.map_err(stopped)?,
            files: self.files.wait_for(at).await.map_err(stopped)?,
            quotas: self.quotas.wait_for(at).await.map_err(stopped)?,
            slices,
        })
    }
}

impl RouteReconciler {
    /// Creates a reconciler, and a receiver of its progress: the revision up to which all closed
    /// slices are detached; `None` until the first route table is in force.
    pub fn new(deps: ReconcilerDeps) -> (Self, watch::Receiver<Option<Revision>>) {
        let (progress, shown) = watch::channel(None);
        (Self { deps, progress }, shown)
    }

    /// Reconciles until `stop`. After that no slice is detached; open ones stay open.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ReconcilerError> {
        // The caches end with this function, however it ends.
        let stop_caches = CancellationToken::new();
        let _guard = stop_caches.clone().drop_guard();
        let mut tasks = JoinSet::new();
        let caches = CacheView::start(&self.deps.repo, &mut tasks, &stop_caches);
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            result = self.reconcile(&caches) => result,
        };
        stop_caches.cancel();
        while tasks.join_next().await.is_some() {}
        result
    }

    async fn reconcile(&self, caches: &CacheView) -> Result<(), ReconcilerError> {
        let mut state = ReconcilerState {
            deps: &self.deps,
            routes: SinkRoutes::default(),
            pipelines: SlicePipelines::new(self.deps.clone()),
            topics: TopicPipelines::default(),
            reported: None,
            unreported: Vec::new(),
        };
        let mut changes = (
            caches.sources.changes(),
            caches.sinks.changes(),
            caches.files.changes(),
            caches.slices.changes(),
            caches.quotas.changes(),
        );
        let mut view = caches.snapshot().await?;
        loop {
            let complete = state.reconcile_once(&view).await;
            let reported = state.report_progress(&view).await?;
            self.progress.send_if_modified(|shown| {
                let changed = *shown != state.reported;
                *shown = state.reported;
                changed
            });
            let retry = !complete || !reported || state.pipelines.has_failed();
            let stopped = |_| ReconcilerError::Stopped;
            tokio::select! {
                biased;
                detached = state.pipelines.detached() => state.unreported.extend(detached),
                r = changes.0.next() => drop(r.map_err(stopped)?),
                r = changes.1.next() => drop(r.map_err(stopped)?),
                r = changes.2.next() => drop(r.map_err(stopped)?),
                r = changes.3.next() => drop(r.map_err(stopped)?),
                r = changes.4.next() => drop(r.map_err(stopped)?),
                () = tokio::time::sleep(RETRY), if retry => state.pipelines.retry(),
            }
            view = caches.snapshot().await?;
        }
    }
}

/// State of the loop.
struct ReconcilerState<'f> {
    deps: &'f ReconcilerDeps,
    routes: SinkRoutes,
    pipelines: SlicePipelines,
    topics: TopicPipelines,
    /// Revision that was reported to the store.
    reported: Option<Revision>,
    /// Detached slices whose final statistics are not stored yet.
    unreported: Vec<DetachedSlice>,
}

impl ReconcilerState<'_> {
    /// Applies a view. Returns whether everything succeeded.
    async fn reconcile_once(&mut self, view: &StoreSnapshot) -> bool {
        let mut complete = self.pipelines.open(view, &mut self.routes).await;
        complete &= self.topics.apply(self.deps, view, &mut self.routes);
        // New sinks have their slices by now, so none of their records has to wait.
        self.deps.limiters.set_staged(staged(view));
        if let Some(table) = self.routes.table(view, &self.deps.limiters) {
            self.deps.dispatcher.set_table(table);
        }
        self.pipelines.detach(view);
        complete
    }

    /// Reports progress to the store: first the statistics of detached slices, then the revision.
    async fn report_progress(&mut self, view: &StoreSnapshot) -> Result<bool, ReconcilerError> {
        let has_detached = !self.unreported.is_empty();
        if has_detached {
            let all: Vec<_> = self
                .unreported
                .iter()
                .map(DetachedSlice::statistics)
                .collect();
            match self.deps.reporter.report_final(&all).await {
                Ok(()) => {
                    failpoint::at(FailPoint::FinalsReported);
                    self.pipelines.on_reported(self.unreported.drain(..));
                }
                Err(FileError::Store(e)) => return retry_or_end(e, "final statistics"),
                Err(error) => {
                    tracing::error!(%error, "storing final statistics failed");
                    return Ok(false);
                }
            }
        }
        let processed = self.pipelines.processed(view);
        if self.reported.is_some_and(|reported| processed <= reported) {
            return Ok(true);
        }
        let ReconcilerDeps {
            repo, node, lease, ..
        } = self.deps;
        match repo.report_processed(node, processed, *lease).await {
            Ok(()) => {
                if has_detached {
                    failpoint::at(FailPoint::SlicesDrainedReported);
                }
                self.reported = Some(processed);
                #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                metrics::gauge!(PROCESSED_REVISION).set(processed.0 as f64);
                Ok(true)
            }
            Err(e) => retry_or_end(e, "progress"),
        }
    }
}

fn retry_or_end(error: StoreError, what: &str) -> Result<bool, ReconcilerError> {
    match error {
        StoreError::LeaseNotFound(_) => Err(ReconcilerError::Lease(error)),
        error => {
            tracing::warn!(%error, "storing the {what} failed; retrying");
            Ok(false)
        }
    }
}
