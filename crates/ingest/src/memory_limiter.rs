//! Limits the bytes held for clients: request bodies in flight, and rows that are not on disk yet.
//!
//! Invariant: a request that waits for capacity holds only its body, and a request that holds rows
//! waits only for the disk. So no two requests can wait for each other: rows leave as the disk
//! accepts them, which frees the capacity that the others wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::metrics::IN_FLIGHT_BYTES;

#[derive(Debug)]
pub struct MemoryLimiter {
    limit: u64,
    held: AtomicU64,
    /// Part of [`Self::held`] that is rows.
    rows: AtomicU64,
    /// Notified when `rows` drops to the limit.
    capacity_freed: Notify,
    gauge: GaugeHandle,
}

/// Error of reserving memory for rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimitError {
    /// Retry later: rows of other requests use the capacity.
    Now,
    /// The rows of this request alone exceed the limit, given in bytes.
    Ever(u64),
}

/// `metrics::Gauge` has no `Debug`.
struct GaugeHandle(metrics::Gauge);

impl std::fmt::Debug for GaugeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauge")
    }
}

impl MemoryLimiter {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            capacity_freed: Notify::new(),
            gauge: GaugeHandle(metrics::gauge!(IN_FLIGHT_BYTES)),
        })
    }

    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Acquires `bytes` if they are within the limit: for admission.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>, bytes: u64) -> Option<MemoryPermit> {
        let mut memory_permit = self.acquire_unchecked(0);
        memory_permit.try_grow(bytes).then_some(memory_permit)
    }

    /// Acquires `bytes` regardless of the limit: for data that was admitted and must be held until
    /// it is on disk. It counts against later admissions.
    #[must_use]
    pub fn acquire_unchecked(self: &Arc<Self>, bytes: u64) -> MemoryPermit {
        self.new_permit(bytes, false)
    }

    /// As [`Self::acquire_unchecked`], for rows: they also count against `has_capacity`.
    #[must_use]
    pub fn acquire_for_rows(self: &Arc<Self>, bytes: u64) -> MemoryPermit {
        self.new_permit(bytes, true)
    }

    fn new_permit(self: &Arc<Self>, bytes: u64, of_rows: bool) -> MemoryPermit {
        let mut memory_permit = MemoryPermit {
            limiter: Arc::clone(self),
            bytes: 0,
            is_for_rows: of_rows,
        };
        memory_permit.grow_unchecked(bytes);
        memory_permit
    }

    /// Whether rows may be rendered: not while more than the limit waits for the disk.
    pub(crate) fn has_capacity(&self) -> bool {
        self.rows.load(Relaxed) <= self.limit
    }

    /// Waits until rows may be rendered. The caller must hold no rows.
    pub(crate) async fn wait_for_capacity(&self) {
        loop {
            let mut freed = std::pin::pin!(self.capacity_freed.notified());
            freed.as_mut().enable();
            if self.has_capacity() {
                return;
            }
            freed.await;
        }
    }

    fn add(&self, bytes: u64, of_rows: bool) {
        if of_rows {
            self.rows.fetch_add(bytes, Relaxed);
        }
        let before = self.held.fetch_add(bytes, Relaxed);
        self.update_gauge(before + bytes);
    }

    fn sub(&self, bytes: u64, of_rows: bool) {
        let before = self.held.fetch_sub(bytes, Relaxed);
        debug_assert!(before >= bytes, "released {bytes} of {before} bytes held");
        self.update_gauge(before - bytes);
        if of_rows {
            let before = self.rows.fetch_sub(bytes, Relaxed);
            if before > self.limit && before - bytes <= self.limit {
                self.capacity_freed.notify_waiters();
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn update_gauge(&self, held: u64) {
        self.gauge.0.set(held as f64);
    }
}

/// Share of a [`MemoryLimiter`], returned on drop.
#[derive(Debug)]
pub struct MemoryPermit {
    limiter: Arc<MemoryLimiter>,
    bytes: u64,
    is_for_rows: bool,
}

impl MemoryPermit {
    /// Acquires `more` bytes if they are within the limit; otherwise changes nothing.
    #[must_use]
    pub(crate) fn try_grow(&mut self, more: u64) -> bool {
        let limit = self.limiter.limit;
        let taken = self.limiter.held.fetch_update(Relaxed, Relaxed, |held| {
            held.checked_add(more).filter(|sum| *sum <= limit)
        });
        if let Ok(before) = taken {
            self.limiter.update_gauge(before + more);
            self.bytes += more;
        }
        taken.is_ok()
    }

    /// Acquires `more` bytes for rows. A request that started while there was capacity may use up
    /// to the limit, so rows never hold more than twice the limit.
    pub(crate) fn try_grow_rows(&mut self, more: u64) -> Result<(), MemoryLimitError> {
        let limit = self.limiter.limit;
        if self.bytes.saturating_add(more) > limit {
            return Err(MemoryLimitError::Ever(limit));
        }
        let most = limit.saturating_mul(2);
        let taken = self.limiter.rows.fetch_update(Relaxed, Relaxed, |rows| {
            rows.checked_add(more).filter(|sum| *sum <= most)
        });
        taken.map_err(|_| MemoryLimitError::Now)?;
        let before = self.limiter.held.fetch_add(more, Relaxed);
        self.limiter.update_gauge(before + more);
        self.bytes += more;
        Ok(())
    }

    /// Acquires `more` bytes regardless of the limit.
    pub(crate) fn grow_unchecked(&mut self, more: u64) {
        self.limiter.add(more, self.is_for_rows);
        self.bytes += more;
    }

    /// Returns `less` bytes.
    pub(crate) fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.limiter.sub(less, self.is_for_rows);
        self.bytes -= less;
    }

    /// Splits off a permit of at most `bytes`.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            limiter: Arc::clone(&self.limiter),
            bytes,
            is_for_rows: self.is_for_rows,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn limiter(&self) -> &Arc<MemoryLimiter> {
        &self.limiter
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.limiter.sub(self.bytes, self.is_for_rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_returned_on_drop_and_admission_stops_at_the_limit() {
        let limiter = MemoryLimiter::new(100);
        let mut a = limiter.try_acquire(60).unwrap();
        assert!(limiter.try_acquire(41).is_none());
        assert!(a.try_grow(40));
        assert!(!a.try_grow(1));
        assert_eq!((limiter.held(), a.bytes()), (100, 100));
        let rows = limiter.acquire_unchecked(50);
        assert_eq!(limiter.held(), 150);
        drop(a);
        assert_eq!(limiter.held(), 50);
        assert!(limiter.try_acquire(51).is_none());
        drop(rows);
        assert!(limiter.try_acquire(100).is_some());
        assert_eq!(limiter.held(), 0);
    }

    #[tokio::test]
    async fn rows_wait_for_rows_and_never_for_bodies() {
        let limiter = MemoryLimiter::new(100);
        let bodies = limiter.try_acquire(100).unwrap();
        // Any number of bodies may wait: one of them can still become rows.
        limiter.wait_for_capacity().await;
        let mut rows = limiter.acquire_for_rows(0);
        assert_eq!(rows.try_grow_rows(100), Ok(()));
        assert_eq!(rows.try_grow_rows(1), Err(MemoryLimitError::Ever(100)));
        let (others, mut more) = (limiter.acquire_for_rows(60), limiter.acquire_for_rows(0));
        assert_eq!(more.try_grow_rows(41), Err(MemoryLimitError::Now));
        assert_eq!(more.try_grow_rows(40), Ok(()));
        assert_eq!((limiter.held(), limiter.has_capacity()), (300, false));
        let waiting = Arc::clone(&limiter);
        let waiting = tokio::spawn(async move { waiting.wait_for_capacity().await });
        tokio::task::yield_now().await;
        more.shrink(39);
        drop(others);
        tokio::task::yield_now().await;
        assert!(!limiter.has_capacity() && !waiting.is_finished());
        drop(more);
        waiting.await.unwrap();
        drop((rows, bodies));
        assert_eq!(limiter.held(), 0);
    }

    #[test]
    fn a_length_that_would_overflow_is_rejected() {
        let limiter = MemoryLimiter::new(u64::MAX);
        let _held = limiter.acquire_unchecked(1);
        assert!(limiter.try_acquire(u64::MAX).is_none());
    }
}
