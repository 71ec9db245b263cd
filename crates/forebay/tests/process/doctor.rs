//! `forebay doctor` and `forebay config check --connect`: each thing that can be broken is found.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use forebay_test_support::services;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::reload;
use crate::server::{Ended, Server, forebay, run};

/// A configuration with listeners on free ports, and further sections.
fn config(dir: &Path, more: &str) -> String {
    let file = dir.join("forebay.yaml");
    let listen = "api: { listen: '127.0.0.1:0' }\nsource: { http: { listen: '127.0.0.1:0' } }\n";
    let listen = if more.contains("listen") { "" } else { listen };
    let data = dir.join("data");
    std::fs::write(
        &file,
        format!("dataDir: {}\n{listen}{more}", data.display()),
    )
    .unwrap();
    file.to_str().unwrap().to_owned()
}

fn doctor(config: &str) -> Ended {
    run(forebay().args(["doctor", "--config", config]))
}

/// The line of a check.
fn line<'a>(said: &'a Ended, name: &str) -> &'a str {
    let mut lines = said.stdout.lines();
    let found = lines.find(|l| l.chars().skip(2).collect::<String>().starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {said:?}"))
}

#[test]
fn a_healthy_machine_has_no_failed_check() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "");
    let said = doctor(&config);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    for name in [
        "data directory",
        "free space",
        "fsync",
        "clock",
        "open files",
        "api.listen",
        "token",
        "staging",
    ] {
        assert!(line(&said, name).starts_with('✓'), "{said:?}");
    }
    for name in ["PostgreSQL", "providers", "server"] {
        assert!(line(&said, name).starts_with('–'), "{said:?}");
    }
    // Nothing is left behind.
    assert!(!dir.path().join("data").exists());
    let json = run(forebay().args(["doctor", "--json", "--config", &config]));
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(report["failed"], 0);
    assert_eq!(report["findings"][0]["state"], "ok");
}

#[test]
fn directories_tokens_and_ports_that_are_wrong_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&data, 0o777);
    let token = data.join("token");
    std::fs::write(&token, "short").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("api: {{ listen: '{address}' }}\n");
    let said = doctor(&config(dir.path(), &listen));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("checks failed"), "{said:?}");
    let directory = line(&said, "data directory");
    assert!(
        directory.starts_with('✗') && directory.contains("chmod 700"),
        "{directory}"
    );
    assert!(line(&said, "token").starts_with('✗'), "{said:?}");
    let port = line(&said, "api.listen");
    let pid = format!("process {}", std::process::id());
    assert!(port.starts_with('✗') && port.contains(&pid), "{port}");

    mode(&data, 0o700);
    std::fs::write(&token, "a-token-that-is-long-enough").unwrap();
    mode(&token, 0o644);
    let said = doctor(&config(dir.path(), ""));
    let found = line(&said, "token");
    assert!(
        found.starts_with('✗') && found.contains("chmod 600"),
        "{found}"
    );
    // A directory of something else.
    std::fs::write(data.join("other.txt"), "x").unwrap();
    std::fs::remove_file(&token).unwrap();
    let said = doctor(&config(dir.path(), ""));
    assert!(line(&said, "data directory").starts_with('✗'), "{said:?}");
}

#[test]
fn a_running_server_holds_its_ports_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let listen = format!(
        "api: {{ listen: '{}' }}\nsource: {{ http: {{ listen: '{}' }} }}\n",
        server.api, server.source
    );
    let said = doctor(&config(dir.path(), &listen));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        line(&said, "api.listen").contains("by the server of this data directory"),
        "{said:?}"
    );
    assert!(line(&said, "server").starts_with('✓'), "{said:?}");
}

#[test]
fn systems_that_do_not_answer_are_found() {
    let dir = tempfile::tempdir().unwrap();
    // A port where nothing listens.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let more = format!(
        "staging:\n  type: s3\n  s3: {{ bucket: b, endpoint: 'http://{closed}', allowHttp: true, accessKeyId: a, secretAccessKey: b, retries: 0, retryTimeout: 1s }}\n\
         table:\n  default: postgres\n  postgres: {{ url: 'postgres://u:p@{closed}/d', sslMode: disable }}\n\
         providers:\n  - {{ name: hook, type: http, url: 'http://{closed}/x' }}\n  - {{ name: far, type: http, url: 'https://no-such-host.invalid/x' }}\n"
    );
    let config = config(dir.path(), &more);
    let said = run(forebay().args(["config", "check", "--connect", "--config", &config]));
    assert_eq!(said.code, Some(1), "{said:?}");
    for name in ["staging", "PostgreSQL", "provider hook", "provider far"] {
        assert!(line(&said, name).starts_with('✗'), "{name}: {said:?}");
    }
    assert!(
        line(&said, "provider far").contains("can't look no-such-host.invalid up"),
        "{said:?}"
    );
    // Without --connect the values are valid.
    let said = run(forebay().args(["config", "check", "--config", &config]));
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_certificate_that_can_not_be_read_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    std::fs::write(&cert, "not a certificate").unwrap();
    std::fs::write(&key, "not a key").unwrap();
    let tls = format!(
        "api: {{ listen: '127.0.0.1:0', tls: {{ certFile: {}, keyFile: {} }} }}\nsource: {{ http: {{ listen: '127.0.0.1:0' }} }}\n",
        cert.display(),
        key.display()
    );
    let said = doctor(&config(dir.path(), &tls));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(line(&said, "api.tls").starts_with('✗'), "{said:?}");
}

#[test]
fn real_services_are_checked_with_their_rights() {
    let name = "real_services_are_checked_with_their_rights";
    let (Some(postgres), Some(s3)) = (services::postgres(name), services::s3(name)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let secret = s3.secret_key.expose_secret();
    let ca = postgres
        .ca_file
        .map(|f| format!(", caFile: {f}"))
        .unwrap_or_default();
    let with = |secret: &str| {
        format!(
            "staging:\n  type: s3\n  s3: {{ bucket: {}, prefix: doctor, endpoint: '{}', accessKeyId: {}, secretAccessKey: {secret}, retries: 0 }}\n\
             table:\n  default: postgres\n  postgres: {{ url: '{}'{ca} }}\n",
            s3.bucket, s3.endpoint, s3.access_key, postgres.url
        )
    };
    let said = doctor(&config(dir.path(), &with(secret)));
    assert!(
        line(&said, "staging").contains("list, put, get and delete work"),
        "{said:?}"
    );
    let found = line(&said, "PostgreSQL");
    // A test server may run without fsync, which is a finding.
    assert!(
        found.contains("may create schemas") || found.contains("turn on fsync"),
        "{found}"
    );
    let said = doctor(&config(dir.path(), &with("wrong-key")));
    assert!(line(&said, "staging").starts_with('✗'), "{said:?}");
}

#[test]
fn the_certificate_of_a_provider_is_verified() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    reload::put(dir.path(), "first");
    let tls = reload::write(dir.path(), "");
    let server = Server::spawn(
        &dir.path().join("data"),
        &["--config", tls.to_str().unwrap()],
    );
    let provider = format!(
        "providers: [{{ name: hook, type: http, url: 'https://{}/in?secret=hush' }}]\n",
        server.source
    );
    let config = config(other.path(), &provider);
    let trusting = |which: &str| {
        let mut command = forebay();
        command.env(
            "SSL_CERT_FILE",
            reload::fixture(&format!("{which}.cert.pem")),
        );
        run(command.args(["doctor", "--config", &config]))
    };
    let said = trusting("first");
    let found = line(&said, "provider hook");
    assert!(
        found.starts_with('✓') && found.contains("TLS works"),
        "{said:?}"
    );
    let said = trusting("second");
    let found = line(&said, "provider hook");
    assert!(
        found.starts_with('✗') && found.contains("certificate"),
        "{said:?}"
    );
    assert!(!said.stdout.contains("hush"), "{said:?}");
}

#[test]
fn a_machine_without_ca_certificates_can_use_http() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let bare = |args: &[&str]| {
        let mut command = server.command(args);
        command.env("SSL_CERT_FILE", dir.path().join("none.pem"));
        command.env("SSL_CERT_DIR", dir.path().join("none"));
        run(&mut command)
    };
    let listed = bare(&["source", "ls"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let secure = bare(&["source", "ls", "--api", "https://127.0.0.1:1"]);
    assert_eq!(secure.code, Some(1), "{secure:?}");
    for part in ["https needs CA certificates", "ca-certificates", "--api-ca"] {
        assert!(secure.stderr.contains(part), "{part}: {secure:?}");
    }
}
