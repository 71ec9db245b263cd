//! Help, version, completions, pipes.

use std::io::Read;
use std::process::Stdio;

use crate::server::{forebay, forebay_with};

/// Every command as its words.
const COMMANDS: [&[&str]; 18] = [
    &["serve"],
    &["demo"],
    &["apply"],
    &["test"],
    &["source"],
    &["source", "create"],
    &["source", "ls"],
    &["source", "show"],
    &["source", "delete"],
    &["query"],
    &["log"],
    &["log", "ls"],
    &["log", "cat"],
    &["log", "verify"],
    &["log", "stat"],
    &["config"],
    &["config", "check"],
    &["completions"],
];

#[test]
fn every_command_has_help_and_the_main_ones_have_examples() {
    for words in COMMANDS {
        let mut args = words.to_vec();
        args.push("--help");
        let said = forebay_with(&args);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.stdout.contains("Usage: forebay"), "{}", said.stdout);
        assert!(
            said.stdout.lines().all(|l| l.chars().count() <= 120),
            "{}",
            said.stdout
        );
        if words.len() == 1 && words != ["source"] {
            assert!(said.stdout.contains("Example"), "{words:?} has no example");
        }
    }
    let all = forebay_with(&["--help"]).stdout;
    assert!(
        all.contains("Exit codes:") && !all.contains("template-worker"),
        "{all}"
    );
}

#[test]
fn the_version_names_commit_and_target() {
    for args in [["version"], ["--version"]] {
        let said = forebay_with(&args).stdout;
        let start = concat!("forebay ", env!("CARGO_PKG_VERSION"), " (");
        assert!(said.starts_with(start) && said.contains("linux"), "{said}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [
        &["nope"][..],
        &["serve", "--nope"],
        &["query"],
        &[],
        &["demo", "--rate", "0"],
    ] {
        let said = forebay_with(args);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(
            said.stdout.is_empty() && !said.stderr.is_empty(),
            "{said:?}"
        );
    }
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = forebay_with(&["completions", shell]);
        assert!(
            said.stdout.contains("forebay") && said.stdout.contains("data-dir"),
            "{shell}"
        );
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let mut child = forebay()
        .args(["config", "schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As `| head -c 0` does.
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
