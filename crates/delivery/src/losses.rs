//! Detects records that the store knows and the log lacks: at start, before anything is written.
//!
//! The log reports what it knows to be damaged. When a whole segment is missing with the catalog
//! that counted it, or the whole directory, or an older copy was put in its place, the log knows
//! nothing of it; the store does, by the last report of each slice
//! ([`forebay_ingest::statistics_reporter`]). Records that were accepted after the last report and are lost
//! in that way remain unknown.

use forebay_log::{CommitError, Log, LogAppendError};
use forebay_meta::{FileError, Repo};
use forebay_model::{FileState, SinkKey, SliceState, Timestamp, VolumeId};

use forebay_ingest::streams::dead_letter_stream;

/// Records that the log has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRecords {
    pub sink: SinkKey,
    /// Stream that held them: of a slice, or of the sink's dead letters.
    pub stream: String,
    pub records: u64,
}

/// Error of recording losses.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The log rejects the record of a loss.
    #[error("recording losses in the log failed: {0}")]
    Append(#[from] LogAppendError),
    /// The record of a loss was not written to disk.
    #[error("recording losses in the log failed: {0}")]
    Commit(#[from] CommitError),
}

impl From<forebay_meta::StoreError> for LossError {
    fn from(error: forebay_meta::StoreError) -> Self {
        Self::File(error.into())
    }
}

/// Finds records that the log has lost without knowing it, and records that in the log: they are
/// counted as lost, their sequences are not reused, and the slice continues with the rest. Each
/// loss is an ERROR in the program's log. What could not be recorded is found by the next call.
///
/// The store has one node, so all of it should be in this log, also what was written under an
/// earlier volume id. Nothing may be written meanwhile.
pub async fn record_losses(
    repo: &Repo,
    log: &Log,
    volume: &VolumeId,
    now: Timestamp,
) -> Result<Vec<LostRecords>, LossError> {
    let mut losses = Vec::new();
    let reports = repo.largest_reports().await?;
    let active = repo.active_files(None).await?;
    for file in &active {
        for slice in &file.slices {
            // Slices in staging do not need the log.
            if slice.slice.state >= SliceState::Uploaded {
                continue;
            }
            let key = &slice.slice.key;
            let known = match slice.slice.state {
                SliceState::Uploading => Some(&slice.slice.statistics),
                _ => reports.get(key),
            };
            let taken = known.map_or(0, |s| s.records + s.lost_records);
            losses.extend(record_missing(log, &key.file.sink, key.to_string(), taken).await?);
        }
    }
    for (sink, of, counts) in repo.dead_letter_counts().await? {
        if of == *volume {
            let stream = dead_letter_stream(&sink);
            losses.extend(record_missing(log, &sink, stream, counts.taken).await?);
        }
    }
    // A file that only missing volumes can write would never be rotated.
    for file in active.iter().filter(|f| f.file.state == FileState::Writing) {
        let mut slices = file.slices.iter();
        let here =
            slices.any(|s| s.slice.key.volume == *volume && s.slice.state == SliceState::Writing);
        if !here {
            let (key, volumes) = (&file.file.key, std::slice::from_ref(volume));
            tracing::warn!(file = %key, %volume, "file was written on another volume and is closed");
            repo.rotate_file(key, volumes, now).await?;
        }
    }
    Ok(losses)
}

/// Volume id of the active slices: for a log whose directory is lost, so that later writes belong
/// to the same volume.
pub async fn remembered_volume(repo: &Repo) -> Result<Option<u64>, LossError> {
    let active = repo.active_files(None).await?;
    let slices = active.iter().flat_map(|f| &f.slices).map(|s| &s.slice.key);
    let newest = slices.max_by_key(|key| key.opened_at);
    let volume = match newest {
        Some(key) => Some(key.volume.clone()),
        None => repo
            .dead_letter_counts()
            .await?
            .pop()
            .map(|(_, volume, _)| volume),
    };
    Ok(volume.and_then(|id| u64::from_str_radix(&id.0, 16).ok()))
}

/// Records as lost what is missing of a stream that has accepted `taken` records.
async fn record_missing(
    log: &Log,
    sink: &SinkKey,
    stream: String,
    taken: u64,
) -> Result<Option<LostRecords>, LossError> {
    let known = log.find(&stream).and_then(|id| log.stats(id));
    let known = known.map_or(0, |stats| stats.next_seq);
    let records = taken.saturating_sub(known);
    if records == 0 {
        return Ok(None);
    }
    let id = log.stream(&stream)?;
    log.report_lost(id, taken)?.await?;
    tracing::error!(
        %sink, stream, records, first = known,
        "acknowledged records are missing in the log: they are lost"
    );
    Ok(Some(LostRecords {
        sink: sink.clone(),
        stream,
        records,
    }))
}
