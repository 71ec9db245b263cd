//! Stored forms: the serialized values of keys.
//!
//! Each value is a JSON object whose field `v` is its version. Forms are separate from the domain
//! types, so that these can change without changing the format on disk. A form of which values
//! exist is never changed: a new version is added, with one function that converts the old one.
//! `tests/golden/` has a value of each version. The format is documented in
//! `docs/formats/metadata.md`.
//! new one. `tests/golden/` has a value of each version. Described in `docs/formats/metadata.md`.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub mod common;
pub mod dead_letters;
pub mod definition;
pub mod file;
pub mod quota;
pub mod runtime;
pub mod sink_state;
pub mod slice;
pub mod statistics;
pub mod table;
pub mod table_entry;
pub mod task;
pub mod token;
pub mod topic;

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
    const VERSION: u32;
    type Form: Serialize;

    fn to_form(&self) -> Self::Form;

    /// Decodes a value of version `version`, which is 1 to [`Self::VERSION`].
    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError>;

    /// Encodes the value to write.
    fn encode(&self) -> Result<Bytes, StoredError> {
        let form = FormEnvelope {
            v: Self::VERSION,
            form: self.to_form(),
        };
        match serde_json::to_vec(&form) {
            Ok(json) => Ok(json.into()),
            Err(e) => Err(invalid::<Self>(&e)),
        }
    }

    /// Decodes a value of any version.
    fn decode(value: &[u8]) -> Result<Self, StoredError> {
        #[derive(Deserialize)]
        struct VersionHeader {
            v: u32,
        }
        let header: VersionHeader =
            serde_json::from_slice(value).map_err(|e| invalid::<Self>(&e))?;
        if header.v > Self::VERSION {
            return Err(StoredError::Newer {
                what: Self::WHAT,
                found: header.v,
                known: Self::VERSION,
            });
        }
        Self::from_value(header.v, value)
    }
}

/// A form and its version.
#[derive(Serialize, Deserialize)]
struct FormEnvelope<F> {
    v: u32,
    #[serde(flatten)]
    form: F,
}

fn invalid<S: Stored>(reason: &dyn std::fmt::Display) -> StoredError {
    StoredError::Invalid {
        what: S::WHAT,
        reason: reason.to_string(),
    }
}

/// Decodes a value of form `F`.
fn decode_form<S: Stored, F: DeserializeOwned>(value: &[u8]) -> Result<F, StoredError> {
    let versioned: FormEnvelope<F> = serde_json::from_slice(value).map_err(|e| invalid::<S>(&e))?;
    Ok(versioned.form)
}

/// Decodes an entity whose form has only one version.
fn decode_only_form<S: Stored, F: DeserializeOwned>(
    version: u32,
    value: &[u8],
) -> Result<F, StoredError> {
    match version {
        1 => decode_form::<S, F>(value),
        _ => Err(no_version::<S>(version)),
    }
}

/// Converts a part of a form to a domain type.
fn decode_part<S: Stored, T, E: std::fmt::Display>(part: Result<T, E>) -> Result<T, StoredError> {
    part.map_err(|e| invalid::<S>(&e))
}

/// Error for a version without a form.
fn no_version<S: Stored>(version: u32) -> StoredError {
    invalid::<S>(&format_args!("unknown form version {version}"))
}

#[cfg(test)]
mod tests;
