//! Streams, tickets, readers and failures.

use super::*;

#[test]
fn a_failed_sync_is_final_until_the_log_is_reopened() {
    let env = MemEnv::new(1);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"before"))
        .unwrap()
        .wait()
        .unwrap();
    env.fail(Some(DiskCall::Sync), 0, EIO);
    let first = log.append(block(stream, b"during")).unwrap();
    let second = log.append(block(stream, b"during")).unwrap();
    for ticket in [first, second] {
        assert!(matches!(
            ticket.wait(),
            Err(CommitError::MayHaveHappened(_))
        ));
    }
    let latched = log.health().unwrap_err();
    assert_eq!(latched.during, "syncing blocks");
    assert!(latched.cause.contains("segment-"), "{latched}");
    let rejected = log.append(block(stream, b"after")).unwrap_err();
    assert!(matches!(rejected, LogAppendError::Latched(_)), "{rejected}");
    let calls = env.calls();
    assert!(!log.step());
    assert_eq!(env.calls(), calls, "nothing is retried");
    assert_eq!(payloads(&log, stream), ["before"], "reads continue");
    assert_eq!(log.volume_stats().latched, Some(latched));
    drop(log);
    let log = open(&env, manual());
    log.append(block(log.find("s").unwrap(), b"after"))
        .unwrap()
        .wait()
        .unwrap();
}

#[test]
fn a_reader_follows_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_size: 64 << 10,
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), config).unwrap();
    let stream = log.stream("s").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..300_u32 {
                log.append_wait(block(stream, &i.to_le_bytes().repeat(100)))
                    .unwrap()
                    .wait()
                    .unwrap();
            }
        });
        let mut reader = log.reader(stream, 0).unwrap();
        let mut next = 0_u32;
        while next < 300 {
            let changed = log.changed();
            for item in reader.by_ref() {
                let ReadItem::Block(block) = item.unwrap() else {
                    panic!("a gap")
                };
                assert_eq!(block.payload, next.to_le_bytes().repeat(100));
                next += 1;
            }
            if next < 300 {
                assert!(changed.wait_timeout(Duration::from_secs(60)));
            }
        }
    });
}

#[test]
fn a_closed_stream_rejects_appends_even_after_a_crash() {
    let env = MemEnv::new(5);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    let block_ticket = log.append(block(stream, b"last")).unwrap();
    let closed = log.close_stream(stream).unwrap();
    assert_eq!(
        log.append(block(stream, b"late")).unwrap_err(),
        LogAppendError::Closed
    );
    assert_eq!(closed.wait().unwrap().next_seq, 1);
    block_ticket.wait().unwrap();
    env.crash();
    drop(log);
    let log = open(&env, manual());
    let stream = log.find("s").unwrap();
    assert!(log.stats(stream).unwrap().closed);
    assert_eq!(
        log.append(block(stream, b"late")).unwrap_err(),
        LogAppendError::Closed
    );
}

#[test]
fn a_deleted_stream_is_gone_and_its_name_is_free() {
    let env = MemEnv::new(6);
    let log = open(&env, manual());
    let old = log.stream("s").unwrap();
    log.append(block(old, b"old")).unwrap().wait().unwrap();
    log.delete_stream(old).unwrap().wait().unwrap();
    assert!(log.find("s").is_none() && log.stats(old).is_none());
    assert_eq!(
        log.append(block(old, b"late")).unwrap_err(),
        LogAppendError::UnknownStream
    );
    let new = log.stream("s").unwrap();
    assert_ne!(new, old);
    log.append(block(new, b"new")).unwrap().wait().unwrap();
    env.crash();
    drop(log);
    let log = open(&env, manual());
    assert_eq!(log.streams().len(), 1);
    assert_eq!(payloads(&log, log.find("s").unwrap()), ["new"]);
}

#[test]
fn statistics_are_exact_after_a_crash() {
    let env = MemEnv::new(7);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    for i in 0..50 {
        let at = 1000 + i64::from(i);
        let new = NewBlock {
            records: 2,
            first_at_ms: at,
            last_at_ms: at + 5,
            ..block(stream, &[0; 300])
        };
        log.append(new).unwrap().wait().unwrap();
    }
    log.trim(stream, 20).unwrap().wait().unwrap();
    let before = log.stats(stream).unwrap();
    env.crash();
    drop(log);
    let log = open(&env, manual());
    let after = log.stats(stream).unwrap();
    assert_eq!(after, before);
    assert_eq!(
        (
            after.records,
            after.blocks,
            after.stored_bytes,
            after.raw_bytes
        ),
        (80, 40, 12_000, 200)
    );
    assert_eq!(
        (after.first_seq, after.next_seq, after.trimmed_to),
        (20, 100, 20)
    );
    assert_eq!(
        (after.first_at_ms, after.last_at_ms),
        (Some(1010), Some(1054))
    );
    assert_eq!((after.total_blocks, after.total_stored_bytes), (50, 15_000));
}

#[test]
fn cache_survives_the_end_of_the_process_and_none_does_not_wait() {
    let env = MemEnv::new(12);
    let log = open(
        &env,
        LogConfig {
            sync: SyncPolicy::Cache,
            ..manual()
        },
    );
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"cached"))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(log.volume_stats().syncs.count, 0);
    env.kill();
    drop(log);
    let log = open(
        &env,
        LogConfig {
            sync: SyncPolicy::None,
            ..manual()
        },
    );
    assert_eq!(payloads(&log, stream), ["cached"]);
    let ticket = log.append(block(stream, b"quick")).unwrap();
    assert!(
        matches!(ticket.outcome(), Some(Ok(_))),
        "acknowledged when queued"
    );
    log.shutdown();
    let log = open(&env, manual());
    assert_eq!(
        payloads(&log, stream),
        ["cached", "quick"],
        "a shutdown writes queued blocks"
    );
}

#[test]
fn tickets_can_be_awaited() {
    let env = MemEnv::new(15);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    let tickets = [b"one", b"two"].map(|text| log.append(block(stream, text)).unwrap());
    let mut cx = Context::from_waker(Waker::noop());
    for (i, ticket) in tickets.into_iter().enumerate() {
        let Poll::Ready(Ok(appended)) = pin!(ticket).poll(&mut cx) else {
            panic!("not done")
        };
        assert_eq!(appended.first_seq, i as u64);
    }
}

#[test]
fn waiting_for_a_ticket_of_a_log_that_is_shut_down_ends() {
    let env = MemEnv::new(16);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    let ticket = log.append(block(stream, b"x")).unwrap();
    log.shutdown();
    ticket.wait().unwrap();
    assert_eq!(
        log.append(block(stream, b"y")).unwrap_err(),
        LogAppendError::Shutdown
    );
    assert!(
        env.lock(&Path::new(DIR).join("lock")).unwrap().is_some(),
        "the lock was released"
    );
}
