//! A log that was damaged, deleted, mixed or replaced while the server was down: the server starts,
//! each loss is reported and counted, the accepted count never decreases, and new records are
//! delivered.

use std::path::Path;
use std::process::Command;

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use super::disks::copy;
use super::server::{Launch, Server, wait_for};
use super::world::{self, balance};

/// Records before the damage, and after it.
const BEFORE: u64 = 10;
const AFTER: u64 = 20;

/// Nothing is uploaded before the source is disabled.
fn launch(root: &Path) -> Launch {
    Launch::new(root)
        .set("log.segmentSize", "1MB")
        .set("coordinator.checkInterval", "100ms")
        .set("upload.checkInterval", "100ms")
        .set("import.checkInterval", "100ms")
        .set("garbageCollection.interval", "1s")
        .set("storage.level.staging.upload.trigger.interval", "30m")
        .set("storage.level.target.import.trigger.interval", "24h")
}

fn post(server: &Server, path: &str, records: u64) {
    let headers = [("Content-Type", "application/json")];
    for record in 0..records {
        let body = json!({"record": record}).to_string();
        let answer = HttpClient::new(server.source).send("POST", path, &headers, body.as_bytes());
        assert_eq!(answer.unwrap().status, 200, "{}", server.log());
    }
}

/// Disables the source, which closes open slices and files, so that everything is imported.
fn disable(server: &Server) {
    server.task(
        "PUT",
        &format!("{}/torture/disable", world::SOURCES),
        &Value::Null,
    );
}

/// Waits until the store has the accepted count.
fn reported(server: &Server, accepted: u64) {
    wait_for("the report of accepted records", || {
        (balance(server, "bodies")["accepted"] == json!(accepted)).then_some(())
    });
}

fn segments(log: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(log).unwrap().map(|e| e.unwrap().path());
    let is_segment = |p: &std::path::PathBuf| p.to_str().unwrap().contains("segment-");
    all.filter(is_segment).collect()
}

type Damage = fn(root: &Path, log: &Path);

const CASES: [(&str, Damage, u64); 7] = [
    ("a byte of the file `volume`", flip_volume, 0),
    (
        "no file `volume`",
        |_, log| std::fs::remove_file(log.join("volume")).unwrap(),
        0,
    ),
    (
        "an empty file `volume`",
        |_, log| std::fs::write(log.join("volume"), "").unwrap(),
        0,
    ),
    ("no segments", remove_segments, BEFORE),
    (
        "no directory",
        |_, log| std::fs::remove_dir_all(log).unwrap(),
        BEFORE,
    ),
    ("an older copy", replace_by_copy, 6),
    ("a segment of another volume", add_foreign, 0),
];

fn flip_volume(_: &Path, log: &Path) {
    let mut bytes = std::fs::read(log.join("volume")).unwrap();
    bytes[30] ^= 1;
    std::fs::write(log.join("volume"), bytes).unwrap();
}

fn remove_segments(_: &Path, log: &Path) {
    for segment in segments(log) {
        std::fs::remove_file(segment).unwrap();
    }
}

fn replace_by_copy(root: &Path, log: &Path) {
    std::fs::remove_dir_all(log).unwrap();
    copy(&root.join("older"), log);
}

fn add_foreign(root: &Path, log: &Path) {
    let root = root.join("other");
    std::fs::create_dir(&root).unwrap();
    let other = launch(&root).start();
    let path = world::define_bodies(&other);
    post(&other, &path, 7);
    other.kill();
    let segment = segments(&root.join("data/log")).pop().unwrap();
    std::fs::copy(segment, log.join("segment-0000000000004000.seg")).unwrap();
}

#[test]
fn losses_of_the_log_are_reported_and_the_rest_is_delivered() {
    for (what, damage, lost) in CASES {
        let root = tempfile::tempdir().unwrap();
        let mut server = launch(root.path()).start();
        let log = server.launch.data.join("log");
        let path = world::define_bodies(&server);
        post(&server, &path, 4);
        copy(&log, &root.path().join("older"));
        post(&server, &path, BEFORE - 4);
        reported(&server, BEFORE);
        server.kill();
        damage(root.path(), &log);
        server.restart();
        let said = server.log();
        assert!(said.contains("\"ERROR\""), "{what}: {said}");
        let named = said.contains("acknowledged records are missing in the log");
        assert_eq!(named, lost > 0, "{what}: {said}");
        for restart in [false, true] {
            if restart {
                server.kill_and_restart();
            }
            // The next report updates the store.
            wait_for(&format!("the loss of {what}"), || {
                let now = balance(&server, "bodies");
                assert_eq!(now["accepted"], json!(BEFORE), "{what}: {now}");
                assert_eq!(now["holds"], json!(true), "{what}: {now}");
                (now["lost"] == json!(lost) && now["inFlight"] == json!(BEFORE - lost))
                    .then_some(())
            });
        }
        post(&server, &path, AFTER);
        disable(&server);
        wait_for(&format!("what came after {what}"), || {
            let now = balance(&server, "bodies");
            assert_eq!(now["holds"], json!(true), "{what}: {now}");
            assert!(now["accepted"].as_u64().unwrap() >= BEFORE, "{what}: {now}");
            let all = now["accepted"] == json!(BEFORE + AFTER)
                && now["imported"] == json!(BEFORE + AFTER - lost)
                && now["lost"] == json!(lost);
            (all && now["inFlight"] == json!(0)).then_some(())
        });
    }
}

/// A crash loses record counts that were not reported to the store, but no record: nothing counts as
/// lost.
#[test]
fn a_crash_is_no_loss() {
    let root = tempfile::tempdir().unwrap();
    let mut server = launch(root.path()).start();
    let path = world::define_bodies(&server);
    let mut accepted = 0;
    for records in [1, 3, 2] {
        post(&server, &path, records);
        accepted += records;
        server.kill_and_restart();
        reported(&server, accepted);
        let now = balance(&server, "bodies");
        assert_eq!((&now["lost"], &now["holds"]), (&json!(0), &json!(true)));
        assert!(!server.log().contains("\"ERROR\""), "{}", server.log());
    }
}

/// Runs a command on a data directory, optionally dying at a fail point; then there is no exit code.
pub(super) fn forebay(data: &Path, args: &[&str], dies_at: Option<&str>) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .env_clear()
        .envs(dies_at.map(|point| ("FAILPOINT", point)))
        .args(args)
        .arg("--data-dir")
        .arg(data)
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(text).unwrap())
}

/// Restarts a killed server without its metadata, which the operator has to accept.
pub(super) fn lose_metadata(server: &mut Server) {
    for file in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        drop(std::fs::remove_file(server.launch.data.join(file)));
    }
    server.launch.args.push("--accept-metadata-loss".to_owned());
    server.restart();
    server.launch.args.pop();
}

#[test]
fn an_unknown_stream_can_be_delivered_once() {
    let root = tempfile::tempdir().unwrap();
    let mut server = launch(root.path()).start();
    let data = server.launch.data.clone();
    let path = world::define_bodies(&server);
    post(&server, &path, BEFORE);
    server.kill();
    lose_metadata(&mut server);
    let path = world::define_bodies(&server);
    let (code, said) = forebay(&data, &["log", "deliver", "--all"], None);
    assert_eq!(code, Some(1), "the server runs: {said}");
    assert!(said.contains("stop the server"), "{said}");
    server.kill();
    let (code, said) = forebay(&data, &["log", "ls", "--json"], None);
    assert_eq!(code, Some(0), "{said}");
    let streams: Vec<Value> = serde_json::from_str(&said).unwrap();
    let kept = streams.iter().find(|s| s["records"] == json!(BEFORE));
    let kept = kept.unwrap()["name"].as_str().unwrap();
    let (code, said) = forebay(
        &data,
        &["log", "deliver", kept, "--sink", "torture/none"],
        None,
    );
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = forebay(&data, &["log", "deliver", "--all"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("{kept}: {BEFORE} rows queued")),
        "{said}"
    );
    let (code, said) = forebay(&data, &["log", "deliver", kept], None);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no stream"), "{said}");
    let (code, said) = forebay(&data, &["log", "deliver", "--all"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing to deliver"), "{said}");
    server.restart();
    post(&server, &path, AFTER);
    disable(&server);
    wait_for("the kept rows and those after them in the table", || {
        let now = balance(&server, "bodies");
        assert_eq!(now["holds"], json!(true), "{now}");
        let imported = now["imported"].as_u64().unwrap();
        assert!(imported <= BEFORE + AFTER, "{now}");
        (imported == BEFORE + AFTER && now["inFlight"] == json!(0)).then_some(())
    });
}

/// Started without the right disk, the server counts missing records as lost. After the disk is back
/// its contents are retained and can be delivered.
#[test]
fn a_log_that_was_unavailable_is_not_deleted_when_it_returns() {
    let root = tempfile::tempdir().unwrap();
    let mut server = launch(root.path()).start();
    let data = server.launch.data.clone();
    let (log, unavailable) = (data.join("log"), root.path().join("away"));
    let path = world::define_bodies(&server);
    post(&server, &path, BEFORE);
    reported(&server, BEFORE);
    server.kill();
    std::fs::rename(&log, &unavailable).unwrap();
    server.restart();
    disable(&server);
    wait_for("the file without its records", || {
        let now = balance(&server, "bodies");
        assert_eq!(now["holds"], json!(true), "{now}");
        (now["lost"] == json!(BEFORE) && now["inFlight"] == json!(0)).then_some(())
    });
    server.kill();
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(&unavailable, &log).unwrap();
    server.restart();
    wait_for("the stream to be named", || {
        let named = "counted as lost when its slice was imported";
        server.log().contains(named).then_some(())
    });
    server.task(
        "PUT",
        &format!("{}/torture/enable", world::SOURCES),
        &Value::Null,
    );
    server.kill();
    let (code, said) = forebay(&data, &["log", "deliver", "--all"], None);
    assert_eq!(code, Some(0), "{said}");
    server.restart();
    disable(&server);
    wait_for("the rows in the table", || {
        let now = balance(&server, "bodies");
        assert_eq!(now["holds"], json!(true), "{now}");
        (now["imported"] == json!(BEFORE) && now["inFlight"] == json!(0)).then_some(())
    });
}
