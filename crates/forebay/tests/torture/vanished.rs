//! A table lost a confirmed import, and the process dies between the following steps: each row is in
//! the table at most once, and all of them if another copy existed.

use std::path::{Path, PathBuf};

use forebay_model::failpoint::FailPoint;

use super::failpoints::{died, each_of};
use super::numbered::{define, each_once, launch, post, rows, settled, switch};
use super::server::{Server, wait_for};

const SINK: &str = "rows";
const ROWS: u64 = 12;
const AFTER: u64 = 20;

/// Which copies of the rows exist when the table lost them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    LogAndStaging,
    Log,
    Staging,
    Nobody,
}

const WALKS: &[(Left, &[FailPoint])] = &[
    (
        Left::LogAndStaging,
        &[
            FailPoint::ImportLacking,
            FailPoint::ImportReopened,
            FailPoint::TablePrepared,
            FailPoint::RowsWritten,
            FailPoint::LedgerWritten,
            FailPoint::RowsCommitted,
            FailPoint::ImportNoted,
            FailPoint::TrimBegun,
            FailPoint::StreamDeleted,
            FailPoint::ObjectDeleted,
        ],
    ),
    (
        Left::Log,
        &[
            FailPoint::ImportReopened,
            FailPoint::ObjectRewritten,
            FailPoint::RewriteNoted,
            FailPoint::RowsCommitted,
            FailPoint::ImportNoted,
        ],
    ),
    (
        Left::Staging,
        &[
            FailPoint::ImportLacking,
            FailPoint::ImportReopened,
            FailPoint::RowsCommitted,
            FailPoint::ImportNoted,
        ],
    ),
    (
        Left::Nobody,
        &[
            FailPoint::ImportLacking,
            FailPoint::LossNoted,
            FailPoint::LossRevoked,
        ],
    ),
];

fn arm(server: &mut Server, point: FailPoint) {
    server.launch.env = vec![("FAILPOINT".to_owned(), point.name().to_owned())];
}

/// Starts it, waits for its death, and restarts it.
fn dies(server: &mut Server, point: FailPoint) {
    arm(server, point);
    server.restart_unready();
    died(server, point);
    server.launch.env.clear();
    server.restart();
}

fn objects(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(objects(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn move_tables(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["tables.db", "tables.db-wal", "tables.db-shm"] {
        drop(std::fs::remove_file(to.join(file)));
        drop(std::fs::rename(from.join(file), to.join(file)));
    }
}

/// A server killed after importing the rows, with these copies left.
fn imported(root: &Path, left: Left) -> Server {
    let mut launch = launch(root).set("storage.level.target.import.trigger.count", ROWS);
    let dies_at = match left {
        // The garbage collector itself: nothing is taken away before it dies.
        Left::LogAndStaging | Left::Log => Some(FailPoint::TrimBegun),
        Left::Staging => Some(FailPoint::StreamDeleted),
        Left::Nobody => None,
    };
    let env = dies_at.map(|point| ("FAILPOINT".to_owned(), point.name().to_owned()));
    launch.env = env.into_iter().collect();
    let mut server = launch.start();
    let staging = server.launch.data.join("staging");
    let path = define(&server, &[SINK]);
    post(&server, &path, 0..ROWS, 10);
    match dies_at {
        Some(point) => died(&mut server, point),
        None => {
            settled(&server, SINK, [ROWS, 0, 0], "before");
            // The object is deleted after the stream.
            wait_for("an empty staging", || {
                objects(&staging).is_empty().then_some(())
            });
        }
    }
    server.kill();
    server.launch.env.clear();
    let objects = objects(&staging);
    assert_eq!(objects.is_empty(), left == Left::Nobody, "{left:?}");
    if left == Left::Log {
        for object in objects {
            std::fs::remove_file(object).unwrap();
        }
    }
    server
}

fn walk(left: Left, point: FailPoint) {
    let run = format!("{left:?}, {}", point.name());
    let root = tempfile::tempdir().unwrap();
    let mut server = imported(root.path(), left);
    let (data, unavailable) = (server.launch.data.clone(), root.path().join("away"));
    assert_eq!(rows(&data, SINK).len() as u64, ROWS, "{run}");
    move_tables(&data, &unavailable);
    if point == FailPoint::LossRevoked {
        server.restart();
    } else {
        dies(&mut server, point);
    }
    if left == Left::Nobody {
        settled(&server, SINK, [0, 0, ROWS], &run);
        assert_eq!(rows(&data, SINK), Vec::<u64>::new(), "{run}");
        // The right database is back.
        server.kill();
        move_tables(&unavailable, &data);
        if point == FailPoint::LossRevoked {
            dies(&mut server, point);
        } else {
            server.restart();
        }
    }
    each_once(&server, SINK, 0..ROWS, &run);
    let path = super::world::path(&server);
    post(&server, &path, ROWS..AFTER, 10);
    switch(&server, "disable");
    each_once(&server, SINK, 0..AFTER, &run);
}

#[test]
fn each_row_that_a_table_lost_is_there_once_wherever_the_process_dies() {
    let walks = WALKS
        .iter()
        .flat_map(|(left, points)| points.iter().map(|point| (*left, *point)));
    let walks: Vec<_> = walks.collect();
    for point in FailPoint::VANISHED_IMPORT {
        assert!(walks.iter().any(|(_, p)| p == point), "{}", point.name());
    }
    each_of(&walks, |(left, point)| walk(*left, *point));
}
