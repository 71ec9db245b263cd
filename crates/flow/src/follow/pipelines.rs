//! The pipelines of this node's slices: opened, swapped, and left.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_meta::{Revised, Revision, keys};
use forebay_model::failpoint::{self, Point};
use forebay_model::{File, Mapping, SinkKey, Slice, SliceKey, SliceState, Statistics};
use forebay_record::CompiledMapping;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::routes::Routes;
use super::{FollowDeps, View};
use crate::metrics;
use crate::pipeline::{AppendError, Pipeline};

/// Slices that are left at a time; each waits for the disk at most twice.
const LEAVING_MAX: usize = 256;

/// A slice that was left.
#[derive(Debug)]
pub(super) struct Left {
    slice: SliceKey,
    statistics: Statistics,
}

impl Left {
    pub(super) fn statistics(&self) -> (SliceKey, Statistics) {
        (self.slice.clone(), self.statistics)
    }
}

/// How far the leaving of a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    UnderWay,
    Failed,
    /// Closed, and its final statistics are in the store.
    Done,
}

/// All slices of this node that are written or left.
#[derive(Debug)]
pub(super) struct Pipelines {
    deps: FollowDeps,
    open: HashMap<SliceKey, Arc<Pipeline>>,
    leaving: HashMap<SliceKey, Leaving>,
    jobs: JoinSet<Result<Left, (SliceKey, AppendError)>>,
    places: Arc<Semaphore>,
    /// The mapping of each sink's last file, compiled.
    compiled: HashMap<SinkKey, (Mapping, Arc<CompiledMapping>)>,
}

impl Pipelines {
    pub(super) fn new(deps: FollowDeps) -> Self {
        Self {
            deps,
            open: HashMap::new(),
            leaving: HashMap::new(),
            jobs: JoinSet::new(),
            places: Arc::new(Semaphore::new(LEAVING_MAX)),
            compiled: HashMap::new(),
        }
    }

    fn own<'v>(&self, view: &'v View, state: SliceState) -> Vec<&'v Revised<Arc<Slice>>> {
        let own = view.slices.entries.values();
        own.filter(|s| s.state == state && s.key.volume == self.deps.volume)
            .collect()
    }

    /// What is to be left, of whatever volume: the store has one node, and what was written when its
    /// volume had another id is left by nobody else.
    fn closing(view: &View) -> Vec<&Revised<Arc<Slice>>> {
        let slices = view.slices.entries.values();
        slices.filter(|s| s.state == SliceState::Closing).collect()
    }

    /// Gives each sink the slice that is written now. Returns whether all could be opened.
    pub(super) async fn open(&mut self, view: &View, routes: &mut Routes) -> bool {
        let writing = self.own(view, SliceState::Writing);
        let mut complete = true;
        for slice in &writing {
            if self.open.contains_key(&slice.key) {
                continue;
            }
            // A file that is not there any more was closed since; the next view has its slice.
            let Some(file) = view
                .files
                .get(&keys::Key::File(&slice.key.file).to_string())
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
                }
                Err(error) => {
                    complete = false;
                    tracing::error!(slice = %slice.key, %error, "a slice can't be written, trying again");
                }
            }
        }
        self.withdraw(&writing, routes);
        complete
    }

    fn open_one(&mut self, slice: &Slice, file: &File) -> Result<Arc<Pipeline>, AppendError> {
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

    /// Takes slices that are not written any more away from sinks that got no other.
    fn withdraw(&mut self, writing: &[&Revised<Arc<Slice>>], routes: &mut Routes) {
        let writing: HashSet<&SliceKey> = writing.iter().map(|s| &s.key).collect();
        for slice in self.open.keys().filter(|s| !writing.contains(s)) {
            let route = routes.sink(&slice.file.sink);
            if route.pipeline().is_some_and(|p| p.slice() == Some(slice)) {
                route.set_pipeline(None);
                self.compiled.remove(&slice.file.sink);
            }
        }
    }

    /// Begins to leave what is to be left. At the start of the process that is also what an
    /// earlier one has not finished: closing a stream twice changes nothing.
    pub(super) fn leave(&mut self, view: &View) {
        let closing = Self::closing(view);
        for slice in &closing {
            if self.leaving.contains_key(&slice.key) {
                continue;
            }
            self.leaving.insert(slice.key.clone(), Leaving::UnderWay);
            self.jobs.spawn(leave(
                slice.key.clone(),
                self.open.remove(&slice.key),
                self.deps.clone(),
                Arc::clone(&self.places),
            ));
        }
        // What went on to be uploaded, or was removed with its sink, is nobody's business here.
        let closing: HashSet<&SliceKey> = closing.iter().map(|s| &s.key).collect();
        self.leaving
            .retain(|slice, leaving| *leaving == Leaving::UnderWay || closing.contains(slice));
        let entries = &view.slices.entries;
        self.open.retain(|slice, pipeline| {
            let known = entries.contains_key(&keys::Key::Slice(slice).to_string());
            if !known {
                // Its records go nowhere: no new ones, and those under way end by themselves.
                tracing::warn!(%slice, "a slice was removed while it was written");
                pipeline.refuse();
            }
            known
        });
    }

    /// The next slices that are left; pending while there are none. Dropping it loses nothing.
    pub(super) async fn left(&mut self) -> Vec<Left> {
        let mut left = Vec::new();
        match self.jobs.join_next().await {
            Some(first) => self.ended(first, &mut left),
            None => std::future::pending().await,
        }
        while let Some(more) = self.jobs.try_join_next() {
            self.ended(more, &mut left);
        }
        left
    }

    fn ended(
        &mut self,
        job: Result<Result<Left, (SliceKey, AppendError)>, tokio::task::JoinError>,
        left: &mut Vec<Left>,
    ) {
        match job {
            Ok(Ok(slice)) => left.push(slice),
            Ok(Err((slice, error))) => {
                tracing::error!(%slice, %error, "a slice can't be closed, trying again");
                self.leaving.insert(slice, Leaving::Failed);
            }
            Err(error) => tracing::error!(%error, "a slice could not be left"),
        }
    }

    /// The store knows what these hold.
    pub(super) fn told(&mut self, slices: impl Iterator<Item = Left>) {
        for left in slices {
            self.leaving.insert(left.slice, Leaving::Done);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.leaving.values().any(|l| *l == Leaving::Failed)
    }

    /// Lets what has failed be tried again.
    pub(super) fn retry(&mut self) {
        self.leaving
            .retain(|_, leaving| *leaving != Leaving::Failed);
    }

    /// The revision up to which all closed slices are left.
    pub(super) fn processed(&self, view: &View) -> Revision {
        let closing = Self::closing(view);
        let not_left = closing
            .iter()
            .filter(|s| self.leaving.get(&s.key) != Some(&Leaving::Done));
        let before = not_left
            .map(|s| Revision(s.revision.0.saturating_sub(1)))
            .min();
        before.unwrap_or(Revision(u64::MAX)).min(view.changed_at())
    }
}

/// Brings a slice to its end: no row comes in any more, those under way are stored or failed, and
/// no block will ever be appended again.
async fn leave(
    slice: SliceKey,
    pipeline: Option<Arc<Pipeline>>,
    deps: FollowDeps,
    places: Arc<Semaphore>,
) -> Result<Left, (SliceKey, AppendError)> {
    // The semaphore is never closed; without a permit it would only be slower.
    let _place = places.acquire().await.ok();
    if let Some(pipeline) = pipeline {
        pipeline.retire().await;
        metrics::paths(&slice.file.sink, &pipeline.mapping().path_use());
    }
    failpoint::at(Point::SliceLeft);
    match deps.appender.close(&slice).await {
        Ok(statistics) => {
            failpoint::at(Point::StreamClosed);
            Ok(Left { slice, statistics })
        }
        Err(error) => Err((slice, error)),
    }
}
