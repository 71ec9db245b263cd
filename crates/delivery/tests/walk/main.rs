//! The write path from a request to the log, over a real listener, a real log and a real metadata
//! store.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod batches;
mod bodies;
mod client;
mod dead_letters;
mod failures;
mod handshakes;
mod large;
mod limits;
mod node;
mod protocol;
mod quotas;
mod reconciler;
mod records;
mod replay;
mod signatures;
mod volume;
mod world;
