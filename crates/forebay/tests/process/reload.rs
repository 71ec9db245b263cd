//! TLS of the API, and SIGHUP: certificates and settings are reloaded while requests continue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::server::{Server, forebay, run, wait_for};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub(crate) fn put(dir: &Path, which: &str) {
    for part in ["cert", "key"] {
        let from = fixture(&format!("{which}.{part}.pem"));
        std::fs::copy(from, dir.join(format!("{part}.pem"))).unwrap();
    }
}

/// A client that trusts only one certificate.
fn trusting(which: &str) -> reqwest::Client {
    let pem = std::fs::read(fixture(&format!("{which}.cert.pem"))).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

async fn status(client: &reqwest::Client, url: &str) -> Option<u16> {
    let response = client.get(url).send().await.ok()?;
    let status = response.status().as_u16();
    // Read to the end, so that the connection is reused.
    response.bytes().await.ok()?;
    Some(status)
}

pub(crate) fn write(dir: &Path, more: &str) -> PathBuf {
    let file = dir.join("forebay.yaml");
    let tls = format!(
        "{{certFile: {0}/cert.pem, keyFile: {0}/key.pem}}",
        dir.display()
    );
    let text = format!("api.tls: {tls}\nsource.http.tls: {tls}\n{more}\n");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn certificates_are_replaced_without_closing_connections() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "first");
    let config = write(dir.path(), "");
    let data = dir.path().join("data");
    let server = Server::spawn(&data, &["--config", config.to_str().unwrap()]);
    let urls = [
        format!("https://{}/health/live", server.api),
        format!("https://{}/health-check", server.source),
    ];
    let (old, new) = (trusting("first"), trusting("second"));
    runtime.block_on(async {
        for url in &urls {
            assert_eq!(status(&old, url).await, Some(200), "{url}");
            assert_eq!(status(&new, url).await, None, "{url}");
        }
        put(dir.path(), "second");
        server.signal("HUP");
        server.logged("INFO", "configuration reloaded");
        for url in &urls {
            // Its open connection still works; a new one fails.
            assert_eq!(status(&old, url).await, Some(200), "{url}");
            assert_eq!(status(&trusting("first"), url).await, None, "{url}");
            assert_eq!(status(&trusting("second"), url).await, Some(200), "{url}");
        }
        // An invalid certificate, and a key of another one.
        std::fs::write(dir.path().join("cert.pem"), "broken").unwrap();
        server.signal("HUP");
        server.logged("ERROR", "it holds no certificate");
        let key = fixture("first.key.pem");
        put(dir.path(), "second");
        std::fs::copy(key, dir.path().join("key.pem")).unwrap();
        server.signal("HUP");
        server.logged("ERROR", "certificate and key can't be used");
        for url in &urls {
            assert_eq!(status(&trusting("second"), url).await, Some(200), "{url}");
        }
    });
    // The command line: with the configuration, with a CA file, and without.
    let api = format!("https://{}", server.api);
    let list = |more: &[&str]| {
        let mut command = forebay();
        command.args([
            "source",
            "ls",
            "--api",
            &api,
            "--data-dir",
            data.to_str().unwrap(),
        ]);
        run(command.args(more))
    };
    let ca = fixture("second.cert.pem");
    assert_eq!(list(&["--api-ca", ca.to_str().unwrap()]).code, Some(0));
    assert_eq!(list(&["--config", config.to_str().unwrap()]).code, Some(0));
    // The address is also in the data directory.
    let mut command = forebay();
    command.args(["source", "ls", "--data-dir", data.to_str().unwrap()]);
    let found = run(command.args(["--config", config.to_str().unwrap()]));
    assert_eq!(found.code, Some(0), "{found:?}");
    let untrusted = list(&[]);
    assert_eq!(untrusted.code, Some(1), "{untrusted:?}");
    assert!(untrusted.stderr.contains("--api-ca"), "{untrusted:?}");
}

#[test]
fn settings_are_reloaded_atomically_and_pending_restarts_are_reported() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "first");
    let config = write(dir.path(), "");
    let data = dir.path().join("data");
    let server = Server::spawn(&data, &["--config", config.to_str().unwrap()]);
    let client = trusting("first");
    let url = format!("https://{}/v1/branches/default/sources", server.api);
    let with = |token: &'static str| {
        runtime.block_on(async {
            let request = client.get(&url).header("X-StorageApi-Token", token);
            request.send().await.unwrap().status().as_u16()
        })
    };
    assert_eq!(with("another-token"), 401);
    let hash = sha256("another-token");
    let broken = format!("api.tokens: [{{id: b, project: 1, sha256: {hash}}}]\nlog.sync: never");
    write(dir.path(), &broken);
    server.signal("HUP");
    let line = server.logged("ERROR", "nothing has changed");
    assert!(line.contains("log.sync"), "{line}");
    assert_eq!(with("another-token"), 401);
    let good = format!(
        "api.tokens: [{{id: b, project: 1, sha256: {hash}}}]\n\
         telemetry.log.level: debug\napi.maxConnections: 77"
    );
    write(dir.path(), &good);
    server.signal("HUP");
    let line = server.logged("INFO", "configuration reloaded");
    assert!(
        line.contains("api.tokens") && line.contains("telemetry.log.level"),
        "{line}"
    );
    let line = server.logged("WARN", "need a restart");
    assert!(
        line.contains("api.maxConnections") && !line.contains("api.tokens"),
        "{line}"
    );
    assert_eq!(with("another-token"), 200);
    assert_eq!(with("a-third-token"), 401);
    // Such lines have the level debug.
    server.logged("DEBUG", "request rejected");
    // The server's token is reloaded, too.
    std::fs::write(data.join("token"), "fresh-token\n").unwrap();
    server.signal("HUP");
    wait_for("the fresh token", || {
        (with("fresh-token") == 200).then_some(())
    });
}

fn sha256(text: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}
