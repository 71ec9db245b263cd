//! Reports slice statistics to the metadata store: regularly while slices are written, and finally
//! when they are detached. The counts are the log's own, so they are exact after any crash.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use forebay_meta::Repo;
use forebay_meta::catalog::files::FileError;
use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_model::{NodeId, SinkKey, SliceKey, Statistics, VolumeId};
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::pipeline::Appender;

/// Reports slice statistics to the store.
///
/// One report is written at a time: an earlier one must not overtake a slice's last one.
#[derive(Debug)]
pub struct StatisticsReporter {
    repo: Repo,
    node: NodeId,
    appender: Arc<dyn Appender>,
    /// Slices that are written, with their last report.
    open: Mutex<BTreeMap<SliceKey, Statistics>>,
    /// Last report of dead letters.
    dead_letters: Mutex<HashMap<(SinkKey, VolumeId), DeadLetterCounts>>,
}

impl StatisticsReporter {
    /// Creates a reporter without slices; the reconciler adds them.
    pub fn new(repo: Repo, node: NodeId, appender: Arc<dyn Appender>) -> Arc<Self> {
        Arc::new(Self {
            repo,
            node,
            appender,
            open: Mutex::default(),
            dead_letters: Mutex::default(),
        })
    }

    /// Reports changes every `interval` until `stop`, and once more then.
    pub async fn run(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                _ = tick.tick() => false,
            };
            if let Err(error) = self.report().await {
                tracing::warn!(%error, "reporting statistics failed; retrying");
            }
            if stopping {
                return;
            }
        }
    }

    /// Adds a slice that is written from now on.
    pub(crate) async fn opened(&self, slice: SliceKey) {
        self.open.lock().await.entry(slice).or_default();
    }

    /// Reports changes since the last call. The next call repeats what failed.
    pub async fn report(&self) -> Result<(), FileError> {
        self.report_dead_letters().await?;
        let mut open = self.open.lock().await;
        let changed: Vec<_> = open
            .iter()
            .filter_map(|(slice, known)| {
                let now = self.appender.statistics(slice)?;
                (now != *known).then(|| (slice.clone(), now))
            })
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        self.repo.report_statistics(&self.node, &changed).await?;
        for (slice, now) in changed {
            open.insert(slice, now);
        }
        Ok(())
    }

    async fn report_dead_letters(&self) -> Result<(), FileError> {
        let mut known = self.dead_letters.lock().await;
        let mut changed = self.appender.dead_letter_counts();
        changed.retain(|(sink, volume, counts)| {
            known.get(&(sink.clone(), volume.clone())) != Some(counts)
        });
        self.repo.report_dead_letters(&changed).await?;
        known.extend(changed.into_iter().map(|(s, v, counts)| ((s, v), counts)));
        Ok(())
    }

    /// Reports the final statistics of closed slices; they are not reported again.
    pub(crate) async fn report_final(
        &self,
        slices: &[(SliceKey, Statistics)],
    ) -> Result<(), FileError> {
        let mut open = self.open.lock().await;
        for (slice, _) in slices {
            open.remove(slice);
        }
        self.repo.report_statistics(&self.node, slices).await
    }
}
