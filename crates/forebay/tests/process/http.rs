//! The torture test's client does here, too.

#[path = "../torture/http.rs"]
mod client;

pub use client::Client;
