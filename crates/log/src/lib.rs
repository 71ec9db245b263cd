//! A durable log: many streams of blocks in one sequence of segment files.
//!
//! A volume is a directory. One thread writes to it, and one sync makes all queued blocks of all
//! streams durable: a thousand streams cost as much as one.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use forebay_log::{Log, LogConfig, NewBlock, ReadItem, StdEnv};
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
//!         ReadItem::Block(block) => assert_eq!(&block.payload[..], b"one\ntwo\n"),
//!         ReadItem::Gap(gap) => eprintln!("{} records of {} are lost", gap.records, gap.name),
//!     }
//! }
//! log.trim(stream, 2)?.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! - A ticket succeeds only after the sync that covers its block ([`SyncPolicy::Disk`]). Then the
//!   block is read exactly once and in order, after any crash.
//! - A block is read as a whole or not at all.
//! - The first failed write or sync is latched: tickets fail with [`CommitError::MayHaveHappened`]
//!   and appends are rejected until the directory is reopened; reads continue. A sync is never
//!   retried.
//! - Opening does not fail because of damage. Losses are reported: stream, first record, count.
//! - Every queue is bounded. A full queue rejects appends with [`LogAppendError::Busy`]; a full
//!   volume with [`LogAppendError::Full`].
//!
//! # Terms
//!
//! A *block* is a group of records appended together; the log does not interpret it. A *stream* is
//! an ordered series of blocks with a name; its *sequence* counts records. A *segment* is a file.
//! Everything below the *watermark* is on disk; readers see only that.
//!
//! # Cost
//!
//! Memory: a hundred bytes per stream and segment, and for each further thousand blocks of the
//! stream there; 100 bytes per block of the open segment; and the queue. Disk: untrimmed blocks,
//! dead blocks in live segments (bounded by `compact_below_percent`), one open segment and the
//! spares. Files: one open descriptor per segment.
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
mod io_failure;
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
mod std_env;
mod stream;
mod table;
mod volume;
mod writer;
mod writer_loop;
mod writer_state;

pub use block::{FORMAT_VERSION, HEADER_LEN, MAX_PAYLOAD};
pub use catalog::MAX_NAME;
pub use change_future::ChangeFuture;
pub use commit::{AppendedRange, Ticket};
pub use config::{LogConfig, SyncPolicy};
pub use env::{Env, EnvFile, FileAccess, LockGuard};
#[cfg(feature = "sim")]
pub use env_mem::{DiskCall, MemEnv, WriteFault};
pub use error::{CommitError, LatchedFailure, LogAppendError, LogOpenError, LogReadError};
pub use log::Log;
pub use queue::NewBlock;
pub use read::{Block, BlockReader, ReadItem, SequenceGap};
pub use reservation::Reservation;
#[cfg(feature = "sim")]
pub use small_disk::SmallDisk;
pub use snapshot::{LogSnapshot, SegmentFile};
pub use stats::{
    DamagedBlock, LostRange, RecoveryReport, RejectedAppends, SegmentDamage, SegmentStats,
    StreamStats, SyncStats, VolumeStats,
};
pub use std_env::StdEnv;
pub use stream::StreamId;
