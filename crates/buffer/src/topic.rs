//! A topic: the handle of writers.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::append_path::{self, AppendRejection};
use crate::codec::encoded_len;
use crate::error::WriteError;
use crate::message::Message;
use crate::open_buffer::OpenBuffer;
use crate::partition::PartitionState;
use crate::receipt::{AppendAck, AppendReceipt};
use crate::retention::{self, AdmissionWait, WriteAttempt};

/// A topic of a buffer. Cheap to clone.
#[derive(Clone)]
pub struct Topic {
    partition: Arc<PartitionState>,
    /// Name of the topic, if it shares its partition.
    own: Option<Arc<str>>,
    /// Keeps the buffer open.
    buffer: Arc<OpenBuffer>,
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("partition", &self.partition.name)
            .finish_non_exhaustive()
    }
}

/// Outcome of an attempt to hand messages over.
enum HandoffOutcome {
    Taken(AppendReceipt),
    Wait(AdmissionWait),
}

impl Topic {
    pub(crate) fn new(
        buffer: Arc<OpenBuffer>,
        partition: Arc<PartitionState>,
        topic: &str,
    ) -> Self {
        Self {
            own: (*partition.name != *topic).then(|| Arc::from(topic)),
            partition,
            buffer,
        }
    }

    /// Writes messages with adjacent sequences and returns when all are accepted.
    ///
    /// # Errors
    /// If the disk fails, some of the messages may have been accepted.
    pub async fn write(&self, messages: &[Message]) -> Result<AppendAck, WriteError> {
        let mut attempt = WriteAttempt::default();
        loop {
            let receipt = self.hand_over_with(messages, &mut attempt).await?;
            match receipt.await {
                Err(full @ WriteError::Full { .. }) if messages.len() == 1 => {
                    let wait = self.on_full(full, &mut attempt)?;
                    self.wait(wait).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Decides about a write for which the disk had no space.
    fn on_full(
        &self,
        full: WriteError,
        attempt: &mut WriteAttempt,
    ) -> Result<AdmissionWait, WriteError> {
        retention::disk_full(&self.buffer.partitions, &self.partition, full, attempt)
    }

    /// As [`Topic::write`], blocking the thread.
    pub fn write_blocking(&self, messages: &[Message]) -> Result<AppendAck, WriteError> {
        let mut attempt = WriteAttempt::default();
        loop {
            let receipt = self.hand_over_blocking_with(messages, &mut attempt)?;
            match receipt.wait() {
                Err(full @ WriteError::Full { .. }) if messages.len() == 1 => {
                    let wait = self.on_full(full, &mut attempt)?;
                    self.wait_blocking(wait);
                }
                outcome => return outcome,
            }
        }
    }

    /// Hands messages over without waiting for the disk: the receipt resolves when they are
    /// accepted. Waits only at a limit. Keeps the order of the calls; the fastest way to write
    /// single messages.
    pub async fn hand_over(&self, messages: &[Message]) -> Result<AppendReceipt, WriteError> {
        let mut attempt = WriteAttempt::default();
        self.hand_over_with(messages, &mut attempt).await
    }

    /// As [`Topic::hand_over`], blocking the thread at a limit.
    pub fn hand_over_blocking(&self, messages: &[Message]) -> Result<AppendReceipt, WriteError> {
        if let Some(receipt) = self.hand_over_now(messages) {
            return Ok(receipt);
        }
        let mut attempt = WriteAttempt::default();
        self.hand_over_blocking_with(messages, &mut attempt)
    }

    /// Fast path; on failure the caller takes the slow path, which finds the cause.
    fn hand_over_now(&self, messages: &[Message]) -> Option<AppendReceipt> {
        let need = self.check(messages).ok()?;
        if !retention::fits(&self.partition, need) {
            return None;
        }
        append_path::append(&self.partition, self.own.as_deref(), messages)
    }

    async fn hand_over_with(
        &self,
        messages: &[Message],
        attempt: &mut WriteAttempt,
    ) -> Result<AppendReceipt, WriteError> {
        loop {
            match self.try_hand_over(messages, attempt)? {
                HandoffOutcome::Taken(receipt) => return Ok(receipt),
                HandoffOutcome::Wait(wait) => self.wait(wait).await,
            }
        }
    }

    fn hand_over_blocking_with(
        &self,
        messages: &[Message],
        attempt: &mut WriteAttempt,
    ) -> Result<AppendReceipt, WriteError> {
        loop {
            match self.try_hand_over(messages, attempt)? {
                HandoffOutcome::Taken(receipt) => return Ok(receipt),
                HandoffOutcome::Wait(wait) => self.wait_blocking(wait),
            }
        }
    }

    fn try_hand_over(
        &self,
        messages: &[Message],
        attempt: &mut WriteAttempt,
    ) -> Result<HandoffOutcome, WriteError> {
        let need = self.check(messages)?;
        let wait = retention::admit(&self.buffer.partitions, &self.partition, need, attempt)?;
        if !matches!(wait, AdmissionWait::No) {
            return Ok(HandoffOutcome::Wait(wait));
        }
        let shared = &self.partition.shared;
        let mut seen = None;
        loop {
            if let Some(receipt) =
                append_path::append(&self.partition, self.own.as_deref(), messages)
            {
                return Ok(HandoffOutcome::Taken(receipt));
            }
            match append_path::rejection(&self.partition, messages) {
                AppendRejection::Error(error) => return Err(error),
                // The disk or the provider is behind. This is not a limit and ends by itself.
                AppendRejection::Busy => match seen {
                    // Retried once after reading `seen`, so that no change is missed.
                    None => seen = Some(shared.change.seen()),
                    Some(seen) => {
                        let until = shared.env.elapsed() + Duration::from_secs(3_600);
                        return Ok(HandoffOutcome::Wait(AdmissionWait::Change(seen, until)));
                    }
                },
            }
        }
    }

    /// Checks messages; returns an upper bound of their encoded bytes.
    fn check(&self, messages: &[Message]) -> Result<u64, WriteError> {
        let max = self.partition.shared.config.max_message_bytes;
        let mut need = 0;
        for message in messages {
            let len = message.len();
            if len > max {
                return Err(WriteError::Invalid {
                    field: "message",
                    value: format!("{len} bytes long"),
                    allowed: format!(
                        "up to {max} bytes of key, payload and headers (`max_message_bytes`)"
                    ),
                });
            }
            need += encoded_len(self.own.as_deref(), message, len) as u64;
        }
        Ok(need)
    }

    async fn wait(&self, wait: AdmissionWait) {
        match wait {
            AdmissionWait::No => {}
            AdmissionWait::Dropped(tickets) => {
                for ticket in tickets {
                    // If it failed, the next attempt reports it.
                    drop(ticket.await);
                }
                self.remeasure();
            }
            AdmissionWait::Change(seen, until) => {
                let shared = &self.partition.shared;
                poll_fn(|cx| {
                    if shared.env.elapsed() >= until || shared.change.poll(seen, cx.waker()) {
                        return Poll::Ready(());
                    }
                    Poll::Pending
                })
                .await;
            }
        }
    }

    fn wait_blocking(&self, wait: AdmissionWait) {
        match wait {
            AdmissionWait::No => {}
            AdmissionWait::Dropped(tickets) => {
                for ticket in tickets {
                    // If it failed, the next attempt reports it.
                    drop(ticket.wait());
                }
                self.remeasure();
            }
            AdmissionWait::Change(seen, until) => {
                let shared = &self.partition.shared;
                let left = until.saturating_sub(shared.env.elapsed());
                if shared.config.manual {
                    self.buffer.step();
                } else {
                    shared
                        .change
                        .wait(seen, left.min(Duration::from_millis(100)));
                }
            }
        }
    }

    fn remeasure(&self) {
        for partition in self.buffer.partitions.all() {
            partition.measure();
        }
    }
}
