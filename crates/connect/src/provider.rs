//! Providers of the message buffer: the targets of its messages.
//!
//! | module | target | feature |
//! | --- | --- | --- |
//! | [`mod@file`] | a file or standard output, as JSON Lines | always |
//! | `kafka` | Apache Kafka | `kafka` |
//! | `http` | an HTTP endpoint | `http` |

pub mod file;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
