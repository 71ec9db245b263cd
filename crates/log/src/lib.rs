//! A durable log: many streams of blocks in one sequence of segment files.
//!
//! A volume is a directory. One thread writes to it, and one sync makes durable whatever was handed
//! over by then, for whichever stream: a thousand streams cost what one costs.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use forebay_log::{Item, Log, LogConfig, NewBlock, StdEnv};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let (log, report) = Log::open(Arc::new(StdEnv::new()), dir, LogConfig::default())?;
//! assert!(report.is_clean());
//!
//! let stream = log.stream("orders")?;
//! let ticket = log.append(NewBlock {
//!     stream,
//!     records: 2,
//!     codec: 0,
//!     raw_len: 8,
//!     first_at_ms: 1_700_000_000_000,
//!     last_at_ms: 1_700_000_000_005,
//!     payload: Bytes::from_static(b"one\ntwo\n"),
//! })?;
//! let appended = ticket.wait()?; // or: ticket.await
//! assert_eq!((appended.first_seq, appended.next_seq), (0, 2));
//!
//! for item in log.reader(stream, 0)? {
//!     match item? {
//!         Item::Block(block) => assert_eq!(&block.payload[..], b"one\ntwo\n"),
//!         Item::Gap(gap) => eprintln!("{} records of {} are lost", gap.records, gap.name),
//!     }
//! }
//! log.trim(stream, 2)?.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! - A ticket succeeds only after the sync that covers its block ([`SyncPolicy::Disk`]). Then the
//!   block is read exactly once and in order, after any crash.
//! - A block is there as a whole or not at all.
//! - The first failed write or sync is final: tickets fail with
//!   [`CommitError::MayHaveHappened`], appends are refused, reads go on, until the directory is
//!   opened anew. A sync is never tried again.
//! - Opening does not fail because of damage. What is lost is named: stream, first record, count.
//! - Every queue has a bound. At the bound an append is refused with [`LogAppendError::Busy`]; a full
//!   volume with [`LogAppendError::Full`].
//!
//! # Terms
//!
//! A *block* is some records that were handed over together; the log does not look into it. A
//! *stream* is a run of blocks with a name; its *sequence* counts records. A *segment* is a file.
//! The *watermark* is the place up to which everything is on disk; readers see what is below.
//!
//! # Cost
//!
//! Memory: a hundred bytes for each stream in each segment, and for each further thousand blocks of
//! it; 100 bytes for each block of the open segment; and the queue. Disk: what is not trimmed, dead
//! blocks in segments that are still needed (bounded by `compact_below_percent`), one open segment
//! and the spares. Files: one open descriptor a segment.
//!
//! The format of the files is described in `docs/formats/segment.md`.

#![warn(missing_docs)]

mod active_segment;
mod append;
mod block;
mod bytefields;
mod catalog;
mod change_future;
mod commit;
mod config;
mod env;
#[cfg(feature = "sim")]
mod env_mem;
mod error;
mod extent;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
pub mod inspect;
mod load_entries;
mod locate;
mod log;
mod merge_block_ranges;
mod open;
mod open_file_cache;
mod queue;
mod read;
mod reclaim;
mod recover;
mod reservation;
mod scan;
mod segment;
mod segment_pool;
mod shared;
#[cfg(feature = "sim")]
mod small_disk;
mod snapshot;
mod stats;
mod stream;
mod table;
mod volume;
mod writer;

pub use block::{FORMAT_VERSION, HEADER_LEN, MAX_PAYLOAD};
pub use catalog::MAX_NAME;
pub use change_future::ChangeFuture;
pub use commit::{AppendedRange, Ticket};
pub use config::{LogConfig, SyncPolicy};
pub use env::{Env, EnvFile, FileAccess, LockGuard, StdEnv};
#[cfg(feature = "sim")]
pub use env_mem::{DiskCall, MemEnv, WriteFault};
pub use error::{CommitError, LatchedFailure, LogAppendError, LogOpenError, LogReadError};
pub use log::Log;
pub use queue::{NewBlock, StreamId};
pub use read::{Block, BlockReader, ReadItem, SequenceGap};
pub use reservation::Reservation;
#[cfg(feature = "sim")]
pub use small_disk::SmallDisk;
pub use snapshot::{LogSnapshot, SegmentFile};
pub use stats::{
    DamagedBlock, LostRange, RecoveryReport, RejectedAppends, SegmentDamage, SegmentStats,
    StreamStats, SyncStats, VolumeStats,
};
