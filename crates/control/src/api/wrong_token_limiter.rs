//! Limits the rate of wrong tokens per client.
//!
//! Each address (for IPv6 each /64 network) has a bucket of wrong tokens; over it the response is
//! 429. Valid tokens never count, so a client that shares an address with an attacker is not locked
//! out: long tokens are always looked up, because guessing can't find them. Only tokens short
//! enough to be guessed are rejected without a lookup while the bucket is empty.

use std::net::{IpAddr, Ipv6Addr};

use forebay_model::quota::{BucketLevel, RetryAfter};

use super::client_buckets::ClientBuckets;
use super::error::ApiError;

/// Maximum addresses before those with a full bucket are removed. Further ones share a bucket.
const ADDRESSES_MAX: usize = 10_000;
/// Minimum bytes of a token that can't be guessed. Forebay's are longer.
const LONG_TOKEN_BYTES: usize = 32;

#[derive(Debug)]
pub(super) struct WrongTokenLimiter {
    /// Wrong tokens by client.
    buckets: ClientBuckets<IpAddr>,
    overflow_bucket: BucketLevel,
}

impl WrongTokenLimiter {
    /// `rate` is in wrong tokens per second; zero is no limit.
    pub(super) fn new(rate: u64) -> Self {
        Self {
            buckets: ClientBuckets::new(rate, ADDRESSES_MAX),
            overflow_bucket: BucketLevel::default(),
        }
    }

    /// Whether a token may be looked up.
    pub(super) fn check(&self, from: Option<IpAddr>, token: &[u8]) -> Result<(), ApiError> {
        let bucket = from.and_then(|from| self.buckets.existing(&network(from)));
        let Some(bucket) = bucket.filter(|_| token.len() < LONG_TOKEN_BYTES) else {
            return Ok(());
        };
        // Checks that one is left, and refunds it.
        bucket
            .take(self.buckets.now(), 1)
            .map_err(|wait| self.rejection(wait))?;
        bucket.refund(1);
        Ok(())
    }

    /// Records a wrong token; returns the error if there were too many.
    pub(super) fn record_failure(&self, from: Option<IpAddr>) -> Option<ApiError> {
        let overflow = Some(&self.overflow_bucket);
        let bucket = self.buckets.of(network(from?), overflow)?;
        let taken = bucket.take(self.buckets.now(), 1);
        taken.err().map(|wait| self.rejection(wait))
    }

    fn rejection(&self, wait: RetryAfter) -> ApiError {
        let seconds = u32::try_from(wait.seconds()).unwrap_or(u32::MAX);
        let text = format!(
            "too many wrong tokens from this address: limited to {} per second, retry in {seconds} s",
            self.buckets.rate
        );
        ApiError::too_many_requests(text).retry_after(seconds)
    }
}

/// Key of a client: an IPv6 client has a whole network of addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::error::ErrorName;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_with_too_many_wrong_tokens_are_limited() {
        let tokens = WrongTokenLimiter::new(2);
        let wrong = |from: &str| tokens.record_failure(ip(from)).is_none();
        assert_eq!((0..100).filter(|_| wrong("1.2.3.4")).count(), 20);
        let rejected = tokens.record_failure(ip("::ffff:1.2.3.4")).unwrap();
        let error = (rejected.name, rejected.retry_after);
        assert_eq!(error, (ErrorName::TooManyRequests, Some(1)));
        assert!(wrong("1.2.3.5"));
        // A short token could be guessed; a long one is always looked up.
        assert!(tokens.check(ip("1.2.3.4"), b"password").is_err());
        assert!(
            tokens
                .check(ip("1.2.3.4"), &[b'x'; LONG_TOKEN_BYTES])
                .is_ok()
        );
        assert!(tokens.check(ip("1.2.3.5"), b"password").is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        // Checks cost nothing.
        for _ in 0..100 {
            assert!(tokens.check(ip("1.2.3.4"), b"password").is_ok());
        }
        assert_eq!((0..100).filter(|_| wrong("1.2.3.4")).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_an_ipv6_network_is_one_client() {
        let tokens = WrongTokenLimiter::new(1);
        for n in 0..100_u16 {
            tokens.record_failure(ip(&format!("2001:db8::{n:x}")));
        }
        assert_eq!(tokens.buckets.len(), 1);
        for n in 0..20_000_u32 {
            tokens.record_failure(Some(IpAddr::V4(n.into())));
        }
        assert_eq!(tokens.buckets.len(), ADDRESSES_MAX);
        tokio::time::advance(Duration::from_secs(60)).await;
        tokens.record_failure(ip("9.9.9.9"));
        assert_eq!(tokens.buckets.len(), 1);
        let free = WrongTokenLimiter::new(0);
        assert!((0..1000).all(|_| free.record_failure(ip("1.1.1.1")).is_none()));
    }
}
