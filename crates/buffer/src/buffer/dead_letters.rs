//! Reading, discarding and replaying dead letters.

use super::Buffer;
use crate::dead_letter::{DeadLetterMessage, DeadLetterReader};
use crate::error::WriteError;

impl Buffer {
    /// Dead letters from this number on, oldest first.
    pub fn dead_letters(
        &self,
        from: u64,
    ) -> impl Iterator<Item = Result<DeadLetterMessage, forebay_log::LogReadError>> {
        let shared = &self.inner.shared;
        DeadLetterReader::new(shared.log.reader(shared.dead, from).ok(), from)
    }

    /// Discards the dead letters below this number.
    pub fn discard_dead_letters(&self, below: u64) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let failed = |error: String| WriteError::Disk(error);
        let ticket = shared
            .log
            .trim(shared.dead, below)
            .map_err(|e| failed(e.to_string()))?;
        ticket.wait().map_err(|e| failed(e.to_string()))?;
        shared.measure_dead();
        shared.change.notify();
        Ok(())
    }

    /// Writes the dead letters below this number to their topics again and discards them. Returns
    /// their count. An interrupted replay may write a dead letter twice.
    pub fn replay_dead_letters(&self, below: u64) -> Result<u64, WriteError> {
        let mut count = 0;
        for dead_letter in self.dead_letters(0) {
            let dead_letter = dead_letter.map_err(|e| WriteError::Disk(e.to_string()))?;
            if dead_letter.number >= below {
                break;
            }
            self.write_blocking(&dead_letter.topic, dead_letter.message)?;
            self.discard_dead_letters(dead_letter.number + 1)?;
            count += 1;
        }
        Ok(count)
    }
}
