//! Real directories in trouble: full, read-only, with missing files, copied during writes. Opening
//! succeeds, or the error tells in one sentence what to do.
//!
//! Tests that mount a file system use a user namespace where this user may not mount; without one
//! they report that they were skipped, and with `CI=true` they fail.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking with a reason"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::inspect::LogInspection;
use forebay_log::{
    CommitError, Log, LogAppendError, LogConfig, LogOpenError, NewBlock, ReadItem, RecoveryReport,
    SmallDisk, StdEnv, StreamId,
};

fn config() -> LogConfig {
    LogConfig {
        segment_size: 256 << 10,
        preallocate_step: 64 << 10,
        min_free_bytes: 0,
        ..LogConfig::default()
    }
}

fn open(dir: &Path) -> Result<(Log, RecoveryReport), LogOpenError> {
    Log::open(Arc::new(StdEnv::new()), dir, config())
}

fn block(stream: StreamId, seq: u64) -> NewBlock {
    NewBlock {
        stream,
        records: 1,
        codec: 0,
        raw_len: 8,
        first_at_ms: 1,
        last_at_ms: 1,
        payload: Bytes::from(seq.to_le_bytes().repeat(500)),
    }
}

/// Appends and waits; `false` when the volume is full.
fn append(log: &Log, stream: StreamId) -> bool {
    let seq = log.committed(stream).unwrap_or(0);
    match log.append_wait(block(stream, seq)).map(|t| t.wait()) {
        Ok(Ok(appended)) => assert_eq!(appended.first_seq, seq),
        Ok(Err(CommitError::Full)) | Err(LogAppendError::Full { .. }) => return false,
        other => panic!("{other:?}"),
    }
    true
}

/// Reads a whole stream: the number of its records, and of those in gaps. Checks the content.
fn read(log: &Log, stream: StreamId) -> (u64, u64) {
    let (mut found, mut lost) = (0, 0);
    for item in log.reader(stream, 0).unwrap() {
        match item.unwrap() {
            ReadItem::Block(b) => {
                assert!(b.payload.chunks(8).all(|c| c == b.first_seq.to_le_bytes()));
                found += 1;
            }
            ReadItem::Gap(gap) => lost += gap.records,
        }
    }
    (found, lost)
}

/// A small separate file system, unmounted on drop.
struct Mount {
    disk: SmallDisk,
    dir: tempfile::TempDir,
}

impl Mount {
    /// `None` where nothing is remaining to test in this process: see [`SmallDisk::mount`].
    fn new(test: &str, size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(dir.path(), size, test)?;
        Some(Self { disk, dir })
    }
}

#[test]
fn a_full_volume_rejects_reopens_and_continues_when_space_is_freed() {
    let Some(mount) = Mount::new(
        "a_full_volume_rejects_reopens_and_continues_when_space_is_freed",
        "3m",
    ) else {
        return;
    };
    let dir = mount.dir.path().join("data");
    let (log, _) = open(&dir).unwrap();
    let stream = log.stream("s").unwrap();
    while append(&log, stream) {}
    let accepted = log.committed(stream).unwrap();
    assert!(accepted > 300, "{accepted} blocks of 4 KB in 3 MB");
    assert_eq!(log.health(), Ok(()), "a full disk is no failure");
    assert_eq!(read(&log, stream), (accepted, 0));
    // Another file takes the last byte; the node ends without sealing, and restarts.
    let mut rest = std::fs::File::create(mount.dir.path().join("other")).unwrap();
    while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
    log.shutdown();
    drop(log);
    let (log, report) = open(&dir).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(read(&log, stream), (accepted, 0));
    // The shutdown may have removed a spare segment that was being preallocated.
    while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
    assert!(!append(&log, stream));
    drop(rest);
    std::fs::remove_file(mount.dir.path().join("other")).unwrap();
    while !append(&log, stream) {
        log.trim(stream, accepted / 2).unwrap().wait().unwrap();
    }
    assert_eq!(log.stats(stream).unwrap().lost_records, 0);
    // On a volume without a free byte not even a new log can be created, and the error tells so.
    let mut rest = std::fs::File::create(mount.dir.path().join("other")).unwrap();
    while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
    if let Err(error) = open(&mount.dir.path().join("another")) {
        let text = error.to_string();
        assert!(text.contains("check the disk"), "{text}");
    }
}

#[test]
fn a_read_only_volume_is_reported_at_open_and_can_be_inspected() {
    let Some(mount) = Mount::new(
        "a_read_only_volume_is_reported_at_open_and_can_be_inspected",
        "8m",
    ) else {
        return;
    };
    let dir = mount.dir.path().join("data");
    let (log, _) = open(&dir).unwrap();
    let stream = log.stream("s").unwrap();
    for _ in 0..100 {
        assert!(append(&log, stream));
    }
    // The kernel rejects this while files are open for writing; where it does not, the first
    // failure is final and names its cause, and reads continue.
    if mount.disk.remount("ro") {
        let ticket = log.append(block(stream, 100)).unwrap();
        assert!(matches!(
            ticket.wait(),
            Err(CommitError::MayHaveHappened(_))
        ));
        assert!(log.health().is_err());
    }
    assert_eq!(read(&log, stream), (100, 0));
    log.shutdown();
    drop(log);
    assert!(mount.disk.remount("ro"));
    let error = open(&dir).unwrap_err();
    assert!(matches!(error, LogOpenError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("mount it writable"), "{error}");
    let inspection = LogInspection::open_dir(&dir).unwrap();
    assert_eq!(inspection.find("s").unwrap().records, 100);
    drop(inspection);
    assert!(mount.disk.remount("rw"));
    let (log, report) = open(&dir).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(append(&log, stream));
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("segment-"))
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

#[test]
fn missing_segments_are_reported_and_their_records_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let (log, _) = open(&whole).unwrap();
    let stream = log.stream("s").unwrap();
    let total = 400;
    for _ in 0..total {
        assert!(append(&log, stream));
    }
    log.shutdown();
    drop(log);
    let files = segments(&whole);
    assert!(files.len() > 4, "{files:?}");
    for missing in [0, files.len() / 2, files.len() - 1] {
        let dir = dir.path().join(format!("without {missing}"));
        copy(&whole, &dir);
        std::fs::remove_file(&segments(&dir)[missing]).unwrap();
        let (log, report) = open(&dir).unwrap();
        let stats = log.stats(stream).unwrap();
        let (found, gaps) = read(&log, stream);
        assert_eq!((found, gaps), (stats.records, stats.lost_records));
        if missing == files.len() - 1 {
            // Nothing behind the last segment refers to it: what remains is complete.
            assert_eq!(gaps, 0);
            assert!(found < total && stats.next_seq == found);
        } else {
            assert_eq!(report.missing_segments, [missing as u64 + 1]);
            assert!(!report.is_clean() && gaps > 0);
            assert_eq!(found + gaps, total);
            assert_eq!(report.lost.iter().map(|l| l.records).sum::<u64>(), gaps);
        }
        let next = log.committed(stream).unwrap();
        let appended = log.append(block(stream, next)).unwrap().wait().unwrap();
        assert_eq!(appended.first_seq, next, "the log accepts data again");
        log.shutdown();
        drop(log);
        // The loss is reported once.
        let (log, report) = open(&dir).unwrap();
        assert!(report.lost.is_empty(), "{report:?}");
        assert_eq!(log.stats(stream).unwrap().lost_records, gaps);
    }
}

#[test]
fn a_directory_copied_during_writes_opens() {
    let dir = tempfile::tempdir().unwrap();
    let running = dir.path().join("running");
    let (log, _) = open(&running).unwrap();
    let stream = log.stream("s").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(append(&log, stream));
                let next = log.committed(stream).unwrap();
                if next % 100 == 0 {
                    let trim = log.trim(stream, next.saturating_sub(300)).unwrap();
                    trim.wait().unwrap();
                }
            }
        });
        for n in 0..5 {
            let before = log.committed(stream).unwrap_or(0);
            let dir = dir.path().join(format!("copy {n}"));
            // Files that are removed while `cp` runs make it fail, and are not in the copy.
            drop(
                Command::new("cp")
                    .arg("-r")
                    .arg(&running)
                    .arg(&dir)
                    .output(),
            );
            let (copy, report) = open(&dir).unwrap();
            if let Some(stream) = copy.find("s") {
                let stats = copy.stats(stream).unwrap();
                let (found, gaps) = read(&copy, stream);
                // A copy is no snapshot: what was freed meanwhile may be missing, and is reported.
                assert_eq!(
                    found + gaps,
                    stats.next_seq - stats.trimmed_to,
                    "{report:?}"
                );
                assert!(append(&copy, stream));
            } else {
                assert_eq!(before, 0, "{report:?}");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
    });
}

/// Extents of many blocks, split by trims, are exact before and after a restart, and every block is
/// found from any start of a reader.
#[test]
fn long_ranges_of_small_blocks_are_counted_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let small = |stream, seq: u64| NewBlock {
        payload: Bytes::copy_from_slice(&seq.to_le_bytes()),
        ..block(stream, seq)
    };
    let (log, _) = open(dir.path()).unwrap();
    let streams = ["a", "b"].map(|name| log.stream(name).unwrap());
    let total = 6000;
    let mut last = None;
    for seq in 0..total {
        for stream in streams {
            last = Some(log.append_wait(small(stream, seq)).unwrap());
        }
    }
    last.unwrap().wait().unwrap();
    let check = |log: &Log, trims: [u64; 2]| {
        for (stream, trimmed) in streams.into_iter().zip(trims) {
            let stats = log.stats(stream).unwrap();
            let remaining = total - trimmed;
            assert_eq!(
                (stats.records, stats.blocks),
                (remaining, remaining),
                "{stats:?}"
            );
            assert_eq!((stats.stored_bytes, stats.lost_records), (remaining * 8, 0));
            for from in [0, trimmed + 1, 3333, total - 1] {
                let mut expected = from.max(trimmed);
                for item in log.reader(stream, from).unwrap() {
                    let ReadItem::Block(b) = item.unwrap() else {
                        panic!("a gap")
                    };
                    assert_eq!(
                        (b.first_seq, &b.payload[..]),
                        (expected, &expected.to_le_bytes()[..])
                    );
                    expected += 1;
                }
                assert_eq!(expected, total);
            }
        }
        let live: u64 = log.segments().iter().map(|s| s.live_blocks).sum();
        assert_eq!(
            live,
            trims.iter().map(|trimmed| total - trimmed).sum::<u64>()
        );
    };
    check(&log, [0, 0]);
    for trims in [[700, 0], [701, 5], [2500, 2499]] {
        for (stream, trimmed) in streams.into_iter().zip(trims) {
            log.trim(stream, trimmed).unwrap().wait().unwrap();
        }
        check(&log, trims);
    }
    log.shutdown();
    drop(log);
    let (log, report) = open(dir.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    check(&log, [2500, 2499]);
    log.trim(streams[0], 3000).unwrap().wait().unwrap();
    check(&log, [3000, 2499]);
}
