//! Stored forms: the serialized values of keys.
//!
//! Each value is a JSON object whose field `v` is its version. The form of most types is their own
//! `serde` form, so a change of such a type changes what is stored: `tests/golden/` has a value of
//! each form and version, and of each variant. Where the form is different, it is a type here.
//!
//! A form of which values exist is never changed: the present form becomes a type here (`…V1`), the
//! version is raised, and `decode_version` converts the old form. The format is documented in
//! `docs/formats/metadata.md`.

use bytes::Bytes;
use forebay_model::quota::QuotaOverrides;
use forebay_model::{File, ImportedFile, Slice, Statistics, TaskEntry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::definitions::{BranchDefinition, SinkContent, SourceContent};
use super::delivered_streams::DeliveredStream;
use super::runtime::{ClusterInfo, Node, ProcessedRevision, RegisteredVolume};
use super::tables::TableEntry;
use super::tokens::{ManagementToken, ProjectEntry};

mod audit;
pub mod dead_letters;
pub mod definition;
pub mod sink_state;

use dead_letters::{DeadLetterCounts, DeadLetterState};
use definition::StoredVersion;
use sink_state::SinkState;

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

/// Types whose stored form is their own `serde` form.
macro_rules! stored_as_they_are {
    ($($type:ty: $what:literal;)*) => {$(
        impl Stored for $type {
            const WHAT: &'static str = $what;

            fn encode(&self) -> Result<Bytes, StoredError> {
                encode_form::<Self, _>(self)
            }

            fn decode_version(_version: u32, value: &[u8]) -> Result<Self, StoredError> {
                decode_form::<Self, _>(value)
            }
        }
    )*};
}

stored_as_they_are! {
    BranchDefinition: "branch";
    StoredVersion<SourceContent>: "source version";
    StoredVersion<SinkContent>: "sink version";
    SinkState: "sink state";
    File: "file";
    ImportedFile: "imported file";
    Slice: "slice";
    Statistics: "statistics";
    DeadLetterState: "dead-letter state";
    DeadLetterCounts: "dead-letter counts";
    DeliveredStream: "delivered stream";
    RegisteredVolume: "volume";
    TaskEntry: "task";
    ManagementToken: "token";
    ProjectEntry: "project";
    QuotaOverrides: "quota";
    TableEntry: "table owner";
    Node: "node";
    ProcessedRevision: "processed revision";
    ClusterInfo: "cluster";
}

/// A form and its version.
#[derive(Serialize, Deserialize)]
struct FormEnvelope<F> {
    v: u32,
    #[serde(flatten)]
    form: F,
}

/// Encodes a value of form `F` in the version that is written.
fn encode_form<S: Stored, F: Serialize>(form: &F) -> Result<Bytes, StoredError> {
    let envelope = FormEnvelope {
        v: S::VERSION,
        form,
    };
    let json = serde_json::to_vec(&envelope).map_err(|e| invalid::<S>(&e))?;
    Ok(json.into())
}

/// Decodes a value of form `F`.
fn decode_form<S: Stored, F: DeserializeOwned>(value: &[u8]) -> Result<F, StoredError> {
    let envelope: FormEnvelope<F> = serde_json::from_slice(value).map_err(|e| invalid::<S>(&e))?;
    Ok(envelope.form)
}

fn invalid<S: Stored>(reason: &dyn std::fmt::Display) -> StoredError {
    StoredError::Invalid {
        what: S::WHAT,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
