//! Uses the client of the torture test.

#[allow(dead_code, reason = "the torture test uses the rest of it")]
#[path = "../torture/http.rs"]
mod client;

pub(crate) use client::Client;
