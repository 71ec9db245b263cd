//! From a closed stream to rows in the table: upload, import and garbage collection, on the real
//! log, store, staging folder and database. The test makes the transitions that the coordinator
//! would decide.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod damage;
mod order;
mod silent;
mod table_loss;
mod world;
