//! The coordinator's view of the store, and the steps that follow from it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use forebay_meta::catalog::keys;
use forebay_meta::catalog::runtime::ProcessedRevision;
use forebay_meta::catalog::stored::Stored;
use forebay_meta::kv::watch_cache::{CacheChanges, Snapshot, WatchCacheTask};
use forebay_meta::{Revision, Store, WatchCache};
use forebay_model::{
    File, FileKey, FileState, Sink, SinkKey, Slice, SliceKey, SliceState, Source, SourceKey,
    Statistics, Timestamp,
};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::config::CoordinatorConfig;
use super::decide::{self, RotationReason};

/// A transaction that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CoordinatorStep {
    /// Close a file, open its successor.
    RotateFile(FileKey, RotationReason),
    /// Close a slice, open its successor.
    RotateSlice(SliceKey, RotationReason),
    /// No node writes into the slice any more: it can be uploaded.
    Complete(SliceKey),
    /// All slices of the file are staged: it can be imported.
    Import(FileKey),
    /// Close the file of a sink that accepts no records, or open one for a sink that does: its source
    /// was changed.
    Settle(SinkKey),
    /// Report that nodes are slow to drain a slice.
    SliceOverdue(SliceKey),
    /// Report that slices are slow to be uploaded.
    FileOverdue(FileKey),
}

impl fmt::Display for CoordinatorStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RotateFile(key, _) => write!(f, "rotate file {key}"),
            Self::RotateSlice(key, _) => write!(f, "rotate slice {key}"),
            Self::Complete(key) => write!(f, "complete slice {key}"),
            Self::Import(key) => write!(f, "import file {key}"),
            Self::Settle(key) => write!(f, "settle sink {key}"),
            Self::SliceOverdue(key) => write!(f, "report slice {key}"),
            Self::FileOverdue(key) => write!(f, "report file {key}"),
        }
    }
}

/// A task that fills a watch cache until its token is cancelled.
pub(super) type FillTask = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// Watch caches of the parts of the store that decide the next steps.
pub(super) struct CoordinatorView {
    files: WatchCache<File>,
    slices: WatchCache<Slice>,
    statistics: WatchCache<Statistics>,
    processed: WatchCache<ProcessedRevision>,
    sources: WatchCache<Source>,
    sinks: WatchCache<Sink>,
    source_changes: CacheChanges<Source>,
    sink_changes: CacheChanges<Sink>,
    file_changes: CacheChanges<File>,
    slice_changes: CacheChanges<Slice>,
    processed_changes: CacheChanges<ProcessedRevision>,
}

fn fill_task<T: Stored + Send + Sync + 'static>(task: WatchCacheTask<T>) -> FillTask {
    Box::new(|stop| Box::pin(task.run(stop)))
}

impl CoordinatorView {
    pub(super) fn new(store: &Arc<dyn Store>) -> (Self, Vec<FillTask>) {
        let (files, fill_files) = WatchCache::new(Arc::clone(store), keys::FILES);
        let (slices, fill_slices) = WatchCache::new(Arc::clone(store), keys::SLICES);
        let (statistics, fill_statistics) = WatchCache::new(Arc::clone(store), keys::STATISTICS);
        let (processed, fill_processed) = WatchCache::new(Arc::clone(store), keys::PROCESSED);
        let (sources, fill_sources) = WatchCache::new(Arc::clone(store), keys::SOURCES);
        let (sinks, fill_sinks) = WatchCache::new(Arc::clone(store), keys::SINKS);
        let fill = vec![
            fill_task(fill_sources),
            fill_task(fill_sinks),
            fill_task(fill_files),
            fill_task(fill_slices),
            fill_task(fill_statistics),
            fill_task(fill_processed),
        ];
        let view = Self {
            source_changes: sources.changes(),
            sink_changes: sinks.changes(),
            file_changes: files.changes(),
            slice_changes: slices.changes(),
            processed_changes: processed.changes(),
            files,
            slices,
            statistics,
            processed,
            sources,
            sinks,
        };
        (view, fill)
    }

    /// Waits for a change that can make a step due at once; count, size and age triggers wait for
    /// the next check. False when the watch caches have stopped.
    pub(super) async fn changed(&mut self) -> bool {
        tokio::select! {
            biased;
            change = self.file_changes.next() => change.is_ok(),
            change = self.slice_changes.next() => change.is_ok(),
            change = self.processed_changes.next() => change.is_ok(),
            change = self.source_changes.next() => change.is_ok(),
            change = self.sink_changes.next() => change.is_ok(),
        }
    }

    /// Opening time of the newest slice.
    pub(super) fn newest(&self) -> Timestamp {
        let slices = self.slices.snapshot();
        let opened = slices.entries.values().map(|s| s.key.opened_at);
        opened.max().unwrap_or(Timestamp::MIN)
    }

    /// Due steps; at most one per file, so that steps do not conflict.
    pub(super) fn steps(&self, config: &CoordinatorConfig, now: Timestamp) -> Vec<CoordinatorStep> {
        let files = self.files.snapshot();
        let slices = self.slices.snapshot();
        let mut by_file: HashMap<&FileKey, Vec<(&Slice, Revision)>> = HashMap::new();
        for slice in slices.entries.values() {
            by_file
                .entry(&slice.key.file)
                .or_default()
                .push((&slice.value, slice.revision));
        }
        let parked = slices.entries.values().filter(|s| s.retry.parked);
        let stuck: HashSet<&FileKey> = parked.map(|s| &s.key.file).collect();
        let mut in_flight: HashMap<&SinkKey, Vec<&File>> = HashMap::new();
        for file in files
            .entries
            .values()
            .filter(|f| f.state != FileState::Writing)
        {
            let of_sink = in_flight.entry(&file.key.sink).or_default();
            of_sink.push(&file.value);
        }
        let context = DecisionContext {
            config,
            now,
            reported: self.reported(),
            drained_up_to: self.drained_up_to(),
        };
        let mut steps = Vec::new();
        let unsettled = self.unsettled(&files);
        for file in files.entries.values() {
            if file.state == FileState::Writing && unsettled.contains(&file.key.sink) {
                continue;
            }
            let slices = by_file.remove(&file.key).unwrap_or_default();
            let of_sink = in_flight.get(&file.key.sink);
            let before = of_sink.map_or(&[][..], Vec::as_slice);
            let in_flight = decide::count_blocking(&file.value, before, &stuck);
            context.file(&file.value, &slices, in_flight, &mut steps);
        }
        steps.extend(unsettled.into_iter().map(CoordinatorStep::Settle));
        steps
    }

    /// Sinks that have an open file and accept no records, or the reverse. The three caches may be
    /// of different revisions, so a step may turn out to be unnecessary.
    fn unsettled(&self, files: &Snapshot<File>) -> BTreeSet<SinkKey> {
        let (sources, sinks) = (self.sources.snapshot(), self.sinks.snapshot());
        let unread = Revision::default();
        if sources.revision == unread || sinks.revision == unread || files.revision == unread {
            // Not read yet: it would look empty.
            return BTreeSet::new();
        }
        let sources = sources.entries.values().filter(|s| s.is_active());
        let active: HashSet<SourceKey> = sources.map(|s| s.key.clone()).collect();
        let accepting = sinks.entries.values().filter(|sink| {
            sink.is_active() && sink.target.table().is_some() && active.contains(&sink.key.source)
        });
        let accepting: HashSet<&SinkKey> = accepting.map(|s| &s.key).collect();
        let open = files
            .entries
            .values()
            .filter(|f| f.state == FileState::Writing);
        let open: HashSet<&SinkKey> = open.map(|f| &f.key.sink).collect();
        let unsettled = open.symmetric_difference(&accepting);
        unsettled.map(|sink| (*sink).clone()).collect()
    }

    /// Statistics that nodes reported of open slices.
    fn reported(&self) -> HashMap<SliceKey, Statistics> {
        let mut sums: HashMap<SliceKey, Statistics> = HashMap::new();
        for (key, statistics) in self.statistics.snapshot().entries.iter() {
            if let Some((slice, _)) = keys::parse_statistics(key) {
                let sum = sums.entry(slice).or_default();
                *sum = sum.plus(*statistics.value);
            }
        }
        sums
    }

    /// Revision up to which all live source nodes have drained closed slices. Unknown without a
    /// live node.
    fn drained_up_to(&self) -> Option<Revision> {
        self.processed
            .snapshot()
            .entries
            .values()
            .map(|p| p.value.revision)
            .min()
    }
}

struct DecisionContext<'c> {
    config: &'c CoordinatorConfig,
    now: Timestamp,
    reported: HashMap<SliceKey, Statistics>,
    drained_up_to: Option<Revision>,
}

impl DecisionContext<'_> {
    fn counts(&self, slice: &Slice) -> Statistics {
        if slice.state < SliceState::Uploading {
            self.reported.get(&slice.key).copied().unwrap_or_default()
        } else {
            slice.statistics
        }
    }

    fn file(
        &self,
        file: &File,
        slices: &[(&Slice, Revision)],
        in_flight: usize,
        steps: &mut Vec<CoordinatorStep>,
    ) {
        let all = slices.iter().fold(Statistics::default(), |sum, (s, _)| {
            sum.plus(self.counts(s))
        });
        let rotation =
            decide::file_rotation(file, slices.len(), &all, in_flight, self.config, self.now);
        if let Some(reason) = rotation {
            steps.push(CoordinatorStep::RotateFile(file.key.clone(), reason));
            return;
        }
        if !slices.is_empty() && decide::ready_for_import(file, slices.iter().map(|(s, _)| *s)) {
            steps.push(CoordinatorStep::Import(file.key.clone()));
            return;
        }
        let waits = file
            .closing_at
            .map(|at| self.now.since(at))
            .unwrap_or_default();
        let is_overdue =
            file.state == FileState::Closing && waits >= self.config.file_close_timeout.0;
        if is_overdue && file.retry.is_due(self.now) {
            steps.push(CoordinatorStep::FileOverdue(file.key.clone()));
            // Its slices are handled below.
        }
        for (slice, revision) in slices {
            steps.extend(self.slice(file, slice, *revision));
        }
    }

    fn slice(&self, file: &File, slice: &Slice, revision: Revision) -> Option<CoordinatorStep> {
        let key = || slice.key.clone();
        match slice.state {
            SliceState::Writing if file.state == FileState::Writing => {
                let counts = self.counts(slice);
                decide::slice_rotation(file, slice, &counts, self.config, self.now)
                    .map(|reason| CoordinatorStep::RotateSlice(key(), reason))
            }
            SliceState::Closing
                if self
                    .drained_up_to
                    .is_some_and(|drained| drained >= revision) =>
            {
                Some(CoordinatorStep::Complete(key()))
            }
            SliceState::Closing => {
                let waits = slice
                    .closing_at
                    .map(|at| self.now.since(at))
                    .unwrap_or_default();
                let is_overdue = waits >= self.config.slice_close_timeout.0;
                (is_overdue && slice.retry.is_due(self.now))
                    .then(|| CoordinatorStep::SliceOverdue(key()))
            }
            _ => None,
        }
    }
}
