//! The API as clients see it: through the router, on the real embedded store.

mod access;
mod admin;
mod answers;
mod bodies;
mod dashboard;
mod definitions;
mod documents;
mod frame;
mod letters;
mod lifecycle;
mod ownership;
mod quotas;
mod retry;
mod sample;
mod schema;
mod settings;
mod sinks;
mod sources;
mod statistics;
mod sweep;
mod tables;
mod tasks;
mod topics;
mod world;
