//! Follows the metadata store: which sources and sinks there are, and which slices their records
//! go into. The control plane decides; this does.
//!
//! A slice that is `closing` is left: its sink gets the next one, rows under way are brought to an
//! end, its stream is closed for ever, and its final statistics are stored. When all slices that
//! were closed up to a revision are left, the node says so; only then may they be uploaded. Streams
//! that the store does not know are none of its business, [`crate::garbage_collector`] looks after them.

mod pipelines;
mod routes;
mod topics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_meta::repo::files::FileError;
use forebay_meta::store::LeaseId;
use forebay_meta::{Mirror, Repo, Revision, Snapshot, StoreError, keys};
use forebay_model::failpoint::{self, Point};
use forebay_model::quota::OwnQuota;
use forebay_model::{File, NodeId, ProjectId, Sink, Slice, SliceState, Source, VolumeId};
use forebay_record::Limits;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatcher;
use crate::metrics::PROCESSED_REVISION;
use crate::pipeline::{Appender, PipelineShared};
use crate::quota::Gates;
use crate::report::Reporter;
use crate::topic::Topics;
use pipelines::{Left, Pipelines};
use routes::Routes;
use topics::TopicPipelines;

/// Pause before what has failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What a follower needs.
#[derive(Clone, Debug)]
pub struct FollowDeps {
    /// The metadata store.
    pub repo: Repo,
    /// This node.
    pub node: NodeId,
    /// The lease that the node's words in the store hang on. The node is registered as a source
    /// node under it before the follower runs.
    pub lease: LeaseId,
    /// The volume that this node writes.
    pub volume: VolumeId,
    /// The volume's log.
    pub appender: Arc<dyn Appender>,
    /// Gets the routes.
    pub dispatcher: Arc<Dispatcher>,
    /// What makes the gates of sources.
    pub gates: Arc<Gates>,
    /// What pipelines share.
    pub pipelines: Arc<PipelineShared>,
    /// Tells the store what slices hold.
    pub reporter: Arc<Reporter>,
    /// Bounds of rows.
    pub limits: Limits,
    /// Streams of topics; without them sinks that are topics take nothing.
    pub topics: Option<Arc<Topics>>,
}

/// Why a follower has ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The node's lease has ended: others think that it is gone. It must stop writing.
    #[error("this node's lease has ended: {0}")]
    Lease(StoreError),
    /// The mirrors have ended.
    #[error("the metadata store is not followed any more")]
    Stopped,
}

/// Follows the store until it is stopped.
#[derive(Debug)]
pub struct Follower {
    deps: FollowDeps,
    progress: watch::Sender<Option<Revision>>,
}

/// The store at one moment.
struct View {
    sources: Arc<Snapshot<Source>>,
    sinks: Arc<Snapshot<Sink>>,
    files: Arc<Snapshot<File>>,
    slices: Arc<Snapshot<Slice>>,
    quotas: Arc<Snapshot<OwnQuota>>,
}

impl View {
    /// The last change of which all is shown. The other parts may be ahead of the slices: what a
    /// rotation did to a file can be here while what it did to the slice is not.
    fn changed_at(&self) -> Revision {
        let changes = [
            self.sources.changed_at,
            self.sinks.changed_at,
            self.files.changed_at,
            self.slices.changed_at,
            self.quotas.changed_at,
        ];
        let last = changes.into_iter().max().unwrap_or_default();
        last.min(self.slices.revision)
    }
}

/// What is followed.
struct Mirrors {
    sources: Mirror<Source>,
    sinks: Mirror<Sink>,
    files: Mirror<File>,
    slices: Mirror<Slice>,
    quotas: Mirror<OwnQuota>,
}

impl Mirrors {
    fn start(repo: &Repo, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Self {
        let store = repo.store();
        let (sources, a) = Mirror::new(Arc::clone(store), keys::SOURCES);
        let (sinks, b) = Mirror::new(Arc::clone(store), keys::SINKS);
        let (files, c) = Mirror::new(Arc::clone(store), keys::FILES);
        let (slices, d) = Mirror::new(Arc::clone(store), keys::SLICES);
        let (quotas, e) = Mirror::new(Arc::clone(store), keys::QUOTAS);
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

    /// Everything as of the last transaction that any of the mirrors has seen, or later. So what
    /// has woken the follower is in it, and what a slice belongs to: that was written before the
    /// slice or together with it.
    async fn view(&self) -> Result<View, FollowError> {
        let seen = [
            self.sources.snapshot().revision,
            self.sinks.snapshot().revision,
            self.files.snapshot().revision,
            self.slices.snapshot().revision,
            self.quotas.snapshot().revision,
        ];
        let at = seen.into_iter().max().unwrap_or_default();
        let stopped = |_| FollowError::Stopped;
        // The slices first, so that the others are never behind them.
        let slices = self.slices.wait_for(at).await.map_err(stopped)?;
        let at = slices.revision;
        Ok(View {
            sources: self.sources.wait_for(at).await.map_err(stopped)?,
            sinks: self.sinks.wait_for(at).await.map_err(stopped)?,
            files: self.files.wait_for(at).await.map_err(stopped)?,
            quotas: self.quotas.wait_for(at).await.map_err(stopped)?,
            slices,
        })
    }
}

impl Follower {
    /// A follower, and what shows how far it is: the revision up to which all closed slices are
    /// left; `None` until the first table of routes is in force.
    #[must_use]
    pub fn new(deps: FollowDeps) -> (Self, watch::Receiver<Option<Revision>>) {
        let (progress, shown) = watch::channel(None);
        (Self { deps, progress }, shown)
    }

    /// Follows until `stop`. Then no slice is left any more; what is open stays open.
    ///
    /// # Errors
    /// When it can't go on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), FollowError> {
        // Mirrors end with this, however it ends.
        let stop_mirrors = CancellationToken::new();
        let _guard = stop_mirrors.clone().drop_guard();
        let mut tasks = JoinSet::new();
        let mirrors = Mirrors::start(&self.deps.repo, &mut tasks, &stop_mirrors);
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            result = self.follow(&mirrors) => result,
        };
        stop_mirrors.cancel();
        while tasks.join_next().await.is_some() {}
        result
    }

    async fn follow(&self, mirrors: &Mirrors) -> Result<(), FollowError> {
        let mut state = State {
            deps: &self.deps,
            routes: Routes::default(),
            pipelines: Pipelines::new(self.deps.clone()),
            topics: TopicPipelines::default(),
            reported: None,
            unreported: Vec::new(),
        };
        let mut changes = (
            mirrors.sources.changes(),
            mirrors.sinks.changes(),
            mirrors.files.changes(),
            mirrors.slices.changes(),
            mirrors.quotas.changes(),
        );
        let mut view = mirrors.view().await?;
        loop {
            let complete = state.apply(&view).await;
            let told = state.tell(&view).await?;
            self.progress.send_if_modified(|shown| {
                let changed = *shown != state.reported;
                *shown = state.reported;
                changed
            });
            let retry = !complete || !told || state.pipelines.has_failed();
            let stopped = |_| FollowError::Stopped;
            tokio::select! {
                biased;
                left = state.pipelines.left() => state.unreported.extend(left),
                r = changes.0.next() => drop(r.map_err(stopped)?),
                r = changes.1.next() => drop(r.map_err(stopped)?),
                r = changes.2.next() => drop(r.map_err(stopped)?),
                r = changes.3.next() => drop(r.map_err(stopped)?),
                r = changes.4.next() => drop(r.map_err(stopped)?),
                () = tokio::time::sleep(RETRY), if retry => state.pipelines.retry(),
            }
            view = mirrors.view().await?;
        }
    }
}

/// Bytes that projects have in staging.
fn staged(view: &View) -> HashMap<ProjectId, u64> {
    let mut bytes = HashMap::new();
    for slice in view.slices.entries.values() {
        if slice.state == SliceState::Uploaded {
            let project = slice.key.file.sink.source.branch.project;
            *bytes.entry(project).or_default() += slice.staging_bytes;
        }
    }
    bytes
}

/// What the loop has.
struct State<'f> {
    deps: &'f FollowDeps,
    routes: Routes,
    pipelines: Pipelines,
    topics: TopicPipelines,
    /// The revision that the store was told.
    reported: Option<Revision>,
    /// Slices that are left and whose final statistics are not stored yet.
    unreported: Vec<Left>,
}

impl State<'_> {
    /// Makes it so. Returns whether all could be done.
    async fn apply(&mut self, view: &View) -> bool {
        let mut complete = self.pipelines.open(view, &mut self.routes).await;
        complete &= self.topics.apply(self.deps, view, &mut self.routes);
        // New sinks have their slices by now, so no record of theirs has to wait.
        self.deps.gates.set_staged(staged(view));
        if let Some(table) = self.routes.table(view, &self.deps.gates) {
            self.deps.dispatcher.set_table(table);
        }
        self.pipelines.leave(view);
        complete
    }

    /// Tells the store what is left: first what the slices hold, then up to which revision.
    async fn tell(&mut self, view: &View) -> Result<bool, FollowError> {
        let has_left = !self.unreported.is_empty();
        if has_left {
            let all: Vec<_> = self.unreported.iter().map(Left::statistics).collect();
            match self.deps.reporter.report_final(&all).await {
                Ok(()) => {
                    failpoint::at(Point::FinalsReported);
                    self.pipelines.told(self.unreported.drain(..));
                }
                Err(FileError::Store(e)) => return retry_or_end(e, "final statistics"),
                Err(error) => {
                    tracing::error!(%error, "final statistics could not be stored");
                    return Ok(false);
                }
            }
        }
        let processed = self.pipelines.processed(view);
        if self.reported.is_some_and(|reported| processed <= reported) {
            return Ok(true);
        }
        let FollowDeps {
            repo, node, lease, ..
        } = self.deps;
        match repo.report_processed(node, processed, *lease).await {
            Ok(()) => {
                if has_left {
                    failpoint::at(Point::SlicesLeftReported);
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

fn retry_or_end(error: StoreError, what: &str) -> Result<bool, FollowError> {
    match error {
        StoreError::LeaseNotFound(_) => Err(FollowError::Lease(error)),
        error => {
            tracing::warn!(%error, "the {what} could not be stored, trying again");
            Ok(false)
        }
    }
}
