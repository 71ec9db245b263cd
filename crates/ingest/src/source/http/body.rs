//! Reads a request's body: bounded, with memory acquired before it is held, and without a copy if
//! it arrives in one piece.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use tokio::time::Instant;

use crate::memory_limiter::MemoryPermit;
use crate::quota::{QuotaExceeded, SourceLimiter};

/// Initial capacity for a body of undeclared length.
const INITIAL_CAPACITY: usize = 8 << 10;

#[derive(Debug)]
pub(super) enum BodyReadError {
    /// It exceeds the maximum.
    TooLarge,
    /// The memory limit is reached.
    Busy,
    /// A quota is used up.
    QuotaExceeded(QuotaExceeded),
    /// The client closed the connection.
    ClientClosed,
    /// It contradicts its framing.
    Malformed(String),
}

/// Reads the body. Memory is acquired before it is read or, if its length is not declared, as it
/// arrives; then the quota is paid as it arrives, too.
pub(super) async fn read(
    body: &mut Incoming,
    max: usize,
    memory_permit: &mut MemoryPermit,
    limiter: &SourceLimiter,
) -> Result<Bytes, BodyReadError> {
    let declared = body.size_hint().exact();
    let capacity = match declared {
        Some(length) => {
            let length = usize::try_from(length).ok().filter(|l| *l <= max);
            let length = length.ok_or(BodyReadError::TooLarge)?;
            if !memory_permit.try_grow(length as u64) {
                return Err(BodyReadError::Busy);
            }
            length
        }
        None => INITIAL_CAPACITY.min(max),
    };
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| to_read_error(&e))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = first.len() + all.len();
        if so_far + data.len() > max {
            return Err(BodyReadError::TooLarge);
        }
        if declared.is_none() {
            let (length, owed) = (data.len() as u64, max as u64);
            if !memory_permit.try_grow(length) {
                return Err(BodyReadError::Busy);
            }
            if limiter.limits_bytes() {
                let now = limiter.nanos_at(Instant::now());
                limiter
                    .consume(now, length, owed)
                    .map_err(BodyReadError::QuotaExceeded)?;
            }
        }
        if so_far == 0 {
            first = data;
            continue;
        }
        if !first.is_empty() {
            all.reserve(capacity.max(first.len() + data.len()));
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn to_read_error(error: &hyper::Error) -> BodyReadError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
            )
        {
            return BodyReadError::Malformed(io.to_string());
        }
        cause = e.source();
    }
    BodyReadError::ClientClosed
}

/// Reads and discards the rest of a body, if it is not too much: a client that is still sending
/// would otherwise get a connection reset instead of the response.
pub(super) async fn discard(body: &mut Incoming, max: usize) -> bool {
    let mut left = max;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return false;
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}
