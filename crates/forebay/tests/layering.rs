//! Checks the dependencies between crates against ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::process::Command;

/// Each crate with the workspace crates it may use.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("forebay-model", &[]),
    ("forebay-record", &["forebay-model"]),
    ("forebay-api", &["forebay-model"]),
    ("forebay-schema", &[]),
    ("forebay-log", &[]),
    ("forebay-listener", &["forebay-model"]),
    ("forebay-buffer", &["forebay-log"]),
    ("forebay-meta", &["forebay-model"]),
    ("forebay-connect", &["forebay-buffer", "forebay-model"]),
    (
        "forebay-ingest",
        &[
            "forebay-buffer",
            "forebay-listener",
            "forebay-log",
            "forebay-meta",
            "forebay-model",
            "forebay-record",
        ],
    ),
    (
        "forebay-delivery",
        &[
            "forebay-ingest",
            "forebay-buffer",
            "forebay-listener",
            "forebay-log",
            "forebay-meta",
            "forebay-model",
            "forebay-record",
            "forebay-connect",
        ],
    ),
    (
        "forebay-jobs",
        &[
            "forebay-listener",
            "forebay-model",
            "forebay-record",
            "forebay-schema",
            "forebay-connect",
        ],
    ),
    (
        "forebay-control",
        &[
            "forebay-api",
            "forebay-meta",
            "forebay-model",
            "forebay-schema",
            "forebay-connect",
        ],
    ),
    (
        "forebay",
        &[
            "forebay-api",
            "forebay-buffer",
            "forebay-control",
            "forebay-delivery",
            "forebay-ingest",
            "forebay-listener",
            "forebay-log",
            "forebay-meta",
            "forebay-model",
            "forebay-jobs",
            "forebay-record",
            "forebay-schema",
            "forebay-connect",
        ],
    ),
    // No crate may use it but for its tests, and it uses none of them.
    ("forebay-test-support", &[]),
];

/// Crates without a runtime, so that any program can embed them.
const WITHOUT_RUNTIME: [&str; 4] = [
    "forebay-model",
    "forebay-record",
    "forebay-api",
    "forebay-schema",
];

fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Names of a package's dependencies, except for its tests.
fn dependencies(package: &serde_json::Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|d| d["kind"].as_str() != Some("dev"))
        .map(|d| d["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let packages = packages();
    assert_eq!(
        packages.len(),
        ALLOWED.len(),
        "a crate was added or removed: update ARCHITECTURE.md"
    );
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = ALLOWED.iter().find(|(n, _)| *n == name).unwrap();
        for used in dependencies(package)
            .iter()
            .filter(|d| d.starts_with("forebay"))
        {
            assert!(
                allowed.contains(&used.as_str()),
                "{name} may not use {used}"
            );
        }
    }
}

#[test]
fn test_support_is_only_a_dev_dependency() {
    for package in packages() {
        let mut all = package["dependencies"].as_array().unwrap().iter();
        let name = package["name"].as_str().unwrap();
        let is_test_only = |d: &serde_json::Value| d["kind"].as_str() == Some("dev");
        assert!(
            all.all(|d| d["name"] != "forebay-test-support" || is_test_only(d)),
            "{name} uses forebay-test-support outside its tests"
        );
    }
}

#[test]
fn libraries_of_values_have_no_runtime() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        if WITHOUT_RUNTIME.contains(&name) {
            assert!(
                !dependencies(&package).contains("tokio"),
                "{name} may not use tokio"
            );
        }
    }
}
