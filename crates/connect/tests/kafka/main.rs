//! The buffer in front of a real Kafka broker.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real processes waits for them with the real clock; each wait is for a condition"
)]
#![expect(
    clippy::print_stderr,
    reason = "results and skipped tests must be visible in the output"
)]

mod broker;
mod delivery;
mod kill;
mod outage;
mod settings;
#[cfg(feature = "kafka-tls")]
mod tls;
