//! External systems that Forebay uses, one module and one cargo feature each: staging storage, the
//! targets of sinks, and providers of the message buffer.
//!
//! | module | system | feature |
//! | --- | --- | --- |
//! | `http` | HTTP client shared by providers, jobs and the command line | `http` |
//! | [`provider`] | targets of the message buffer: Kafka, HTTP, a file | `kafka`, `http` |
//! | [`staging`] | a local folder | always |
//! | [`staging`] | S3-compatible storage | `s3` |
//! | `table::sqlite` | the embedded database | `sqlite` |
//! | `table::postgres` | a PostgreSQL server | `postgres` |
//! | [`cache`] | hashes of the rows known to be in a table | `sqlite`, `redis` |
//! | [`keyed`] | tables with typed rows that are written and read by key | one each |
//! | `table::conformance`, `keyed::conformance`, `cache::conformance` | suites that each backend has to pass | `conformance` |
//!
//! Every error has a message that names the object or table and column, and states whether a retry
//! may succeed. Addresses, keys and timeouts are parameters; nothing here reads the environment.

pub mod cache;
#[cfg(feature = "http")]
pub mod http;
pub mod keyed;
pub mod provider;
pub mod staging;
pub mod table;

#[cfg(any(feature = "postgres", feature = "cassandra"))]
pub mod tls;
