//! Direct delivery, in the modes that bypass the disk.
//!
//! One block at a time is in flight, so that no message overtakes a failed one. New messages are
//! collected in the next block.
//!
//! Invariant of [`BufferMode::OnError`]: the mode switches under the partition's lock. To the disk:
//! the failed messages first, then all later ones. Back: only when no block is on its way to the
//! log and the log is drained.

use bytes::Bytes;

use super::{DeliveryLoop, RetryEntry};
use crate::append_path::HandoffWork;
use crate::codec::{self, MessageDecoder};
use crate::config::BufferMode;
use crate::direct_sender::DirectSender;
use crate::error::WriteError;
use crate::event::BufferEvent;
use crate::intake::{PartitionIntake, ReadyBlock};
use crate::message::MessageDelivery;
use crate::provider::{ProviderHealth, SendError};
use crate::receipt::BlockOutcome;

impl DeliveryLoop {
    /// Whether a direct block waits. Switches back to direct mode first if possible.
    pub(crate) fn has_direct_work(&mut self) -> bool {
        if !self.partition.shared.is_direct() || self.direct.is_some() {
            return false;
        }
        self.switch_to_direct();
        let intake = self.partition.intake.lock();
        intake.direct && !intake.is_empty()
    }

    /// Switches to direct mode if the log is drained.
    fn switch_to_direct(&mut self) {
        if self.mode() != BufferMode::OnError
            || !self.is_idle()
            || !self.backoff.is_over(self.partition.shared.env.elapsed())
        {
            return;
        }
        let read_to = self.read_to();
        let mut intake = self.partition.intake.lock();
        if intake.direct
            || intake.committing > 0
            || !intake.ready.is_empty()
            || self.partition.end() != read_to
        {
            return;
        }
        intake.direct = true;
        drop(intake);
        let partition = self.partition.name.clone();
        self.partition.shared.report(BufferEvent::Buffering {
            partition,
            on: false,
        });
    }

    /// The messages of the next direct block.
    pub(crate) fn take_direct(&mut self) -> Option<Vec<MessageDelivery>> {
        let mut intake = self.partition.intake.lock();
        if !intake.direct {
            return None;
        }
        if intake.ready.is_empty() {
            intake.seal(self.partition.shared.config.block_bytes);
        }
        let block = intake.ready.pop_front()?;
        drop(intake);
        // Decodes what was just encoded: one form of messages, at a small cost compared to the
        // provider.
        let decoder = MessageDecoder::new(block.payload.clone(), 0, self.partition.name.clone());
        let messages: Vec<MessageDelivery> = decoder.filter_map(Result::ok).collect();
        self.partition.add_dequeued(block.payload.len() as u64);
        self.partition.shared.change.notify();
        self.direct = Some(DirectSender {
            pending: block.pending.clone(),
            results: vec![None; messages.len()],
            unresolved: messages.len(),
            block,
        });
        Some(messages)
    }

    pub(crate) fn finish_direct(&mut self) {
        if self.direct.as_ref().is_some_and(|s| s.unresolved == 0)
            && let Some(direct) = self.direct.take()
        {
            direct.resolve();
        }
    }

    /// Applies the mode to the failed messages of a direct block.
    pub(crate) fn handle_direct_failures(&mut self) {
        if self.direct.is_none() {
            return;
        }
        match self.mode() {
            BufferMode::Error => {
                let all = self.retry_queue.len();
                self.give_up(all);
            }
            BufferMode::Block => {
                let attempts = self.partition.shared.config.attempts;
                while self
                    .retry_queue
                    .front()
                    .is_some_and(|r| r.attempts >= attempts)
                {
                    self.give_up(1);
                }
            }
            BufferMode::OnError => self.spill(),
            BufferMode::Always => {}
        }
        self.finish_direct();
    }

    /// Fails the writes of the first `count` messages.
    fn give_up(&mut self, count: usize) {
        let failed: Vec<RetryEntry> = self.retry_queue.drain(..count).collect();
        for retry in failed {
            let error = self.provider_error(&retry.error);
            if let Some(direct) = &mut self.direct {
                direct.set(retry.delivery.sequence, Err(error));
            }
        }
    }

    fn provider_error(&self, error: &SendError) -> WriteError {
        WriteError::Provider {
            provider: self.partition.shared.provider.name().to_owned(),
            error: error.to_string(),
            retryable: !error.is_rejected(),
        }
    }

    /// Switches to the disk, failed messages first.
    fn spill(&mut self) {
        let Some(direct) = self.direct.take() else {
            return;
        };
        let failed = std::mem::take(&mut self.retry_queue);
        let block = if failed.len() == direct.results.len() {
            direct.block
        } else {
            encode_retries(
                failed.into_iter().map(|r| r.delivery),
                &self.partition.name,
                direct.block,
            )
        };
        let mut intake = self.partition.intake.lock();
        let bytes = block.payload.len() as u64;
        intake.ready.push_front(block);
        let handoff = self.switch_to_disk(&mut intake, bytes);
        drop(intake);
        handoff.start();
    }

    fn switch_to_disk(&self, intake: &mut PartitionIntake, bytes: u64) -> HandoffWork {
        let partition = &self.partition;
        partition.add_enqueued(bytes);
        intake.direct = false;
        intake.seal(partition.shared.config.block_bytes);
        partition.shared.report(BufferEvent::Buffering {
            partition: partition.name.clone(),
            on: true,
        });
        partition.hand_over(intake)
    }

    /// Switches to the disk if the provider can't be reached.
    pub(crate) fn fall_back_to_disk(&mut self) {
        if self.direct.is_some() || self.mode() != BufferMode::OnError {
            return;
        }
        let partition = self.partition.clone();
        let mut intake = partition.intake.lock();
        if !intake.direct {
            return;
        }
        let handoff = self.switch_to_disk(&mut intake, 0);
        drop(intake);
        handoff.start();
    }

    /// In [`BufferMode::Error`] writes fail at once during a backoff.
    pub(crate) fn reject_direct(&mut self) {
        if self.mode() != BufferMode::Error {
            return;
        }
        let state = self.partition.state.lock().clone();
        let ProviderHealth::Down { error, .. } = state else {
            return;
        };
        let error = self.provider_error(&SendError::retry(error));
        self.fail_waiting(&error);
    }

    fn fail_waiting(&self, error: &WriteError) {
        let mut intake = self.partition.intake.lock();
        if !intake.direct {
            return;
        }
        let bytes = intake.fail_all(error);
        drop(intake);
        self.partition.add_dequeued(bytes);
        self.partition.shared.change.notify();
    }

    /// Fails all waiting writes at shutdown.
    pub(crate) fn end_direct(&mut self) {
        if let Some(direct) = self.direct.take() {
            let cause = "the buffer was closed before the provider confirmed";
            let error = self.provider_error(&SendError::retry(cause));
            direct.pending.resolve(BlockOutcome::Failed(error));
        }
        self.fail_waiting(&WriteError::Closed);
    }
}

fn encode_retries(
    failed: impl Iterator<Item = MessageDelivery>,
    partition: &str,
    block: ReadyBlock,
) -> ReadyBlock {
    let mut payload = Vec::new();
    let (mut records, mut last_ms) = (0, 0);
    for delivery in failed {
        let topic = (*delivery.topic != *partition).then_some(&*delivery.topic);
        let at = delivery.message.timestamp_ms.unwrap_or(0);
        codec::encode(&mut payload, topic, &delivery.message, at, last_ms);
        last_ms = at;
        records += 1;
    }
    ReadyBlock {
        payload: Bytes::from(payload),
        records,
        whole: false,
        ..block
    }
}
