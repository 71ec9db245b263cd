//! Reading a request's body: bounded, paid for before it is held, and not copied when it comes in
//! one piece.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use tokio::time::Instant;

use crate::memory_limiter::MemoryPermit;
use crate::quota::{QuotaExceeded, SourceLimiter};

/// Room for a body whose length is not known.
const INITIAL_CAPACITY: usize = 8 << 10;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BodyReadError {
    /// Longer than it may be.
    TooLarge,
    /// No room in the byte budget.
    Busy,
    /// No room in the quota.
    QuotaExceeded(QuotaExceeded),
    /// The client went away.
    ClientClosed,
    /// Not what its framing says.
    Malformed(String),
}

/// Reads the body; what it takes of the byte budget is charged before it is read, or as it comes in
/// when it does not say how long it is. Then it is also as it comes in that the quota is paid.
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

/// Reads and forgets what is left of a body, if it is not too much: a client that is still sending
/// would otherwise meet a reset connection instead of the answer.
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
