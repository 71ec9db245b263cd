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
const REHABILITATION: u32 = 100;

/// Templates remembered; past that those without offences are forgotten, which puts them on
/// probation once more.
const REMEMBERED_MAX: usize = 10_000;

/// Where an evaluation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Main,
    Probation,
    /// Nowhere for so long.
    Blocked(Duration),
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    offences: u32,
    blocked_until: Option<Instant>,
    good: u32,
    trusted: bool,
}

/// All templates' standings.
#[derive(Debug, Default)]
pub(super) struct Standings(Mutex<HashMap<TemplateId, Standing>>);

impl Standings {
    fn lock(&self) -> MutexGuard<'_, HashMap<TemplateId, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where new evaluations of these templates go.
    pub(super) fn lanes(&self, ids: impl Iterator<Item = TemplateId>, now: Instant) -> Vec<Lane> {
        let standings = self.lock();
        ids.map(|id| match standings.get(&id) {
            None => Lane::Probation,
            Some(standing) => standing.lane(now),
        })
        .collect()
    }

    /// Whether a waiting evaluation has been overtaken by an offence of its template; for how long.
    pub(super) fn blocked(&self, id: TemplateId, now: Instant) -> Option<Duration> {
        let standings = self.lock();
        let until = standings.get(&id)?.blocked_until?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// An evaluation on probation ended, with a result or an error of its own.
    pub(super) fn ended_well(&self, id: TemplateId) {
        let mut standings = self.lock();
        if standings.len() >= REMEMBERED_MAX && !standings.contains_key(&id) {
            standings.retain(|_, s| s.offences > 0);
        }
        let standing = standings.entry(id).or_default();
        standing.blocked_until = None;
        standing.good += 1;
        if standing.offences == 0 || standing.good >= REHABILITATION {
            *standing = Standing {
                trusted: true,
                ..Standing::default()
            };
        }
    }

    /// An evaluation went over a limit.
    pub(super) fn offended(&self, id: TemplateId, now: Instant) {
        let mut standings = self.lock();
        let standing = standings.entry(id).or_default();
        let factor = 2u32.saturating_pow(standing.offences);
        let backoff = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
        *standing = Standing {
            offences: standing.offences.saturating_add(1),
            blocked_until: Some(now + backoff),
            good: 0,
            trusted: false,
        };
    }

    /// Templates that are shut out now.
    pub(super) fn blocked_count(&self, now: Instant) -> usize {
        let standings = self.lock();
        let blocked = |s: &&Standing| s.blocked_until.is_some_and(|until| until > now);
        standings.values().filter(blocked).count()
    }
}

impl Standing {
    fn lane(&self, now: Instant) -> Lane {
        match self.blocked_until {
            Some(until) if until > now => Lane::Blocked(until - now),
            _ if self.trusted => Lane::Main,
            _ => Lane::Probation,
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_record::Template;

    use super::*;

    #[test]
    fn an_offender_is_shut_out_for_twice_as_long_each_time_and_rehabilitated() {
        let standings = Standings::default();
        let id = Template::new("1", true).id();
        let lane = |now| standings.lanes(std::iter::once(id), now).remove(0);
        let mut now = Instant::now();
        assert_eq!(lane(now), Lane::Probation);
        standings.ended_well(id);
        assert_eq!(lane(now), Lane::Main);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let out = Duration::from_secs(seconds);
            standings.offended(id, now);
            assert_eq!(lane(now), Lane::Blocked(out));
            assert_eq!(standings.blocked(id, now), Some(out));
            assert_eq!(standings.blocked_count(now), 1);
            now += out;
            assert_eq!(lane(now), Lane::Probation);
            assert_eq!(standings.blocked_count(now), 0);
        }
        for _ in 0..REHABILITATION {
            assert_eq!(lane(now), Lane::Probation);
            standings.ended_well(id);
        }
        assert_eq!(lane(now), Lane::Main);
    }
}
