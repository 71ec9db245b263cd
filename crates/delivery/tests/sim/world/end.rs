//! End of a run: everything works again, all records arrive, and then they are counted.

use std::hash::Hasher;
use std::time::Duration;

use forebay_meta::ActiveFile;
use forebay_model::{File, FileState, Reconciliation, Slice, SliceState};

use super::definitions::{SINKS, sink_key, table_id};
use super::{Done, World, is_unnamed, runtime, settle};
use crate::model::{Missing, Outcome};
use crate::node::Node;

/// Steps after which everything must have arrived once all is restored; a run needs a tenth of
/// that.
const ROUNDS_MAX: u32 = 4000;

impl World {
    /// Restores everything, lets all records arrive, and checks what is true then.
    pub(super) fn settle_all(&mut self) -> Result<(), String> {
        self.heal();
        self.around.clock.catch_up();
        let runtime = runtime();
        let result = runtime.block_on(async {
            let mut node = None;
            for _ in 0..3 {
                node = self.start().await;
                if node.is_some() {
                    break;
                }
            }
            let node = node.ok_or("no start with everything healed")?;
            self.drain(&node).await?;
            self.check_end(&node).await
        });
        self.disk.kill();
        drop(runtime);
        result
    }

    /// Passes all steps in order until nothing is pending.
    async fn drain(&mut self, node: &Node) -> Result<(), String> {
        let mut quiet = 0;
        for round in 0..ROUNDS_MAX {
            settle().await;
            self.trace_all();
            if self.let_first_through() {
                continue;
            }
            quiet += 1;
            // Often enough that all statistics were reported, too.
            if quiet % 5 == 0 && self.has_arrived(node).await {
                self.done.rounds = self.done.rounds.max(round.into());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let active = self.open_gates(node.repo.active_files(None)).await;
        let mut why = String::from("not all has arrived");
        for file in active.map_err(|e| e.to_string())? {
            let f = &file.file;
            why += &format!("\n  file {} {:?}: {:?}", f.key, f.state, f.retry.reason);
            for slice in &file.slices {
                let (s, held) = (&slice.slice, slice.statistics.records);
                let reason = &s.retry.reason;
                why += &format!("\n    {} {:?} {held}: {reason:?}", s.key, s.state);
            }
        }
        for stream in node.log.streams() {
            why += &format!("\n  stream {} {}", stream.name, stream.records);
        }
        Err(why)
    }

    /// Queries the store with open gates.
    async fn open_gates<T>(&self, query: impl Future<Output = T>) -> T {
        self.around.gates.set_open(true);
        let answer = query.await;
        self.around.gates.set_open(false);
        answer
    }

    /// Whether the log is drained, except where silent corruption needs an operator: a slice or
    /// file is parked then, and holds back the later ones of its sink.
    async fn has_arrived(&self, node: &Node) -> bool {
        let Ok(files) = self.open_gates(node.repo.active_files(None)).await else {
            return false;
        };
        if self.has_rolled_back && !self.is_noticed(node).await {
            return false;
        }
        let is_parked = |file: &&ActiveFile| {
            let slices = &file.slices;
            file.file.retry.parked || slices.iter().any(|s| s.slice.retry.parked)
        };
        let parked = files.iter().filter(|f| self.has_lied && is_parked(f));
        let stuck: Vec<String> = parked.map(|f| format!("{}/", f.file.key.sink)).collect();
        let mut slices = files
            .iter()
            .flat_map(|f| f.slices.iter().map(move |s| (&f.file, &s.slice)));
        let mut streams = node.log.streams().into_iter();
        let is_stuck = |name: &str| stuck.iter().any(|sink| name.starts_with(sink));
        // A file without records is not closed (`docs/reference/lifecycle.md`), also if the log has
        // lost those of a slice that was uploaded then: the end checks that this was reported.
        let waits = |f: &File, s: &Slice| {
            let is_empty = s.is_empty && s.statistics.records == 0;
            f.state == FileState::Writing && s.state == SliceState::Uploaded && is_empty
        };
        slices.all(|(f, s)| {
            s.state == SliceState::Writing || waits(f, s) || is_stuck(&s.key.to_string())
        }) && streams.all(|s| s.records == 0 || is_unnamed(&s.name) || is_stuck(&s.name))
    }

    /// Whether what the table has lost was imported again, or reported as lost.
    async fn is_noticed(&self, node: &Node) -> bool {
        for sink in SINKS {
            let reconciliation = self
                .open_gates(node.repo.reconciliation(&sink_key(sink)))
                .await;
            let rows = self.around.table.rows(&table_id(sink)).len() as u64;
            if reconciliation.is_ok_and(|b| b.imported != rows) {
                return false;
            }
        }
        true
    }

    async fn check_end(&mut self, node: &Node) -> Result<(), String> {
        let missing = self.check_tables()?;
        let (mut missing_total, mut named) = (0, self.named_only);
        for (sink, missing) in SINKS.iter().zip(missing) {
            let key = sink_key(sink);
            let reconciliation = self.open_gates(node.repo.reconciliation(&key)).await;
            let reconciliation = reconciliation.map_err(|e| e.to_string())?;
            self.trace(&format!("sink {sink}: {reconciliation:?} {missing:?}"));
            self.check_sink(sink, &reconciliation, missing)
                .map_err(|what| format!("sink {sink}: {what}: {reconciliation:?}, {missing:?}"))?;
            missing_total += missing.stored;
            named += reconciliation.lost + reconciliation.in_flight;
            self.done.lost += reconciliation.lost;
        }
        if missing_total > named && !self.has_uncounted {
            return Err(format!(
                "{missing_total} acknowledged records are missing, {named} are called lost or still to be read, and no damage was reported"
            ));
        }
        Ok(())
    }

    fn check_sink(
        &self,
        sink: &str,
        reconciliation: &Reconciliation,
        missing: Missing,
    ) -> Result<(), &'static str> {
        if !reconciliation.holds() {
            return Err("the reconciliation does not hold");
        }
        let models = self.models.lock().unwrap();
        let model = &models[sink];
        let rows = self.around.table.rows(&table_id(sink)).len() as u64;
        if reconciliation.imported != rows {
            return Err("the table has another number of rows than were imported");
        }
        let stored = model.count(|f| matches!(f, Outcome::Stored(_)));
        let unknown = model.count(|f| *f == Outcome::Unknown);
        if reconciliation.accepted > stored + unknown {
            return Err("more was accepted than was sent");
        }
        // Unacknowledged records may be torn by a power cut, and are counted then.
        if reconciliation.lost > missing.stored + missing.unknown {
            return Err("records are called lost that are in the table");
        }
        if self.has_lied {
            return Ok(());
        }
        let lost = if self.has_rolled_back {
            reconciliation.lost
        } else {
            0
        };
        if missing.stored > lost {
            return Err("acknowledged records are missing");
        }
        if reconciliation.accepted < stored || reconciliation.in_flight > 0 {
            return Err("not all has arrived");
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Done {
        let models = self.models.lock().unwrap();
        for model in models.values() {
            self.done.stored += model.count(|f| matches!(f, Outcome::Stored(_)));
            self.done.rejected += model.count(|f| *f == Outcome::Rejected);
            self.done.unknown += model.count(|f| *f == Outcome::Unknown);
        }
        drop(models);
        self.done.trace = self.trace.finish();
        self.done
    }
}
