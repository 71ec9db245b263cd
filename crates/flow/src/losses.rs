//! What the store remembers and the log does not have: compared at start, before anything is
//! written, and named.
//!
//! The log names what it knows to be damaged. When a whole segment is gone with the catalog that
//! counted it, or the whole directory, or when an older copy was put in its place, the log knows
//! nothing of it; the store does, by the last report of each slice ([`crate::statistics_reporter`]). What was
//! taken after the last report and is lost in that way is known to nobody.

use forebay_log::{CommitError, Log, LogAppendError};
use forebay_meta::{FileError, Repo};
use forebay_model::{FileState, SinkKey, SliceState, Timestamp, VolumeId};

use crate::streams::dead_letter_stream;

/// Records that the log does not have any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRecords {
    /// Whose they are.
    pub sink: SinkKey,
    /// The stream that held them: that of a slice, or of the sink's dead letters.
    pub stream: String,
    /// How many.
    pub records: u64,
}

/// Why it could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    /// The store.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log can't take the note.
    #[error("what the log has lost can't be noted in it: {0}")]
    Append(#[from] LogAppendError),
    /// The note did not get to the disk.
    #[error("what the log has lost can't be noted in it: {0}")]
    Commit(#[from] CommitError),
}

impl From<forebay_meta::StoreError> for LossError {
    fn from(error: forebay_meta::StoreError) -> Self {
        Self::File(error.into())
    }
}

/// Finds what the log has lost without knowing it, and notes it there: such records are counted as
/// lost, their sequences are not given again, and the slice goes on its way with what is left of
/// it. Each loss is an ERROR in the program's log.
///
/// The store has one node, so whatever is in it should be in this log, also what was written when
/// the volume had another id. Nothing may be written meanwhile.
///
/// # Errors
/// [`LossError`]; what was not noted is found the next time.
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
            // What is in staging is not needed in the log.
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
    // A file that can be written on volumes only that are gone would never be rotated.
    for file in active.iter().filter(|f| f.file.state == FileState::Writing) {
        let mut slices = file.slices.iter();
        let here =
            slices.any(|s| s.slice.key.volume == *volume && s.slice.state == SliceState::Writing);
        if !here {
            let (key, volumes) = (&file.file.key, std::slice::from_ref(volume));
            tracing::warn!(file = %key, %volume, "a file was written on another volume, it is closed");
            repo.rotate_file(key, volumes, now).await?;
        }
    }
    Ok(losses)
}

/// The id of the volume that what is on its way was written to: for a log whose directory is lost,
/// so that what comes next belongs to the same volume.
///
/// # Errors
/// The store's.
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

/// Notes as lost what is missing of a stream that has taken so many records.
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
        "acknowledged records are not in the log any more: they are lost"
    );
    Ok(Some(LostRecords {
        sink: sink.clone(),
        stream,
        records,
    }))
}
