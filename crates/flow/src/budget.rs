//! The bytes that this process holds for its clients: request bodies under way, and rows that are
//! not on disk yet. One number bounds them all, so that memory has a limit whatever comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::IN_FLIGHT_BYTES;

/// How many bytes may be held, and how many are.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    held: AtomicU64,
    gauge: GaugeHandle,
}

/// `metrics::Gauge` has no `Debug`.
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
        self.add(bytes);
        Charge {
            budget: Arc::clone(self),
            bytes,
        }
    }

    fn add(&self, bytes: u64) {
        let before = self.held.fetch_add(bytes, Relaxed);
        self.show(before + bytes);
    }

    fn sub(&self, bytes: u64) {
        let before = self.held.fetch_sub(bytes, Relaxed);
        self.show(before - bytes);
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

    /// Takes `more` bytes whether they are free or not.
    pub fn force(&mut self, more: u64) {
        self.budget.add(more);
        self.bytes += more;
    }

    /// Gives `less` bytes back.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.budget.sub(less);
        self.bytes -= less;
    }

    /// Bytes held by this.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.sub(self.bytes);
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

    #[test]
    fn a_length_that_would_overflow_is_refused() {
        let budget = Budget::new(u64::MAX);
        let _held = budget.charge(1);
        assert!(budget.admit(u64::MAX).is_none());
    }
}
