//! What can go wrong, one enum for each kind of call.

use std::time::Duration;

/// Why a buffer could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BufferOpenError {
    /// A setting is outside its range.
    #[error("buffer setting `{name}` is {value}, allowed is {allowed}")]
    Config {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The directory could not be opened.
    #[error(transparent)]
    Log(#[from] forebay_log::LogOpenError),
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(std::io::Error),
    /// The directory has more lanes than are allowed.
    #[error("the directory holds {found} lanes, `max_lanes` is {allowed}; raise it")]
    TooManyPartitions {
        /// Lanes that have streams there.
        found: usize,
        /// The setting.
        allowed: usize,
    },
}

/// Why a message was not accepted. Only [`WriteError::MayHaveHappened`] and
/// [`WriteError::Provider`] leave it open whether it will be delivered; otherwise it will not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The message or the topic breaks a limit.
    #[error("`{field}` is {value}, allowed is {allowed}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The buffer is full, and its policy is to refuse.
    #[error("the buffer is full: {waiting} of {allowed} bytes wait in {what}")]
    Full {
        /// The lane, or `the buffer`, or `the disk`.
        what: String,
        /// Bytes that wait there.
        waiting: u64,
        /// The bound.
        allowed: u64,
    },
    /// The buffer was full, or the provider away, for as long as the policy allows to wait.
    #[error("no room within {}: {what}", humane(.waited))]
    Timeout {
        /// How long it was waited.
        waited: Duration,
        /// For what.
        what: String,
    },
    /// The time for a flush or a drain was over before everything was delivered.
    #[error("delivered {delivered} of {} in {}: {cause}", counted(*.all, "message"), humane(.waited))]
    Undelivered {
        /// Messages that were delivered or set aside meanwhile.
        delivered: u64,
        /// Messages that waited at its beginning.
        all: u64,
        /// How long it was tried.
        waited: Duration,
        /// The provider's reason for the others, as far as it gave one.
        cause: String,
    },
    /// The provider refused the message, in a mode that hands its errors to the writer.
    #[error("{provider}: {error}")]
    Provider {
        /// The provider's name.
        provider: String,
        /// What it said.
        error: String,
        /// Whether the same message may be taken later.
        retryable: bool,
    },
    /// The disk failed; the message may be delivered after the buffer is opened anew, or not.
    #[error("may have happened: {0}")]
    MayHaveHappened(String),
    /// The disk failed before; the buffer takes nothing until it is opened anew.
    #[error("{0}")]
    Disk(String),
    /// The system had no file descriptor, thread or memory for it. Nothing is wrong with the disk:
    /// the next message is tried as usual.
    #[error("not taken, the system is short of something: {0}")]
    Scarce(String),
    /// The buffer is closed.
    #[error("the buffer is closed")]
    Closed,
}

fn humane(duration: &Duration) -> String {
    format!("{duration:?}")
}

/// `1 message`, `2 messages`.
fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}
