//! Embeddable message buffer: a write returns when the message is on disk; delivery threads send
//! messages in order to a provider (Kafka, HTTP or your own) and retry while it is unavailable.
//!
//! ```
//! use forebay_buffer::{
//!     Ack, Buffer, BufferConfig, CloseMode, Message, MessageBatch, Partition, Provider,
//!     ProviderConnection, SendError,
//! };
//! use std::time::Duration;
//!
//! /// Prints messages. A real provider sends them and acknowledges them when they have arrived.
//! struct Printer;
//!
//! impl Provider for Printer {
//!     fn name(&self) -> &str {
//!         "printer"
//!     }
//!     fn open(&self, _: &Partition) -> Result<Box<dyn ProviderConnection>, SendError> {
//!         Ok(Box::new(Self))
//!     }
//! }
//!
//! impl ProviderConnection for Printer {
//!     fn send(&mut self, batch: &MessageBatch, ack: Ack) {
//!         for delivery in batch.messages() {
//!             println!("{} {} {:?}", delivery.topic, delivery.sequence, delivery.message.payload);
//!         }
//!         ack.taken();
//!     }
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let buffer = Buffer::open(BufferConfig::new(dir), Printer)?;
//! let accepted = buffer.write_blocking("orders", Message::keyed("customer 7", "one sofa"))?;
//! assert_eq!(accepted.sequence, Some(0)); // on disk; printed soon
//! buffer.close(CloseMode::Drain(Duration::from_secs(10)))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! - In [`BufferMode::Always`], an accepted message survives the failures that
//!   [`BufferConfig::sync`] covers, a power cut by default. It is delivered at least once, unless a
//!   drop policy drops it (counted and reported by an event) or the provider rejects it for good (a
//!   dead letter).
//! - A partition (a topic, or a group of topics that share an order) is delivered in the order of
//!   its sequences; partitions are delivered in parallel.
//! - After a crash at most [`BufferConfig::repeat_window`] messages of a partition are repeated,
//!   none where the provider stores the cursor together with the messages
//!   ([`Provider::keeps_cursor`]).
//! - Bounded: bytes on disk, bytes in flight, the number of partitions, the size of a message. At
//!   the limit the [`OverflowPolicy`] applies.
//!
//! # Terms
//!
//! A *partition* is a stream of one log; all partitions share its files and its fsync. All messages
//! below the *cursor* of a partition are confirmed; the cursor is the log's trim position, so
//! moving it also frees space. A *provider* opens a *connection* for each partition.
//!
//! # Cost
//!
//! A thread and a connection per partition, a housekeeping thread, and the log's two threads.
//! Memory: per partition one block being read and the messages in flight
//! ([`BufferConfig::in_flight_bytes`]), and the log's queue. The futures work in any async runtime.
//!
//! File formats: `docs/formats/segment.md` and `docs/formats/messages.md`.

#![warn(missing_docs)]

mod append_path;
mod backoff;
mod buffer;
mod codec;
mod config;
mod dead_letter;
mod delivery_loop;
mod delivery_worker;
mod direct_sender;
mod error;
mod event;
pub mod inspect;
mod intake;
mod message;
mod open_buffer;
mod partition;
mod partition_reader;
mod partition_set;
mod provider;
mod receipt;
mod retention;
#[cfg(feature = "sim")]
pub mod scripted;
mod shared;
mod stats;
mod sync;
mod threads;
mod topic;

pub use buffer::{Buffer, CloseMode};
pub use codec::{
    CODEC_MESSAGE_REPLAYED, CODEC_MESSAGES, CODEC_MESSAGES_STANDALONE, encode_replayed,
    encode_standalone, replayed_dead_letter,
};
pub use config::{BufferConfig, BufferMode, MAX_TOPIC, OverflowPolicy};
pub use dead_letter::{CODEC_DEAD_LETTER, DeadLetterMessage};
pub use delivery_worker::{DeliveryWorker, StreamBinding};
pub use error::{BufferOpenError, WriteError};
pub use event::{BufferEvent, EventStream};
pub use forebay_log::{Env, RecoveryReport, StdEnv, SyncPolicy};
pub use message::{Message, MessageDelivery, MessageHeader};
pub use provider::{
    Ack, MessageBatch, Partition, Provider, ProviderConnection, ProviderHealth, SendError,
};
pub use receipt::{AppendAck, AppendReceipt};
pub use stats::{BufferStats, MessageRates, PartitionStats};
pub use topic::Topic;

/// Compiles and runs the examples of the user documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/buffer.md")]
struct Guide;
