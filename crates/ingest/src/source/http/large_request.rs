//! Large requests: decoded, split and rendered on the pool, apart from small ones.

use std::sync::Arc;

use bytes::Bytes;
use forebay_record::body::{self, PART_BYTES};
use forebay_record::charset::CharsetError;
use forebay_record::{
    BodyEncoding, BodyMode, BodyParts, DecodeError, InflateError, RequestInfo, SplitError,
};
use tokio::time::{Instant, timeout_at};

use super::received_body::{BODY_AT_ONCE, ReceivedBody};
use super::receiver::RequestReceiver;
use super::report;
use super::response::{Rejection, SourceResponse};
use crate::dispatch::{LargeRequest, RequestProgress, SourceRoute};
use crate::fair_thread_pool::{WorkPermit, run_on_pool};
use crate::memory_limiter::{MemoryLimitError, MemoryPermit};

/// Records of a batch up to which it is read on the request's thread.
pub(super) const RECORDS_AT_ONCE: usize = 64;

impl RequestReceiver {
    /// Decodes a body that is small when decoded. `None`: it is large.
    pub(super) fn decode_small(
        &self,
        bytes: &Bytes,
        encoding: &BodyEncoding,
        route: &SourceRoute,
        memory_permit: &mut MemoryPermit,
    ) -> Result<Option<Bytes>, Rejection> {
        let max = self.inflated_max();
        let limit = max.min(BODY_AT_ONCE);
        if bytes.len() > limit {
            return Ok(None);
        }
        let most = encoding.peak_bytes(bytes.len(), limit);
        if !memory_permit.try_grow(most) {
            return Err(Rejection::Busy);
        }
        match encoding.decode(bytes, limit) {
            Ok(decoded) => {
                memory_permit.shrink(most.saturating_sub(decoded.len() as u64));
                self.consume_inflated(route, bytes.len(), decoded.len())?;
                Ok(Some(decoded))
            }
            Err(error) if limit < max && is_too_large(&error) => {
                memory_permit.shrink(most);
                Ok(None)
            }
            Err(error) => Err(self.decode_rejection(error)),
        }
    }

    fn inflated_max(&self) -> usize {
        usize::try_from(self.config.max_inflated_body_size.0).unwrap_or(usize::MAX)
    }

    fn decode_rejection(&self, error: DecodeError) -> Rejection {
        match error {
            _ if is_too_large(&error) => {
                Rejection::InflatedTooLarge(self.config.max_inflated_body_size)
            }
            DecodeError::Charset(error @ CharsetError::Unknown(_)) => Rejection::Charset(error),
            error => Rejection::Malformed(error.to_string()),
        }
    }

    /// Pays for the decoded size as if it had been sent.
    fn consume_inflated(
        &self,
        route: &SourceRoute,
        sent: usize,
        inflated: usize,
    ) -> Result<(), Rejection> {
        let limiter = &route.limiter;
        let more = inflated.saturating_sub(sent) as u64;
        if more == 0 || !limiter.limits_bytes() {
            return Ok(());
        }
        let owed = self.config.max_inflated_body_size.0;
        let paid = limiter.consume(limiter.nanos_at(Instant::now()), more, owed);
        paid.map_err(Rejection::Quota)
    }

    pub(super) async fn accept_large(
        &self,
        route: &Arc<SourceRoute>,
        info: Arc<RequestInfo>,
        sent: ReceivedBody,
        (deadline, verbose): (Instant, bool),
    ) -> Result<SourceResponse, Rejection> {
        let progress = RequestProgress::default();
        let taken = self.accept_with_permit(route, info, sent, verbose, &progress);
        match timeout_at(deadline, taken).await {
            Ok(response) => response,
            Err(_) if progress.has_begun() => Err(Rejection::SlowDisk),
            Err(_) => Err(Rejection::DeadlineExceeded),
        }
    }

    async fn accept_with_permit(
        &self,
        route: &Arc<SourceRoute>,
        request: Arc<RequestInfo>,
        sent: ReceivedBody,
        verbose: bool,
        progress: &RequestProgress,
    ) -> Result<SourceResponse, Rejection> {
        let dispatcher = &self.deps.dispatcher;
        let work_permit = dispatcher.large_pool().acquire(route.fairness_key()).await;
        // Up to here the request holds only what was received.
        self.deps.memory_limiter.wait_for_capacity().await;
        let (format, mode) = (sent.format.clone(), sent.mode);
        let (work_permit, parts, memory_permit) =
            self.split_records(route, sent, work_permit).await?;
        let count = parts.len();
        let is_single = mode == BodyMode::Single;
        let large = LargeRequest {
            request,
            parts,
            format: is_single.then_some(format),
            memory_permit,
        };
        let done = dispatcher.dispatch_large(route, large, work_permit, progress);
        let (broken, results) = done.await.map_err(|e| match e {
            MemoryLimitError::Now => Rejection::Busy,
            MemoryLimitError::Ever(limit) => {
                Rejection::RowsTooLarge(forebay_model::ByteSize(limit))
            }
        })?;
        Ok(if is_single {
            report::single(route, &results, verbose)
        } else {
            report::batch(route, count, &broken, &results)
        })
    }

    /// Decodes a body and finds its records.
    async fn split_records(
        &self,
        route: &SourceRoute,
        mut sent: ReceivedBody,
        mut work_permit: WorkPermit,
    ) -> Result<(WorkPermit, BodyParts, MemoryPermit), Rejection> {
        if let Some(encoding) = sent.encoding.take() {
            let (max, raw) = (self.inflated_max(), sent.bytes.len());
            let most = encoding.peak_bytes(raw, max);
            if !sent.memory_permit.try_grow(most) {
                return Err(Rejection::Busy);
            }
            let decoded;
            (work_permit, (sent, decoded)) = run_on_pool(work_permit, move || {
                let decoded = encoding.decode(&sent.bytes, max);
                (sent, decoded)
            })
            .await;
            sent.bytes = decoded.map_err(|e| self.decode_rejection(e))?;
            // The encoded body is not needed any more.
            let not_used = (raw as u64 + most).saturating_sub(sent.bytes.len() as u64);
            sent.memory_permit.shrink(not_used);
            self.consume_inflated(route, raw, sent.bytes.len())?;
        }
        let max = self.config.max_records_per_batch;
        let (work_permit, (mut sent, parts)) = run_on_pool(work_permit, move || {
            let parts = body::split(&sent.bytes, sent.mode, max);
            (sent, parts)
        })
        .await;
        let parts = parts.map_err(|e| split_rejection(&e))?;
        let index_bytes = parts.len().saturating_mul(PART_BYTES);
        sent.memory_permit.grow_unchecked(index_bytes as u64);
        Ok((work_permit, parts, sent.memory_permit))
    }
}

fn is_too_large(error: &DecodeError) -> bool {
    matches!(
        error,
        DecodeError::Inflate(InflateError::TooLarge(_))
            | DecodeError::Charset(CharsetError::TooLarge(_))
    )
}

pub(super) fn split_rejection(error: &SplitError) -> Rejection {
    match error {
        SplitError::TooMany(max) => Rejection::TooManyRecords(*max),
        SplitError::Json(_) => Rejection::Malformed(error.to_string()),
    }
}
