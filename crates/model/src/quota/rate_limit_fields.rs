//! Header fields that tell a client its rate limit, as in `draft-ietf-httpapi-ratelimit-headers`.

use std::fmt;

use super::token_bucket::{RemainingCapacity, RetryAfter, TokenBucket};

/// Field of the remaining quota.
pub const RATE_LIMIT: &str = "ratelimit";
/// Field of the allowed quota.
pub const RATE_LIMIT_POLICY: &str = "ratelimit-policy";

impl TokenBucket {
    /// Item of [`RATE_LIMIT`]: what is left, and the seconds until the bucket is full.
    pub fn limit_item(&self, name: &str, remaining: RemainingCapacity) -> impl fmt::Display {
        let units = self.remaining_units(remaining);
        let full_in = RetryAfter(remaining.full_in).seconds();
        fmt::from_fn(move |f| write!(f, "\"{name}\";r={units};t={full_in}"))
    }

    /// Item of [`RATE_LIMIT_POLICY`]: the capacity, and the seconds in which the bucket refills.
    pub fn policy_item(&self, name: &str) -> impl fmt::Display {
        let (capacity, window) = (self.capacity(), self.window_seconds());
        fmt::from_fn(move |f| write!(f, "\"{name}\";q={capacity};w={window}"))
    }
}
