//! Stored forms: what an entity looks like as the value of a key.
//!
//! Each is a JSON object whose field `v` says its version. The forms are apart from the domain's
//! types, so that those can change without touching what is on disk. A form of which values exist is
//! never changed: there is a new version beside it, and one function that makes the old one into the
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

/// Why a value can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// It was written by a later version of Forebay.
    #[error("form version {found} of {what} is not known, the highest known is {known}")]
    Newer {
        /// Which entity.
        what: &'static str,
        /// Its version.
        found: u32,
        /// The highest that this program knows.
        known: u32,
    },
    /// It is not of its form.
    #[error("not a stored {what}: {reason}")]
    Invalid {
        /// Which entity.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// A domain type that has a stored form.
pub trait Stored: Sized {
    /// Its name in errors.
    const WHAT: &'static str;
    /// The version that is written.
    const VERSION: u32;
    /// The form that is written.
    type Form: Serialize;

    /// As it is written.
    fn to_form(&self) -> Self::Form;

    /// From a value of version `version`, which is 1 to [`Self::VERSION`].
    ///
    /// # Errors
    /// When the value is not of that form.
    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError>;

    /// The value to write.
    ///
    /// # Errors
    /// When a text in it can't be JSON, which no entity has.
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

    /// From a value of any version.
    ///
    /// # Errors
    /// See [`StoredError`].
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

/// A form with its version before it.
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

/// A value of form `F`.
fn decode_form<S: Stored, F: DeserializeOwned>(value: &[u8]) -> Result<F, StoredError> {
    let versioned: FormEnvelope<F> = serde_json::from_slice(value).map_err(|e| invalid::<S>(&e))?;
    Ok(versioned.form)
}

/// The same of an entity whose form has never changed.
fn decode_only_form<S: Stored, F: DeserializeOwned>(
    version: u32,
    value: &[u8],
) -> Result<F, StoredError> {
    match version {
        1 => decode_form::<S, F>(value),
        _ => Err(no_version::<S>(version)),
    }
}

/// A part of a form, as a domain type.
fn decode_part<S: Stored, T, E: std::fmt::Display>(part: Result<T, E>) -> Result<T, StoredError> {
    part.map_err(|e| invalid::<S>(&e))
}

/// There is no such version; all below the present one have an arm of their own.
fn no_version<S: Stored>(version: u32) -> StoredError {
    invalid::<S>(&format_args!("there is no form version {version}"))
}

#[cfg(test)]
mod tests;
