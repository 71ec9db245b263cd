//! Fail points between all steps of a record's path: the process dies exactly there, is restarted, and
//! the counts match. A point that is never reached fails the test, so that the list matches the code.
//! `dead_rows`, `kept`, `replay` and `vanished` cover the other paths.

use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay_model::failpoint::FailPoint;

use super::client::{self, Load};
use super::server::{Launch, Server};
use super::verify::verify;
use super::world::{self, Setup, World};

/// Concurrent runs: each of them waits most of the time.
const AT_ONCE: usize = 8;
/// The last points are reached when the ledger entry is 20 s old and the file's metadata a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// SIGABRT: no destructor ran.
const ABORTED: i32 = 6;

/// Waits until the server died at the point.
pub(super) fn died(server: &mut Server, point: FailPoint) {
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = server.try_end() {
            break status;
        }
        assert!(
            Instant::now() < deadline,
            "the process never reached the point {}",
            point.name()
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    let log = server.log();
    assert_eq!(status.signal(), Some(ABORTED), "{status}: {log}");
    let says = format!("died at the fail point {}", point.name());
    assert!(log.contains(&says), "{says}: {log}");
}

/// One run. Returns whether it took place.
fn walk(setup: Setup, point: FailPoint, test: &str) {
    let began = Instant::now();
    let root = tempfile::tempdir().unwrap();
    let mut launch = Launch::new(root.path())
        .set("coordinator.cleanupInterval", "1s")
        .set("coordinator.archivedFileExpiration", "1m")
        .set("coordinator.archivedFileRetentionPerSink", 0);
    if matches!(point, FailPoint::SliceRotating | FailPoint::SliceRotated) {
        // A file that is due is deleted with its slices; only an older one has slices that are deleted
        // alone.
        launch = launch.set("storage.level.target.import.trigger.interval", "3s");
    }
    let Some(world) = World::new(setup, test, &mut launch) else {
        return;
    };
    launch.env = vec![("FAILPOINT".to_owned(), point.name().to_owned())];
    let mut server = launch.start();
    let path = world::define(&server);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = Load {
        source: server.source,
        path: &path,
        seed: 1,
        stop: &stop,
        pause: Duration::from_millis(20),
        acknowledged: &acknowledged,
    };
    let sent = std::thread::scope(|scope| {
        let client = scope.spawn(|| client::run(0, &load));
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            died(&mut server, point);
            server.launch.env.clear();
            server.restart();
        }));
        stop.store(true, Ordering::Relaxed);
        let sent = client.join().unwrap();
        died.unwrap_or_else(|e| std::panic::resume_unwind(e));
        sent
    });
    let run = format!("{}, died at {}", setup.name(), point.name());
    assert!(
        acknowledged.into_inner() > 0,
        "{run}: nothing was acknowledged"
    );
    verify(&server, &world.tables, &[sent], &run);
    eprintln!("torture: {run}, {:.1} s", began.elapsed().as_secs_f32());
}

/// Runs all, several concurrently; the last ones start first.
pub(super) fn each_of<W: Sync>(walks: &[W], walk: impl Fn(&W) + Sync) {
    let queue = Mutex::new(walks.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next_back();
                    let Some(next) = next else {
                        return;
                    };
                    walk(next);
                }
            });
        }
    });
}

/// Runs all these points. The last ones take longest.
fn walk_all(setup: Setup, points: &[FailPoint], test: &str) {
    each_of(points, |point| walk(setup, *point, test));
}

#[test]
fn the_counts_match_wherever_the_process_dies() {
    let (s3, postgres) = (false, false);
    let test = "the_counts_match_wherever_the_process_dies";
    walk_all(Setup { s3, postgres }, FailPoint::RECORD, test);
}

#[test]
fn the_counts_match_wherever_an_import_into_postgres_dies() {
    let (s3, postgres) = (false, true);
    let test = "the_counts_match_wherever_an_import_into_postgres_dies";
    let points = [
        FailPoint::TablePrepared,
        FailPoint::RowsWritten,
        FailPoint::LedgerWritten,
        FailPoint::RowsCommitted,
        FailPoint::ImportNoted,
        FailPoint::LedgerForgotten,
    ];
    walk_all(Setup { s3, postgres }, &points, test);
}

#[test]
fn an_unknown_fail_point_is_rejected() {
    let root = tempfile::tempdir().unwrap();
    let mut launch = Launch::new(root.path());
    launch.env = vec![("FAILPOINT".to_owned(), "nowhere".to_owned())];
    let (code, said) = launch.fails();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no fail point \"nowhere\""), "{said}");
}
