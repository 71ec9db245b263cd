//! Limit of response bytes that clients have not read.
//!
//! An HTTP/2 client decides how much of a response it reads and when; until then the response is in
//! memory. Each response holds a permit for its length, which travels with the bytes: it is
//! released when the last of them has been written to the socket or the connection has ended. A
//! response without a permit is replaced by a small one, and connections that have left a response
//! unread for a while are closed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::ResponseBodyError;
use crate::activity::{ConnectionActivity, UnreadResponse};

/// Responses up to this size need no permit: HTTP/2 buffers as much per stream.
const SMALL: u64 = 1 << 10;
/// While the limit is reached, a connection with a response unread for this long is closed.
pub(crate) const PRESSURE_AGE: Duration = Duration::from_secs(1);

/// The limit shared by all connections of a listener.
#[derive(Debug)]
pub(crate) struct UnreadLimiter {
    semaphore: Arc<Semaphore>,
    max: usize,
    pressure: Notify,
}

#[derive(Debug)]
pub(crate) struct UnreadLimitExceeded;

impl UnreadLimiter {
    pub(crate) fn new(max: u64) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        // More permits than a semaphore can have mean no limit.
        let max = max.min(Semaphore::MAX_PERMITS);
        Self {
            semaphore: Arc::new(Semaphore::new(max)),
            max,
            pressure: Notify::new(),
        }
    }

    /// Acquires a permit for a response of a connection.
    pub(crate) fn limit_body<B>(
        &self,
        activity: &Arc<ConnectionActivity>,
        body: B,
    ) -> Result<LimitedBody<B>, UnreadLimitExceeded>
    where
        B: Body<Data = Bytes, Error: Into<ResponseBodyError>> + Unpin,
    {
        let (lower, exact) = (body.size_hint().lower(), body.size_hint().exact());
        let length = exact.unwrap_or(lower);
        if length <= SMALL {
            return Ok(LimitedBody {
                streaming: exact.is_none().then(|| Arc::clone(activity)),
                ..LimitedBody::unlimited(body)
            });
        }
        let Some(permit) = self.try_acquire(length) else {
            self.pressure.notify_waiters();
            return Err(UnreadLimitExceeded);
        };
        let unread_permit = UnreadPermit {
            permit,
            _unread: activity.track_response(),
        };
        Ok(LimitedBody {
            body,
            permit: Some(unread_permit),
            streaming: None,
        })
    }

    fn try_acquire(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        // A response larger than the limit is sent alone.
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.max);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Arc::clone(&self.semaphore)
            .try_acquire_many_owned(length)
            .ok()
    }

    /// Waits until a response exceeds the limit.
    pub(crate) async fn pressed(&self) {
        self.pressure.notified().await;
    }
}

/// The permit of one response.
#[derive(Debug)]
struct UnreadPermit {
    permit: OwnedSemaphorePermit,
    _unread: Arc<UnreadResponse>,
}

impl UnreadPermit {
    /// Splits off the permit of some of its bytes.
    fn split(&mut self, length: usize) -> Option<Self> {
        Some(Self {
            permit: self.permit.split(length)?,
            _unread: Arc::clone(&self._unread),
        })
    }
}

/// Bytes with their permit.
struct LimitedBytes {
    bytes: Bytes,
    _permit: UnreadPermit,
}

impl AsRef<[u8]> for LimitedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body whose bytes hold a permit until they are written.
#[derive(Debug)]
pub(crate) struct LimitedBody<B> {
    body: B,
    permit: Option<UnreadPermit>,
    /// Of a body of unknown length: its connection is not idle while the client reads.
    streaming: Option<Arc<ConnectionActivity>>,
}

impl<B> LimitedBody<B>
where
    B: Body<Data = Bytes, Error: Into<ResponseBodyError>> + Unpin,
{
    /// A body without a permit.
    pub(crate) fn unlimited(body: B) -> Self {
        Self {
            body,
            permit: None,
            streaming: None,
        }
    }

    /// Moves the permit of these bytes into them.
    fn attach_permit(&mut self, bytes: Bytes) -> Bytes {
        let is_last = self.body.is_end_stream();
        let permit = match &mut self.permit {
            None => return bytes,
            Some(_) if is_last => self.permit.take(),
            Some(permit) => permit.split(bytes.len()),
        };
        match permit {
            Some(_permit) => Bytes::from_owner(LimitedBytes { bytes, _permit }),
            None => bytes,
        }
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes, Error: Into<ResponseBodyError>> + Unpin,
{
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        if let Some(activity) = &self.streaming {
            activity.on_streaming();
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| {
            let frame = frame?.map_err(Into::into);
            Some(frame.map(|f| f.map_data(|bytes| self.attach_permit(bytes))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn body(length: usize) -> Full<Bytes> {
        Full::new(vec![b'x'; length].into())
    }

    #[tokio::test]
    async fn bytes_hold_their_permit_until_the_last_is_dropped() {
        let limiter = UnreadLimiter::new(10_000);
        let activity = ConnectionActivity::new();
        let mut first = limiter.limit_body(&activity, body(6_000)).unwrap();
        assert!(limiter.limit_body(&activity, body(4_001)).is_err());
        let bytes = first.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(first);
        // Like the library with a small window of the client.
        let rest = bytes.slice(5_999..);
        drop(bytes);
        assert!(limiter.limit_body(&activity, body(4_001)).is_err());
        assert!(activity.oldest_response().is_some());
        drop(rest);
        assert!(activity.oldest_response().is_none());
        assert!(limiter.limit_body(&activity, body(10_000)).is_ok());
    }

    #[tokio::test]
    async fn small_responses_need_no_permit_and_oversized_ones_go_alone() {
        let limiter = UnreadLimiter::new(10_000);
        let activity = ConnectionActivity::new();
        let alone = limiter.limit_body(&activity, body(20_000)).unwrap();
        assert!(limiter.limit_body(&activity, body(1_025)).is_err());
        assert!(limiter.limit_body(&activity, body(1_024)).is_ok());
        drop(alone);
        assert!(limiter.limit_body(&activity, body(1_025)).is_ok());
    }
}
