//! Columns, paths and CSV against measured facts of the reference service (stream-semantics,
//! sections 2 and 3), except for its defects.
#![allow(
    clippy::unwrap_used,
    reason = "what is only used by tests may fail as tests do"
)]

mod bodies;
#[path = "../common/mod.rs"]
mod common;
mod paths;
mod rows;
mod types;

const DOCUMENT: &str = r#"{ "a": {"b": [10, {"c": "x\u00e9\n"}, null], "d e-f": 1.50 },
  "0": "zero", "big": 12345678901234567890, "e": 1e3, "s": "q\"uote", "n": null, "t": true,
  "dup": 1, "dup": 2, "z": 1, "y": 2, "k\u0065y": "esc", "o": { }, "l": [ ] }"#;
