//! Circuit breakers of templates.
//!
//! A template that has not yet succeeded runs on the quarantine worker, so that one that never ends
//! does not delay established templates. One that exceeded a limit is answered with an error for a
//! while, longer with each trip, and is then probed in quarantine.

use std::collections::HashMap;
use std::time::Duration;

use forebay_model::Backoff;
use forebay_record::TemplateId;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// How long a template is blocked after each trip.
const TRIP_BACKOFF: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(60));

/// Successful evaluations before a tripped template leaves quarantine.
const CLOSE_AFTER: u32 = 100;

/// Templates remembered; above that, those without trips are forgotten, which puts them into
/// quarantine once more.
const REMEMBERED_MAX: usize = 10_000;

/// Where an evaluation may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvaluationRoute {
    Main,
    Quarantine,
    /// Blocked for so long.
    Blocked(Duration),
}

#[derive(Clone, Copy, Debug, Default)]
struct CircuitBreaker {
    trips: u32,
    blocked_until: Option<Instant>,
    successes: u32,
    closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct CircuitBreakers(Mutex<HashMap<TemplateId, CircuitBreaker>>);

impl CircuitBreakers {
    fn lock(&self) -> MutexGuard<'_, HashMap<TemplateId, CircuitBreaker>> {
        self.0.lock()
    }

    /// Routes new evaluations of these templates.
    pub(super) fn routes(
        &self,
        ids: impl Iterator<Item = TemplateId>,
        now: Instant,
    ) -> Vec<EvaluationRoute> {
        let breakers = self.lock();
        ids.map(|id| match breakers.get(&id) {
            None => EvaluationRoute::Quarantine,
            Some(breaker) => breaker.route(now),
        })
        .collect()
    }

    /// Whether the template of a waiting evaluation has tripped since; for how long it is blocked.
    pub(super) fn blocked(&self, id: TemplateId, now: Instant) -> Option<Duration> {
        let breakers = self.lock();
        let until = breakers.get(&id)?.blocked_until?;
        let remaining = until.saturating_duration_since(now);
        (!remaining.is_zero()).then_some(remaining)
    }

    /// An evaluation in quarantine ended with a result, or with an error of its own.
    pub(super) fn on_success(&self, id: TemplateId) {
        let mut breakers = self.lock();
        if breakers.len() >= REMEMBERED_MAX && !breakers.contains_key(&id) {
            breakers.retain(|_, s| s.trips > 0);
        }
        let breaker = breakers.entry(id).or_default();
        breaker.blocked_until = None;
        breaker.successes += 1;
        if breaker.trips == 0 || breaker.successes >= CLOSE_AFTER {
            *breaker = CircuitBreaker {
                closed: true,
                ..CircuitBreaker::default()
            };
        }
    }

    /// An evaluation exceeded a limit.
    pub(super) fn trip(&self, id: TemplateId, now: Instant) {
        let mut breakers = self.lock();
        let breaker = breakers.entry(id).or_default();
        let trips = breaker.trips.saturating_add(1);
        *breaker = CircuitBreaker {
            trips,
            blocked_until: Some(now + TRIP_BACKOFF.delay(trips)),
            successes: 0,
            closed: false,
        };
    }

    /// Number of templates that are blocked now.
    pub(super) fn tripped_count(&self, now: Instant) -> usize {
        let breakers = self.lock();
        let blocked = |s: &&CircuitBreaker| s.blocked_until.is_some_and(|until| until > now);
        breakers.values().filter(blocked).count()
    }
}

impl CircuitBreaker {
    fn route(&self, now: Instant) -> EvaluationRoute {
        match self.blocked_until {
            Some(until) if until > now => EvaluationRoute::Blocked(until - now),
            _ if self.closed => EvaluationRoute::Main,
            _ => EvaluationRoute::Quarantine,
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_record::TemplateProgram;

    use super::*;

    #[test]
    fn a_tripped_template_is_blocked_twice_as_long_each_time_and_recovers() {
        let breakers = CircuitBreakers::default();
        let id = TemplateProgram::new("1", true).id();
        let route = |now| breakers.routes(std::iter::once(id), now).remove(0);
        let mut now = Instant::now();
        assert_eq!(route(now), EvaluationRoute::Quarantine);
        breakers.on_success(id);
        assert_eq!(route(now), EvaluationRoute::Main);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let out = Duration::from_secs(seconds);
            breakers.trip(id, now);
            assert_eq!(route(now), EvaluationRoute::Blocked(out));
            assert_eq!(breakers.blocked(id, now), Some(out));
            assert_eq!(breakers.tripped_count(now), 1);
            now += out;
            assert_eq!(route(now), EvaluationRoute::Quarantine);
            assert_eq!(breakers.tripped_count(now), 0);
        }
        for _ in 0..CLOSE_AFTER {
            assert_eq!(route(now), EvaluationRoute::Quarantine);
            breakers.on_success(id);
        }
        assert_eq!(route(now), EvaluationRoute::Main);
    }
}
