//! The block in flight of a partition that bypasses the disk.

use std::sync::Arc;

use crate::error::WriteError;
use crate::intake::ReadyBlock;
use crate::receipt::{BlockOutcome, PendingOutcome};

/// The block in flight.
pub(crate) struct DirectSender {
    pub(crate) pending: Arc<PendingOutcome>,
    pub(crate) results: Vec<Option<Result<(), WriteError>>>,
    pub(crate) unresolved: usize,
    pub(crate) block: ReadyBlock,
}

impl DirectSender {
    pub(crate) fn set(&mut self, sequence: u64, result: Result<(), WriteError>) {
        let index = usize::try_from(sequence).unwrap_or(usize::MAX);
        if let Some(slot) = self.results.get_mut(index)
            && slot.is_none()
        {
            *slot = Some(result);
            self.unresolved -= 1;
        }
    }

    pub(crate) fn resolve(self) {
        let results: Vec<_> = self
            .results
            .into_iter()
            .map(|r| r.unwrap_or(Ok(())))
            .collect();
        let outcome = if results.iter().all(Result::is_ok) {
            BlockOutcome::Delivered
        } else {
            BlockOutcome::Each(Arc::new(results))
        };
        self.pending.resolve(outcome);
    }
}
