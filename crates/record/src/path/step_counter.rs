//! The steps that the queries of a mapping may take on a record.

use crate::json::JsonDocument;

/// Steps per document.
const STEPS_MIN: u64 = 10_000;
/// Additional steps per byte of the document.
const STEPS_PER_BYTE: u64 = 16;
/// Bytes read or copied per step.
const BYTES: usize = 8;

/// Maximum steps of all queries of a mapping together on a document: 10,000 and 16 per byte.
pub fn steps_max(document: &JsonDocument) -> u64 {
    let bytes = document.text(document.root()).len() as u64;
    STEPS_MIN + bytes * STEPS_PER_BYTE
}

/// An evaluation exceeded its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "takes more than {max} steps on this record (10000 and 16 for each byte, of all paths with several values together)"
)]
pub struct TooCostly {
    /// Maximum steps.
    pub max: u64,
}

/// Counts down the remaining steps.
#[derive(Debug)]
pub(super) struct StepCounter {
    pub(super) remaining: u64,
    pub(super) max: u64,
}

impl StepCounter {
    pub(super) fn take(&mut self, steps: u64) -> Result<(), TooCostly> {
        match self.remaining.checked_sub(steps) {
            Some(left) => self.remaining = left,
            None => {
                // Later queries fail, too.
                self.remaining = 0;
                return Err(TooCostly { max: self.max });
            }
        }
        Ok(())
    }

    /// Takes the steps for reading or copying bytes.
    pub(super) fn take_bytes(&mut self, bytes: usize) -> Result<(), TooCostly> {
        self.take((bytes / BYTES) as u64)
    }
}
