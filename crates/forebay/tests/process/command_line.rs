//! Help, version, completions, pipes.

use std::io::Read;
use std::process::Stdio;

use crate::server::{Server, forebay, forebay_with, run};

/// Every command as its words.
const COMMANDS: [&[&str]; 21] = [
    &["serve"],
    &["demo"],
    &["apply"],
    &["tap"],
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
    &["doctor"],
    &["man"],
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
fn manual_pages_are_written_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let said = forebay_with(&["man", pages.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for name in [
        "forebay.1",
        "forebay-serve.1",
        "forebay-source-create.1",
        "forebay-dead-ls.1",
    ] {
        let page = std::fs::read_to_string(pages.join(name)).unwrap();
        assert!(
            page.contains(".SH NAME") && page.contains(".SH OPTIONS"),
            "{name}"
        );
    }
    assert!(!pages.join("forebay-template-worker.1").exists());
}

#[test]
fn errors_of_commands_with_json_are_json() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let server = Server::start(dir.path());
    for (args, name, code) in [
        (
            &["source", "show", "nope", "--json"][..],
            "stream.api.sourceNotFound",
            1,
        ),
        (&["status", "--json", "--nope"], "usage", 2),
        (&["status", "--json", "--api", "nope"], "usage", 2),
        (
            &["status", "--json", "--api", "http://127.0.0.1:1"],
            "failure",
            1,
        ),
    ] {
        let mut command = forebay();
        let said = run(command.args(args).args(["--data-dir", data]));
        assert_eq!(said.code, Some(code), "{said:?}");
        let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
        assert_eq!(
            (&error["name"], &error["exitCode"]),
            (&name.into(), &code.into()),
            "{said:?}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty(), "{said:?}");
    }
    drop(server);
}

#[test]
fn quiet_has_no_notes_and_verbose_has_the_requests() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.define();
    let list = ["dead", "ls", "events", "events"];
    let said = |more: &[&str]| run(&mut server.command(&[&list[..], more].concat())).stderr;
    assert_eq!(said(&[]), "no dead letters\n");
    assert_eq!(said(&["-q"]), "");
    let verbose = said(&["-v"]);
    assert!(
        verbose.starts_with("GET http://") && verbose.contains(": 200 OK, "),
        "{verbose}"
    );
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
