//! Statistics: reported for open slices, final for complete ones, summed for removed files.

use std::collections::{BTreeMap, HashMap};

use forebay_model::{
    AuditStamp, File, FileKey, ImportedFile, NodeId, Reconciliation, SinkKey, Slice, SliceKey,
    SliceState, Statistics, Timestamp,
};

use super::audit::{AuditAction, AuditEvent, AuditSubject};
use super::dead_letters::DeadLetterStatistics;
use super::files::{ActiveFile, FileError};
use super::transaction::TxnAttempts;
use super::{Repo, Versioned, decode};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::{ClearedStatistics, SinkState};
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError};

/// Maximum number of reports in one transaction.
const REPORTS_PER_TXN: usize = 100;

/// Contents of a sink, by level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkStatistics {
    /// In the log: `writing`, `closing` and `uploading` slices.
    pub local: Statistics,
    /// In staging: `uploaded` slices.
    pub staging: Statistics,
    /// In the table: `imported` slices, removed ones included.
    pub target: Statistics,
    /// The part of `target` that was not cleared.
    pub shown_target: Statistics,
    /// Rows that the table accepted, removed files included.
    pub imported_rows: u64,
    pub dead_letters: DeadLetterStatistics,
}

impl SinkStatistics {
    /// Sum of all levels.
    pub fn total(&self) -> Statistics {
        self.local.plus(self.staging).plus(self.target)
    }

    /// Sum of all levels, without cleared statistics.
    pub fn shown_total(&self) -> Statistics {
        self.local.plus(self.staging).plus(self.shown_target)
    }

    /// *accepted = imported + dead + expired + lost + in flight*; dropped dead letters count as
    /// expired. Accepted records are counted by the log, imported ones by the table: the
    /// independent counts reveal a difference.
    pub fn reconciliation(&self) -> Reconciliation {
        let (total, dead_letters) = (self.total(), self.dead_letters);
        let done = dead_letters.replayed + dead_letters.dropped;
        // If a whole stream is lost, some dead letters were resolved before: they are not lost.
        let lost = dead_letters
            .lost
            .min(dead_letters.taken.saturating_sub(done));
        Reconciliation {
            // A replayed dead letter is counted with its row.
            accepted: total.records
                + total.lost_records
                + dead_letters.taken.saturating_sub(dead_letters.replayed),
            imported: self.imported_rows,
            dead: dead_letters.taken.saturating_sub(done + lost),
            expired: dead_letters.dropped,
            lost: total.lost_records + lost,
            in_flight: self.local.records + self.staging.records,
        }
    }

    fn add(&mut self, state: SliceState, statistics: Statistics) {
        let level = match state {
            SliceState::Writing | SliceState::Closing | SliceState::Uploading => &mut self.local,
            SliceState::Uploaded => &mut self.staging,
            SliceState::Imported => {
                self.shown_target = self.shown_target.plus(statistics);
                &mut self.target
            }
        };
        *level = level.plus(statistics);
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FileStatistics {
    pub file: File,
    /// Contents of the file, by level.
    pub statistics: SinkStatistics,
    /// The sink's statistics were cleared after the import of the file.
    pub cleared: bool,
    /// Among the slices that failed and are retried, the one with the most failures.
    pub failed_slice: Option<Slice>,
}

impl Repo {
    /// Stores the counts that a node reports for open slices; many in one transaction, each
    /// replacing the node's previous report of the slice. Skips slices that are imported or
    /// removed. On an error some of the reports may have been written.
    pub async fn report_statistics(
        &self,
        node: &NodeId,
        reports: &[(SliceKey, Statistics)],
    ) -> Result<(), FileError> {
        for chunk in reports.chunks(REPORTS_PER_TXN) {
            let mut remaining: Vec<_> = chunk.iter().collect();
            // Each iteration writes all, or drops one.
            while !remaining.is_empty() {
                let mut txn = self.begin();
                for (slice, statistics) in &remaining {
                    txn.expect_exists(StoreKey::Slice(slice));
                    txn.put(StoreKey::Statistics(slice, node), statistics)?;
                }
                match self.try_commit(txn).await? {
                    Ok(_) => break,
                    Err(failed) => drop(remaining.remove(failed)),
                }
            }
        }
        Ok(())
    }

    /// Sums the reports of all nodes for open slices, of one sink or of all.
    pub async fn reported_statistics(
        &self,
        sink: Option<&SinkKey>,
    ) -> Result<HashMap<SliceKey, Statistics>, StoreError> {
        self.reports(sink, |sum, report| sum.plus(report)).await
    }

    /// Returns the report with the most records for each open slice. A renamed node leaves its last
    /// report behind, and its next report counts the same records.
    pub async fn largest_reports(&self) -> Result<HashMap<SliceKey, Statistics>, StoreError> {
        let taken = |s: &Statistics| s.records + s.lost_records;
        let larger = |a: Statistics, b: Statistics| if taken(&b) > taken(&a) { b } else { a };
        self.reports(None, larger).await
    }

    async fn reports(
        &self,
        sink: Option<&SinkKey>,
        join: impl Fn(Statistics, Statistics) -> Statistics + Send + Sync,
    ) -> Result<HashMap<SliceKey, Statistics>, StoreError> {
        let all = keys::STATISTICS;
        let prefix = sink.map_or_else(|| all.to_owned(), |s| keys::below(all, s));
        let mut sums: HashMap<SliceKey, Statistics> = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .range(&prefix, after.as_deref(), RANGE_ENTRIES_MAX)
                .await?;
            for entry in &page.entries {
                let Some((slice, _)) = keys::parse_statistics(&entry.key) else {
                    continue;
                };
                let statistics: Versioned<Statistics> = decode(entry)?;
                let sum = sums.entry(slice).or_default();
                *sum = join(*sum, statistics.value);
            }
            match page.entries.into_iter().next_back() {
                Some(last) if page.more => after = Some(last.key),
                _ => return Ok(sums),
            }
        }
    }

    /// Returns the contents of a sink. A slice that moves during the read is counted once, in its
    /// old or new place. Returns [`FileError::Conflict`] if files are removed continually during
    /// the read.
    pub async fn sink_statistics(&self, sink: &SinkKey) -> Result<SinkStatistics, FileError> {
        Ok(self.sink_report(sink).await?.0)
    }

    /// Returns the contents of a sink in total and by file, both from the same read.
    pub async fn sink_report(
        &self,
        sink: &SinkKey,
    ) -> Result<(SinkStatistics, Vec<FileStatistics>), FileError> {
        // Reads until two reads agree; there is no transaction.
        let mut attempts = TxnAttempts::default();
        loop {
            let sink_state: Option<Versioned<SinkState>> =
                self.read(StoreKey::SinkState(sink)).await?;
            let dead_letters = self.dead_letter_statistics(sink).await?;
            let files = self.file_statistics(sink).await?;
            let dead_letters_after = self.dead_letter_statistics(sink).await?;
            let after: Option<Versioned<SinkState>> = self.read(StoreKey::SinkState(sink)).await?;
            let removed = |b: &Option<Versioned<SinkState>>| {
                let sink_state = b.as_ref().map(|b| &b.value);
                sink_state.map_or_else(Default::default, |b| {
                    (b.removed, b.removed_imported_rows, b.cleared, b.reopened)
                })
            };
            // A file that was removed during the read would be counted twice or not at all, and so
            // would a replayed dead letter.
            let same_dead_letters = dead_letters.replayed == dead_letters_after.replayed
                // Rows of a file that become dead letters are in flight until they are recorded as
                // such.
                && (dead_letters.taken == dead_letters_after.taken
                    || files.iter().all(|f| f.file.dead_rows.is_none()));
            if removed(&sink_state) == removed(&after) && same_dead_letters {
                let sink_state = after.map(|b| b.value).unwrap_or_default();
                let statistics = SinkStatistics {
                    dead_letters: dead_letters_after,
                    ..sum(&files, &sink_state)
                };
                return Ok((statistics, files));
            }
            attempts.retry().await?;
        }
    }

    /// Hides the imported records of a sink from [`SinkStatistics::shown_target`]; records in
    /// flight are still shown, and count when they are imported. The reconciliation is unchanged.
    pub async fn clear_statistics(
        &self,
        sink: &SinkKey,
        stamp: &AuditStamp,
    ) -> Result<(), FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                // Also a condition if there is nothing to hide, since a file removed during the
                // read was in no list.
                let mut sink_state = txn.sink_state(sink).await?;
                // Files with records are imported in order, so all files before the oldest active one
                // are imported. Empty files may finish earlier; they have nothing to hide.
                let active = keys::below(keys::FILES, sink);
                let oldest = self.read_all::<File>(&active).await?;
                let oldest = oldest.first().map(|f| f.key.opened_at);
                let imported = self.imported_files(Some(sink)).await?;
                let is_before = |at: &Timestamp| oldest.is_none_or(|oldest| *at < oldest);
                let times = imported.iter().map(|f| f.key.opened_at);
                // Only the newest removed file is known; files opened before the oldest active one are
                // imported.
                let removed = sink_state.removed_up_to;
                let removed = removed.map(|at| oldest.map_or(at, |oldest| at.min(before(oldest))));
                let newest = times.filter(is_before).chain(removed).max();
                if let Some(up_to) = newest.max(sink_state.cleared.map(|c| c.up_to)) {
                    sink_state.cleared = Some(ClearedStatistics {
                        up_to,
                        removed_since: Statistics::default(),
                    });
                    txn.put(StoreKey::SinkState(sink), &sink_state)?;
                    let change = AuditEvent {
                        project: sink.source.branch.project,
                        what: AuditSubject::Sink(sink.clone()),
                        action: AuditAction::ClearStatistics,
                        description: String::new(),
                        old_version: None,
                        new_version: None,
                        stamp: stamp.clone(),
                    };
                    self.add_unversioned_audit(txn, change).await?;
                }
                Ok(())
            })
        })
        .await
        .map(drop)
    }

    /// Returns the reconciliation of a sink.
    pub async fn reconciliation(&self, sink: &SinkKey) -> Result<Reconciliation, FileError> {
        Ok(self.sink_statistics(sink).await?.reconciliation())
    }

    /// Lists all known files of a sink, imported ones included, oldest first.
    pub async fn file_statistics(&self, sink: &SinkKey) -> Result<Vec<FileStatistics>, FileError> {
        let sink_state: Option<Versioned<SinkState>> = self.read(StoreKey::SinkState(sink)).await?;
        let cleared = sink_state.and_then(|b| b.cleared).map(|c| c.up_to);
        let files = self.known_files(Some(sink)).await?;
        Ok(files.into_statistics(|_| cleared))
    }

    /// Reads the files and slices of one sink, or of all.
    pub(super) async fn known_files(
        &self,
        sink: Option<&SinkKey>,
    ) -> Result<KnownFiles, FileError> {
        let active = self.active_files(sink).await?;
        let imported = self.imported_files(sink).await?;
        Ok(KnownFiles { active, imported })
    }
}

/// Files and slices, in the order in which they were read.
pub(super) struct KnownFiles {
    active: Vec<ActiveFile>,
    imported: Vec<Versioned<ImportedFile>>,
}

impl KnownFiles {
    /// Joins files and slices, oldest file of a sink first. `cleared` returns the time up to which
    /// statistics of a sink were cleared.
    pub(super) fn into_statistics(
        self,
        cleared: impl Fn(&SinkKey) -> Option<Timestamp>,
    ) -> Vec<FileStatistics> {
        let mut files: BTreeMap<FileKey, FileStatistics> = BTreeMap::new();
        for active in self.active {
            let mut statistics = SinkStatistics::default();
            for slice in &active.slices {
                statistics.add(slice.slice.state, slice.statistics);
            }
            if let Some(dead) = &active.file.dead_rows {
                // Those rows are counted with the dead letters.
                let left = statistics.staging.records.saturating_sub(dead.moved);
                statistics.staging.records = left;
            }
            let slices = active.slices.into_iter().map(|s| s.slice.value);
            let failed = slices.filter(|s| s.retry.attempt > 0);
            let entry = FileStatistics {
                file: active.file.value,
                statistics,
                cleared: false,
                failed_slice: failed.max_by_key(|s| s.retry.attempt),
            };
            files.insert(entry.file.key.clone(), entry);
        }
        // A file that was imported during the read is there twice: the later read counts.
        for imported in self.imported {
            let ImportedFile { file, slices } = imported.value;
            let mut statistics = SinkStatistics {
                imported_rows: imported_rows(&file),
                ..SinkStatistics::default()
            };
            for slice in &slices {
                let held = held(&file, slice.statistics);
                statistics.add(SliceState::Imported, held);
            }
            let cleared = cleared(&file.key.sink);
            let entry = FileStatistics {
                cleared: cleared.is_some_and(|up_to| file.key.opened_at <= up_to),
                file,
                statistics,
                failed_slice: None,
            };
            files.insert(entry.file.key.clone(), entry);
        }
        files.into_values().collect()
    }
}

/// Number of rows of an imported file in the table.
pub(super) fn imported_rows(file: &File) -> u64 {
    match file.lost_at {
        None => file.imported_rows,
        Some(_) => 0,
    }
}

/// Contents of an imported file: all lost if its table has lost it.
pub(super) fn held(file: &File, statistics: Statistics) -> Statistics {
    match file.lost_at {
        None => statistics,
        Some(_) => Statistics {
            records: 0,
            lost_records: statistics.lost_records + statistics.records,
            ..statistics
        },
    }
}

/// The millisecond before, since files are distinguished by milliseconds.
fn before(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis() - 1)
}

pub(super) fn sum(files: &[FileStatistics], sink_state: &SinkState) -> SinkStatistics {
    let mut sum = SinkStatistics {
        target: sink_state.removed,
        shown_target: sink_state
            .cleared
            .map_or(sink_state.removed, |c| c.removed_since),
        imported_rows: sink_state.removed_imported_rows,
        ..SinkStatistics::default()
    };
    for file in files {
        sum.local = sum.local.plus(file.statistics.local);
        sum.staging = sum.staging.plus(file.statistics.staging);
        sum.target = sum.target.plus(file.statistics.target);
        if !file.cleared {
            let shown = file.statistics.shown_target;
            sum.shown_target = sum.shown_target.plus(shown);
        }
        sum.imported_rows += file.statistics.imported_rows;
    }
    sum
}
