//! Files of the first start, and errors of a failed one: a sentence and an exit code.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use forebay_test_support::HttpClient;

use crate::server::{Ended, Server, forebay_with};

fn serve(data: &Path, args: &[&str]) -> Ended {
    let mut all = vec!["serve", "--data-dir", data.to_str().unwrap()];
    all.extend_from_slice(args);
    if !args.contains(&"--api-listen") {
        all.extend_from_slice(&["--api-listen", "127.0.0.1:0"]);
    }
    if !args.contains(&"--source-listen") {
        all.extend_from_slice(&["--source-listen", "127.0.0.1:0"]);
    }
    forebay_with(&all)
}

/// The last lines: the sentence, and perhaps a hint.
fn sentence(ended: &Ended) -> String {
    let (_, said) = ended
        .stderr
        .split_once("error: ")
        .unwrap_or_else(|| panic!("{ended:?}"));
    said.to_owned()
}

#[test]
fn the_first_start_creates_a_private_token_and_does_not_log_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new/data");
    let server = Server::start(&data);
    let file = data.join("token");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = std::fs::read_to_string(&file).unwrap();
    let log = server.logged("INFO", "created a token for the management API");
    assert!(
        log.contains(file.to_str().unwrap()) && !log.contains(token.trim()),
        "{log}"
    );
    assert_eq!(server.get("/v1/branches/default/sources").0, 200);
    let bad = [("X-StorageApi-Token", "wrong")];
    let rejected = HttpClient::new(server.api)
        .send("GET", "/v1/branches/default/sources", &bad, b"")
        .unwrap();
    assert_eq!(rejected.status, 401);
    server.kill();
    let again = Server::start(&data);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), token);
    assert_eq!(again.get("/v1/branches/default/sources").0, 200);
}

#[test]
fn an_invalid_token_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t");
    std::fs::write(&file, "two words\n").unwrap();
    let ended = serve(
        &dir.path().join("data"),
        &["--token-file", file.to_str().unwrap()],
    );
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        sentence(&ended).contains("one word") && !ended.stderr.contains("two words"),
        "{ended:?}"
    );
    let ended = serve(&dir.path().join("data"), &["--token-file", "/no/such/file"]);
    assert!(
        ended.code == Some(1) && sentence(&ended).contains("/no/such/file"),
        "{ended:?}"
    );
}

#[test]
fn a_port_in_use_is_reported_with_flag_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let metrics = format!("telemetry.metrics.listen={address}");
    for (flag, value, key) in [
        ("--api-listen", &address, "api.listen"),
        ("--source-listen", &address, "source.http.listen"),
        ("--set", &metrics, "telemetry.metrics.listen"),
    ] {
        let ended = serve(dir.path(), &[flag, value]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = sentence(&ended);
        let flag = if flag == "--set" { "" } else { flag };
        for part in [address.as_str(), flag, key] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn a_directory_in_use_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let ended = serve(dir.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = sentence(&ended);
    assert!(
        said.contains("another process") && said.contains(dir.path().to_str().unwrap()),
        "{said}"
    );
    // The first one continues.
    assert_eq!(server.get("/health/ready").0, 200);
}

#[test]
fn a_directory_of_a_newer_version_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    Server::start(dir.path()).kill();
    let db = rusqlite::Connection::open(dir.path().join("meta.db")).unwrap();
    db.pragma_update(None, "user_version", 999).unwrap();
    drop(db);
    let ended = serve(dir.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(sentence(&ended).contains("version 999"), "{ended:?}");
}

#[test]
fn an_unwritable_directory_is_rejected() {
    // Not even root can create a directory there.
    let ended = serve(Path::new("/proc/forebay/data"), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(sentence(&ended).contains("/proc/forebay/data"), "{ended:?}");
    // A file instead of the directory.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let ended = serve(&file, &[]);
    assert!(
        ended.code == Some(1) && sentence(&ended).contains(file.to_str().unwrap()),
        "{ended:?}"
    );
}

#[test]
fn listeners_on_one_port_are_rejected_before_any_change() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ended = serve(
        &data,
        &[
            "--api-listen",
            "127.0.0.1:7001",
            "--source-listen",
            "127.0.0.1:7001",
        ],
    );
    assert!(
        ended.code == Some(2) && sentence(&ended).contains("clashes"),
        "{ended:?}"
    );
    assert!(!data.exists());
}

/// Errors in the settings of a destination are found before anything is written.
#[test]
fn invalid_settings_of_a_destination_fail_before_the_directory_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = [
        "--set",
        "staging.type=s3",
        "--set",
        "staging.s3.bucket=b",
        "--set",
        "staging.s3.endpoint=http://127.0.0.1:1",
    ];
    let postgres = [
        "--set",
        "table.default=postgres",
        "--set",
        "table.postgres.url=postgres://x@127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/nonexistent",
    ];
    let folder = ["--set", "roles=foo"];
    for args in [&s3[..], &postgres, &folder] {
        let data = dir.path().join("new");
        let ended = serve(&data, args);
        assert!(ended.code.is_some_and(|code| code > 0), "{ended:?}");
        assert!(!data.exists(), "{args:?}: {ended:?}");
    }
}
