//! Straight to the provider, in the modes that spare the disk.
//!
//! One block at a time is with the provider: so a failure never lets a later message overtake. What
//! writers hand over meanwhile gathers in the next block.
//!
//! Invariant of [`BufferMode::OnError`]: the switch from one way to the other is made under the lane's
//! lock. To the disk: first what failed, then everything that was taken behind it. Back: only when
//! nothing is on its way to the log and everything in it was delivered.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::Mode;
use crate::deliver::{Deliverer, Redo};
use crate::error::WriteError;
use crate::event::Event;
use crate::frame::{self, Decoder};
use crate::intake::{Handed, Sealed};
use crate::message::Delivery;
use crate::provider::SendError;
use crate::receipt::{Fate, Pending};
use crate::sync::lock;

/// The block that is with the provider.
pub(crate) struct Straight {
    pending: Arc<Pending>,
    results: Vec<Option<Result<(), WriteError>>>,
    left: usize,
    block: Sealed,
}

impl Straight {
    pub(crate) fn set(&mut self, sequence: u64, result: Result<(), WriteError>) {
        let index = usize::try_from(sequence).unwrap_or(usize::MAX);
        if let Some(slot) = self.results.get_mut(index)
            && slot.is_none()
        {
            *slot = Some(result);
            self.left -= 1;
        }
    }

    fn resolve(self) {
        let results: Vec<_> = self
            .results
            .into_iter()
            .map(|r| r.unwrap_or(Ok(())))
            .collect();
        let fate = if results.iter().all(Result::is_ok) {
            Fate::Delivered
        } else {
            Fate::Each(Arc::new(results))
        };
        self.pending.resolve(fate);
    }
}

impl Deliverer {
    /// Whether something waits to go straight, or the lane may go straight again.
    pub(crate) fn straight_waits(&mut self) -> bool {
        if !self.lane.shared.is_direct() || self.straight.is_some() {
            return false;
        }
        self.go_straight();
        let intake = lock(&self.lane.intake);
        intake.direct && !intake.is_empty()
    }

    /// Leaves the disk behind, when all that waits on it was delivered.
    fn go_straight(&mut self) {
        if self.mode() != Mode::OnError
            || !self.is_idle()
            || !self.pause.is_over(self.lane.shared.env.elapsed())
        {
            return;
        }
        let read_to = self.read_to();
        let mut intake = lock(&self.lane.intake);
        if intake.direct
            || intake.committing > 0
            || !intake.ready.is_empty()
            || self.lane.end() != read_to
        {
            return;
        }
        intake.direct = true;
        drop(intake);
        let lane = self.lane.name.clone();
        self.lane.shared.tell(Event::Buffering { lane, on: false });
    }

    /// The next block, if it goes straight.
    pub(crate) fn take_straight(&mut self) -> Option<Vec<Delivery>> {
        let mut intake = lock(&self.lane.intake);
        if !intake.direct {
            return None;
        }
        if intake.ready.is_empty() {
            intake.seal(self.lane.shared.config.block_bytes);
        }
        let block = intake.ready.pop_front()?;
        drop(intake);
        // What was just encoded is decoded here: one form of messages, and the copy is a small part
        // of what the provider costs.
        let decoder = Decoder::new(block.payload.clone(), 0, self.lane.name.clone());
        let messages: Vec<Delivery> = decoder.filter_map(Result::ok).collect();
        self.lane.left(block.payload.len() as u64);
        self.lane.shared.change.notify();
        self.straight = Some(Straight {
            pending: block.pending.clone(),
            results: vec![None; messages.len()],
            left: messages.len(),
            block,
        });
        Some(messages)
    }

    pub(crate) fn finish_straight(&mut self) {
        if self.straight.as_ref().is_some_and(|s| s.left == 0)
            && let Some(straight) = self.straight.take()
        {
            straight.resolve();
        }
    }

    /// After failures of a block that went straight.
    pub(crate) fn settle_straight(&mut self) {
        if self.straight.is_none() {
            return;
        }
        match self.mode() {
            Mode::Error => {
                let all = self.redo.len();
                self.give_up(all);
            }
            Mode::Block => {
                let attempts = self.lane.shared.config.attempts;
                while self.redo.front().is_some_and(|r| r.attempts >= attempts) {
                    self.give_up(1);
                }
            }
            Mode::OnError => self.spill(),
            Mode::Always => {}
        }
        self.finish_straight();
    }

    /// Tells writers of the first so many messages that they failed.
    fn give_up(&mut self, count: usize) {
        let failed: Vec<Redo> = self.redo.drain(..count).collect();
        for redo in failed {
            let error = self.provider_error(&redo.error);
            if let Some(straight) = &mut self.straight {
                straight.set(redo.delivery.sequence, Err(error));
            }
        }
    }

    fn provider_error(&self, error: &SendError) -> WriteError {
        WriteError::Provider {
            provider: self.lane.shared.provider.name().to_owned(),
            error: error.to_string(),
            retryable: !error.is_rejected(),
        }
    }

    /// From now on through the disk: what failed first.
    fn spill(&mut self) {
        let Some(straight) = self.straight.take() else {
            return;
        };
        let failed = std::mem::take(&mut self.redo);
        let block = if failed.len() == straight.results.len() {
            straight.block
        } else {
            encode_again(
                failed.into_iter().map(|r| r.delivery),
                &self.lane.name,
                straight.block,
            )
        };
        let mut intake = lock(&self.lane.intake);
        let bytes = block.payload.len() as u64;
        intake.ready.push_front(block);
        let handed = self.turn_to_disk(&mut intake, bytes);
        drop(intake);
        handed.start();
    }

    fn turn_to_disk(&self, intake: &mut crate::intake::Intake, bytes: u64) -> Handed {
        let lane = &self.lane;
        lane.comes(bytes);
        intake.direct = false;
        intake.seal(lane.shared.config.block_bytes);
        lane.shared.tell(Event::Buffering {
            lane: lane.name.clone(),
            on: true,
        });
        lane.hand_over(intake)
    }

    /// The provider could not even be reached.
    pub(crate) fn leave_straight(&mut self) {
        if self.straight.is_some() || self.mode() != Mode::OnError {
            return;
        }
        let lane = self.lane.clone();
        let mut intake = lock(&lane.intake);
        if !intake.direct {
            return;
        }
        let handed = self.turn_to_disk(&mut intake, 0);
        drop(intake);
        handed.start();
    }

    /// In [`BufferMode::Error`] writes fail at once while the provider is not tried.
    pub(crate) fn refuse_straight(&mut self) {
        if self.mode() != Mode::Error {
            return;
        }
        let state = lock(&self.lane.state).clone();
        let crate::ProviderState::Down { error, .. } = state else {
            return;
        };
        let error = self.provider_error(&SendError::retry(error));
        self.fail_waiting(&error);
    }

    fn fail_waiting(&self, error: &WriteError) {
        let mut intake = lock(&self.lane.intake);
        if !intake.direct {
            return;
        }
        let bytes = intake.fail_all(error);
        drop(intake);
        self.lane.left(bytes);
        self.lane.shared.change.notify();
    }

    /// At the end nobody may wait any more.
    pub(crate) fn end_straight(&mut self) {
        if let Some(straight) = self.straight.take() {
            let gone = "the buffer was closed before the provider has confirmed";
            let error = self.provider_error(&SendError::retry(gone));
            straight.pending.resolve(Fate::Failed(error));
        }
        self.fail_waiting(&WriteError::Closed);
    }
}

fn encode_again(failed: impl Iterator<Item = Delivery>, lane: &str, block: Sealed) -> Sealed {
    let mut payload = Vec::new();
    let (mut records, mut last_ms) = (0, 0);
    for delivery in failed {
        let topic = (*delivery.topic != *lane).then_some(&*delivery.topic);
        let at = delivery.message.timestamp_ms.unwrap_or(0);
        frame::encode(&mut payload, topic, &delivery.message, at, last_ms);
        last_ms = at;
        records += 1;
    }
    Sealed {
        payload: Bytes::from(payload),
        records,
        whole: false,
        ..block
    }
}
