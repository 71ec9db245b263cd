//! Stored forms: encoding and decoding of values with their version.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Error of decoding a stored value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// The value was written by a later version of Forebay.
    #[error("unknown form version {found} of {what}, the highest supported is {known}")]
    Newer {
        /// Kind of entity.
        what: &'static str,
        /// Version of the value.
        found: u32,
        /// Highest version that this program supports.
        known: u32,
    },
    /// The value doesn't match its form.
    #[error("not a stored {what}: {reason}")]
    Invalid {
        /// Kind of entity.
        what: &'static str,
        reason: String,
    },
}

/// A domain type that has a stored form.
pub trait Stored: Sized {
    /// Kind of entity, in errors.
    const WHAT: &'static str;
    /// Version of the form that is written.
    const VERSION: u32 = 1;

    /// Encodes the value to write.
    fn encode(&self) -> Result<Bytes, StoredError>;

    /// Decodes a value of version `version`, which is 1 to [`Self::VERSION`].
    fn decode_version(version: u32, value: &[u8]) -> Result<Self, StoredError>;

    /// Decodes a value of any version.
    fn decode(value: &[u8]) -> Result<Self, StoredError> {
        #[derive(Deserialize)]
        struct VersionHeader {
            v: u32,
        }
        let VersionHeader { v } = serde_json::from_slice(value).map_err(|e| invalid::<Self>(&e))?;
        if v > Self::VERSION {
            return Err(StoredError::Newer {
                what: Self::WHAT,
                found: v,
                known: Self::VERSION,
            });
        }
        if v == 0 {
            return Err(invalid::<Self>(&"unknown form version 0"));
        }
        Self::decode_version(v, value)
    }
}

/// A form and its version.
#[derive(Serialize, Deserialize)]
struct FormEnvelope<F> {
    v: u32,
    #[serde(flatten)]
    form: F,
}

/// Encodes a value of form `F` in the version that is written.
pub(super) fn encode_form<S: Stored, F: Serialize>(form: &F) -> Result<Bytes, StoredError> {
    let envelope = FormEnvelope {
        v: S::VERSION,
        form,
    };
    let json = serde_json::to_vec(&envelope).map_err(|e| invalid::<S>(&e))?;
    Ok(json.into())
}

/// Decodes a value of form `F`.
pub(super) fn decode_form<S: Stored, F: DeserializeOwned>(value: &[u8]) -> Result<F, StoredError> {
    let envelope: FormEnvelope<F> = serde_json::from_slice(value).map_err(|e| invalid::<S>(&e))?;
    Ok(envelope.form)
}

fn invalid<S: Stored>(reason: &dyn std::fmt::Display) -> StoredError {
    StoredError::Invalid {
        what: S::WHAT,
        reason: reason.to_string(),
    }
}
