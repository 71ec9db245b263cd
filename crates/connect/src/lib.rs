//! Everything that Forebay uses and does not own, one file and one cargo feature each: the staging
//! storage that files wait in, and the tables at the end of the sinks.
//!
//! | module | what is behind it | feature |
//! | --- | --- | --- |
//! | `http` | the client of HTTP servers that providers, jobs and the command line share | `http` |
//! | [`provider`] | where messages of the buffer go: Kafka, HTTP, a file | `kafka`, `http` |
//! | [`staging`] | a local folder | always |
//! | [`staging`] | S3-compatible storage | `s3` |
//! | `table::sqlite` | the embedded database | `sqlite` |
//! | `table::postgres` | a PostgreSQL server | `postgres` |
//! | [`cache`] | what is known to be in a table | `sqlite`, `redis` |
//! | [`keyed`] | tables with typed rows that are written and read by key | one each |
//! | `services`, `table::conformance` | what tests of real services share | `test-services` |
//!
//! Errors everywhere say two things: a sentence for a person, with the object or table and column
//! in it, and whether the same call may succeed later. Addresses, keys and timeouts arrive as
//! values; nothing here reads the environment.

pub mod cache;
#[cfg(feature = "http")]
pub mod http;
pub mod keyed;
pub mod provider;
pub mod staging;
pub mod table;

#[cfg(any(feature = "postgres", feature = "cassandra"))]
pub mod tls;

#[cfg(any(test, feature = "test-services"))]
pub mod services;
