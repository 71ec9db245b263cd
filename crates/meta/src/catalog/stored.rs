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

use super::definitions::{BranchDefinition, SinkContent, SourceContent};
use super::delivered_streams::DeliveredStream;
use super::runtime::{ClusterInfo, Node, ProcessedRevision, RegisteredVolume};
use super::tables::TableEntry;
use super::tokens::{ManagementToken, ProjectEntry};

mod audit;
pub mod dead_letters;
pub mod definition;
mod form;
pub mod sink_state;

pub use form::{Stored, StoredError};

use dead_letters::{DeadLetterCounts, DeadLetterState};
use definition::StoredVersion;
use form::{decode_form, encode_form};
use sink_state::SinkState;

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

#[cfg(test)]
mod tests;
