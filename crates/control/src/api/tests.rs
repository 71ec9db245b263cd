//! The API as clients see it: through the router, on the real embedded store.

mod access;
mod admin;
mod bodies;
mod documents;
mod frame;
mod letters;
mod lifecycle;
mod sample;
mod settings;
mod sinks;
mod sources;
mod statistics;
mod tasks;
mod topics;
mod world;
