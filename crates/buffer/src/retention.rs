//! Limits of size and age, and the overflow policy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_log::{ReadItem, Ticket};

use crate::config::OverflowPolicy;
use crate::error::WriteError;
use crate::event::BufferEvent;
use crate::partition::PartitionState;
use crate::partition_set::PartitionSet;

/// Blocks whose age is checked in one pass.
const AGED_BLOCKS: usize = 64;
/// How long a writer waits for files to be reclaimed when there is nothing left to drop.
const RECLAIM: Duration = Duration::from_secs(10);

/// What a writer waits for before it retries.
pub(crate) enum AdmissionWait {
    /// No wait.
    No,
    /// These trims.
    Dropped(Vec<Ticket>),
    /// A change after this change number, until this time.
    Change(u64, Duration),
}

/// State of a write across its retries.
#[derive(Default)]
pub(crate) struct WriteAttempt {
    /// When the write first met a limit. Most never do and read no clock.
    started: Option<Duration>,
    reported: bool,
}

/// Decides whether a partition accepts `need` bytes.
pub(crate) fn admit(
    partitions: &PartitionSet,
    partition: &Arc<PartitionState>,
    need: u64,
    attempt: &mut WriteAttempt,
) -> Result<AdmissionWait, WriteError> {
    let shared = &partition.shared;
    let config = &shared.config;
    if fits(partition, need) {
        return Ok(AdmissionWait::No);
    }
    // Read before the second check, so that no change after it is missed.
    let seen = shared.change.seen();
    let total = shared.total_bytes.load(Ordering::Acquire);
    let (what, waiting, allowed) = if total + need > config.max_bytes {
        ("the buffer".to_owned(), total, config.max_bytes)
    } else if config.max_partition_bytes > 0
        && partition.waiting_bytes() + need > config.max_partition_bytes
    {
        (
            format!("partition {}", partition.name),
            partition.waiting_bytes(),
            config.max_partition_bytes,
        )
    } else {
        return Ok(AdmissionWait::No);
    };
    if need > allowed {
        return Err(WriteError::Full {
            what,
            waiting,
            allowed,
        });
    }
    let whole = total + need > config.max_bytes;
    let full = WriteError::Full {
        what,
        waiting,
        allowed,
    };
    overflow(partition, full, seen, attempt, || {
        let to_free = need + allowed / 20;
        if whole {
            drop_oldest(partitions, to_free)
        } else {
            drop_from(partition, to_free)
        }
    })
}

/// Whether `need` bytes fit within the limits.
pub(crate) fn fits(partition: &PartitionState, need: u64) -> bool {
    let config = &partition.shared.config;
    partition.shared.total_bytes.load(Ordering::Acquire) + need <= config.max_bytes
        && (config.max_partition_bytes == 0
            || partition.waiting_bytes() + need <= config.max_partition_bytes)
}

/// Applies the overflow policy when the disk is full although the limits are not reached.
pub(crate) fn disk_full(
    partitions: &PartitionSet,
    partition: &Arc<PartitionState>,
    full: WriteError,
    attempt: &mut WriteAttempt,
) -> Result<AdmissionWait, WriteError> {
    let seen = partition.shared.change.seen();
    let to_free = partition.shared.config.segment();
    overflow(partition, full, seen, attempt, || {
        drop_oldest(partitions, to_free)
    })
}

fn overflow(
    partition: &Arc<PartitionState>,
    full: WriteError,
    seen: u64,
    attempt: &mut WriteAttempt,
    free_space: impl FnOnce() -> Vec<Ticket>,
) -> Result<AdmissionWait, WriteError> {
    let shared = &partition.shared;
    let limit = match shared.config.overflow {
        OverflowPolicy::Reject => return Err(full),
        OverflowPolicy::Block(limit) => limit,
        OverflowPolicy::DropOldest => {
            let tickets = free_space();
            if !tickets.is_empty() {
                return Ok(AdmissionWait::Dropped(tickets));
            }
            RECLAIM
        }
    };
    let started = *attempt.started.get_or_insert_with(|| shared.env.elapsed());
    let until = started + limit;
    // Without threads no space is freed meanwhile, and the clock does not move.
    if shared.env.elapsed() >= until || shared.config.manual && attempt.reported {
        return Err(match shared.config.overflow {
            OverflowPolicy::Block(waited) => WriteError::Timeout {
                waited,
                what: full.to_string(),
            },
            _ => full,
        });
    }
    if !std::mem::replace(&mut attempt.reported, true) {
        let partition = partition.name.clone();
        shared.report(BufferEvent::Blocked { partition });
    }
    Ok(AdmissionWait::Change(seen, until))
}

/// Drops about this many bytes of the oldest messages of all partitions.
fn drop_oldest(partitions: &PartitionSet, to_free: u64) -> Vec<Ticket> {
    let _one = partitions.shared.dropping.lock();
    let mut oldest_first: Vec<_> = partitions
        .all()
        .into_iter()
        .filter_map(|partition| {
            let stats = partition.stats().filter(|s| s.records > 0)?;
            Some((stats.first_at_ms.unwrap_or(i64::MAX), partition))
        })
        .collect();
    oldest_first.sort_by_key(|(first_at_ms, _)| *first_at_ms);
    let mut left = to_free;
    let mut tickets = Vec::new();
    for (_, partition) in oldest_first {
        if left == 0 {
            break;
        }
        let (ticket, bytes) = drop_some(&partition, left);
        tickets.extend(ticket);
        left = left.saturating_sub(bytes);
    }
    tickets
}

fn drop_from(partition: &Arc<PartitionState>, to_free: u64) -> Vec<Ticket> {
    let _one = partition.shared.dropping.lock();
    drop_some(partition, to_free).0.into_iter().collect()
}

/// Drops about this many bytes of a partition, by its average message size.
fn drop_some(partition: &Arc<PartitionState>, to_free: u64) -> (Option<Ticket>, u64) {
    let Some(stats) = partition.stats() else {
        return (None, 0);
    };
    let waiting = stats.next_seq - stats.trimmed_to.min(stats.next_seq);
    if waiting == 0 || stats.stored_bytes == 0 {
        return (None, 0);
    }
    let part = u128::from(waiting) * u128::from(to_free) / u128::from(stats.stored_bytes);
    let messages = u64::try_from(part).unwrap_or(u64::MAX).clamp(1, waiting);
    let ticket = drop_below(partition, stats.trimmed_to + messages);
    (ticket, to_free.min(stats.stored_bytes))
}

fn drop_below(partition: &Arc<PartitionState>, below: u64) -> Option<Ticket> {
    let from = partition.stats().map_or(0, |s| s.trimmed_to);
    let read_to = partition.meters.read_to.load(Ordering::Acquire);
    let ticket = partition.shared.log.trim(partition.stream, below).ok()?;
    let messages = below.saturating_sub(from.max(read_to));
    if messages > 0 {
        partition.shared.report(BufferEvent::Dropped {
            partition: partition.name.clone(),
            below,
            messages,
        });
    }
    Some(ticket)
}

/// Drops messages older than `max_age`. A clock set back makes messages younger, never older.
pub(crate) fn drop_aged(partitions: &PartitionSet) {
    let shared = &partitions.shared;
    let Some(max_age) = shared.config.max_age else {
        return;
    };
    let age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
    let before = shared.env.now_ms().saturating_sub(age_ms);
    for partition in partitions.all() {
        let old = |s: &forebay_log::StreamStats| s.first_at_ms.is_some_and(|at| at < before);
        let Some(stats) = partition.stats().filter(old) else {
            continue;
        };
        let Ok(reader) = shared.log.reader(partition.stream, stats.trimmed_to) else {
            continue;
        };
        let mut below = None;
        for item in reader.take(AGED_BLOCKS) {
            match item {
                Ok(ReadItem::Block(block)) if block.last_at_ms < before => {
                    below = Some(block.next_seq())
                }
                _ => break,
            }
        }
        if let Some(below) = below {
            // Doesn't wait for the commit: a failed trim is repeated.
            drop(drop_below(&partition, below));
            partition.wake_worker();
        }
    }
}
