//! Real random numbers, in the forms that the crates need.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::ThreadRng;

pub(crate) fn id_bits() -> Arc<dyn Fn() -> u128 + Send + Sync> {
    Arc::new(|| with(|r| r.random()))
}

/// Jitter for backoff.
pub(crate) fn jitter() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    Arc::new(|| with(|r| r.random()))
}

/// Random numbers for secrets and tokens: the thread's generator is cryptographic and seeded by the
/// system.
pub(crate) fn secret() -> impl FnMut() -> u64 + Send {
    || with(|r| r.random())
}

fn with<T>(f: impl FnOnce(&mut ThreadRng) -> T) -> T {
    f(&mut rand::rng())
}
