//! Disk housekeeping: reports a full volume and failures of log and metadata store, maintains the
//! reserve, and makes the store's checkpoints and copies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_log::{Log, VolumeStats};
use forebay_meta::kv::embedded::copies;
use forebay_meta::{EmbeddedStore, Store};
use forebay_model::Clock;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, OnLatch};
use crate::disk_space::free_bytes;
use crate::reserve::DiskReserve;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A volume with less available space is full.
const NEEDED_SPACE_MIN: u64 = 64 << 10;
/// Cap for the size of rejected blocks: one large batch does not make a volume full.
const NEEDED_SPACE_MAX: u64 = 1 << 20;
/// The first copy of a new store is made sooner.
const FIRST_COPY_DELAY: Duration = Duration::from_secs(60);

/// Reason for rejecting the records of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VolumeFull {
    /// Bytes that it can store.
    pub(crate) available: u64,
    /// Bytes that it should be able to store.
    pub(crate) needed: u64,
}

impl std::fmt::Display for VolumeFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the volume is full: {} bytes are available, {} are needed (limits: log.minFreeBytes, log.maxBytes)",
            self.available, self.needed
        )
    }
}

pub(crate) fn check_full(stats: &VolumeStats) -> Option<VolumeFull> {
    let needed = stats
        .rejected
        .needed
        .clamp(NEEDED_SPACE_MIN, NEEDED_SPACE_MAX);
    let available = stats.available_bytes;
    (available < needed).then_some(VolumeFull { available, needed })
}

pub(crate) struct DiskHousekeeping {
    log: Log,
    store: Arc<EmbeddedStore>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    folder: PathBuf,
    reserve: DiskReserve,
    config: Config,
    full_since: Option<Instant>,
    latched: bool,
}

impl DiskHousekeeping {
    pub(crate) fn new(
        config: &Config,
        log: Log,
        store: Arc<EmbeddedStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let dir = config.data_dir.clone();
        Self {
            log,
            store,
            clock,
            folder: config.metadata.copies_folder(&dir),
            reserve: reserve(config),
            dir,
            config: config.clone(),
            full_since: None,
            latched: false,
        }
    }

    /// Checks until `stop`, then makes the last copy. Returns an error when the disk failed and the
    /// process is to exit.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let metadata = &self.config.metadata;
        let mut check = ticks(CHECK_INTERVAL, Duration::ZERO);
        let mut checkpoint = ticks(
            metadata.checkpoint_interval.0,
            metadata.checkpoint_interval.0,
        );
        let every = metadata.copy_interval.0;
        let mut copy = ticks(every, every.min(FIRST_COPY_DELAY));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = check.tick() => self.check_disk().await?,
                _ = checkpoint.tick() => self.checkpoint().await,
                _ = copy.tick() => self.copy_metadata().await,
            }
        }
        self.copy_metadata().await;
        Ok(())
    }

    async fn check_disk(&mut self) -> Result<(), String> {
        let (log, reserve) = (self.log.clone(), self.reserve.clone());
        let looked = tokio::task::spawn_blocking(move || {
            reserve.maintain();
            log.volume_stats()
        });
        let Ok(stats) = looked.await else {
            return Ok(());
        };
        self.report_full(&stats);
        let failure = match (self.log.health(), self.store.health()) {
            (Err(latched), _) => latched.to_string(),
            (_, Err(error)) => error.to_string(),
            _ => return Ok(()),
        };
        if !self.latched {
            self.latched = true;
            tracing::error!(cause = %failure, "disk failure: this process is not ready until it is restarted");
        }
        match self.config.health.on_latch {
            OnLatch::Stay => Ok(()),
            OnLatch::Exit => Err(failure),
        }
    }

    /// One line when the volume becomes full, one when it no longer is.
    fn report_full(&mut self, stats: &VolumeStats) {
        let volume = format!("{:016x}", stats.volume);
        match (check_full(stats), self.full_since) {
            (Some(full), None) => {
                self.full_since = Some(Instant::now());
                let free = free_bytes(&self.dir);
                let min_free = self.config.log.min_free();
                tracing::warn!(%volume, available = full.available, needed = full.needed, free, min_free, rejected = stats.rejected.count, "volume full: records are rejected with 503 until there is space");
            }
            (None, Some(since)) => {
                self.full_since = None;
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!(%volume, seconds, available = stats.available_bytes, rejected = stats.rejected.count, "volume has space again: records are accepted");
            }
            _ => {}
        }
    }

    async fn checkpoint(&self) {
        if let Err(error) = self.store.checkpoint().await {
            tracing::warn!(%error, "metadata checkpoint failed");
        }
    }

    /// Makes a verified copy, unless nothing changed or the disk is low on space.
    async fn copy_metadata(&self) {
        let keep = self.config.metadata.copies as usize;
        if keep == 0 || self.store.health().is_err() {
            return;
        }
        let (dir, folder) = (self.dir.clone(), self.folder.clone());
        let (now, min_free) = (self.clock.now().as_millis(), self.config.log.min_free());
        let made = tokio::task::spawn_blocking(move || {
            let database = dir.join(forebay_meta::kv::embedded::DATABASE_FILE);
            let size = database.metadata().map_or(0, |m| m.len());
            let target_dir = if folder.exists() { &folder } else { &dir };
            let free = free_bytes(target_dir).unwrap_or(u64::MAX);
            if free < size.saturating_mul(2).saturating_add(min_free) {
                return Err(format!(
                    "{free} bytes are free, {min_free} of them are reserved"
                ));
            }
            copies::create(&dir, &folder, keep, now).map_err(|e| e.to_string())
        });
        match made.await {
            Ok(Ok(Some(copy))) => {
                tracing::debug!(file = %copy.path.display(), revision = copy.revision.0, "metadata copied");
            }
            Ok(Ok(None)) => {}
            Ok(Err(cause)) => tracing::warn!(cause, "metadata copy failed"),
            Err(error) => tracing::error!(%error, "metadata copy failed"),
        }
    }
}

fn ticks(every: Duration, first: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

pub(crate) fn reserve(config: &Config) -> DiskReserve {
    let size = config.metadata.reserve_size.0;
    DiskReserve::new(&config.data_dir, size, config.log.min_free())
}

/// Source of the disk metrics.
#[derive(Clone, Debug)]
pub(crate) struct DiskMetrics {
    pub(crate) log: Log,
    pub(crate) store: Arc<EmbeddedStore>,
}
