//! Results of a job served from a read-only mount; and errors for missing settings.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::job::{job, lines, signal};
use crate::server::{forebay, forebay_with, run, wait_for};

#[test]
fn a_finished_file_is_served_from_a_read_only_directory() {
    let test = "read_only::a_finished_file_is_served_from_a_read_only_directory";
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("disk #1");
    std::fs::create_dir(&at).unwrap();
    let Some(disk) = forebay_log::SmallDisk::mount(&at, "16m", test) else {
        return;
    };
    let file = job(&at, "{ type: files, paths: ['*.jsonl'] }");
    let data = at.join("a.jsonl");
    std::fs::write(&data, lines(100)).unwrap();
    let ended = forebay_with(&["job", "run", &file]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Without leftover files next to it.
    for rest in ["tables.db-wal", "tables.db-shm", "tables.db-journal"] {
        assert!(!at.join(rest).exists(), "{rest}");
    }
    assert!(disk.remount("ro"));
    let config = dir.path().join("lookup.yaml");
    let text = format!(
        "store: {{ type: sqlite, path: '{}' }}\nroutes: [{{ path: /product, table: products }}]\n",
        at.join("tables.db").display()
    );
    std::fs::write(&config, text).unwrap();
    let (child, address) = lookup(&config);
    let get = |path: &str| {
        let url = format!("http://{address}{path}");
        let mut curl = std::process::Command::new("curl");
        run(curl.args(["-s", "-w", " %{http_code}", &url])).stdout
    };
    assert_eq!(get("/product/7"), "{\"id\":7,\"name\":\"n7\"} 200");
    assert!(get("/health").ends_with(" 200"));
    // The file changes meanwhile: later requests return the change.
    assert!(disk.remount("rw"));
    std::fs::write(&data, lines(100).replace("n7\"", "new\"")).unwrap();
    assert_eq!(forebay_with(&["job", "run", &file]).code, Some(0));
    assert!(disk.remount("ro"));
    wait_for("the changed row", || {
        get("/product/7").contains("new").then_some(())
    });
    // Another file in its place.
    assert!(disk.remount("rw"));
    std::fs::remove_file(at.join("tables.db")).unwrap();
    std::fs::write(&data, lines(8)).unwrap();
    assert_eq!(
        forebay_with(&["job", "run", &file, "--fresh"]).code,
        Some(0)
    );
    assert!(disk.remount("ro"));
    wait_for("the other file", || {
        get("/product/99").ends_with(" 404").then_some(())
    });
    assert_eq!(get("/product/7"), "{\"id\":7,\"name\":\"n7\"} 200");
    signal(&child, "-TERM");
    let mut child = child;
    assert!(child.wait().unwrap().success());
}

/// A lookup service and its address.
fn lookup(config: &Path) -> (Child, String) {
    let mut command = forebay();
    command.args(["lookup", "--config", config.to_str().unwrap()]);
    command.args(["--listen", "127.0.0.1:0"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = wait_for("the service", || {
        let line: Value = serde_json::from_str(&said.next()?.unwrap()).ok()?;
        Some(line["address"].as_str()?.to_owned())
    });
    // Reads its output, so that it never blocks.
    std::thread::spawn(move || said.for_each(drop));
    (child, address)
}

#[test]
fn missing_settings_are_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = job(dir.path(), "{ type: files, paths: ['none-*.jsonl'] }");
    let ended = forebay_with(&["job", "run", &file]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("no file matches"), "{ended:?}");
    assert!(
        !ended.stderr.contains("resumes where it stopped"),
        "{ended:?}"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("  table: products\n", "")).unwrap();
    let checked = forebay_with(&["job", "check", &file]);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert_eq!(
        checked.stderr.matches("is missing").count(),
        1,
        "{checked:?}"
    );
    assert!(!checked.stderr.contains("problems"), "{checked:?}");
    let config = dir.path().join("lookup.yaml");
    std::fs::write(&config, "store: { type: sqlite }\nroutes: [{ path: /a }]\n").unwrap();
    let checked = forebay_with(&["lookup", "--config", config.to_str().unwrap()]);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert!(checked.stderr.contains("has 2 problems"), "{checked:?}");
}
