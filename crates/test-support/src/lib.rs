//! What the tests of several crates share: a dev-dependency, never part of a program.
//!
//! | module | contents |
//! |---|---|
//! | [`services`] | addresses of real services; a test without its service is reported as skipped |
//! | [`server_process`] | the binary as a child process: started, called, stopped |
//! | [`http_client`], [`http_endpoint`] | HTTP/1.1 over blocking sockets |
//! | [`cut_proxy`], [`fault_proxy`] | TCP proxies that cut connections |
//! | [`random`] | random numbers from a seed |
//! | [`wait`] | waiting for a condition with a deadline |
//!
//! It depends on no other crate of the workspace, so that unit tests of each may use it. Fakes of a trait
//! stay beside the trait: `forebay_log::MemEnv`, `forebay_model::ManualClock`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for real processes with the real clock"
)]

pub mod cut_proxy;
pub mod fault_proxy;
pub mod http_client;
pub mod http_endpoint;
pub mod random;
pub mod server_process;
pub mod services;
pub mod wait;

pub use http_client::{HttpClient, HttpResponse};
pub use http_endpoint::{HttpEndpoint, HttpRequest, http_response};
pub use random::SeededRandom;
pub use server_process::ServerProcess;
pub use wait::{WAIT_MAX, poll_for, poll_until, wait_for};
