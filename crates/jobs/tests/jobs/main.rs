//! Jobs over real sockets and files: good and faulty APIs, tables, stops and restarts.
#![allow(clippy::unwrap_used, reason = "a test that can't continue has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for a condition with the real clock"
)]

mod answers;
mod api;
mod apis;
mod cache;
mod dead;
mod definition;
mod ends;
mod files;
mod lookup;
mod names;
mod paging;
mod pieces;
#[cfg(feature = "postgres")]
mod postgres;
mod redirects;
mod s3;
mod s3_settings;
#[cfg(any(feature = "cassandra", feature = "postgres", feature = "redis"))]
mod switch;
#[cfg(feature = "cassandra")]
mod tables;
mod values;
mod world;
