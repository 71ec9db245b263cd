//! Large requests: decoded, divided and rendered in turns, and beside those that are small.

use std::sync::Arc;

use bytes::Bytes;
use forebay_record::body::{self, PART_BYTES};
use forebay_record::charset::CharsetError;
use forebay_record::{
    BodyEncoding, BodyFormat, BodyMode, DecodeError, InflateError, Parts, RequestInfo, SplitError,
};
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Refusal};
use super::receive::Receiver;
use super::report;
use crate::budget::{Charge, NoRoom};
use crate::dispatch::{Large, Progress, Target};
use crate::lane::{Turn, beside};

/// Bytes of a body, inflated, up to which it is read where it came in: about half a millisecond at most.
/// Others wait for as long behind each connection that has such a request.
const BODY_AT_ONCE: usize = 16 << 10;
/// The same of a batch, and how many records it may have then.
const BATCH_AT_ONCE: usize = 8 << 10;
pub(super) const RECORDS_AT_ONCE: usize = 64;

/// A body on its way to its records.
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    /// What is yet to be undone: compression, or a charset other than UTF-8.
    pub(super) encoding: Option<BodyEncoding>,
    pub(super) mode: BodyMode,
    pub(super) format: BodyFormat,
    pub(super) charge: Charge,
}

impl Sent {
    /// Whether it is too large to be read where it came in.
    pub(super) fn is_large(&self) -> bool {
        let at_once = match self.mode {
            BodyMode::Single => BODY_AT_ONCE,
            BodyMode::Ndjson | BodyMode::JsonSequence | BodyMode::JsonArray => BATCH_AT_ONCE,
        };
        self.encoding.is_some() || self.bytes.len() > at_once
    }
}

impl Receiver {
    /// Decodes a body that becomes a small one. `None`: it becomes a large one.
    pub(super) fn decode_small(
        &self,
        bytes: &Bytes,
        encoding: &BodyEncoding,
        target: &Target,
        charge: &mut Charge,
    ) -> Result<Option<Bytes>, Refusal> {
        let max = self.inflated_max();
        let limit = max.min(BODY_AT_ONCE);
        if bytes.len() > limit {
            return Ok(None);
        }
        let most = encoding.most_held(bytes.len(), limit);
        if !charge.grow(most) {
            return Err(Refusal::Busy);
        }
        match encoding.decode(bytes, limit) {
            Ok(decoded) => {
                charge.shrink(most.saturating_sub(decoded.len() as u64));
                self.pay_inflated(target, bytes.len(), decoded.len())?;
                Ok(Some(decoded))
            }
            Err(error) if limit < max && is_too_large(&error) => {
                charge.shrink(most);
                Ok(None)
            }
            Err(error) => Err(self.not_decoded(error)),
        }
    }

    fn inflated_max(&self) -> usize {
        usize::try_from(self.config.max_inflated_body_size.0).unwrap_or(usize::MAX)
    }

    fn not_decoded(&self, error: DecodeError) -> Refusal {
        match error {
            _ if is_too_large(&error) => {
                Refusal::InflatedTooLarge(self.config.max_inflated_body_size)
            }
            DecodeError::Charset(error @ CharsetError::Unknown(_)) => Refusal::Charset(error),
            error => Refusal::Malformed(error.to_string()),
        }
    }

    /// What a body has become is paid for as if it had been sent.
    fn pay_inflated(&self, target: &Target, sent: usize, inflated: usize) -> Result<(), Refusal> {
        let gate = &target.gate;
        let more = inflated.saturating_sub(sent) as u64;
        if more == 0 || !gate.counts_bytes() {
            return Ok(());
        }
        let owed = self.config.max_inflated_body_size.0;
        let paid = gate.pay(gate.at(Instant::now()), more, owed);
        paid.map_err(Refusal::Quota)
    }

    /// Takes a large request.
    pub(super) async fn take_large(
        &self,
        target: &Arc<Target>,
        info: Arc<RequestInfo>,
        sent: Sent,
        (deadline, verbose): (Instant, bool),
    ) -> Result<Answer, Refusal> {
        let progress = Progress::default();
        let taken = self.take_in_turn(target, info, sent, verbose, &progress);
        match timeout_at(deadline, taken).await {
            Ok(answer) => answer,
            Err(_) if progress.has_begun() => Err(Refusal::SlowDisk),
            Err(_) => Err(Refusal::NotInTime),
        }
    }

    async fn take_in_turn(
        &self,
        target: &Arc<Target>,
        request: Arc<RequestInfo>,
        sent: Sent,
        verbose: bool,
        progress: &Progress,
    ) -> Result<Answer, Refusal> {
        let dispatcher = &self.deps.dispatcher;
        let turn = dispatcher.large().enter(target.lane_key()).await;
        // Until here it holds no more than has come in.
        self.deps.budget.room().await;
        let (format, mode) = (sent.format.clone(), sent.mode);
        let (turn, parts, charge) = self.divide(target, sent, turn).await?;
        let count = parts.len();
        let is_single = mode == BodyMode::Single;
        let large = Large {
            request,
            parts,
            format: is_single.then_some(format),
            charge,
        };
        let done = dispatcher.dispatch_large(target, large, turn, progress);
        let (broken, results) = done.await.map_err(|e| match e {
            NoRoom::Now => Refusal::Busy,
            NoRoom::Ever(limit) => Refusal::RowsTooLarge(forebay_model::ByteSize(limit)),
        })?;
        Ok(if is_single {
            report::single(target, &results, verbose)
        } else {
            report::batch(target, count, &broken, &results)
        })
    }

    /// Decodes a body and finds its records.
    async fn divide(
        &self,
        target: &Target,
        mut sent: Sent,
        mut turn: Turn,
    ) -> Result<(Turn, Parts, Charge), Refusal> {
        if let Some(encoding) = sent.encoding.take() {
            let (max, raw) = (self.inflated_max(), sent.bytes.len());
            let most = encoding.most_held(raw, max);
            if !sent.charge.grow(most) {
                return Err(Refusal::Busy);
            }
            let decoded;
            (turn, (sent, decoded)) = beside(turn, move || {
                let decoded = encoding.decode(&sent.bytes, max);
                (sent, decoded)
            })
            .await;
            sent.bytes = decoded.map_err(|e| self.not_decoded(e))?;
            // What was sent is not needed any more.
            let not_used = (raw as u64 + most).saturating_sub(sent.bytes.len() as u64);
            sent.charge.shrink(not_used);
            self.pay_inflated(target, raw, sent.bytes.len())?;
        }
        let max = self.config.max_records_per_batch;
        let (turn, (mut sent, parts)) = beside(turn, move || {
            let parts = body::split(&sent.bytes, sent.mode, max);
            (sent, parts)
        })
        .await;
        let parts = parts.map_err(|e| not_divided(&e))?;
        let places = parts.len().saturating_mul(PART_BYTES);
        sent.charge.force(places as u64);
        Ok((turn, parts, sent.charge))
    }
}

fn is_too_large(error: &DecodeError) -> bool {
    matches!(
        error,
        DecodeError::Inflate(InflateError::TooLarge(_))
            | DecodeError::Charset(CharsetError::TooLarge(_))
    )
}

pub(super) fn not_divided(error: &SplitError) -> Refusal {
    match error {
        SplitError::TooMany(max) => Refusal::TooManyRecords(*max),
        SplitError::Json(_) => Refusal::Malformed(error.to_string()),
    }
}
