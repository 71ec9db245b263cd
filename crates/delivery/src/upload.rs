//! Uploads slices of this node's volume to staging.
//!
//! The stream of a slice in `uploading` is closed, so a repeated attempt reads the same blocks and
//! writes the same object. A slice becomes `uploaded` only if as many rows were written as the log
//! has counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use forebay_connect::staging::{Staging, StagingErrorKind};
use forebay_log::Log;
use forebay_meta::{FileError, WatchCache, catalog::keys};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{Slice, SliceKey, SliceState, StagedChecksum, VolumeId};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

mod blocks;

use crate::metrics;
use crate::work_queue::{
    AttemptError, DeliveryContext, RecoveryTracker, WorkConfig, run_work_queue,
};

/// Chunks queued for the network.
const CHUNKS: usize = 4;

/// A slice's object in staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadedObject {
    pub staged: StagedChecksum,
    /// Records that the log had counted and that are damaged now.
    pub lost_records: u64,
}

/// Uploads the slices of one volume. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploader {
    delivery: DeliveryContext,
    log: Log,
    volume: VolumeId,
    staging: Staging,
    config: WorkConfig,
    /// All slices have one destination.
    recovery: RecoveryTracker<()>,
}

impl Uploader {
    pub fn new(
        delivery: DeliveryContext,
        log: Log,
        volume: VolumeId,
        staging: Staging,
        config: WorkConfig,
    ) -> Self {
        let recovery = RecoveryTracker::new(delivery.clock.now());
        Self {
            delivery,
            log,
            volume,
            staging,
            config,
            recovery,
        }
    }

    /// Uploads until `stop`, then finishes uploads in progress.
    pub async fn run(self, stop: CancellationToken) {
        let (slices, fill) =
            WatchCache::<Slice>::new(Arc::clone(self.delivery.repo.store()), keys::SLICES);
        let filling = tokio::spawn(fill.run(stop.clone()));
        let changes = tokio::sync::Mutex::new(slices.changes());
        let due = |_: &std::collections::HashSet<SliceKey>| {
            let now = self.delivery.clock.now();
            let snapshot = slices.snapshot();
            // Slices of any volume: the store has one node. What was written under an earlier
            // volume id is in this log, or nowhere.
            let ours = snapshot
                .entries
                .values()
                .filter(|s| s.state == SliceState::Uploading)
                .filter(|s| self.recovery.is_due(&s.retry, &(), now));
            ours.map(|s| (s.key.clone(), s.revision)).collect()
        };
        let changed = || async { changes.lock().await.next().await.is_ok() };
        let act = |key: SliceKey| {
            let this = self.clone();
            async move { this.attempt(&key).await }
        };
        run_work_queue(&stop, &self.config, changed, due, act).await;
        if let Err(error) = filling.await {
            tracing::error!(%error, "watch cache of slices stopped");
        }
    }

    /// Makes one attempt and records its outcome in the store.
    #[tracing::instrument(name = "upload", level = "debug", skip_all, fields(slice = %key))]
    async fn attempt(&self, key: &SliceKey) {
        let slice = match self.delivery.repo.slice(key).await {
            Ok(slice) if slice.state == SliceState::Uploading => slice.value,
            // Another attempt has completed it.
            Ok(_) | Err(FileError::SliceNotFound(_)) => return,
            Err(error) => {
                tracing::warn!(slice = %key, %error, "reading a slice failed");
                return;
            }
        };
        let uploaded = self
            .config
            .with_timeout("upload", self.upload(&slice))
            .await;
        let now = self.delivery.clock.now();
        self.recovery.record((), uploaded.is_ok(), now);
        let recorded = match uploaded {
            Ok(object) => {
                failpoint::at(FailPoint::UploadWritten);
                metrics::uploaded(object.staged.bytes);
                let recorded = self
                    .delivery
                    .repo
                    .slice_uploaded(key, object.staged, object.lost_records, now)
                    .await;
                failpoint::at(FailPoint::UploadNoted);
                recorded
            }
            Err(error) => {
                metrics::upload_failed(&key.file.sink);
                // The sink monitor reports when a sink begins to fail, and when it recovers.
                tracing::debug!(slice = %key, %error, "slice upload failed");
                let failure = self.delivery.failure(error);
                self.delivery.repo.slice_failed(key, &failure, now).await
            }
        };
        if let Err(error) = recorded {
            // The slice is still `uploading` and will be uploaded again, as the same object.
            tracing::warn!(slice = %key, %error, "recording the outcome of an upload failed");
        }
    }

    /// Writes the slice's object. Idempotent.
    pub async fn upload(&self, slice: &Slice) -> Result<UploadedObject, AttemptError> {
        let name = slice.key.to_string();
        let Some(stream) = self.log.find(&name) else {
            return Err(AttemptError::terminal(format!(
                "the log of volume {} has no stream for the slice; {} records of it are missing",
                self.volume, slice.statistics.records
            )));
        };
        let reader = self
            .log
            .reader(stream, 0)
            .map_err(AttemptError::retryable)?;
        let (sender, mut receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS);
        let compression = slice.compression;
        let reading =
            tokio::task::spawn_blocking(move || blocks::read(reader, compression, &sender));
        let chunks = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let sum = Arc::new(AtomicU32::new(0));
        let chunks = chunks.inspect_ok({
            let sum = Arc::clone(&sum);
            move |bytes| {
                let before = sum.load(Ordering::Relaxed);
                sum.store(crc32c::crc32c_append(before, bytes), Ordering::Relaxed);
            }
        });
        let chunks = chunks.boxed();
        let put = self.staging.put(&slice.staging_path, chunks).await;
        let read = reading.await.map_err(AttemptError::retryable)?;
        let bytes = put.map_err(|e| match (e.kind(), &read) {
            (StagingErrorKind::Input, Err(cause)) => AttemptError::retryable(cause),
            (StagingErrorKind::Terminal, _) => AttemptError::terminal(e),
            _ => AttemptError::retryable(e),
        })?;
        let read = read.map_err(AttemptError::retryable)?;
        let expected = slice.statistics.records;
        if read.records + read.lost != expected + slice.statistics.lost_records {
            return Err(AttemptError::terminal(format!(
                "the log returned {} records of the slice and lost {}, but had counted {expected} and {} lost",
                read.records, read.lost, slice.statistics.lost_records
            )));
        }
        let lost_records = read.lost.saturating_sub(slice.statistics.lost_records);
        let crc32c = sum.load(Ordering::Relaxed);
        Ok(UploadedObject {
            staged: StagedChecksum { bytes, crc32c },
            lost_records,
        })
    }
}
