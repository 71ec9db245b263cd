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
pub struct Budget {
    limit: u64,
    held: AtomicU64,
    /// Those of [`Self::held_bytes`] that are rows.
    rows: AtomicU64,
    /// Rows have become fewer than the limit.
    room: Notify,
    gauge: GaugeHandle,
}

/// Why rows can't be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
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

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            room: Notify::new(),
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
    pub fn admit(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let mut charge = self.charge(0);
        charge.grow(bytes).then_some(charge)
    }

    /// Takes `bytes` whether they are free or not: for what was admitted and has to be held on the
    /// way to the disk. It counts against what is admitted next.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Charge {
        self.make(bytes, false)
    }

    /// The same for rows: they count against those that are made next, too.
    #[must_use]
    pub fn rows(self: &Arc<Self>, bytes: u64) -> Charge {
        self.make(bytes, true)
    }

    fn make(self: &Arc<Self>, bytes: u64, of_rows: bool) -> Charge {
        let mut charge = Charge {
            budget: Arc::clone(self),
            bytes: 0,
            of_rows,
        };
        charge.force(bytes);
        charge
    }

    /// Whether rows may be made: not while as many as may be held wait for the disk.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.rows.load(Relaxed) <= self.limit
    }

    /// Waits until rows may be made. Whoever calls it holds no rows.
    pub async fn room(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if self.has_room() {
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
        self.show(before + bytes);
    }

    fn sub(&self, bytes: u64, of_rows: bool) {
        let before = self.held.fetch_sub(bytes, Relaxed);
        self.show(before - bytes);
        if of_rows {
            let before = self.rows.fetch_sub(bytes, Relaxed);
            if before > self.limit && before - bytes <= self.limit {
                self.room.notify_waiters();
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn show(&self, held: u64) {
        self.gauge.0.set(held as f64);
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
    of_rows: bool,
}

impl Charge {
    /// Takes `more` bytes if they are free; otherwise nothing changes.
    #[must_use]
    pub fn grow(&mut self, more: u64) -> bool {
        let limit = self.budget.limit;
        let taken = self.budget.held.fetch_update(Relaxed, Relaxed, |held| {
            held.checked_add(more).filter(|sum| *sum <= limit)
        });
        if let Ok(before) = taken {
            self.budget.show(before + more);
            self.bytes += more;
        }
        taken.is_ok()
    }

    /// Takes `more` bytes for rows. A request that has begun to make them while there was room may
    /// take as many as the limit, so at most twice the limit is held for rows at any time.
    ///
    /// # Errors
    /// When that is not enough.
    pub fn extend(&mut self, more: u64) -> Result<(), NoRoom> {
        let limit = self.budget.limit;
        if self.bytes.saturating_add(more) > limit {
            return Err(NoRoom::Ever(limit));
        }
        let most = limit.saturating_mul(2);
        let taken = self.budget.rows.fetch_update(Relaxed, Relaxed, |rows| {
            rows.checked_add(more).filter(|sum| *sum <= most)
        });
        taken.map_err(|_| NoRoom::Now)?;
        let before = self.budget.held.fetch_add(more, Relaxed);
        self.budget.show(before + more);
        self.bytes += more;
        Ok(())
    }

    /// Takes `more` bytes whether they are free or not.
    pub fn force(&mut self, more: u64) {
        self.budget.add(more, self.of_rows);
        self.bytes += more;
    }

    /// Gives `less` bytes back.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.budget.sub(less, self.of_rows);
        self.bytes -= less;
    }

    /// Makes a part of it one of its own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            budget: Arc::clone(&self.budget),
            bytes,
            of_rows: self.of_rows,
        }
    }

    /// Bytes held by this.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it is a part of.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.sub(self.bytes, self.of_rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_no_more_than_the_limit_is_admitted() {
        let budget = Budget::new(100);
        let mut a = budget.admit(60).unwrap();
        assert!(budget.admit(41).is_none());
        assert!(a.grow(40));
        assert!(!a.grow(1));
        assert_eq!((budget.held(), a.bytes()), (100, 100));
        let rows = budget.charge(50);
        assert_eq!(budget.held(), 150);
        drop(a);
        assert_eq!(budget.held(), 50);
        assert!(budget.admit(51).is_none());
        drop(rows);
        assert!(budget.admit(100).is_some());
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn rows_wait_for_rows_and_never_for_bodies() {
        let budget = Budget::new(100);
        let bodies = budget.admit(100).unwrap();
        // However many bodies wait, one of them can become rows.
        budget.room().await;
        let mut rows = budget.rows(0);
        assert_eq!(rows.extend(100), Ok(()));
        assert_eq!(rows.extend(1), Err(NoRoom::Ever(100)));
        let (others, mut more) = (budget.rows(60), budget.rows(0));
        assert_eq!(more.extend(41), Err(NoRoom::Now));
        assert_eq!(more.extend(40), Ok(()));
        assert_eq!((budget.held(), budget.has_room()), (300, false));
        let waiting = Arc::clone(&budget);
        let waiting = tokio::spawn(async move { waiting.room().await });
        tokio::task::yield_now().await;
        more.shrink(39);
        drop(others);
        tokio::task::yield_now().await;
        assert!(!budget.has_room() && !waiting.is_finished());
        drop(more);
        waiting.await.unwrap();
        drop((rows, bodies));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_length_that_would_overflow_is_refused() {
        let budget = Budget::new(u64::MAX);
        let _held = budget.charge(1);
        assert!(budget.admit(u64::MAX).is_none());
    }
}
