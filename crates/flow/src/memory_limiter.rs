//! The bytes that this process holds for its clients: request bodies under way, and rows that are
//! not on disk yet. One number bounds them all, so that memory has a limit whatever comes in.
//!
//! Invariant: whoever waits for room holds nothing but its body, and whoever holds rows waits for the
//! disk alone. So no two requests can wait for each other: rows leave as the disk takes them, and
//! that makes the room that the others wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::metrics::IN_FLIGHT_BYTES;

/// How many bytes may be held, and how many are.
#[derive(Debug)]
pub struct MemoryLimiter {
    limit: u64,
    held: AtomicU64,
    /// Those of [`Self::held`] that are rows.
    rows: AtomicU64,
    /// Rows have become fewer than the limit.
    capacity_freed: Notify,
    gauge: GaugeHandle,
}

/// Why rows can't be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimitError {
    /// Not now: those of others have to go first.
    Now,
    /// Those of the request alone are over the limit, which is so many bytes.
    Ever(u64),
}

/// `metrics::SinkGauge` has no `Debug`.
struct GaugeHandle(metrics::Gauge);

impl std::fmt::Debug for GaugeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauge")
    }
}

impl MemoryLimiter {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            capacity_freed: Notify::new(),
            gauge: GaugeHandle(metrics::gauge!(IN_FLIGHT_BYTES)),
        })
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `bytes`, if they are still free: for admission.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>, bytes: u64) -> Option<MemoryPermit> {
        let mut memory_permit = self.acquire_unchecked(0);
        memory_permit.try_grow(bytes).then_some(memory_permit)
    }

    /// Takes `bytes` whether they are free or not: for what was admitted and has to be held on the
    /// way to the disk. It counts against what is admitted next.
    #[must_use]
    pub fn acquire_unchecked(self: &Arc<Self>, bytes: u64) -> MemoryPermit {
        self.new_permit(bytes, false)
    }

    /// The same for rows: they count against those that are made next, too.
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

    /// Whether rows may be made: not while as many as may be held wait for the disk.
    #[must_use]
    pub fn has_capacity(&self) -> bool {
        self.rows.load(Relaxed) <= self.limit
    }

    /// Waits until rows may be made. Whoever calls it holds no rows.
    pub async fn wait_for_capacity(&self) {
        loop {
            let mut room = std::pin::pin!(self.capacity_freed.notified());
            room.as_mut().enable();
            if self.has_capacity() {
                return;
            }
            room.await;
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

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    limiter: Arc<MemoryLimiter>,
    bytes: u64,
    is_for_rows: bool,
}

impl MemoryPermit {
    /// Takes `more` bytes if they are free; otherwise nothing changes.
    #[must_use]
    pub fn try_grow(&mut self, more: u64) -> bool {
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

    /// Takes `more` bytes for rows. A request that has begun to make them while there was room may
    /// take as many as the limit, so at most twice the limit is held for rows at any time.
    ///
    /// # Errors
    /// When that is not enough.
    pub fn try_grow_rows(&mut self, more: u64) -> Result<(), MemoryLimitError> {
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

    /// Takes `more` bytes whether they are free or not.
    pub fn grow_unchecked(&mut self, more: u64) {
        self.limiter.add(more, self.is_for_rows);
        self.bytes += more;
    }

    /// Gives `less` bytes back.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.limiter.sub(less, self.is_for_rows);
        self.bytes -= less;
    }

    /// Makes a part of it one of its own.
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

    /// Bytes held by this.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it is a part of.
    #[must_use]
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
    fn what_is_taken_is_given_back_and_no_more_than_the_limit_is_admitted() {
        let budget = MemoryLimiter::new(100);
        let mut a = budget.try_acquire(60).unwrap();
        assert!(budget.try_acquire(41).is_none());
        assert!(a.try_grow(40));
        assert!(!a.try_grow(1));
        assert_eq!((budget.held(), a.bytes()), (100, 100));
        let rows = budget.acquire_unchecked(50);
        assert_eq!(budget.held(), 150);
        drop(a);
        assert_eq!(budget.held(), 50);
        assert!(budget.try_acquire(51).is_none());
        drop(rows);
        assert!(budget.try_acquire(100).is_some());
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn rows_wait_for_rows_and_never_for_bodies() {
        let budget = MemoryLimiter::new(100);
        let bodies = budget.try_acquire(100).unwrap();
        // However many bodies wait, one of them can become rows.
        budget.wait_for_capacity().await;
        let mut rows = budget.acquire_for_rows(0);
        assert_eq!(rows.try_grow_rows(100), Ok(()));
        assert_eq!(rows.try_grow_rows(1), Err(MemoryLimitError::Ever(100)));
        let (others, mut more) = (budget.acquire_for_rows(60), budget.acquire_for_rows(0));
        assert_eq!(more.try_grow_rows(41), Err(MemoryLimitError::Now));
        assert_eq!(more.try_grow_rows(40), Ok(()));
        assert_eq!((budget.held(), budget.has_capacity()), (300, false));
        let waiting = Arc::clone(&budget);
        let waiting = tokio::spawn(async move { waiting.wait_for_capacity().await });
        tokio::task::yield_now().await;
        more.shrink(39);
        drop(others);
        tokio::task::yield_now().await;
        assert!(!budget.has_capacity() && !waiting.is_finished());
        drop(more);
        waiting.await.unwrap();
        drop((rows, bodies));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_length_that_would_overflow_is_refused() {
        let budget = MemoryLimiter::new(u64::MAX);
        let _held = budget.acquire_unchecked(1);
        assert!(budget.try_acquire(u64::MAX).is_none());
    }
}
