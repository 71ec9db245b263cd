//! Backups of a running server: a restored one has every record acknowledged before the backup exactly
//! once, even if server or backup are killed in between.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_test_support::HttpClient;

use crate::server::{Ended, Server, forebay, run, wait_for};

/// Frequent rotations, so that a backup contains slices and files in all states.
const BUSY: [&str; 4] = [
    "--set",
    "storage.level.target.import.trigger.interval=1s",
    "--set",
    "log.segmentSize=256KB",
];

/// Senders of numbered records; records what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(server: &Server, path: &str, next: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..4).map(|_| {
            let (source, path, next) = (server.source, path.to_owned(), Arc::clone(next));
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            std::thread::spawn(move || {
                let mut client = HttpClient::new(source);
                while !stop.load(Ordering::SeqCst) {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    let body = format!("{{\"n\":{n}}}");
                    let headers = [("Content-Type", "application/json")];
                    let sent = client.send("POST", &path, &headers, body.as_bytes());
                    if sent.is_ok_and(|r| r.status == 200) {
                        acknowledged.lock().unwrap().push(n);
                    }
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            acknowledged,
        }
    }

    fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.lock().unwrap().clone()
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

fn restore(from: &Path, to: &Path) -> Ended {
    let mut command = forebay();
    command.args(["restore", "--from", from.to_str().unwrap()]);
    run(command.args(["--data-dir", to.to_str().unwrap()]))
}

/// Count of each number in the table.
fn rows(data: &Path) -> BTreeMap<u64, u64> {
    let db = rusqlite::Connection::open(data.join("tables.db")).unwrap();
    let mut select = db.prepare("SELECT n FROM \"in.test.events\"").unwrap();
    let mut found = BTreeMap::new();
    for n in select.query_map((), |row| row.get::<_, String>(0)).unwrap() {
        *found.entry(n.unwrap().parse().unwrap()).or_insert(0) += 1;
    }
    found
}

/// Restores a backup, waits until it is idle, and counts; then it accepts new records.
fn holds(backup: &Path, root: &Path, name: &str, acknowledged: &[u64]) {
    let data = root.join(name);
    let done = restore(backup, &data);
    assert_eq!(done.code, Some(0), "{done:?}");
    let server = Server::start_with(&data, &BUSY);
    let path = server.path("events");
    for n in 0..50 {
        server.post(&path, &format!("{{\"n\":{}}}", 1_000_000_000 + n));
    }
    // The backup may contain more than was acknowledged before it: wait for the new records by number.
    wait_for("the new records in the table", || {
        let found = rows(&data);
        (1_000_000_000..1_000_000_050)
            .all(|n| found.contains_key(&n))
            .then_some(())
    });
    let all = acknowledged.len() + 50;
    let balance = server.settled("events", "events", all);
    assert_eq!(balance["holds"], true, "{balance}");
    let found = rows(&data);
    for n in acknowledged
        .iter()
        .copied()
        .chain(1_000_000_000..1_000_000_050)
    {
        assert_eq!(found.get(&n), Some(&1), "record {n} of {name}");
    }
    assert!(found.values().all(|times| *times == 1), "{name}");
}

#[test]
fn a_backup_has_each_earlier_record_once_despite_kills() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let next = Arc::new(AtomicU64::new(0));
    let mut newest: Option<(PathBuf, Vec<u64>)> = None;
    for round in 0..3_u32 {
        let server = Server::start_with(&data, &BUSY);
        let path = match round {
            0 => server.define(),
            _ => server.path("events"),
        };
        let before = newest.take().map(|(_, acked)| acked).unwrap_or_default();
        let load = Load::start(&server, &path, &next);
        let mut earlier = before;
        // Two complete backups during rotations.
        for n in 0..2 {
            let enough = 150 * (n + 1);
            wait_for("records", || {
                (load.acknowledged().len() > enough).then_some(())
            });
            let acked: Vec<u64> = earlier.iter().copied().chain(load.acknowledged()).collect();
            let to = root.path().join(format!("backup-{round}-{n}"));
            server.ok(&["backup", "--to", to.to_str().unwrap()]);
            newest = Some((to, acked));
        }
        // One during which the server is killed, sooner or later. Without a server the command copies
        // the files itself.
        let broken = root.path().join(format!("broken-{round}"));
        let acked: Vec<u64> = earlier.iter().copied().chain(load.acknowledged()).collect();
        let mut backup = server
            .command(&["backup", "--to", broken.to_str().unwrap()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(round) * 15));
        server.kill();
        backup.wait().unwrap();
        earlier.extend(load.acknowledged());
        load.stop();
        if broken.exists() {
            newest = Some((broken, acked));
        } else {
            assert_ne!(restore(&broken, &root.path().join("never")).code, Some(0));
        }
        let (backup, acked) = newest.clone().unwrap();
        holds(&backup, root.path(), &format!("restored-{round}"), &acked);
        // Also expected by the next round.
        newest = Some((backup, earlier));
    }
}

#[test]
fn a_backup_without_a_server_is_checked_and_restored_for_its_owner_only() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let server = Server::start(&data);
    let path = server.define();
    for n in 0..20 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    server.kill();
    let to = root.path().join("backup");
    let mut command = forebay();
    command.args(["backup", "--data-dir", data.to_str().unwrap(), "--to"]);
    let done = run(command.arg(&to));
    assert_eq!(done.code, Some(0), "{done:?}");
    // It does not overwrite another one.
    let again = run(&mut command);
    assert!(
        again.code == Some(1) && again.stderr.contains("already exists"),
        "{again:?}"
    );
    let sums = std::process::Command::new("sha256sum")
        .args(["--quiet", "-c", "SHA256SUMS"])
        .current_dir(&to)
        .status();
    assert!(sums.unwrap().success());
    let listed = std::fs::read_to_string(to.join("SHA256SUMS")).unwrap();
    for line in listed.lines() {
        let (_, name) = line.split_once(" *").unwrap();
        damaged_is_rejected(&to, name, root.path());
    }
    std::fs::write(to.join("log/more"), "").unwrap();
    let rejected = restore(&to, &root.path().join("never"));
    assert!(
        rejected.code == Some(1) && rejected.stderr.contains("log/more"),
        "{rejected:?}"
    );
    std::fs::remove_file(to.join("log/more")).unwrap();
    let full = root.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("file"), "").unwrap();
    let rejected = restore(&to, &full);
    assert!(
        rejected.code == Some(1) && rejected.stderr.contains("not empty"),
        "{rejected:?}"
    );

    let acked: Vec<u64> = (0..20).collect();
    holds(&to, root.path(), "restored", &acked);
    let restored = root.path().join("restored");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&restored), 0o700);
    for line in listed.lines() {
        let (_, name) = line.split_once(" *").unwrap();
        let path = restored.join(name);
        assert!(!path.exists() || mode(&path) == 0o600, "{name}");
    }
}

fn damaged_is_rejected(backup: &Path, name: &str, root: &Path) {
    let path = backup.join(name);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let never = root.join("never");
    let rejected = restore(backup, &never);
    assert_eq!(rejected.code, Some(1), "{name}: {rejected:?}");
    assert!(rejected.stderr.contains(name), "{name}: {rejected:?}");
    assert!(!never.exists(), "{name}");
    std::fs::write(&path, whole).unwrap();
}

#[test]
fn only_an_operator_backs_up_and_not_into_the_data_directory() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let server = Server::start(&data);
    let mut client = HttpClient::new(server.api);
    let to = root.path().join("b");
    let body = serde_json::json!({ "to": to }).to_string();
    for token in ["", "wrong"] {
        let headers = [
            ("X-StorageApi-Token", token),
            ("Content-Type", "application/json"),
        ];
        let rejected = client.send("POST", "/backup", &headers, body.as_bytes());
        assert_eq!(rejected.unwrap().status, 401);
    }
    // Invalid tokens count against the same limit as in the API.
    let wrong = [("X-StorageApi-Token", "wrong")];
    let mut guess = || client.send("GET", "/backup", &wrong, b"").unwrap();
    let looked_at = (0..200).take_while(|_| guess().status == 401).count();
    assert!(looked_at < 150, "{looked_at}");
    let rejected = guess();
    assert_eq!(rejected.status, 429);
    let said = String::from_utf8(rejected.body).unwrap();
    assert!(said.contains("too many wrong tokens"), "{said}");
    let within = data.join("b");
    let ended = run(&mut server.command(&["backup", "--to", within.to_str().unwrap()]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("outside"), "{ended:?}");
    assert!(!within.exists() && !to.exists());
    server.ok(&["backup", "--to", to.to_str().unwrap()]);
    // A backup is not a data directory.
    let ended = run(forebay().args(["serve", "--data-dir", to.to_str().unwrap()]));
    assert!(
        ended.code == Some(1) && ended.stderr.contains("forebay restore"),
        "{ended:?}"
    );
}

/// The numbers in a PostgreSQL table, sorted.
fn rows_in_postgres(url: &str, schema: &str) -> Vec<u64> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let driver = tokio::spawn(connection);
        let sql = format!("SELECT n::bigint FROM \"{schema}\".\"events\" ORDER BY 1");
        let rows = client.query(&sql, &[]).await.unwrap();
        drop(client);
        drop(driver.await);
        rows.iter()
            .map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap())
            .collect()
    })
}

#[test]
fn tables_that_are_ahead_of_a_restored_backup_get_each_record_once() {
    let name = "tables_that_are_ahead_of_a_restored_backup_get_each_record_once";
    let Some(postgres) = forebay_test_support::services::postgres(name) else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let unique = format!("ahead{}", std::process::id());
    let ca = postgres
        .ca_file
        .map(|f| format!("    caFile: {f}\n"))
        .unwrap_or_default();
    let text = format!(
        "table:\n  default: postgres\n  postgres:\n    url: \"{}\"\n    ledgerSchema: forebay_{unique}\n{ca}",
        postgres.url
    );
    let config = root.path().join("forebay.yaml");
    std::fs::write(&config, text).unwrap();
    let args = [
        "--config",
        config.to_str().unwrap(),
        "--set",
        "storage.level.target.import.trigger.interval=8s",
    ];
    let data = root.path().join("data");
    let server = Server::start_with(&data, &args);
    let table = format!("in.{unique}.events");
    server.ok(&[
        "source", "create", "events", "--sink", &table, "--column", "n=path:n",
    ]);
    let path = server.path("events");
    let post = |server: &Server, path: &str, numbers: std::ops::Range<u64>| {
        for n in numbers {
            server.post(path, &format!("{{\"n\":{n}}}"));
        }
    };
    post(&server, &path, 0..10);
    let backup = root.path().join("backup");
    server.ok(&["backup", "--to", backup.to_str().unwrap()]);
    // Into the file that is open in the backup and is imported afterwards.
    post(&server, &path, 10..20);
    server.settled("events", "events", 20);
    let schema = format!("in.{unique}");
    assert_eq!(
        rows_in_postgres(&postgres.url, &schema),
        (0..20).collect::<Vec<_>>()
    );
    server.kill();

    let restored = root.path().join("restored");
    let done = restore(&backup, &restored);
    assert_eq!(done.code, Some(0), "{done:?}");
    let server = Server::start_with(&restored, &args);
    assert!(
        server.log().contains("metadata was restored"),
        "{}",
        server.log()
    );
    post(&server, &server.path("events"), 20..30);
    wait_for("the new records in the table", || {
        (rows_in_postgres(&postgres.url, &schema).len() >= 30).then_some(())
    });
    server.settled("events", "events", 20);
    assert_eq!(
        rows_in_postgres(&postgres.url, &schema),
        (0..30).collect::<Vec<_>>()
    );
}
