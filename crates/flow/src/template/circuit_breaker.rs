//! What the pool knows of each template's conduct.
//!
//! A template that has not yet ended well runs on the probation worker, so that one that never ends
//! holds up nobody's established templates. One that went over a limit is answered with an error
//! for a while, growing with each offence, and is then tried again, on probation.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_record::TemplateId;
use tokio::time::Instant;

/// First time that an offender is shut out; doubled with each further offence.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// Longest time that an offender is shut out.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Evaluations that must end well before an offender leaves probation.
const CLOSE_AFTER: u32 = 100;

/// Templates remembered; past that those without offences are forgotten, which puts them on
/// probation once more.
const REMEMBERED_MAX: usize = 10_000;

/// Where an evaluation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvaluationRoute {
    Main,
    Quarantine,
    /// Nowhere for so long.
    Blocked(Duration),
}

#[derive(Clone, Copy, Debug, Default)]
struct CircuitBreaker {
    trips: u32,
    blocked_until: Option<Instant>,
    successes: u32,
    closed: bool,
}

/// All templates' standings.
#[derive(Debug, Default)]
pub(super) struct CircuitBreakers(Mutex<HashMap<TemplateId, CircuitBreaker>>);

impl CircuitBreakers {
    fn lock(&self) -> MutexGuard<'_, HashMap<TemplateId, CircuitBreaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where new evaluations of these templates go.
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

    /// Whether a waiting evaluation has been overtaken by an offence of its template; for how long.
    pub(super) fn blocked(&self, id: TemplateId, now: Instant) -> Option<Duration> {
        let breakers = self.lock();
        let until = breakers.get(&id)?.blocked_until?;
        let remaining = until.saturating_duration_since(now);
        (!remaining.is_zero()).then_some(remaining)
    }

    /// An evaluation on probation ended, with a result or an error of its own.
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

    /// An evaluation went over a limit.
    pub(super) fn trip(&self, id: TemplateId, now: Instant) {
        let mut breakers = self.lock();
        let breaker = breakers.entry(id).or_default();
        let factor = 2u32.saturating_pow(breaker.trips);
        let backoff = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
        *breaker = CircuitBreaker {
            trips: breaker.trips.saturating_add(1),
            blocked_until: Some(now + backoff),
            successes: 0,
            closed: false,
        };
    }

    /// Templates that are shut out now.
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
    fn an_offender_is_shut_out_for_twice_as_long_each_time_and_rehabilitated() {
        let standings = CircuitBreakers::default();
        let id = TemplateProgram::new("1", true).id();
        let lane = |now| standings.routes(std::iter::once(id), now).remove(0);
        let mut now = Instant::now();
        assert_eq!(lane(now), EvaluationRoute::Quarantine);
        standings.on_success(id);
        assert_eq!(lane(now), EvaluationRoute::Main);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let out = Duration::from_secs(seconds);
            standings.trip(id, now);
            assert_eq!(lane(now), EvaluationRoute::Blocked(out));
            assert_eq!(standings.blocked(id, now), Some(out));
            assert_eq!(standings.tripped_count(now), 1);
            now += out;
            assert_eq!(lane(now), EvaluationRoute::Quarantine);
            assert_eq!(standings.tripped_count(now), 0);
        }
        for _ in 0..CLOSE_AFTER {
            assert_eq!(lane(now), EvaluationRoute::Quarantine);
            standings.on_success(id);
        }
        assert_eq!(lane(now), EvaluationRoute::Main);
    }
}
