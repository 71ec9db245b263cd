//! Where records come in.

pub mod http;
