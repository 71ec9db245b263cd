//! Wire types of the management API: requests, responses, parameters, and the table of errors.
//!
//! They are the single definition of the API: the server generates the OpenAPI document from them,
//! validates requests against it and serializes responses from them, and the command line parses
//! responses into them. A renamed field is therefore a compile error on both sides.
//!
//! Not here: routes, checks and conversions from the domain model, which are in `forebay-control`.

#![warn(missing_docs)]

pub mod admin;
pub mod aggregation;
pub mod columns;
pub mod common;
pub mod data_type;
pub mod dead_letter;
pub mod definitions;
pub mod dry_run;
pub mod error;
pub mod list;
pub mod mapping;
mod names;
pub mod params;
pub mod quota;
pub mod retry;
mod schema;
pub mod settings;
pub mod sink;
pub mod source;
pub mod statistics;
pub mod status;
pub mod table;
pub mod tap;
pub mod task;
pub mod test_result;
pub mod topic;

pub use schema::json_schema;

/// Header of requests with the token.
pub const TOKEN_HEADER: &str = "x-storageapi-token";
