//! Runs `ui/test/dashboard.mjs` against the dashboard in a real Chromium.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use forebay_test_support::{HttpEndpoint, http_response, services};

use crate::server::Server;

/// Directory of screenshots for review after a change.
fn screenshots() -> PathBuf {
    std::env::var_os("FOREBAY_TEST_SCREENSHOTS").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots"),
        PathBuf::from,
    )
}

/// An endpoint that rejects each message for good, and accepts its replay.
fn endpoint() -> SocketAddr {
    let rejected: Mutex<HashMap<String, String>> = Mutex::default();
    let endpoint = HttpEndpoint::start(move |request, _| {
        let key = &request.headers["idempotency-key"];
        let mut rejected = rejected.lock().unwrap();
        let first = rejected
            .entry(request.body.clone())
            .or_insert_with(|| key.clone());
        http_response(
            if first == key {
                "422 Unprocessable Content"
            } else {
                "200 OK"
            },
            "",
        )
    });
    endpoint.address()
}

#[test]
fn the_dashboard_works_in_a_browser() {
    let name = "the_dashboard_works_in_a_browser";
    let Some(chromium) = services::chromium(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    // No server listens on that port: tables there fail as with an unreachable server.
    let text = format!(
        "table: {{postgres: {{url: 'postgres://nobody@127.0.0.1:1/nothing'}}}}\nproviders: [{{name: hook, type: http, url: 'http://{}/in'}}]\ntopics: {{attempts: 1}}\n",
        endpoint()
    );
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
