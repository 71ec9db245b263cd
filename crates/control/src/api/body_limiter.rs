//! Limits the bytes of all request bodies in memory. A body is read before its sender is
//! authenticated, so without this limit any client could fill the memory.

use std::sync::Arc;

use forebay_model::ByteSize;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limit over all requests.
#[derive(Debug)]
pub(super) struct BodyLimiter(Arc<Semaphore>);

/// Bytes held by one request, until its response.
#[derive(Clone, Debug, Default)]
pub(super) struct BodyPermit(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl BodyLimiter {
    pub(super) fn new(max: ByteSize) -> Self {
        let max = usize::try_from(max.0).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))))
    }

    /// Reserves more bytes for a request; `false` if the limit is reached.
    pub(super) fn grow(&self, permit: &BodyPermit, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.0).try_acquire_many_owned(bytes) else {
            return false;
        };
        let mut permit = permit.0.lock();
        match permit.as_mut() {
            Some(all) => all.merge(more),
            None => *permit = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_released_with_the_request() {
        let limiter = BodyLimiter::new(ByteSize(10));
        let (a, b) = (BodyPermit::default(), BodyPermit::default());
        assert!(limiter.grow(&a, 4) && limiter.grow(&a, 5) && limiter.grow(&b, 1));
        assert!(!limiter.grow(&b, 1));
        drop(a);
        assert!(limiter.grow(&b, 9) && !limiter.grow(&b, 1));
    }
}
