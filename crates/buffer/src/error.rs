//! Errors of opening a buffer and of writing to it.

use std::time::Duration;

/// Error of opening a buffer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BufferOpenError {
    /// A setting is outside its range.
    #[error("buffer setting `{name}` is {value}, allowed is {allowed}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// Value of the setting.
        value: String,
        /// Allowed values.
        allowed: String,
    },
    /// The directory could not be opened.
    #[error(transparent)]
    Log(#[from] forebay_log::LogOpenError),
    /// The delivery or housekeeping thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(std::io::Error),
    /// The directory has more partitions than `max_partitions`.
    #[error("the directory has {found} partitions, but `max_partitions` is {allowed}")]
    TooManyPartitions {
        /// Partitions in the directory.
        found: usize,
        /// The value of `max_partitions`.
        allowed: usize,
    },
}

/// Error of writing a message, which will not be delivered, except that
/// [`WriteError::MayHaveHappened`] and [`WriteError::Provider`] leave that open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The message or the topic breaks a limit.
    #[error("`{field}` is {value}, allowed is {allowed}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// Value of the field.
        value: String,
        /// Allowed values.
        allowed: String,
    },
    /// The buffer is full and rejects writes.
    #[error("the buffer is full: {waiting} of {allowed} bytes wait in {what}")]
    Full {
        /// `the buffer`, `the disk` or `partition <name>`.
        what: String,
        /// Bytes waiting.
        waiting: u64,
        /// Maximum bytes.
        allowed: u64,
    },
    /// The write waited as long as the policy allows.
    #[error("timed out after {}: {what}", humane(.waited))]
    Timeout {
        /// Time waited.
        waited: Duration,
        /// Cause of the wait.
        what: String,
    },
    /// A flush or drain timed out.
    #[error("delivered {delivered} of {} in {}: {cause}", counted(*.all, "message"), humane(.waited))]
    Undelivered {
        /// Messages delivered or moved to the dead letters meanwhile.
        delivered: u64,
        /// Messages waiting at the start.
        all: u64,
        /// Time waited.
        waited: Duration,
        /// The provider's error, if known.
        cause: String,
    },
    /// The provider did not accept the message, in a direct mode.
    #[error("{provider}: {error}")]
    Provider {
        /// The provider's name.
        provider: String,
        /// The provider's error.
        error: String,
        /// Whether the provider may accept the message later.
        retryable: bool,
    },
    /// The disk failed; the message may or may not be delivered after the buffer is reopened.
    #[error("outcome unknown: {0}")]
    MayHaveHappened(String),
    /// The disk failed before; the buffer accepts nothing until it is reopened.
    #[error("{0}")]
    Disk(String),
    /// The system is out of file descriptors, threads or memory. The disk works; later writes may
    /// succeed.
    #[error("not accepted, a system resource is exhausted: {0}")]
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
