//! Real disk conditions: full, read-only, copied while written, damaged.

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_log::SmallDisk;
use forebay_test_support::{HttpClient, HttpResponse, SeededRandom};
use serde_json::{Value, json};

use super::server::{Launch, Server, wait_for};
use super::world::{self, balance};

/// A separate file system.
struct Volume {
    disk: SmallDisk,
    at: PathBuf,
}

impl Volume {
    /// `None` when this process has nothing to test: see [`SmallDisk::mount`].
    fn mount(at: PathBuf, size: &str, test: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let disk = SmallDisk::mount(&at, size, test)?;
        Some(Self { disk, at })
    }
}

fn post(server: &Server, path: &str, number: u64, pad: usize) -> HttpResponse {
    let id = format!("0-{number}");
    let check = super::client::check_of(&id);
    let pad = "x".repeat(pad);
    let body = json!({"id": id, "nested": {"check": check}, "pad": pad}).to_string();
    let headers = [("Content-Type", "application/json")];
    let mut client = HttpClient::new(server.source);
    client
        .send("POST", path, &headers, body.as_bytes())
        .unwrap()
}

const SINKS: [&str; 2] = [world::SINKS[0].0, world::SINKS[1].0];

/// A record that takes 200 KB on disk: its text can't be compressed to less than half.
fn post_large(server: &Server, path: &str, random: &mut SeededRandom) -> HttpResponse {
    let text: String = (0..25_000)
        .map(|_| format!("{:016x}", random.next_u64()))
        .collect();
    let body = json!({"text": text}).to_string();
    let headers = [("Content-Type", "application/json")];
    let mut client = HttpClient::new(server.source);
    client
        .send("POST", path, &headers, body.as_bytes())
        .unwrap()
}

/// Waits until exactly these records are in the tables of these sinks.
fn settled(server: &Server, sinks: &[&str], acknowledged: u64) {
    for sink in sinks {
        wait_for("all acknowledged records in the table", || {
            let balance = balance(server, sink);
            let imported = balance["imported"].as_u64().unwrap();
            assert!(imported <= acknowledged, "{balance}");
            (imported == acknowledged && balance["inFlight"] == 0).then_some(())
        });
    }
}

/// The sentence after `error: `, without hints.
fn sentence(said: &str) -> &str {
    let (_, sentence) = said
        .split_once("error: ")
        .unwrap_or_else(|| panic!("{said}"));
    sentence
}

#[test]
fn a_full_volume_responds_503_and_recovers_when_there_is_space() {
    let test = "disks::a_full_volume_responds_503_and_recovers_when_there_is_space";
    let root = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(root.path().join("volume"), "96m", test) else {
        return;
    };
    let launch = Launch::on(&volume.at.join("data"), root.path())
        .set("log.segmentSize", "4MB")
        .set("log.minFreeBytes", "16MB");
    let server = launch.start();
    let path = world::define_bodies(&server);
    let mut random = SeededRandom::new(1);
    for _ in 0..5 {
        assert_eq!(post_large(&server, &path, &mut random).status, 200);
    }
    let mut stored = 5;
    // Another program uses the space.
    let filler = volume.at.join("filler");
    let free = || {
        let out = Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&volume.at)
            .output();
        let text = String::from_utf8(out.unwrap().stdout).unwrap();
        text.lines().last().unwrap().trim().parse::<u64>().unwrap()
    };
    // All but 8 MB, which is less than `log.minFreeBytes`.
    let leave = 8 << 20;
    let size = free().saturating_sub(leave);
    std::fs::write(&filler, vec![1; usize::try_from(size).unwrap()]).unwrap();
    let rejected = wait_for("a rejection because of a full disk", || {
        let answer = post_large(&server, &path, &mut random);
        let is_stored = answer.status == 200;
        stored += u64::from(is_stored);
        (!is_stored).then_some(answer)
    });
    assert_eq!(rejected.status, 503, "{}", rejected.json());
    let text = rejected.json().to_string();
    assert!(text.contains("stream.in.insufficientStorage"), "{text}");
    std::fs::remove_file(&filler).unwrap();
    wait_for("free space", || {
        (post_large(&server, &path, &mut random).status == 200).then_some(())
    });
    settled(&server, &["bodies"], stored + 1);
}

/// Sinks whose first block meets the full volume: the log has no declaration of their streams.
#[test]
fn a_sink_whose_first_record_met_a_full_volume_recovers_when_there_is_space() {
    let test = "disks::a_sink_whose_first_record_met_a_full_volume_recovers_when_there_is_space";
    let root = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(root.path().join("volume"), "128m", test) else {
        return;
    };
    let launch = Launch::on(&volume.at.join("data"), root.path())
        .set("log.segmentSize", "4MB")
        .set("log.minFreeBytes", "24MB");
    let server = launch.start();
    world::define_bodies(&server);
    let mut paths = Vec::new();
    for number in 0..8 {
        let id = format!("fresh{number}");
        let source = json!({"type": "http", "name": id, "sourceId": id});
        server.task("POST", world::SOURCES, &source);
        let sink = json!({"type": "table", "name": "bodies", "sinkId": "bodies", "table": {
            "type": "keboola", "tableId": format!("in.torture.{id}"),
            "mapping": {"columns": [{"type": "body", "name": "body"}]}}});
        server.task("POST", &format!("{}/{id}/sinks", world::SOURCES), &sink);
        let source = server.call("GET", &format!("{}/{id}", world::SOURCES), &Value::Null);
        let url = source["http"]["url"].as_str().unwrap();
        let (_, path) = url.split_once("/stream/").unwrap();
        paths.push(format!("/stream/{path}"));
    }
    // Another program uses the space, except for a block or two.
    let filler = volume.at.join("filler");
    let out = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(&volume.at)
        .output();
    let text = String::from_utf8(out.unwrap().stdout).unwrap();
    let free: u64 = text.lines().last().unwrap().trim().parse().unwrap();
    let size = free.saturating_sub(25 << 20);
    std::fs::write(&filler, vec![1; usize::try_from(size).unwrap()]).unwrap();
    let rejected = std::thread::scope(|scope| {
        let posts: Vec<_> = paths
            .iter()
            .enumerate()
            .map(|(i, path)| {
                let server = &server;
                scope.spawn(move || {
                    let mut random = SeededRandom::new(i as u64);
                    let answers = (0..30).map(|_| post_large(server, path, &mut random).status);
                    answers.filter(|status| *status == 503).count()
                })
            })
            .collect();
        posts.into_iter().map(|p| p.join().unwrap()).sum::<usize>()
    });
    assert!(rejected > 0, "the volume was not full");
    std::fs::remove_file(&filler).unwrap();
    let since = std::time::Instant::now();
    for path in &paths {
        wait_for("free space", || {
            (post_large(&server, path, &mut SeededRandom::new(9)).status == 200).then_some(())
        });
    }
    let took = since.elapsed();
    assert!(
        took < std::time::Duration::from_secs(8),
        "{took:?} for eight sinks"
    );
}

#[test]
fn a_full_volume_is_reported_and_not_ready_and_a_start_on_a_full_disk_recovers() {
    let test = "disks::a_full_volume_is_reported_and_not_ready_and_a_start_on_a_full_disk_recovers";
    let root = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(root.path().join("volume"), "192m", test) else {
        return;
    };
    let launch = Launch::on(&volume.at.join("data"), root.path())
        .set("log.segmentSize", "4MB")
        .set("log.minFreeBytes", "64MB")
        .set("metadata.reserveSize", "8MB")
        // Nothing is imported yet, so no space is freed in between.
        .set("roles", "api,source,coordinator");
    let mut server = launch.start();
    let path = world::define_bodies(&server);
    let mut random = SeededRandom::new(7);
    let reserve = server.launch.data.join("reserve");
    wait_for("the reserve", || reserve.exists().then_some(()));
    let fill = |file: &str, leave: u64| {
        use std::io::Write;
        let mut file = std::fs::File::create(volume.at.join(file)).unwrap();
        let size = free_bytes(&volume.at).saturating_sub(leave);
        let written = file.write_all(&vec![1; usize::try_from(size).unwrap()]);
        assert!(written.is_ok() || leave == 0, "{written:?}");
    };
    // Less than `log.minFreeBytes`.
    fill("filler", 8 << 20);
    let mut stored = 0;
    wait_for("a rejection because of a full disk", || {
        let answer = post_large(&server, &path, &mut random);
        stored += u64::from(answer.status == 200);
        (answer.status == 503).then_some(())
    });
    is_named_as_full(&server, &path, &mut random);

    // No block is free, and the process is killed.
    server.kill();
    fill("more", 0);
    assert!(free_bytes(&volume.at) < 1 << 20);
    server.launch = server
        .launch
        .clone()
        .set("roles", "api,source,storage,coordinator");
    server.restart_unready();
    wait_for("the server with a full disk", || {
        let ready = server.get("/health/ready").ok()?;
        let causes = ready.json()["causes"].to_string();
        (ready.status == 503 && causes.contains("is full")).then_some(())
    });
    assert!(!reserve.exists(), "the reserve was deleted");
    for file in ["filler", "more"] {
        std::fs::remove_file(volume.at.join(file)).unwrap();
    }
    wait_for("readiness", || {
        (server.get("/health/ready").unwrap().status == 200).then_some(())
    });
    wait_for("the end of the condition in the log", || {
        server.log().contains("has space again").then_some(())
    });
    assert_eq!(post_large(&server, &path, &mut random).status, 200);
    settled(&server, &["bodies"], stored + 1);
    wait_for("the new reserve", || reserve.exists().then_some(()));
}

/// A full volume is logged once, shown in health and metrics, and rejects each record.
fn is_named_as_full(server: &Server, path: &str, random: &mut SeededRandom) {
    let ready = wait_for("a server that is not ready", || {
        let ready = server.get("/health/ready").unwrap();
        (ready.status == 503).then(|| ready.json())
    });
    let cause = &ready["causes"][0];
    assert_eq!(cause["part"], "log", "{ready}");
    assert!(
        cause["cause"].as_str().unwrap().contains("is full"),
        "{ready}"
    );
    assert!(
        cause["availableBytes"].is_u64() && cause["neededBytes"].is_u64(),
        "{ready}"
    );
    wait_for("a line of the log", || {
        let log = server.log();
        (log.matches("volume full").count() == 1).then_some(())
    });
    // Each record is rejected, not only the first.
    for _ in 0..5 {
        assert_eq!(post_large(server, path, random).status, 503);
    }
    let metrics = String::from_utf8(server.get("/metrics").unwrap().body).unwrap();
    let figure = |name: &str| {
        let line = metrics
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((figure("forebay_volume_full{") - 1.0).abs() < 0.1);
    assert!(figure("forebay_volume_latched{").abs() < 0.1);
    assert!(figure("forebay_store_latched").abs() < 0.1);
    assert!(figure("forebay_volume_rejected_total{") >= 5.0);
    assert!(figure("forebay_volume_free_bytes{") > 0.0);
}

/// Free bytes of a file system.
fn free_bytes(at: &Path) -> u64 {
    let fs = rustix::fs::statvfs(at).unwrap();
    fs.f_bavail * fs.f_frsize
}

#[test]
fn a_volume_that_becomes_read_only_loses_no_acknowledged_record() {
    let test = "disks::a_volume_that_becomes_read_only_loses_no_acknowledged_record";
    let root = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(root.path().join("volume"), "256m", test) else {
        return;
    };
    let data = volume.at.join("data");
    let mut server = Launch::on(&data, root.path())
        .set("log.segmentSize", "4MB")
        .set("log.minFreeBytes", "1MB")
        .start();
    let path = world::define(&server);
    for number in 0..5 {
        assert_eq!(post(&server, &path, number, 0).status, 200);
    }
    server.kill();
    // A file system with files open for writing can't be remounted read-only; it becomes read-only when
    // its disk fails. At the start both look the same.
    assert!(volume.disk.remount("ro"));
    let (code, said) = server
        .launch
        .clone()
        .logging_to(&root.path().join("ro"))
        .fails();
    assert_eq!(code, Some(1), "{said}");
    let said = sentence(&said);
    assert!(
        said.contains("ead-only") && said.contains(data.to_str().unwrap()),
        "{said}"
    );
    assert!(volume.disk.remount("rw"));
    server.restart();
    assert_eq!(post(&server, &path, 5, 0).status, 200);
    settled(&server, &SINKS, 6);
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

#[test]
fn a_directory_copied_from_a_running_node_starts_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let server = Launch::new(root.path()).start();
    let path = world::define(&server);
    for number in 0..20 {
        assert_eq!(post(&server, &path, number, 100).status, 200);
    }
    settled(&server, &SINKS, 20);
    for number in 20..30 {
        assert_eq!(post(&server, &path, number, 100).status, 200);
    }
    let other = root.path().join("copy");
    // At one moment: the store detects parts of different age.
    server.paused(|| copy(&root.path().join("data"), &other));
    drop(server);
    let logs = root.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let elsewhere = Launch::on(&other, &logs).start();
    // It has every record acknowledged before the copy.
    settled(&elsewhere, &SINKS, 30);
    assert_eq!(
        post(&elsewhere, &world::path(&elsewhere), 30, 0).status,
        200
    );
    settled(&elsewhere, &SINKS, 31);
}

#[test]
fn damaged_metadata_is_reported_and_the_log_is_not_changed() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Launch::new(root.path()).start();
    let path = world::define(&server);
    for number in 0..20 {
        assert_eq!(post(&server, &path, number, 100).status, 200);
    }
    server.kill();
    let data = server.launch.data.clone();
    let file = data.join("meta.db");
    let whole = root.path().join("whole");
    copy(&data, &whole);
    // The last pages in the write-ahead log would repair the damage.
    drop(std::fs::remove_file(data.join("meta.db-wal")));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.iter_mut().take(4096).for_each(|b| *b = !*b);
    std::fs::write(&file, bytes).unwrap();
    let damaged = server
        .launch
        .clone()
        .logging_to(&root.path().join("damaged"));
    let (code, said) = damaged.fails();
    assert_eq!(code, Some(1), "{said}");
    assert!(sentence(&said).contains(file.to_str().unwrap()), "{said}");
    // With the file from a backup everything is there.
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        drop(std::fs::remove_file(data.join(name)));
        if whole.join(name).exists() {
            std::fs::copy(whole.join(name), data.join(name)).unwrap();
        }
    }
    server.restart();
    settled(&server, &SINKS, 20);
}

#[test]
fn missing_metadata_leaves_the_acknowledged_records_in_the_log() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Launch::new(root.path()).start();
    let path = world::define(&server);
    // Unknown to the new metadata, and not imported yet.
    for number in 0..20 {
        assert_eq!(post(&server, &path, number, 100).status, 200);
    }
    server.kill();
    let data = server.launch.data.clone();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        drop(std::fs::remove_file(data.join(name)));
    }
    // It does not silently create a new store.
    let rejected = server
        .launch
        .clone()
        .logging_to(&root.path().join("refused"));
    let (code, said) = rejected.fails();
    assert_eq!(code, Some(1), "{said}");
    assert!(sentence(&said).contains("is missing"), "{said}");
    assert!(!data.join("meta.db").exists());
    server.launch.args.push("--accept-metadata-loss".to_owned());
    server.restart();
    // The streams of the log are unknown: they are retained and reported.
    wait_for("the report of unknown streams", || {
        let log = server.log();
        log.contains("stream is unknown to the store; it is kept")
            .then_some(())
    });
    let metrics = server.get("/metrics").unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    let mut lines = metrics.lines();
    let unknown = lines.find(|l| l.starts_with("forebay_streams_unknown "));
    let count = unknown.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(count.is_some_and(|n| n >= 1.0), "{unknown:?}");
    assert_eq!(
        server.call("GET", world::SOURCES, &Value::Null)["sources"],
        json!([])
    );
}
