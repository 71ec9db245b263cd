//! Rate limit of requests per token, with a bucket for each recently used token.

use std::sync::{Arc, OnceLock};

use forebay_model::quota::{RATE_LIMIT, RATE_LIMIT_POLICY};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::client_buckets::ClientBuckets;
use super::error::ApiError;
use crate::auth::CallerIdentity;

/// Maximum buckets before full ones are removed.
const TOKENS_MAX: usize = 1000;

#[derive(Debug)]
pub(super) struct TokenRateLimiter(ClientBuckets<String>);

/// Rate limit headers of a response; set while the request is checked.
#[derive(Clone, Debug, Default)]
pub(super) struct RateLimitHeaders(Arc<OnceLock<(HeaderValue, HeaderValue)>>);

impl TokenRateLimiter {
    /// `rate` is in requests per second; zero is no limit.
    pub(super) fn new(rate: u64) -> Self {
        Self(ClientBuckets::new(rate, TOKENS_MAX))
    }

    /// Admits a request unless its token is over the limit.
    pub(super) fn check(
        &self,
        who: &CallerIdentity,
        headers: &RateLimitHeaders,
    ) -> Result<(), ApiError> {
        let Some(bucket) = self.0.of(who.token_id.clone(), None) else {
            return Ok(());
        };
        let now = self.0.now();
        let taken = bucket.take(now, 1);
        let texts = (
            bucket
                .limit_item("token", bucket.remaining(now))
                .to_string(),
            bucket.policy_item("token").to_string(),
        );
        if let (Ok(limit), Ok(policy)) = (texts.0.try_into(), texts.1.try_into()) {
            // Each request is checked once.
            drop(headers.0.set((limit, policy)));
        }
        taken.map_err(|wait| {
            let seconds = u32::try_from(wait.seconds()).unwrap_or(u32::MAX);
            let text = format!(
                "the token is limited to {} requests per second, retry in {seconds} s",
                self.0.rate
            );
            ApiError::too_many_requests(text).retry_after(seconds)
        })
    }
}

impl RateLimitHeaders {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if let Some((limit, policy)) = self.0.get() {
            headers.insert(HeaderName::from_static(RATE_LIMIT), limit.clone());
            headers.insert(HeaderName::from_static(RATE_LIMIT_POLICY), policy.clone());
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
        assert_eq!(limiter.0.len(), 1);
        let free = TokenRateLimiter::new(0);
        assert!((0..1000).all(|_| free.check(&who("a"), &RateLimitHeaders::default()).is_ok()));
    }
}
