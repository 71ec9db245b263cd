//! The bounds: how much may wait, how long, and what happens then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_log::{Item, Ticket};

use crate::config::Overflow;
use crate::error::WriteError;
use crate::event::Event;
use crate::lane::LaneCore;
use crate::shared::Shared;
use crate::sync::lock;

/// Blocks that are looked at for their age at a time.
const AGED_BLOCKS: usize = 64;
/// How long a writer waits for files to be given back, when dropping was the way to make room.
const RECLAIM: Duration = Duration::from_secs(10);

/// What a writer has to do before it may try again.
pub(crate) enum Wait {
    /// Nothing.
    No,
    /// Wait for these.
    Dropped(Vec<Ticket>),
    /// Wait for a change since this one was seen, until this moment.
    Change(u64, Duration),
}

/// A write that is under way.
#[derive(Default)]
pub(crate) struct Attempt {
    /// When it met a bound first: most never do, and need no clock.
    started: Option<Duration>,
    told: bool,
}

/// Whether so many bytes may enter a lane.
pub(crate) fn admit(
    lane: &Arc<LaneCore>,
    need: u64,
    attempt: &mut Attempt,
) -> Result<Wait, WriteError> {
    let shared = &lane.shared;
    let config = &shared.config;
    if fits(lane, need) {
        return Ok(Wait::No);
    }
    // Looked at again: what changes from here on wakes the one who waits.
    let seen = shared.change.seen();
    let total = shared.total_bytes.load(Ordering::Acquire);
    let (what, waiting, allowed) = if total + need > config.max_bytes {
        ("the buffer".to_owned(), total, config.max_bytes)
    } else if config.max_lane_bytes > 0 && lane.waiting_bytes() + need > config.max_lane_bytes {
        (
            format!("lane {}", lane.name),
            lane.waiting_bytes(),
            config.max_lane_bytes,
        )
    } else {
        return Ok(Wait::No);
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
    overflow(lane, full, seen, attempt, || {
        let much = need + allowed / 20;
        if whole {
            drop_oldest(shared, much)
        } else {
            drop_of(lane, much)
        }
    })
}

/// Whether so many bytes are within the bounds.
pub(crate) fn fits(lane: &LaneCore, need: u64) -> bool {
    let config = &lane.shared.config;
    lane.shared.total_bytes.load(Ordering::Acquire) + need <= config.max_bytes
        && (config.max_lane_bytes == 0 || lane.waiting_bytes() + need <= config.max_lane_bytes)
}

/// The disk had no room, though the bounds would allow it.
pub(crate) fn disk_full(
    lane: &Arc<LaneCore>,
    full: WriteError,
    attempt: &mut Attempt,
) -> Result<Wait, WriteError> {
    let seen = lane.shared.change.seen();
    let much = lane.shared.config.segment();
    overflow(lane, full, seen, attempt, || {
        drop_oldest(&lane.shared, much)
    })
}

fn overflow(
    lane: &Arc<LaneCore>,
    full: WriteError,
    seen: u64,
    attempt: &mut Attempt,
    make_room: impl FnOnce() -> Vec<Ticket>,
) -> Result<Wait, WriteError> {
    let shared = &lane.shared;
    let limit = match shared.config.overflow {
        Overflow::Refuse => return Err(full),
        Overflow::Block(limit) => limit,
        Overflow::DropOldest => {
            let tickets = make_room();
            if !tickets.is_empty() {
                return Ok(Wait::Dropped(tickets));
            }
            RECLAIM
        }
    };
    let started = *attempt.started.get_or_insert_with(|| shared.env.elapsed());
    let until = started + limit;
    // Without threads nobody makes room meanwhile, and no time goes by.
    if shared.env.elapsed() >= until || shared.config.manual && attempt.told {
        return Err(match shared.config.overflow {
            Overflow::Block(waited) => WriteError::Timeout {
                waited,
                what: full.to_string(),
            },
            _ => full,
        });
    }
    if !std::mem::replace(&mut attempt.told, true) {
        let lane = lane.name.clone();
        shared.tell(Event::Blocked { lane });
    }
    Ok(Wait::Change(seen, until))
}

/// Drops about so many bytes of what has waited longest, in whichever lanes.
fn drop_oldest(shared: &Arc<Shared>, much: u64) -> Vec<Ticket> {
    let _one = lock(&shared.dropping);
    let mut lanes: Vec<_> = shared
        .all_lanes()
        .into_iter()
        .filter_map(|lane| {
            let stats = lane.stats().filter(|s| s.records > 0)?;
            Some((stats.first_at_ms.unwrap_or(i64::MAX), lane))
        })
        .collect();
    lanes.sort_by_key(|(first_at_ms, _)| *first_at_ms);
    let mut left = much;
    let mut tickets = Vec::new();
    for (_, lane) in lanes {
        if left == 0 {
            break;
        }
        let (ticket, bytes) = drop_some(&lane, left);
        tickets.extend(ticket);
        left = left.saturating_sub(bytes);
    }
    tickets
}

fn drop_of(lane: &Arc<LaneCore>, much: u64) -> Vec<Ticket> {
    let _one = lock(&lane.shared.dropping);
    drop_some(lane, much).0.into_iter().collect()
}

/// Drops about so many bytes of a lane: as many messages as hold them on average.
fn drop_some(lane: &Arc<LaneCore>, much: u64) -> (Option<Ticket>, u64) {
    let Some(stats) = lane.stats() else {
        return (None, 0);
    };
    let waiting = stats.next_seq - stats.trimmed_to.min(stats.next_seq);
    if waiting == 0 || stats.stored_bytes == 0 {
        return (None, 0);
    }
    let part = u128::from(waiting) * u128::from(much) / u128::from(stats.stored_bytes);
    let messages = u64::try_from(part).unwrap_or(u64::MAX).clamp(1, waiting);
    let ticket = drop_below(lane, stats.trimmed_to + messages);
    (ticket, much.min(stats.stored_bytes))
}

fn drop_below(lane: &Arc<LaneCore>, below: u64) -> Option<Ticket> {
    let from = lane.stats().map_or(0, |s| s.trimmed_to);
    let read_to = lane.meters.read_to.load(Ordering::Acquire);
    let ticket = lane.shared.log.trim(lane.stream, below).ok()?;
    let messages = below.saturating_sub(from.max(read_to));
    if messages > 0 {
        lane.shared.tell(Event::Dropped {
            lane: lane.name.clone(),
            below,
            messages,
        });
    }
    Some(ticket)
}

/// Drops what has waited too long. A clock that was set back makes messages younger, never older.
pub(crate) fn drop_aged(shared: &Arc<Shared>) {
    let Some(max_age) = shared.config.max_age else {
        return;
    };
    let age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
    let before = shared.env.now_ms().saturating_sub(age_ms);
    for lane in shared.all_lanes() {
        let old = |s: &forebay_log::StreamStats| s.first_at_ms.is_some_and(|at| at < before);
        let Some(stats) = lane.stats().filter(old) else {
            continue;
        };
        let Ok(reader) = shared.log.reader(lane.stream, stats.trimmed_to) else {
            continue;
        };
        let mut below = None;
        for item in reader.take(AGED_BLOCKS) {
            match item {
                Ok(Item::Block(block)) if block.last_at_ms < before => {
                    below = Some(block.next_seq())
                }
                _ => break,
            }
        }
        if let Some(below) = below {
            // Whether it is on disk is not waited for: if not, it is dropped again.
            drop(drop_below(&lane, below));
            lane.ring();
        }
    }
}
