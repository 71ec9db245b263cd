//! Reading a request's body: bounded, paid for before it is held, and not copied when it comes in
//! one piece.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use tokio::time::Instant;

use crate::budget::Charge;
use crate::quota::{Over, SourceGate};

/// Room for a body whose length is not known.
const FIRST_ROOM: usize = 8 << 10;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BodyProblem {
    /// Longer than it may be.
    TooLarge,
    /// No room in the byte budget.
    Busy,
    /// No room in the quota.
    Over(Over),
    /// The client went away.
    Gone,
    /// Not what its framing says.
    Malformed(String),
}

/// Reads the body; what it takes of the byte budget is charged before it is read, or as it comes in
/// when it does not say how long it is. Then it is also as it comes in that the quota is paid.
pub(super) async fn read(
    body: &mut Incoming,
    max: usize,
    charge: &mut Charge,
    gate: &SourceGate,
) -> Result<Bytes, BodyProblem> {
    let declared = body.size_hint().exact();
    let room = match declared {
        Some(length) => {
            let length = usize::try_from(length).ok().filter(|l| *l <= max);
            let length = length.ok_or(BodyProblem::TooLarge)?;
            if !charge.grow(length as u64) {
                return Err(BodyProblem::Busy);
            }
            length
        }
        None => FIRST_ROOM.min(max),
    };
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| problem(&e))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = first.len() + all.len();
        if so_far + data.len() > max {
            return Err(BodyProblem::TooLarge);
        }
        if declared.is_none() {
            let (length, owed) = (data.len() as u64, max as u64);
            if !charge.grow(length) {
                return Err(BodyProblem::Busy);
            }
            if gate.counts_bytes() {
                let now = gate.at(Instant::now());
                gate.pay(now, length, owed).map_err(BodyProblem::Over)?;
            }
        }
        if so_far == 0 {
            first = data;
            continue;
        }
        if !first.is_empty() {
            all.reserve(room.max(first.len() + data.len()));
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn problem(error: &hyper::Error) -> BodyProblem {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
            )
        {
            return BodyProblem::Malformed(io.to_string());
        }
        cause = e.source();
    }
    BodyProblem::Gone
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
