//! Errors of settings and of sending.

use std::fmt;

use forebay_buffer::SendError;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An invalid setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct KafkaConfigError {
    /// Name in librdkafka.
    pub setting: String,
    /// Never contains the value, which may be a secret.
    pub problem: String,
}

impl KafkaConfigError {
    pub(super) fn new(setting: &str, problem: impl fmt::Display) -> Self {
        Self {
            setting: setting.to_owned(),
            problem: problem.to_string(),
        }
    }
}

impl From<KafkaError> for KafkaConfigError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, problem, name, _value) => Self::new(&name, problem),
            other => Self::new("kafka", other),
        }
    }
}

/// A connection error that may be temporary.
pub(super) fn failed(error: KafkaError) -> SendError {
    SendError::retry(error.to_string())
}

/// Outcome of the message for an error.
pub(super) fn send_error(error: &KafkaError) -> SendError {
    use RDKafkaErrorCode as Code;
    let is_rejected = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidTimestamp
                | Code::InvalidRecord
                | Code::InvalidTopic
                | Code::PolicyViolation
        )
    );
    if is_rejected {
        SendError::rejected(error.to_string())
    } else {
        SendError::retry(error.to_string())
    }
}
