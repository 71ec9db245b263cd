//! How often a token may call: a bucket for each one that has called lately.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use forebay_model::Span;
use forebay_model::quota::{Bucket, Spent, Wait};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::error::ApiError;
use crate::auth::Identity;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How much can be called at once: what the rate gives in this time.
const WINDOW: Span = Span::secs(10);
/// Tokens that are remembered before those that have used nothing are forgotten.
const TOKENS_KEPT: usize = 1000;

/// The buckets of tokens.
#[derive(Debug)]
pub(super) struct Pace {
    /// Requests a second; zero is no limit.
    rate: u64,
    start: Instant,
    spent: Mutex<HashMap<String, Spent>>,
}

/// What a request's answer says about its token's pace; set while the request is checked.
#[derive(Clone, Debug, Default)]
pub(super) struct PaceShown(Arc<OnceLock<(HeaderValue, HeaderValue)>>);

impl Pace {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            start: Instant::now(),
            spent: Mutex::default(),
        }
    }

    /// Lets a request of a token through, unless it has called too often.
    pub(super) fn pass(&self, who: &Identity, shown: &PaceShown) -> Result<(), ApiError> {
        let Some(bucket) = Bucket::new(self.rate, WINDOW, self.spent(&who.token_id)) else {
            return Ok(());
        };
        let now = self.now();
        let taken = bucket.take(now, 1);
        let left = bucket.left(now);
        let (units, full_in) = (bucket.units_left(left), Wait(left.full_in).seconds());
        let texts = (
            HeaderValue::from_str(&format!("\"token\";r={units};t={full_in}")),
            HeaderValue::from_str(&format!(
                "\"token\";q={};w={}",
                bucket.capacity(),
                bucket.window_seconds()
            )),
        );
        if let (Ok(limit), Ok(policy)) = texts {
            // Each request is checked once.
            drop(shown.0.set((limit, policy)));
        }
        taken.map_err(|wait| {
            let seconds = u32::try_from(wait.seconds()).unwrap_or(u32::MAX);
            let text = format!(
                "the token may call {} times a second, it has to wait {seconds} s",
                self.rate
            );
            ApiError::too_many_requests(text).retry_after(seconds)
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    fn spent(&self, token: &str) -> Spent {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spent) = all.get(token) {
            return Arc::clone(spent);
        }
        if all.len() >= TOKENS_KEPT {
            let now = self.now();
            let is_used = |spent: &Spent| spent.load(std::sync::atomic::Ordering::Relaxed) > now;
            all.retain(|_, spent| is_used(spent));
        }
        Arc::clone(all.entry(token.to_owned()).or_default())
    }
}

impl PaceShown {
    /// Writes it into an answer.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if let Some((limit, policy)) = self.0.get() {
            headers.insert(RATE_LIMIT, limit.clone());
            headers.insert(RATE_LIMIT_POLICY, policy.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forebay_model::{BranchId, ProjectId};

    use super::*;
    use crate::api::error::ErrorName;

    fn who(token: &str) -> Identity {
        Identity {
            project: ProjectId(1),
            default_branch: BranchId(1),
            token_id: token.to_owned(),
            description: String::new(),
            owner: forebay_meta::repo::tokens::Owner::default(),
            admin: true,
            operator: false,
            from: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_token_has_its_own_pace_and_those_at_rest_are_forgotten() {
        let pace = Pace::new(2);
        let pass = |token: &str| pace.pass(&who(token), &PaceShown::default());
        assert_eq!((0..100).filter(|_| pass("a").is_ok()).count(), 20);
        let refused = pass("a").unwrap_err();
        assert_eq!(
            (refused.name, refused.retry_after),
            (ErrorName::TooManyRequests, Some(1))
        );
        assert!(pass("b").is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..100).filter(|_| pass("a").is_ok()).count(), 2);
        for n in 0..TOKENS_KEPT {
            pass(&n.to_string()).unwrap();
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        pass("new").unwrap();
        assert_eq!(pace.spent.lock().unwrap().len(), 1);
        let free = Pace::new(0);
        assert!((0..1000).all(|_| free.pass(&who("a"), &PaceShown::default()).is_ok()));
    }
}
