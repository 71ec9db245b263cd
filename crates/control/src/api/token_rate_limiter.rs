//! Rate limit of requests per token, with a bucket for each recently used token.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use forebay_model::HumanDuration;
use forebay_model::quota::{BucketLevel, RetryAfter, TokenBucket};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::ApiError;
use crate::auth::CallerIdentity;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Burst: requests of this time at the full rate.
const WINDOW: HumanDuration = HumanDuration::secs(10);
/// Maximum buckets before full ones are removed.
const TOKENS_MAX: usize = 1000;

#[derive(Debug)]
pub(super) struct TokenRateLimiter {
    /// Requests per second; zero is no limit.
    rate: u64,
    start: Instant,
    buckets: Mutex<HashMap<String, BucketLevel>>,
}

/// Rate limit headers of a response; set while the request is checked.
#[derive(Clone, Debug, Default)]
pub(super) struct RateLimitHeaders(Arc<OnceLock<(HeaderValue, HeaderValue)>>);

impl TokenRateLimiter {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            start: Instant::now(),
            buckets: Mutex::default(),
        }
    }

    /// Admits a request unless its token is over the limit.
    pub(super) fn check(
        &self,
        who: &CallerIdentity,
        headers: &RateLimitHeaders,
    ) -> Result<(), ApiError> {
        let Some(bucket) = TokenBucket::new(self.rate, WINDOW, self.bucket_state(&who.token_id))
        else {
            return Ok(());
        };
        let now = self.now();
        let taken = bucket.take(now, 1);
        let remaining = bucket.remaining(now);
        let (units, full_in) = (
            bucket.remaining_units(remaining),
            RetryAfter(remaining.full_in).seconds(),
        );
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
            drop(headers.0.set((limit, policy)));
        }
        taken.map_err(|wait| {
            let seconds = u32::try_from(wait.seconds()).unwrap_or(u32::MAX);
            let text = format!(
                "the token is limited to {} requests per second, retry in {seconds} s",
                self.rate
            );
            ApiError::too_many_requests(text).retry_after(seconds)
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    fn bucket_state(&self, token: &str) -> BucketLevel {
        let mut all = self.buckets.lock();
        if let Some(spent) = all.get(token) {
            return Arc::clone(spent);
        }
        if all.len() >= TOKENS_MAX {
            let now = self.now();
            let is_used =
                |spent: &BucketLevel| spent.load(std::sync::atomic::Ordering::Relaxed) > now;
            all.retain(|_, spent| is_used(spent));
        }
        Arc::clone(all.entry(token.to_owned()).or_default())
    }
}

impl RateLimitHeaders {
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

    fn who(token: &str) -> CallerIdentity {
        CallerIdentity {
            project: ProjectId(1),
            default_branch: BranchId(1),
            token_id: token.to_owned(),
            description: String::new(),
            owner: forebay_meta::catalog::tokens::TokenOwner::default(),
            admin: true,
            operator: false,
            from: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_token_has_its_own_limit_and_idle_ones_are_removed() {
        let limiter = TokenRateLimiter::new(2);
        let pass = |token: &str| limiter.check(&who(token), &RateLimitHeaders::default());
        assert_eq!((0..100).filter(|_| pass("a").is_ok()).count(), 20);
        let rejected = pass("a").unwrap_err();
        assert_eq!(
            (rejected.name, rejected.retry_after),
            (ErrorName::TooManyRequests, Some(1))
        );
        assert!(pass("b").is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..100).filter(|_| pass("a").is_ok()).count(), 2);
        for n in 0..TOKENS_MAX {
            pass(&n.to_string()).unwrap();
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        pass("new").unwrap();
        assert_eq!(limiter.buckets.lock().len(), 1);
        let free = TokenRateLimiter::new(0);
        assert!((0..1000).all(|_| free.check(&who("a"), &RateLimitHeaders::default()).is_ok()));
    }
}
