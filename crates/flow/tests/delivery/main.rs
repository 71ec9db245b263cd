//! From a closed stream to rows in the table: upload, import and what is taken away afterwards, on
//! the real log, store, staging folder and database. The transitions that the coordinator would
//! decide are made by hand.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod damage;
mod order;
mod silent;
mod table_loss;
mod world;
