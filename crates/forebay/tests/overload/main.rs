//! Too much, too slow, too many: what a server does when its clients, tables and clock misbehave.
//! Each test runs the real binary. `FOREBAY_OVERLOAD_SECONDS` (default 5) makes the load longer.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process waits for it with the real clock; each wait is for a condition"
)]

mod clock;
mod connections;
#[path = "../process/http.rs"]
mod http;
mod load;
mod neighbours;
#[allow(dead_code, reason = "the process tests use the rest of it")]
#[path = "../process/server.rs"]
mod server;

use serde_json::Value;
use server::Server;

/// A source `id` with a sink into `table` that keeps the path `n`; the path to post to.
fn define(server: &Server, id: &str, more: &[&str]) -> String {
    let table = format!("in.demo.{id}");
    let mut args = vec![
        "source", "create", id, "--sink", &table, "--column", "n=path:n",
    ];
    args.extend(more);
    server.ok(&args);
    server.path(id)
}

/// A count of a sink's balance.
fn count(balance: &Value, name: &str) -> u64 {
    balance[name].as_u64().unwrap()
}

/// Values of the column `n` that the table of a source has, sorted.
fn rows(server: &Server, id: &str) -> Vec<u64> {
    let sql = format!("SELECT n FROM \"in.demo.{id}\"");
    let text = server.ok(&["query", &sql, "--format", "csv"]);
    let mut rows: Vec<u64> = text.lines().skip(1).map(|l| l.parse().unwrap()).collect();
    rows.sort_unstable();
    rows
}
