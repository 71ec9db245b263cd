//! The system runs out of descriptors or memory: the disk has not failed, and nothing is latched.

use super::*;

const SHORTAGES: [i32; 5] = [ENFILE, EMFILE, ENOMEM, EAGAIN, EINTR];
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Without spares: the first file opened or written is that of a segment.
fn bare() -> LogConfig {
    LogConfig {
        spare_segments: 0,
        ..manual()
    }
}

/// A block that takes most of a segment.
const LARGE: [u8; 6000] = [7; 6000];

#[test]
fn a_stream_whose_first_block_was_rejected_accepts_the_next_one() {
    for (call, errno) in [(DiskCall::Write, ENOSPC), (DiskCall::Open, EMFILE)] {
        let env = MemEnv::new(1);
        let log = open(&env, bare());
        let fresh = log.stream("fresh").unwrap();
        env.fail(Some(call), 0, errno);
        let rejected = log.append(block(fresh, b"refused")).unwrap().wait();
        assert!(matches!(
            rejected,
            Err(CommitError::Full | CommitError::Scarce(_))
        ));
        assert_eq!(
            log.stream("fresh").unwrap(),
            fresh,
            "the stream keeps its number"
        );
        assert_eq!(log.committed(fresh), Some(0));
        // Rejected again, behind another stream's block.
        let other = log.stream("other").unwrap();
        env.fail(Some(call), 0, errno);
        let first = log.append(block(other, b"refused")).unwrap();
        let second = log.append(block(fresh, b"refused")).unwrap();
        assert!(first.wait().is_err() && second.wait().is_err());
        let appended = log.append(block(fresh, b"taken")).unwrap().wait().unwrap();
        assert_eq!(
            (appended.first_seq, appended.next_seq),
            (0, 1),
            "no gap remains"
        );
        let both = [b"one", b"two"].map(|text| log.append(block(other, text)).unwrap());
        for ticket in both {
            ticket.wait().unwrap();
        }
        assert_eq!(payloads(&log, fresh), ["taken"]);
        drop(log);
        env.kill();
        let log = open(&env, bare());
        assert_eq!(payloads(&log, log.find("fresh").unwrap()), ["taken"]);
        assert_eq!(payloads(&log, log.find("other").unwrap()), ["one", "two"]);
    }
}

#[test]
fn a_stream_whose_declaration_was_rejected_can_be_closed_and_deleted() {
    let env = MemEnv::new(1);
    let log = open(&env, bare());
    for name in ["closed", "deleted"] {
        let stream = log.stream(name).unwrap();
        env.fail(Some(DiskCall::Write), 0, ENOSPC);
        let rejected = log.append(block(stream, b"refused")).unwrap().wait();
        assert_eq!(rejected, Err(CommitError::Full));
    }
    let closed = log.find("closed").unwrap();
    log.close_stream(closed).unwrap().wait().unwrap();
    let deleted = log.find("deleted").unwrap();
    log.delete_stream(deleted).unwrap().wait().unwrap();
    assert!(log.stats(closed).unwrap().closed);
    let rejected = log.append(block(closed, b"late")).unwrap_err();
    assert_eq!(rejected, LogAppendError::Closed);
    let rejected = log.append(block(deleted, b"late")).unwrap_err();
    assert_eq!(rejected, LogAppendError::UnknownStream);
    assert_eq!(log.find("deleted"), None);
}

#[test]
fn a_rejected_deletion_does_not_take_the_name_from_its_successor() {
    let env = MemEnv::new(1);
    let log = open(&env, bare());
    let first = log.stream("name").unwrap();
    log.append(block(first, b"old")).unwrap().wait().unwrap();
    let deletion = log.delete_stream(first).unwrap();
    let second = log.stream("name").unwrap();
    env.fail(Some(DiskCall::Write), 0, ENOSPC);
    let rejected = log.append(block(second, &LARGE)).unwrap().wait();
    assert_eq!(rejected, Err(CommitError::Full));
    assert_eq!(deletion.wait(), Err(CommitError::Full));
    log.append(block(second, b"new")).unwrap().wait().unwrap();
    log.delete_stream(first).unwrap().wait().unwrap();
    assert_eq!(log.find("name"), Some(second));
    drop(log);
    env.kill();
    let log = open(&env, bare());
    assert_eq!(payloads(&log, log.find("name").unwrap()), ["new"]);
}

#[test]
fn without_a_descriptor_the_spare_is_used_and_then_blocks_are_rejected() {
    for errno in SHORTAGES {
        let env = MemEnv::new(1);
        let log = open(&env, manual());
        let stream = log.stream("s").unwrap();
        let append = |payload: &[u8]| log.append(block(stream, payload)).unwrap().wait();
        // The second segment makes a spare for the third.
        append(&LARGE).unwrap();
        append(&LARGE).unwrap();
        assert!(log.volume_stats().spare_segments > 0);
        env.set_shortage(Some(errno));
        append(&LARGE).expect("the spare is open already");
        for _ in 0..3 {
            let rejected = append(&LARGE).unwrap_err();
            assert!(matches!(rejected, CommitError::Scarce(_)), "{rejected}");
        }
        assert_eq!(log.health(), Ok(()), "nothing is latched");
        assert_eq!(
            payloads(&log, stream).len(),
            3,
            "existing blocks are readable"
        );
        env.set_shortage(None);
        assert_eq!(append(&LARGE).unwrap().first_seq, 3, "no gap remains");
        drop(log);
        env.crash();
        let log = open(&env, manual());
        assert_eq!(payloads(&log, log.find("s").unwrap()).len(), 4);
    }
}

#[test]
fn a_directory_that_cannot_be_opened_is_synced_the_next_time() {
    let env = MemEnv::new(1);
    let log = open(&env, bare());
    let stream = log.stream("s").unwrap();
    env.fail(Some(DiskCall::SyncDir), 0, EMFILE);
    let rejected = log.append(block(stream, b"refused")).unwrap().wait();
    assert!(matches!(rejected, Err(CommitError::Scarce(_))));
    log.append(block(stream, b"taken")).unwrap().wait().unwrap();
    env.crash();
    drop(log);
    let log = open(&env, bare());
    assert_eq!(payloads(&log, log.find("s").unwrap()), ["taken"]);
    // A failed sync is final, whatever its cause.
    for errno in [EIO, ENOMEM] {
        let env = MemEnv::new(1);
        let log = open(&env, bare());
        let stream = log.stream("s").unwrap();
        env.fail(Some(DiskCall::SyncDir), 0, errno);
        let unknown = log.append(block(stream, b"lost")).unwrap().wait();
        assert!(matches!(unknown, Err(CommitError::MayHaveHappened(_))));
        assert!(log.health().is_err());
    }
}

#[test]
fn a_failed_write_or_sync_stays_final_whatever_the_cause() {
    for errno in [ENOMEM, EAGAIN] {
        let env = MemEnv::new(1);
        let log = open(&env, bare());
        let stream = log.stream("s").unwrap();
        log.append(block(stream, b"before"))
            .unwrap()
            .wait()
            .unwrap();
        env.fail(Some(DiskCall::Sync), 0, errno);
        let unknown = log.append(block(stream, b"during")).unwrap().wait();
        assert!(matches!(unknown, Err(CommitError::MayHaveHappened(_))));
        assert!(log.health().is_err());
    }
}

#[test]
fn the_directory_is_synced_without_another_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let env = StdEnv::new();
    env.sync_dir(dir.path()).unwrap();
    // A directory that takes its path is noticed.
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    env.sync_dir(&data).unwrap();
    std::fs::rename(&data, dir.path().join("old")).unwrap();
    assert!(env.sync_dir(&data).is_err(), "the directory is missing");
    std::fs::create_dir(&data).unwrap();
    env.sync_dir(&data).unwrap();
}
