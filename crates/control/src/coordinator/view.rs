//! What the coordinator sees, and the steps that follow from it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use forebay_meta::keys;
use forebay_meta::mirror::{Changes, MirrorTask};
use forebay_meta::repo::runtime::Processed;
use forebay_meta::stored::Stored;
use forebay_meta::{Mirror, Revision, Store};
use forebay_model::{
    File, FileKey, FileState, SinkKey, Slice, SliceKey, SliceState, Statistics, Timestamp,
};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::config::CoordinatorConfig;
use super::decide::{self, Reason};

/// One transaction that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Close a file, open its successor.
    RotateFile(FileKey, Reason),
    /// Close a slice, open its successor.
    RotateSlice(SliceKey, Reason),
    /// Nobody writes into the slice any more: it can be uploaded.
    Complete(SliceKey),
    /// All of the file is in staging: it can be imported.
    Import(FileKey),
    /// Say that nodes are slow to leave a slice.
    SliceOverdue(SliceKey),
    /// Say that slices are slow to get to staging.
    FileOverdue(FileKey),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RotateFile(key, _) => write!(f, "rotate file {key}"),
            Self::RotateSlice(key, _) => write!(f, "rotate slice {key}"),
            Self::Complete(key) => write!(f, "complete slice {key}"),
            Self::Import(key) => write!(f, "import file {key}"),
            Self::SliceOverdue(key) => write!(f, "report slice {key}"),
            Self::FileOverdue(key) => write!(f, "report file {key}"),
        }
    }
}

/// A task that fills a mirror, once it is told when to stop.
pub(super) type Fill = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// The parts of the store that decide what is next, followed in memory.
pub(super) struct Views {
    files: Mirror<File>,
    slices: Mirror<Slice>,
    statistics: Mirror<Statistics>,
    processed: Mirror<Processed>,
    file_changes: Changes<File>,
    slice_changes: Changes<Slice>,
    processed_changes: Changes<Processed>,
}

fn filler<T: Stored + Send + Sync + 'static>(task: MirrorTask<T>) -> Fill {
    Box::new(|stop| Box::pin(task.run(stop)))
}

impl Views {
    pub(super) fn new(store: &Arc<dyn Store>) -> (Self, Vec<Fill>) {
        let (files, fill_files) = Mirror::new(Arc::clone(store), keys::FILES);
        let (slices, fill_slices) = Mirror::new(Arc::clone(store), keys::SLICES);
        let (statistics, fill_statistics) = Mirror::new(Arc::clone(store), keys::STATISTICS);
        let (processed, fill_processed) = Mirror::new(Arc::clone(store), keys::PROCESSED);
        let fill = vec![
            filler(fill_files),
            filler(fill_slices),
            filler(fill_statistics),
            filler(fill_processed),
        ];
        let views = Self {
            file_changes: files.changes(),
            slice_changes: slices.changes(),
            processed_changes: processed.changes(),
            files,
            slices,
            statistics,
            processed,
        };
        (views, fill)
    }

    /// Waits for a change that can make a step due at once; triggers by count, size and age wait
    /// for the next look. False when the mirrors have stopped.
    pub(super) async fn changed(&mut self) -> bool {
        tokio::select! {
            biased;
            change = self.file_changes.next() => change.is_ok(),
            change = self.slice_changes.next() => change.is_ok(),
            change = self.processed_changes.next() => change.is_ok(),
        }
    }

    /// When the newest slice was opened.
    pub(super) fn newest(&self) -> Timestamp {
        let slices = self.slices.snapshot();
        let opened = slices.entries.values().map(|s| s.key.opened_at);
        opened.max().unwrap_or(Timestamp::MIN)
    }

    /// What is due now; at most one step a file, so that no two get in each other's way.
    pub(super) fn steps(&self, config: &CoordinatorConfig, now: Timestamp) -> Vec<Step> {
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
        let mut on_their_way: HashMap<&SinkKey, Vec<&File>> = HashMap::new();
        for file in files
            .entries
            .values()
            .filter(|f| f.state != FileState::Writing)
        {
            let of_sink = on_their_way.entry(&file.key.sink).or_default();
            of_sink.push(&file.value);
        }
        let context = Context {
            config,
            now,
            reported: self.reported(),
            left_up_to: self.left_up_to(),
        };
        let mut steps = Vec::new();
        for file in files.entries.values() {
            let slices = by_file.remove(&file.key).unwrap_or_default();
            let of_sink = on_their_way.get(&file.key.sink);
            let before = of_sink.map_or(&[][..], Vec::as_slice);
            let on_their_way = decide::in_the_way(&file.value, before, &stuck);
            context.file(&file.value, &slices, on_their_way, &mut steps);
        }
        steps
    }

    /// What nodes have reported of open slices.
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

    /// Up to which transaction all live source nodes have left closed slices. With no node alive
    /// nothing is known of what they have left.
    fn left_up_to(&self) -> Option<Revision> {
        self.processed
            .snapshot()
            .entries
            .values()
            .map(|p| p.value.revision)
            .min()
    }
}

struct Context<'c> {
    config: &'c CoordinatorConfig,
    now: Timestamp,
    reported: HashMap<SliceKey, Statistics>,
    left_up_to: Option<Revision>,
}

impl Context<'_> {
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
        on_their_way: usize,
        steps: &mut Vec<Step>,
    ) {
        let all = slices.iter().fold(Statistics::default(), |sum, (s, _)| {
            sum.plus(self.counts(s))
        });
        let rotation = decide::file_rotation(
            file,
            slices.len(),
            &all,
            on_their_way,
            self.config,
            self.now,
        );
        if let Some(reason) = rotation {
            steps.push(Step::RotateFile(file.key.clone(), reason));
            return;
        }
        if !slices.is_empty() && decide::ready_for_import(file, slices.iter().map(|(s, _)| *s)) {
            steps.push(Step::Import(file.key.clone()));
            return;
        }
        let waits = file
            .closing_at
            .map(|at| self.now.since(at))
            .unwrap_or_default();
        let is_overdue =
            file.state == FileState::Closing && waits >= self.config.file_close_timeout.0;
        if is_overdue && file.retry.is_due(self.now) {
            steps.push(Step::FileOverdue(file.key.clone()));
            // Its slices go on.
        }
        for (slice, revision) in slices {
            steps.extend(self.slice(file, slice, *revision));
        }
    }

    fn slice(&self, file: &File, slice: &Slice, revision: Revision) -> Option<Step> {
        let key = || slice.key.clone();
        match slice.state {
            SliceState::Writing if file.state == FileState::Writing => {
                let counts = self.counts(slice);
                decide::slice_rotation(file, slice, &counts, self.config, self.now)
                    .map(|reason| Step::RotateSlice(key(), reason))
            }
            SliceState::Closing if self.left_up_to.is_some_and(|left| left >= revision) => {
                Some(Step::Complete(key()))
            }
            SliceState::Closing => {
                let waits = slice
                    .closing_at
                    .map(|at| self.now.since(at))
                    .unwrap_or_default();
                let is_overdue = waits >= self.config.slice_close_timeout.0;
                (is_overdue && slice.retry.is_due(self.now)).then(|| Step::SliceOverdue(key()))
            }
            _ => None,
        }
    }
}
