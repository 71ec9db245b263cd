//! Rotation and import decisions for a file and its slices, as pure functions. The tables in the
//! comments are those of `docs/reference/lifecycle.md`.

use std::collections::HashSet;

use forebay_model::{File, FileKey, FileState, Slice, SliceState, Statistics, Timestamp};

use super::config::CoordinatorConfig;

/// Cause of a rotation, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RotationReason {
    Count,
    Size,
    Age,
    Slices,
    Expiration,
}

/// Whether an open slice is rotated now.
///
/// | | condition | then |
/// |-|-----------|------|
/// | 1 | younger than `uploadMinInterval` | keep |
/// | 2 | no records | keep |
/// | 3 | records, compressed bytes or age at the trigger | rotate |
pub(super) fn slice_rotation(
    file: &File,
    slice: &Slice,
    statistics: &Statistics,
    config: &CoordinatorConfig,
    now: Timestamp,
) -> Option<RotationReason> {
    let age = now.since(slice.key.opened_at);
    if slice.state != SliceState::Writing
        || age < config.upload_min_interval.0
        || statistics.records == 0
    {
        return None;
    }
    let trigger = &file.settings.upload;
    if statistics.records >= trigger.count {
        Some(RotationReason::Count)
    } else if statistics.compressed_bytes >= trigger.size.0 {
        Some(RotationReason::Size)
    } else if age >= trigger.interval.0 {
        Some(RotationReason::Age)
    } else {
        None
    }
}

/// Whether an open file is rotated now. `statistics` is the sum of its slices; `in_flight`
/// counts the sink's files that are closing or importing.
///
/// | | condition | then |
/// |-|-----------|------|
/// | 1 | as many slices as `importMaxSlices` | rotate |
/// | 2 | younger than `importMinInterval` | keep |
/// | 3 | older than the expiration, with records | rotate |
/// | 4 | slices at the trigger | rotate |
/// | 5 | no records | keep |
/// | 6 | the sink has `importJobLimit` files in flight | keep |
/// | 7 | records, compressed bytes or age at the trigger | rotate |
pub(super) fn file_rotation(
    file: &File,
    slices: usize,
    statistics: &Statistics,
    in_flight: usize,
    config: &CoordinatorConfig,
    now: Timestamp,
) -> Option<RotationReason> {
    if file.state != FileState::Writing {
        return None;
    }
    let slices = u64::try_from(slices).unwrap_or(u64::MAX);
    if slices >= u64::from(config.import_max_slices) {
        return Some(RotationReason::Slices);
    }
    let age = now.since(file.key.opened_at);
    let trigger = &file.settings.import;
    if age < config.import_min_interval.0 {
        None
    } else if age >= trigger.expiration.0 && statistics.records > 0 {
        Some(RotationReason::Expiration)
    } else if slices >= trigger.slices {
        Some(RotationReason::Slices)
    } else if statistics.records == 0 || in_flight >= config.import_job_limit as usize {
        None
    } else if statistics.records >= trigger.count {
        Some(RotationReason::Count)
    } else if statistics.compressed_bytes >= trigger.size.0 {
        Some(RotationReason::Size)
    } else if age >= trigger.interval.0 {
        Some(RotationReason::Age)
    } else {
        None
    }
}

/// Number of earlier files in flight that block the import of a file. A parked file opened under
/// another definition does not block: the sink was probably changed because of it, so this file
/// need not fail too. Nor does a `stuck` file, which waits for a slice that the log lacks.
pub(super) fn count_blocking(file: &File, before: &[&File], stuck: &HashSet<&FileKey>) -> usize {
    let is_past = |other: &&&File| {
        let is_of_another = other.retry.parked && other.table != file.table;
        is_of_another || stuck.contains(&other.key)
    };
    before.len() - before.iter().filter(is_past).count()
}

/// Whether all slices of a closing file are staged, so that its import can begin.
pub(super) fn ready_for_import<'s>(
    file: &File,
    slices: impl IntoIterator<Item = &'s Slice>,
) -> bool {
    let mut slices = slices.into_iter();
    file.state == FileState::Closing && slices.all(|s| s.state == SliceState::Uploaded)
}

/// Imported files of one sink to be removed: older than the expiration and not among the newest
/// that are always retained.
pub(super) fn expired<'f>(
    imported: &[&'f File],
    config: &CoordinatorConfig,
    now: Timestamp,
) -> Vec<&'f File> {
    let mut newest_first = imported.to_vec();
    newest_first.sort_by_key(|f| std::cmp::Reverse(f.key.opened_at));
    let is_old = |file: &&File| {
        let done = file.imported_at.unwrap_or(now);
        file.state == FileState::Imported && now.since(done) >= config.archived_file_expiration.0
    };
    newest_first
        .into_iter()
        .skip(config.archived_file_retention_per_sink as usize)
        .filter(is_old)
        .collect()
}

#[cfg(test)]
mod tests;
