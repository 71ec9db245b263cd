//! Garbage-collects streams, staged objects and ledger entries of imported files. Every step can be
//! repeated, and the next run finds what was missed.
//!
//! A stream that the store does not know is deleted only if the store has recorded the removal of
//! newer metadata of the same sink. Otherwise it may be the only copy of its records: it is kept
//! and reported (`docs/adr/0004-…`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_connect::staging::Staging;
use forebay_log::{Log, LogReadError, ReadItem, StreamId};
use forebay_meta::catalog::dead_letters::DeadLetterOwner;
use forebay_meta::{FileError, WatchCache, catalog::keys};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{
    FileKey, HumanDuration, ImportedFile, SinkKey, Slice, SliceKey, Timestamp, VolumeId,
    out_of_range,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::import::TableRegistry;
use crate::metrics;
use crate::work_queue::DeliveryContext;
use forebay_ingest::streams::{dead_letter_sink, topic_sink};

mod ledger_check;

use ledger_check::LedgerChecker;

/// Intervals of the garbage collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GarbageCollectorConfig {
    /// How often all streams and objects are checked. Those of a file that was just imported are
    /// deleted at once. 1s to 1h.
    pub interval: HumanDuration,
    /// How often all remembered imports are looked up in the ledgers of their tables; the newest
    /// import is looked up every `interval`. 1s to 24h.
    pub ledger_interval: HumanDuration,
}

impl GarbageCollectorConfig {
    /// Returns the settings that are out of range: name, given value, allowed range.
    pub fn violations(&self) -> Vec<String> {
        let interval = out_of_range(
            "interval",
            self.interval,
            HumanDuration::secs(1),
            HumanDuration::hours(1),
        );
        let (least, most) = (HumanDuration::secs(1), HumanDuration::hours(24));
        let ledger = out_of_range("ledgerInterval", self.ledger_interval, least, most);
        interval.into_iter().chain(ledger).collect()
    }
}

impl Default for GarbageCollectorConfig {
    fn default() -> Self {
        Self {
            interval: HumanDuration::secs(20),
            ledger_interval: HumanDuration::mins(10),
        }
    }
}

/// Garbage collector of one volume, and of its staging and tables.
#[derive(Debug)]
pub struct GarbageCollector {
    delivery: DeliveryContext,
    log: Log,
    volume: VolumeId,
    staging: Staging,
    ledgers: LedgerChecker,
    config: GarbageCollectorConfig,
    /// Files whose streams and objects are deleted and that are still remembered.
    collected: HashSet<FileKey>,
}

impl GarbageCollector {
    pub fn new(
        delivery: DeliveryContext,
        log: Log,
        volume: VolumeId,
        staging: Staging,
        tables: TableRegistry,
        cluster_id: &str,
        config: GarbageCollectorConfig,
    ) -> Self {
        let ledgers = LedgerChecker {
            delivery: delivery.clone(),
            log: log.clone(),
            volume: volume.clone(),
            staging: staging.clone(),
            tables,
            cluster_id: cluster_id.into(),
            interval: config.ledger_interval,
            next: None,
            reopened: HashSet::new(),
            checked: false,
            unchecked: HashSet::new(),
        };
        Self {
            delivery,
            log,
            volume,
            staging,
            ledgers,
            config,
            collected: HashSet::new(),
        }
    }

    /// Collects until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let store = Arc::clone(self.delivery.repo.store());
        let (files, fill) = WatchCache::<ImportedFile>::new(store, keys::IMPORTED_FILES);
        let filling = tokio::spawn(fill.run(stop.clone()));
        let mut changes = files.changes();
        let mut tick = interval(self.config.interval.0);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => true,
                change = changes.next() => match change {
                    Ok(_) => false,
                    Err(_) => break,
                },
            };
            let snapshot = files.snapshot();
            let files = snapshot.entries.values();
            let imported: Vec<Arc<ImportedFile>> = files.map(|f| Arc::clone(&f.value)).collect();
            // Ledgers first: what a table has lost must not be deleted from the log or staging.
            if all && let Err(error) = self.ledgers.check().await {
                tracing::warn!(%error, "listing imported files failed");
            }
            self.collect_slices(&imported).await;
            if all {
                self.collect_streams(&imported).await;
            }
        }
        if let Err(error) = filling.await {
            tracing::error!(%error, "watch cache of imported files stopped");
        }
    }

    /// Deletes streams and objects of imported slices.
    async fn collect_slices(&mut self, imported: &[Arc<ImportedFile>]) {
        let known: HashSet<&FileKey> = imported.iter().map(|f| &f.key).collect();
        self.collected.retain(|key| known.contains(key));
        for file in imported {
            if self.collected.contains(&file.key) || !self.ledgers.may_collect(&file.key) {
                continue;
            }
            let mut is_complete = true;
            for slice in file.full_slices() {
                is_complete &= self.collect_slice(&slice).await;
            }
            if is_complete {
                self.collected.insert(file.key.clone());
            }
        }
    }

    /// Deletes the stream and the object of an imported slice; false if it is to be tried again.
    async fn collect_slice(&mut self, slice: &Slice) -> bool {
        if self.is_reopened(&slice.key).await {
            return false;
        }
        failpoint::at(FailPoint::TrimBegun);
        match self.has_unimported_records(slice).await {
            Some(true) => {}
            Some(false) => self.delete_stream(&slice.key.to_string()).await,
            None => return false,
        }
        if !slice.is_empty
            && let Err(error) = self.staging.delete(&slice.staging_path).await
        {
            tracing::warn!(slice = %slice.key, %error, "deleting a staged slice failed");
            return false;
        }
        failpoint::at(FailPoint::ObjectDeleted);
        true
    }

    /// Whether a slice's stream has records that were not imported: records counted as lost may
    /// reappear when the right disk is mounted. `None` when that can't be determined now.
    async fn has_unimported_records(&self, slice: &Slice) -> Option<bool> {
        let stream = self.log.find(&slice.key.to_string());
        let Some(stats) = stream.and_then(|id| self.log.stats(id)) else {
            return Some(false);
        };
        let imported = slice.statistics.records;
        if stats.records <= imported {
            return Some(false);
        }
        // Damaged records may still be counted: only readable ones are a reason to keep the stream.
        let log = self.log.clone();
        let count = tokio::task::spawn_blocking(move || count_readable_records(&log, stats.id));
        let counted = count.await.map_err(|e| e.to_string());
        let counted = counted.and_then(|count| count.map_err(|e| e.to_string()));
        let in_log = match counted {
            Ok(in_log) => in_log,
            Err(error) => {
                tracing::warn!(slice = %slice.key, error, "reading a stream failed; it is kept for now");
                return None;
            }
        };
        if in_log > imported {
            tracing::error!(
                stream = stats.name,
                in_log,
                imported,
                "stream has records that were counted as lost when its slice was imported; it is kept: `forebay log deliver` delivers them to a sink"
            );
        }
        Some(in_log > imported)
    }

    /// Whether the slice's file is to be imported again, which needs its streams and objects.
    async fn is_reopened(&mut self, slice: &SliceKey) -> bool {
        if !self.ledgers.reopened.contains(slice) {
            return false;
        }
        match self.delivery.repo.imported_file(&slice.file).await {
            Ok(_) => !self.ledgers.reopened.remove(slice),
            Err(_) => true,
        }
    }

    async fn delete_stream(&self, name: &str) {
        let Some(stream) = self.log.find(name) else {
            return;
        };
        let deleted = match self.log.delete_stream(stream) {
            Ok(ticket) => ticket.await.map(drop).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        if let Err(error) = deleted {
            tracing::warn!(stream = name, error, "deleting a stream failed");
        }
        failpoint::at(FailPoint::StreamDeleted);
    }

    async fn collect_streams(&mut self, imported: &[Arc<ImportedFile>]) {
        if let Err(error) = self.collect_delivered_streams().await {
            tracing::warn!(%error, "listing delivered streams failed");
        }
        if let Err(error) = self.collect_unknown_streams(imported).await {
            tracing::warn!(%error, "comparing streams with the store failed");
        }
    }

    /// Deletes streams that `forebay log deliver` delivered but did not delete.
    async fn collect_delivered_streams(&self) -> Result<(), FileError> {
        for delivered_stream in self.delivery.repo.delivered_streams(&self.volume).await? {
            self.delete_stream(&delivered_stream.stream).await;
            if self.log.find(&delivered_stream.stream).is_none() {
                self.delivery
                    .repo
                    .remove_delivered_stream(&delivered_stream)
                    .await?;
            }
        }
        Ok(())
    }

    /// Deletes or reports streams whose slice is neither active nor imported.
    async fn collect_unknown_streams(
        &self,
        imported: &[Arc<ImportedFile>],
    ) -> Result<(), FileError> {
        // Streams first: one that is created meanwhile is not checked.
        let streams: Vec<String> = self.log.streams().into_iter().map(|s| s.name).collect();
        let active = self.delivery.repo.active_files(None).await?;
        let imported = imported.iter().flat_map(|f| f.full_slices());
        let mut known: HashSet<String> = imported.map(|s| s.key.to_string()).collect();
        known.extend(
            active
                .iter()
                .flat_map(|f| &f.slices)
                .map(|s| s.slice.key.to_string()),
        );
        let mut removed: HashMap<SinkKey, Option<Timestamp>> = HashMap::new();
        let mut unknown = 0_u32;
        for name in streams.into_iter().filter(|n| !known.contains(n)) {
            if let Some(sink) = dead_letter_sink(&name) {
                unknown += u32::from(!self.dead_letters_have_owner(&name, &sink).await?);
                continue;
            }
            if topic_sink(&name).is_some() {
                // The topic reconciler handles these.
                continue;
            }
            let Ok(slice) = name.parse::<SliceKey>() else {
                unknown += 1;
                tracing::warn!(
                    stream = name,
                    "stream name is not a slice key; the stream is kept"
                );
                continue;
            };
            // It may have been imported since the snapshot was taken.
            if self.delivery.repo.slice_exists(&slice).await? {
                continue;
            }
            let sink = &slice.file.sink;
            if !removed.contains_key(sink) {
                removed.insert(sink.clone(), self.delivery.repo.removed_up_to(sink).await?);
            }
            let up_to = removed.get(sink).copied().flatten();
            if up_to.is_some_and(|at| slice.file.opened_at <= at) {
                self.delete_stream(&name).await;
            } else {
                unknown += 1;
                tracing::warn!(
                    stream = name,
                    "stream is unknown to the store; it is kept: `forebay log deliver` delivers it to a sink"
                );
            }
        }
        ::metrics::gauge!(metrics::STREAMS_UNKNOWN).set(f64::from(unknown));
        Ok(())
    }

    /// Whether the store knows the sink of these dead letters; those of a sink that was removed for
    /// good are deleted with it.
    async fn dead_letters_have_owner(&self, name: &str, sink: &SinkKey) -> Result<bool, FileError> {
        match self.delivery.repo.dead_letter_owner(sink).await? {
            DeadLetterOwner::Sink => Ok(true),
            DeadLetterOwner::Forgotten => {
                // They belong to a sink with that id that was created meanwhile.
                if self.delivery.repo.remove_dead_letter_state(sink).await? {
                    self.delete_stream(name).await;
                }
                Ok(true)
            }
            DeadLetterOwner::Unknown => {
                tracing::warn!(
                    stream = name,
                    "sink of these dead letters is unknown to the store; they are kept"
                );
                Ok(false)
            }
        }
    }
}

/// Counts the readable records of a stream.
fn count_readable_records(log: &Log, stream: StreamId) -> Result<u64, LogReadError> {
    let mut records = 0;
    for item in log.reader(stream, 0)? {
        if let ReadItem::Block(block) = item? {
            records += u64::from(block.records);
        }
    }
    Ok(records)
}
