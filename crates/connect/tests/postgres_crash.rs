//! PostgreSQL crashes right after a commit: committed data survives, even if `synchronous_commit`
//! is off for Forebay's role. The server belongs to the test: it is started by
//! `scripts/services/postgres.sh` and killed with all its processes.
//!
//! Without `FOREBAY_TEST_POSTGRES_URL` the test is skipped with a notice.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_connect::keyed::{KeyedBatch, KeyedTable, conformance as keyed};
use forebay_connect::table::Table;
use forebay_connect::table::conformance::{import, mapping, rows};
use forebay_connect::table::postgres::{PostgresConfig, PostgresKeyed, PostgresTable};
use forebay_test_support::{services, wait_for};

/// A server of the test, killed on drop.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/services/postgres.sh")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Server {
    fn new() -> Self {
        let server = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
        };
        server.start();
        server
    }

    fn start(&self) {
        let run = Command::new(script())
            .arg("start")
            .arg(self.dir.path())
            .arg(self.port.to_string())
            .env("PG_DURABLE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{said}");
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the end of a process of another parent is a condition that can only be polled"
    )]
    /// Kills the whole server as a crash would: no process can write any more.
    fn crash(&self) {
        let lock = self.dir.path().join("data/postmaster.pid");
        let text = std::fs::read_to_string(lock).unwrap();
        let main: u32 = text.lines().next().unwrap().parse().unwrap();
        signal("STOP", main);
        for child in children(main) {
            signal("KILL", child);
        }
        signal("KILL", main);
        // The next start removes the lock file of a dead process.
        wait_for("the end of the server", || {
            (!is_running(main)).then_some(())
        });
    }

    fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    async fn connect(&self) -> tokio_postgres::Client {
        let url = self.url("forebay");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = Command::new(script())
            .arg("stop")
            .arg(self.dir.path())
            .output();
        drop(stopped);
    }
}

fn signal(name: &str, pid: u32) {
    let arg = format!("-{name}");
    // A child may have ended by itself.
    drop(Command::new("kill").arg(arg).arg(pid.to_string()).status());
}

fn children(of: u32) -> Vec<u32> {
    let is_child = |pid: &u32| field(*pid, 1).as_deref() == Some(&of.to_string());
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

fn is_running(pid: u32) -> bool {
    field(pid, 0).is_some_and(|state| state != "Z")
}

/// Field of `/proc/<pid>/stat` after the name: 0 is the state, 1 the parent.
fn field(pid: u32, n: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(n).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_survive_a_crash_of_a_server_with_asynchronous_commit() {
    let test = "crash of PostgreSQL";
    if services::postgres(test).is_none() {
        return;
    }
    let server = Server::new();
    let client = server.connect().await;
    // Nothing is flushed to disk unless a commit requires it.
    for sql in [
        "ALTER SYSTEM SET wal_writer_delay = '10s'",
        "ALTER SYSTEM SET wal_writer_flush_after = '512MB'",
        "ALTER SYSTEM SET bgwriter_lru_maxpages = 0",
        "CREATE ROLE lazy LOGIN SUPERUSER",
        "ALTER ROLE lazy SET synchronous_commit = off",
        "SELECT pg_reload_conf()",
        "CREATE TABLE control (a int)",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let table = PostgresTable::open(&PostgresConfig::new(server.url("lazy"))).unwrap();
    let kept = PostgresKeyed::open(&PostgresConfig::new(server.url("lazy"))).unwrap();
    let (plain, by_key) = (mapping(&["id"]), mapping(&["id*"]));
    let schema = keyed::sample_schema("crash.products");
    kept.prepare(&schema).await.unwrap();
    let mut expected = 0_i64;
    for round in 1..=3_u32 {
        for (name, mapping) in [("in.c.plain", &plain), ("in.c.keyed", &by_key)] {
            let id = name.parse().unwrap();
            table.prepare(&id, mapping).await.unwrap();
            let some: Vec<Vec<String>> = (0..100).map(|i| vec![format!("{round}-{i}")]).collect();
            let import = import(&id, round, mapping);
            table.import(&import, rows(&some)).await.unwrap();
        }
        expected += 100;
        server.crash();
        server.start();
        let client = server.connect().await;
        for name in ["\"in.c\".plain", "\"in.c\".keyed"] {
            let sql = format!("SELECT count(*) FROM {name}");
            let count: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
            assert_eq!(count, expected, "{name} after crash {round}");
        }
    }
    let some: Vec<_> = (0..50).map(|id| keyed::row(id, "crash")).collect();
    let batch = KeyedBatch::from(some);
    // Both write paths: into a table that was empty, and over existing rows.
    for round in 1..=2 {
        loop {
            // The first call after a crash may use a dead connection.
            match kept.upsert(&schema, &batch).await {
                Ok(()) => break,
                Err(e) => assert!(e.is_retryable(), "{e}"),
            }
        }
        server.crash();
        server.start();
        let client = server.connect().await;
        let sql = "SELECT count(*) FROM crash.products";
        let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(count, 50, "job rows after crash {round}");
    }
}
