//! The coordinator: decides rotations and imports from the state of files and slices, and lets the
//! store make each of them in one transaction. It has no state outside the store: after a restart
//! it decides the same.

use std::fmt;
use std::sync::Arc;

use forebay_meta::catalog::tasks::TaskRetention;
use forebay_meta::{DefinitionError, FileError, Repo};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{Actor, AuditStamp, Clock, FileKey, SinkKey, SliceKey, VolumeId};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

mod cleanup;
mod config;
mod decide;
mod forward_clock;
mod rotation_throttle;
mod view;

pub use config::CoordinatorConfig;

use decide::RotationReason;
use forward_clock::ForwardClock;
use rotation_throttle::RotationThrottle;
use view::{CoordinatorStep, CoordinatorView};

/// Concurrent transactions. The embedded store groups their commits.
const CONCURRENCY: usize = 16;

/// Decides rotations and imports of all files and slices.
pub struct Coordinator {
    repo: Repo,
    clock: ForwardClock,
    config: CoordinatorConfig,
    retention: TaskRetention,
    /// Jitter of retries.
    random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// `random` returns arbitrary numbers.
    pub fn new(
        repo: Repo,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Fn() -> u64 + Send + Sync>,
        config: CoordinatorConfig,
        retention: TaskRetention,
    ) -> Self {
        Self {
            repo,
            clock: ForwardClock::new(clock),
            config,
            retention,
            random,
        }
    }

    /// Decides until `stop`. A decision in progress is finished first.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let (view, fill) = CoordinatorView::new(self.repo.store());
        for task in fill {
            tasks.spawn(task(stop.clone()));
        }
        self.decide(view, &stop).await;
        while tasks.join_next().await.is_some() {}
    }

    async fn decide(&self, mut view: CoordinatorView, stop: &CancellationToken) {
        let mut look = interval(self.config.check_interval.0);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut throttle = RotationThrottle::new(self.config.aged_rotations_per_second);
        let mut clean = interval(self.config.cleanup_interval.0);
        clean.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_cleanup = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = clean.tick() => true,
                _ = look.tick() => false,
                is_open = view.changed() => {
                    if !is_open {
                        return;
                    }
                    false
                }
            };
            if is_cleanup {
                self.clean().await;
            } else {
                self.step(&view, &mut throttle).await;
            }
        }
    }

    async fn step(&self, view: &CoordinatorView, throttle: &mut RotationThrottle) {
        let now = self.clock.now_after(view.newest());
        let mut steps = view.steps(&self.config, now);
        throttle.retain_allowed(&mut steps);
        if steps.is_empty() {
            return;
        }
        let volumes = match self.repo.volumes().await {
            Ok(volumes) => volumes.into_iter().map(|v| v.id).collect::<Vec<VolumeId>>(),
            Err(error) => {
                tracing::warn!(%error, "failed to list volumes");
                return;
            }
        };
        let limit = self.config.slice_rotation_timeout.0;
        let each = |step: CoordinatorStep| async {
            let name = step.to_string();
            match timeout(limit, self.act(step, &volumes)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => report(&name, &error),
                Err(_) => tracing::warn!(step = name, ?limit, "step timed out"),
            }
        };
        futures::stream::iter(steps)
            .for_each_concurrent(CONCURRENCY, each)
            .await;
    }

    /// Executes one step. The repository checks that it still applies.
    async fn act(&self, step: CoordinatorStep, volumes: &[VolumeId]) -> Result<(), FileError> {
        let now = self.clock.now();
        match step {
            CoordinatorStep::RotateFile(key, reason) => {
                self.rotate_file(&key, reason, volumes).await
            }
            CoordinatorStep::Settle(key) => self.settle(&key, volumes).await,
            CoordinatorStep::RotateSlice(key, reason) => self.rotate_slice(&key, reason).await,
            CoordinatorStep::Complete(key) => {
                // Read again after the nodes reported that they have drained the slice: the counts
                // that they stored before are final.
                let reported = self.repo.reported_statistics(Some(&key.file.sink)).await?;
                let counts = reported.get(&key).copied().unwrap_or_default();
                failpoint::at(FailPoint::UploadDeciding);
                self.repo.slice_uploading(&key, counts, now).await?;
                failpoint::at(FailPoint::UploadDecided);
                tracing::debug!(slice = %key, records = counts.records, "slice complete");
                Ok(())
            }
            CoordinatorStep::Import(key) => {
                failpoint::at(FailPoint::ImportDeciding);
                let file = self.repo.file_importing(&key, now).await?;
                failpoint::at(FailPoint::ImportDecided);
                tracing::debug!(file = %key, state = file.state.name(), "file staged");
                Ok(())
            }
            CoordinatorStep::SliceOverdue(key) => self.overdue_slice(&key).await,
            CoordinatorStep::FileOverdue(key) => self.overdue_file(&key).await,
        }
    }

    async fn rotate_file(
        &self,
        key: &FileKey,
        reason: RotationReason,
        volumes: &[VolumeId],
    ) -> Result<(), FileError> {
        failpoint::at(FailPoint::FileRotating);
        self.repo
            .rotate_file(key, volumes, self.clock.now())
            .await?;
        failpoint::at(FailPoint::FileRotated);
        tracing::debug!(file = %key, ?reason, "file rotated");
        Ok(())
    }

    async fn settle(&self, key: &SinkKey, volumes: &[VolumeId]) -> Result<(), FileError> {
        let stamp = AuditStamp {
            at: self.clock.now(),
            by: Actor::system(),
        };
        match self.repo.settle_sink(key, volumes, &stamp).await {
            Ok(_) => Ok(()),
            Err(DefinitionError::File(error)) => Err(error),
            Err(DefinitionError::Store(error)) => Err(error.into()),
            Err(_) => Err(FileError::Conflict),
        }
    }

    async fn rotate_slice(&self, key: &SliceKey, reason: RotationReason) -> Result<(), FileError> {
        failpoint::at(FailPoint::SliceRotating);
        self.repo.rotate_slice(key, self.clock.now()).await?;
        failpoint::at(FailPoint::SliceRotated);
        tracing::debug!(slice = %key, ?reason, "slice rotated");
        Ok(())
    }

    async fn overdue_slice(&self, key: &SliceKey) -> Result<(), FileError> {
        let reason = format!(
            "waiting for source nodes to drain the slice for more than {}",
            self.config.slice_close_timeout
        );
        tracing::warn!(slice = %key, "{reason}");
        self.repo
            .slice_failed(key, &self.failure(reason), self.clock.now())
            .await
            .map(drop)
    }

    async fn overdue_file(&self, key: &FileKey) -> Result<(), FileError> {
        let reason = format!(
            "waiting for uploads for more than {}",
            self.config.file_close_timeout
        );
        tracing::warn!(file = %key, "{reason}");
        self.repo
            .file_failed(key, &self.failure(reason), self.clock.now())
            .await
            .map(drop)
    }

    fn failure(&self, reason: String) -> forebay_meta::catalog::slices::StepFailure {
        forebay_meta::catalog::slices::StepFailure {
            reason,
            terminal: false,
            backoff: self.config.backoff(),
            random: (self.random)(),
        }
    }
}

/// Logs a failed step. Most often another process has done it or the view was stale: the next view
/// decides again.
fn report(step: &str, error: &FileError) {
    match error {
        FileError::Store(_) | FileError::NoVolumes | FileError::BadVolumes(_) => {
            tracing::warn!(step, %error, "step failed, retrying");
        }
        _ => tracing::debug!(step, %error, "step no longer needed"),
    }
}
