//! Pipelines of this node's slices: opened, swapped, and detached.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_meta::{Revision, Versioned, catalog::keys};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{File, Mapping, SinkKey, Slice, SliceKey, SliceState, Statistics};
use forebay_record::CompiledMapping;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::deps::ReconcilerDeps;
use super::routes::SinkRoutes;
use super::store_snapshot::StoreSnapshot;
use crate::metrics;
use crate::pipeline::{BlockAppendError, Pipeline};

/// Slices that are detached at a time; each waits for the disk at most twice.
const DETACHING_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct DetachedSlice {
    slice: SliceKey,
    statistics: Statistics,
}

impl DetachedSlice {
    pub(super) fn statistics(&self) -> (SliceKey, Statistics) {
        (self.slice.clone(), self.statistics)
    }
}

/// Progress of detaching a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DetachState {
    UnderWay,
    Failed,
    /// Closed, and its final statistics are in the store.
    Done,
}

/// All slices of this node that are written or being detached.
#[derive(Debug)]
pub(super) struct SlicePipelines {
    deps: ReconcilerDeps,
    open: HashMap<SliceKey, Arc<Pipeline>>,
    detaching: HashMap<SliceKey, DetachState>,
    jobs: JoinSet<Result<DetachedSlice, (SliceKey, BlockAppendError)>>,
    permits: Arc<Semaphore>,
    /// Compiled mapping of each sink's last file.
    compiled: HashMap<SinkKey, (Mapping, Arc<CompiledMapping>)>,
}

impl SlicePipelines {
    pub(super) fn new(deps: ReconcilerDeps) -> Self {
        Self {
            deps,
            open: HashMap::new(),
            detaching: HashMap::new(),
            jobs: JoinSet::new(),
            permits: Arc::new(Semaphore::new(DETACHING_MAX)),
            compiled: HashMap::new(),
        }
    }

    fn slices_in_state<'v>(
        &self,
        view: &'v StoreSnapshot,
        state: SliceState,
    ) -> Vec<&'v Versioned<Arc<Slice>>> {
        let own = view.slices.entries.values();
        own.filter(|s| s.state == state && s.key.volume == self.deps.volume)
            .collect()
    }

    /// Slices to detach, of any volume: the store has one node, and no other detaches what was
    /// written under an earlier volume id.
    fn closing_slices(view: &StoreSnapshot) -> Vec<&Versioned<Arc<Slice>>> {
        let slices = view.slices.entries.values();
        slices.filter(|s| s.state == SliceState::Closing).collect()
    }

    /// Gives each sink the slice that is written now. Returns whether all could be opened.
    pub(super) async fn open(&mut self, view: &StoreSnapshot, routes: &mut SinkRoutes) -> bool {
        let writing = self.slices_in_state(view, SliceState::Writing);
        let mut complete = true;
        for slice in &writing {
            if self.open.contains_key(&slice.key) {
                continue;
            }
            // A missing file was closed since; the next view has its slice.
            let Some(file) = view
                .files
                .get(&keys::StoreKey::File(&slice.key.file).to_string())
            else {
                continue;
            };
            match self.open_one(slice, file) {
                Ok(pipeline) => {
                    self.deps.reporter.opened(slice.key.clone()).await;
                    routes
                        .sink(&slice.key.file.sink)
                        .set_pipeline(Some(Arc::clone(&pipeline)));
                    self.open.insert(slice.key.clone(), pipeline);
                    tracing::debug!(slice = %slice.key, "slice opened");
                }
                Err(error) => {
                    complete = false;
                    tracing::error!(slice = %slice.key, %error, "opening a slice failed; retrying");
                }
            }
        }
        self.withdraw(&writing, routes);
        complete
    }

    fn open_one(&mut self, slice: &Slice, file: &File) -> Result<Arc<Pipeline>, BlockAppendError> {
        let mapping = self.compile(&slice.key.file.sink, &file.table.mapping);
        Pipeline::open(
            slice.key.clone(),
            slice.compression,
            &file.settings,
            mapping,
            &self.deps.appender,
            Arc::clone(&self.deps.pipelines),
        )
    }

    fn compile(&mut self, sink: &SinkKey, mapping: &Mapping) -> Arc<CompiledMapping> {
        if let Some((known, compiled)) = self.compiled.get(sink)
            && known == mapping
        {
            return Arc::clone(compiled);
        }
        let compiled = CompiledMapping::compile_checked(mapping, &self.deps.limits);
        let compiled = Arc::new(compiled);
        let entry = (mapping.clone(), Arc::clone(&compiled));
        self.compiled.insert(sink.clone(), entry);
        compiled
    }

    /// Removes slices that are no longer written from sinks that got no other.
    fn withdraw(&mut self, writing: &[&Versioned<Arc<Slice>>], routes: &mut SinkRoutes) {
        let writing: HashSet<&SliceKey> = writing.iter().map(|s| &s.key).collect();
        for slice in self.open.keys().filter(|s| !writing.contains(s)) {
            let route = routes.sink(&slice.file.sink);
            if route.pipeline().is_some_and(|p| p.slice() == Some(slice)) {
                route.set_pipeline(None);
                self.compiled.remove(&slice.file.sink);
            }
        }
    }

    /// Starts detaching closing slices. At the start of the process these include what an earlier
    /// one has not finished: closing a stream is idempotent.
    pub(super) fn detach(&mut self, view: &StoreSnapshot) {
        let closing = Self::closing_slices(view);
        for slice in &closing {
            if self.detaching.contains_key(&slice.key) {
                continue;
            }
            self.detaching
                .insert(slice.key.clone(), DetachState::UnderWay);
            self.jobs.spawn(detach_slice(
                slice.key.clone(),
                self.open.remove(&slice.key),
                self.deps.clone(),
                Arc::clone(&self.permits),
            ));
        }
        // Slices that went on to upload, or were removed with their sink, need nothing here.
        let closing: HashSet<&SliceKey> = closing.iter().map(|s| &s.key).collect();
        self.detaching
            .retain(|slice, leaving| *leaving == DetachState::UnderWay || closing.contains(slice));
        let entries = &view.slices.entries;
        self.open.retain(|slice, pipeline| {
            let known = entries.contains_key(&keys::StoreKey::Slice(slice).to_string());
            if !known {
                // Its records are discarded: no new ones arrive, and those in flight end by
                // themselves.
                tracing::warn!(%slice, "slice was removed while it was written");
                pipeline.stop_accepting();
            }
            known
        });
    }

    /// Returns the next detached slices; pending while there are none. Cancel-safe.
    pub(super) async fn detached(&mut self) -> Vec<DetachedSlice> {
        let mut detached = Vec::new();
        match self.jobs.join_next().await {
            Some(first) => self.on_job_ended(first, &mut detached),
            None => std::future::pending().await,
        }
        while let Some(more) = self.jobs.try_join_next() {
            self.on_job_ended(more, &mut detached);
        }
        detached
    }

    fn on_job_ended(
        &mut self,
        job: Result<Result<DetachedSlice, (SliceKey, BlockAppendError)>, tokio::task::JoinError>,
        detached: &mut Vec<DetachedSlice>,
    ) {
        match job {
            Ok(Ok(slice)) => detached.push(slice),
            Ok(Err((slice, error))) => {
                tracing::error!(%slice, %error, "closing a slice failed; retrying");
                self.detaching.insert(slice, DetachState::Failed);
            }
            Err(error) => tracing::error!(%error, "detaching a slice failed"),
        }
    }

    /// Removes slices whose statistics are in the store.
    pub(super) fn on_reported(&mut self, slices: impl Iterator<Item = DetachedSlice>) {
        for detached in slices {
            self.detaching.insert(detached.slice, DetachState::Done);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.detaching.values().any(|l| *l == DetachState::Failed)
    }

    /// Retries what has failed.
    pub(super) fn retry(&mut self) {
        self.detaching
            .retain(|_, leaving| *leaving != DetachState::Failed);
    }

    /// Revision up to which all closed slices are detached.
    pub(super) fn processed(&self, view: &StoreSnapshot) -> Revision {
        let closing = Self::closing_slices(view);
        let not_detached = closing
            .iter()
            .filter(|s| self.detaching.get(&s.key) != Some(&DetachState::Done));
        let before = not_detached
            .map(|s| Revision(s.revision.0.saturating_sub(1)))
            .min();
        before.unwrap_or(Revision(u64::MAX)).min(view.changed_at())
    }
}

/// Detaches a slice: no more rows are accepted, those in flight are stored or failed, and no block
/// will ever be appended again.
async fn detach_slice(
    slice: SliceKey,
    pipeline: Option<Arc<Pipeline>>,
    deps: ReconcilerDeps,
    permits: Arc<Semaphore>,
) -> Result<DetachedSlice, (SliceKey, BlockAppendError)> {
    // The semaphore is never closed; without a permit it would only be slower.
    let _permit = permits.acquire().await.ok();
    if let Some(pipeline) = pipeline {
        pipeline.drain().await;
        metrics::record_path_use(&slice.file.sink, &pipeline.mapping().path_use());
    }
    failpoint::at(FailPoint::SliceDrained);
    match deps.appender.close(&slice).await {
        Ok(statistics) => {
            failpoint::at(FailPoint::StreamClosed);
            tracing::debug!(%slice, records = statistics.records, "slice closed");
            Ok(DetachedSlice { slice, statistics })
        }
        Err(error) => Err((slice, error)),
    }
}
