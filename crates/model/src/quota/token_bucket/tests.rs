use super::*;
use crate::quota::BYTES_MAX;

fn bucket(rate: u64, seconds: u64) -> TokenBucket {
    TokenBucket::new(rate, HumanDuration::secs(seconds), BucketLevel::default()).unwrap()
}

/// A deterministic number generator.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, max: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % max
    }
}

#[test]
fn no_period_exceeds_the_rate_and_one_window() {
    for (rate, window, seed) in [(1, 1, 1), (7, 1, 2), (100, 5, 3), (99_991, 1, 4)] {
        let bucket = bucket(rate, window);
        let mut numbers = Numbers(seed);
        let mut now = 0;
        let mut taken: Vec<u64> = Vec::new();
        for _ in 0..2000 {
            now += numbers.below(3 * SECOND / rate);
            if bucket.take(now, 1).is_ok() {
                taken.push(now);
            }
        }
        for (i, from) in taken.iter().enumerate() {
            for (n, to) in taken[i..].iter().enumerate() {
                let allowed = (to - from + window * SECOND) as u128 * u128::from(rate);
                let count = (n as u128 + 1) * u128::from(SECOND);
                assert!(count <= allowed, "{} units from {from} to {to}", n + 1);
            }
        }
        assert!(!taken.is_empty());
    }
}

#[test]
fn the_whole_rate_can_be_used() {
    for rate in [1, 3, 1000, 99_991] {
        let bucket = bucket(rate, 1);
        let mut now = 5 * SECOND;
        let burst = (0..).take_while(|_| bucket.take(now, 1).is_ok()).count() as u64;
        assert_eq!(burst, rate);
        // A client that waits as long as required gets one each time, and no time is lost.
        let (mut count, end) = (0, now + 10 * SECOND);
        while now < end {
            match bucket.take(now, 1) {
                Ok(()) => count += 1,
                Err(wait) => now += u64::try_from(wait.0.as_nanos()).unwrap(),
            }
        }
        // Each one's time is rounded up to a whole nanosecond.
        let lost = rate / 1000 + 1;
        assert!(
            (rate * 10 - lost..=rate * 10 + 1).contains(&count),
            "{count}, {rate} a second"
        );
    }
}

#[test]
fn a_request_larger_than_the_bucket_passes_and_later_ones_wait() {
    let bucket = bucket(1000, 1);
    let now = SECOND;
    bucket.take_with_debt(now, 5000, 0).unwrap();
    assert_eq!(bucket.remaining_units(bucket.remaining(now)), 0);
    let wait = bucket.take_with_debt(now, 1, 0).unwrap_err();
    assert_eq!(wait.0, Duration::from_millis(4001));
    assert_eq!(wait.seconds(), 5);
    let later = now + 4 * SECOND;
    assert!(bucket.take_with_debt(later, 1, 0).is_err());
    assert!(bucket.take_with_debt(later + 1, 1, 0).is_ok());
    // Debt is allowed up to a limit.
    assert!(bucket.take_with_debt(later + 1, 500, 300).is_ok());
    assert!(bucket.take_with_debt(later + 1, 1, 300).is_err());
}

#[test]
fn unused_units_are_refunded() {
    let bucket = bucket(10, 1);
    for _ in 0..10 {
        bucket.take(0, 1).unwrap();
    }
    assert_eq!(bucket.take(0, 1).unwrap_err().0, Duration::from_millis(100));
    bucket.refund(1);
    assert_eq!(bucket.remaining_units(bucket.remaining(0)), 1);
    bucket.take(0, 1).unwrap();
    assert!(bucket.take(0, 1).is_err());
    assert_eq!(bucket.remaining(0).full_in, Duration::from_secs(1));
    bucket.refund(1000);
    assert_eq!(bucket.remaining_units(bucket.remaining(0)), 10);
}

#[test]
fn a_changed_rate_applies_at_once() {
    let level = BucketLevel::default();
    let slow = TokenBucket::new(10, HumanDuration::secs(1), Arc::clone(&level)).unwrap();
    for _ in 0..10 {
        slow.take(0, 1).unwrap();
    }
    assert!(slow.take(0, 1).is_err());
    let fast = TokenBucket::new(1000, HumanDuration::secs(1), level).unwrap();
    // A tenth of a second refills a hundred of them.
    let now = SECOND / 10;
    assert_eq!((0..).take_while(|_| fast.take(now, 1).is_ok()).count(), 100);
    assert!(slow.take(now, 1).is_err());
    assert!(TokenBucket::new(0, HumanDuration::secs(1), BucketLevel::default()).is_none());
}

#[test]
fn threads_together_respect_the_capacity() {
    let bucket = bucket(10_000, 1);
    let taken: usize = std::thread::scope(|scope| {
        let take = || (0..5000).filter(|_| bucket.take(7, 1).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(taken, 10_000);
}

#[test]
fn extremes_do_not_overflow() {
    let slow = bucket(1, 1);
    assert!(slow.take(0, u64::MAX).is_err());
    slow.take_with_debt(0, u64::MAX, 0).unwrap();
    assert!(slow.take_with_debt(1, 1, u64::MAX).is_ok());
    assert!(slow.take(u64::MAX / 4, 1).is_err() || slow.remaining(0).time == 0);
    let fast = bucket(BYTES_MAX.0, 60);
    assert_eq!(fast.capacity(), BYTES_MAX.0 * 60);
}
