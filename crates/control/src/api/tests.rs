//! Tests of the API through the router, on the embedded store.

mod access;
mod admin;
mod bodies;
mod dashboard;
mod dead_letters;
mod definitions;
mod documents;
mod lifecycle;
mod ownership;
mod quotas;
mod request_scope;
mod responses;
mod retry;
mod sample;
mod schema;
mod settings;
mod sinks;
mod sources;
mod statistics;
mod status;
mod sweep;
mod tables;
mod tap;
mod tasks;
mod topics;
mod world;
