//! The embeddable message buffer: a write returns when the message is safe on disk, and a provider
//! (Kafka, HTTP, your own) gets it in order, whatever state it is in just now.
//!
//! ```
//! use forebay_buffer::{Batch, Buffer, BufferConfig, Closing, Connection, Done, Lane, Message, Provider, SendError};
//! use std::time::Duration;
//!
//! /// Prints messages. A real provider sends them somewhere, and says when they have arrived.
//! struct Printer;
//!
//! impl Provider for Printer {
//!     fn name(&self) -> &str {
//!         "printer"
//!     }
//!     fn open(&self, _lane: &Lane) -> Result<Box<dyn Connection>, SendError> {
//!         Ok(Box::new(Self))
//!     }
//! }
//!
//! impl Connection for Printer {
//!     fn send(&mut self, batch: &Batch, done: Done) {
//!         for delivery in batch.messages() {
//!             println!("{} {} {:?}", delivery.topic, delivery.sequence, delivery.message.payload);
//!         }
//!         done.taken();
//!     }
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let buffer = Buffer::open(BufferConfig::new(dir), Printer)?;
//! let accepted = buffer.write_blocking("orders", Message::keyed("customer 7", "one sofa"))?;
//! assert_eq!(accepted.sequence, Some(0)); // on disk now, with the printer soon
//! buffer.close(Closing::Drain(Duration::from_secs(10)))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! - In [`BufferMode::Always`], an accepted message survives whatever [`BufferConfig::sync`] says: a power
//!   cut by default. It is delivered at least once, unless a policy that drops was chosen, which
//!   counts and tells what it drops, or the provider refuses it for good: then it is a dead letter.
//! - A lane (a topic, or a group of topics that share an order) is delivered in the order of its
//!   sequences; lanes are delivered in parallel.
//! - After a crash at most [`BufferConfig::repeat_window`] messages of a lane come twice, and none
//!   where the provider keeps the cursor together with the messages
//!   ([`Provider::keeps_cursor`]).
//! - Everything is bounded: what waits on disk, what is with the provider, the number of lanes,
//!   each message. At the bound the [`OverflowPolicy`] policy decides.
//!
//! # Terms
//!
//! A *lane* is a stream of one log; all lanes share its files and its fsync. The *cursor* of a lane
//! is the place below which everything was confirmed; it is the log's own trim mark, and so gives
//! the space back, too. A *provider* opens a *connection* for each lane.
//!
//! # Cost
//!
//! A thread and a connection for each lane, one thread to keep time, and the log's two. Memory: one
//! block being read and what is with the provider ([`BufferConfig::in_flight_bytes`]) for each
//! lane, and the log's queue. No async runtime is needed; the futures work in any.
//!
//! The format of the files is described in `docs/formats/segment.md` and
//! `docs/formats/messages.md`.

#![warn(missing_docs)]

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
mod partition;
mod partition_reader;
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
pub use config::{BufferConfig, BufferMode, OverflowPolicy};
pub use dead_letter::{CODEC_DEAD_LETTER, DeadLetterMessage};
pub use delivery_worker::{DeliveryWorker, StreamBinding, dead_letters};
pub use error::{BufferOpenError, WriteError};
pub use event::{BufferEvent, EventStream};
pub use forebay_log::{Env, RecoveryReport, StdEnv, SyncPolicy};
pub use message::{Message, MessageDelivery, MessageHeader};
pub use provider::{Ack, MessageBatch, Partition, Provider, ProviderConnection, SendError};
pub use receipt::{AppendAck, AppendReceipt};
pub use stats::{BufferStats, MessageRates, PartitionStats, ProviderHealth};
pub use topic::{MAX_TOPIC, Topic};

/// The chapter for users: its examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/buffer.md")]
struct Guide;
