//! What the open slices hold, told to the metadata store: regularly while they are written, and
//! once for all when they are left. The numbers are the log's own, so they are exact after any
//! crash.

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

/// Tells the store what slices hold.
///
/// One report is written at a time: a slice's last one must not be overtaken by one before it.
#[derive(Debug)]
pub struct StatisticsReporter {
    repo: Repo,
    node: NodeId,
    appender: Arc<dyn Appender>,
    /// Slices that are written, with what was reported of them.
    open: Mutex<BTreeMap<SliceKey, Statistics>>,
    /// What was reported of dead letters.
    dead_letters: Mutex<HashMap<(SinkKey, VolumeId), DeadLetterCounts>>,
}

impl StatisticsReporter {
    /// Without a slice yet; the follower adds them.
    #[must_use]
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
                tracing::warn!(%error, "statistics could not be reported, trying again");
            }
            if stopping {
                return;
            }
        }
    }

    /// A slice is written from now on.
    pub(crate) async fn opened(&self, slice: SliceKey) {
        self.open.lock().await.entry(slice).or_default();
    }

    /// Reports what has changed since the last time.
    ///
    /// # Errors
    /// The store's; the next call reports what this one could not.
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

    /// Reports what closed slices hold for ever; they are not reported again.
    ///
    /// # Errors
    /// The store's.
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
