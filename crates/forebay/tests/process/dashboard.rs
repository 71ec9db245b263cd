//! The dashboard in a real Chromium: `ui/test/dashboard.mjs` is what it does there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use forebay_remote::services;

use crate::server::Server;

/// Where its pictures are kept: what a person looks at after a change.
fn screenshots() -> PathBuf {
    std::env::var_os("FOREBAY_TEST_SCREENSHOTS").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots"),
        PathBuf::from,
    )
}

#[test]
fn a_person_sees_and_does_in_a_browser_what_the_dashboard_promises() {
    let name = "a_person_sees_and_does_in_a_browser_what_the_dashboard_promises";
    let Some(chromium) = services::chromium(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    // Nobody listens on that port: tables there fail as those of a server that is away do.
    let text = "table:\n  postgres:\n    url: postgres://nobody@127.0.0.1:1/nothing\n";
    std::fs::write(&file, text).unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &["--config", file.to_str().unwrap()]);
    let token = std::fs::read_to_string(data.join("token")).unwrap();

    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui");
    let ended = Command::new("node")
        .arg("test/dashboard.mjs")
        .current_dir(ui)
        .env("FOREBAY_TEST_CHROMIUM", chromium)
        .env("DASHBOARD_URL", format!("http://{}/ui", server.api))
        .env("DASHBOARD_TOKEN", token.trim())
        .env("DASHBOARD_SCREENSHOTS", screenshots())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let complained = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success(),
        "{said}\n{complained}\n{}",
        server.log()
    );
}
