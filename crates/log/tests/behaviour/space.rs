//! Disk space and the queue: bounds, back-pressure, and reclaiming segments.

use super::*;

#[test]
fn a_full_disk_rejects_and_does_not_latch() {
    let env = MemEnv::new(2);
    let config = LogConfig {
        spare_segments: 0,
        ..manual()
    };
    let log = open(&env, config);
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"before"))
        .unwrap()
        .wait()
        .unwrap();
    // Fails during allocation, although the file system reported free space.
    env.fail(Some(DiskCall::Write), 0, ENOSPC);
    let ticket = log.append(block(stream, &[7; 4000])).unwrap();
    assert_eq!(ticket.wait(), Err(CommitError::Full));
    assert_eq!(log.health(), Ok(()));
    // Detected before: rejected at admission.
    env.set_capacity(Some(0));
    let rejected = log.append(block(stream, &[7; 20_000])).unwrap_err();
    assert!(
        matches!(rejected, LogAppendError::Full { .. }),
        "{rejected}"
    );
    assert!(matches!(
        log.reserve(1 << 20),
        Err(LogAppendError::Full { .. })
    ));
    env.set_capacity(None);
    let appended = log
        .append(block(stream, &[8; 4000]))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(appended.first_seq, 1, "the rejected block left no gap");
    assert_eq!(payloads(&log, stream).len(), 2);
}

#[test]
fn reservations_keep_space_for_their_owner() {
    let env = MemEnv::new(3);
    let log = open(
        &env,
        LogConfig {
            max_bytes: 10_000,
            ..manual()
        },
    );
    let stream = log.stream("s").unwrap();
    let reservation = log.reserve(8000).unwrap();
    assert!(matches!(
        log.reserve(8000),
        Err(LogAppendError::Full { .. })
    ));
    let rejected = log.append(block(stream, &[1; 4000])).unwrap_err();
    assert!(
        matches!(rejected, LogAppendError::Full { needed: 4080, .. }),
        "{rejected}"
    );
    log.append_reserved(block(stream, &[1; 4000]), &reservation)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(reservation.remaining(), 8000 - 4080);
    drop(reservation);
    log.append(block(stream, &[1; 2000]))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(log.volume_stats().reserved_bytes, 0);
}

#[test]
fn a_full_queue_rejects_and_wakes_waiters_when_there_is_space() {
    let env = MemEnv::new(4);
    let log = open(
        &env,
        LogConfig {
            queue_bytes: 1000,
            ..manual()
        },
    );
    let stream = log.stream("s").unwrap();
    while log.step() {}
    let large = log.append(block(stream, &[0; 2000])).unwrap();
    assert_eq!(
        log.append(block(stream, b"x")).unwrap_err(),
        LogAppendError::Busy
    );
    large.wait().unwrap();
    let ticket = log.append(block(stream, b"x")).unwrap();
    let busy = log.append(block(stream, &[0; 900])).unwrap_err();
    assert_eq!(busy, LogAppendError::Busy);
    // `append_wait` succeeds.
    let waited = log.append_wait(block(stream, &[0; 900])).unwrap();
    let mut waiting = pin!(log.append_async(block(stream, &[0; 900])));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(last)) = waiting.as_mut().poll(&mut cx) else {
        panic!("no space")
    };
    for ticket in [ticket, waited, last] {
        ticket.wait().unwrap();
    }
    assert_eq!(log.committed(stream), Some(4));
}

#[test]
fn the_queue_of_a_real_log_wakes_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        queue_bytes: 4096,
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), config).unwrap();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let log = &log;
            scope.spawn(move || {
                let stream = log.stream(name).unwrap();
                let append = |_| log.append_wait(block(stream, &[9; 700])).unwrap();
                let tickets: Vec<_> = (0..200).map(append).collect();
                for ticket in tickets {
                    ticket.wait().unwrap();
                }
                assert_eq!(payloads(log, stream).len(), 200);
            });
        }
    });
    assert!(
        log.volume_stats().syncs.count < 1000,
        "one sync serves many"
    );
}

#[test]
fn trimmed_segments_are_reclaimed_and_reused() {
    let env = MemEnv::new(8);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    for _ in 0..300 {
        let appended = log
            .append(block(stream, &[1; 900]))
            .unwrap()
            .wait()
            .unwrap();
        log.trim(stream, appended.next_seq).unwrap().wait().unwrap();
    }
    assert!(segment_files(&env) <= 2, "{}", segment_files(&env));
    let stats = log.volume_stats();
    // One spare, three recycled segments.
    assert!(
        stats.spare_segments <= 4 && stats.reclaimed_segments > 20,
        "{stats:?}"
    );
    assert!(stats.file_bytes <= 6 * 8192, "{stats:?}");
    assert!(stats.used_bytes <= 2 * 8192, "{stats:?}");
}

#[test]
fn dead_segments_are_recycled_only_where_there_is_space() {
    for (free, all) in [(1 << 20, true), (4096, false)] {
        let env = MemEnv::new(8);
        let config = LogConfig {
            recycled_segments: 8,
            ..manual()
        };
        let log = open(&env, config);
        let stream = log.stream("s").unwrap();
        let mut next = 0;
        for _ in 0..30 {
            let appended = log.append(block(stream, &[1; 900])).unwrap();
            next = appended.wait().unwrap().next_seq;
        }
        let used: usize = env.files().iter().map(|(_, bytes)| bytes.len()).sum();
        env.set_capacity(Some(used as u64 + free));
        log.trim(stream, next).unwrap().wait().unwrap();
        let stats = log.volume_stats();
        assert!(stats.reclaimed_segments > 2, "{stats:?}");
        let spares = stats.spare_segments as u64;
        let recycled = if all { stats.reclaimed_segments } else { 0 };
        assert_eq!(spares, 1 + recycled, "{free} bytes free");
    }
}

#[test]
fn compaction_frees_a_segment_and_survives_a_crash_at_every_call() {
    let fill = |env: &MemEnv| {
        let log = open(
            env,
            LogConfig {
                spare_segments: 0,
                ..manual()
            },
        );
        let (slow, fast) = (log.stream("slow").unwrap(), log.stream("fast").unwrap());
        for i in 0..30_u8 {
            for _ in 0..4 {
                log.append(block(fast, &[i; 900])).unwrap().wait().unwrap();
            }
            log.append(block(slow, &[i; 20])).unwrap().wait().unwrap();
        }
        (log, slow, fast)
    };
    let env = MemEnv::new(9);
    let (log, slow, fast) = fill(&env);
    let before = segment_files(&env);
    let calls = env.calls();
    log.trim(fast, 120).unwrap().wait().unwrap();
    let calls = env.calls() - calls;
    assert!(
        segment_files(&env) < before / 3,
        "{before} segments, then {}",
        segment_files(&env)
    );
    assert!(log.volume_stats().relocated_blocks > 0);
    let expected: Vec<Vec<u8>> = (0..30).map(|i| vec![i; 20]).collect();
    assert_eq!(payloads(&log, slow), expected);
    assert_eq!(
        log.stats(slow).unwrap().total_blocks,
        30,
        "a copy is no new block"
    );
    for n in 0..calls {
        for power in [true, false] {
            let env = MemEnv::new(n);
            let (log, ..) = fill(&env);
            env.fail(None, n, EIO);
            // Only the state afterwards matters, not the outcome.
            drop(log.trim(fast, 120).unwrap().wait());
            if power {
                env.crash()
            } else {
                env.kill()
            }
            drop(log);
            let log = open(&env, manual());
            assert_eq!(payloads(&log, slow), expected, "call {n}");
            assert_eq!(log.stats(slow).unwrap().lost_records, 0);
            assert_eq!(log.stats(slow).unwrap().total_blocks, 30);
        }
    }
}

#[test]
fn a_recycled_segment_does_not_expose_its_previous_content() {
    let env = MemEnv::new(10);
    let config = LogConfig {
        spare_segments: 2,
        ..manual()
    };
    let log = open(&env, config.clone());
    let old = log.stream("old").unwrap();
    for _ in 0..300 {
        log.append(block(old, b"stale data of before"))
            .unwrap()
            .wait()
            .unwrap();
    }
    log.delete_stream(old).unwrap().wait().unwrap();
    let stats = log.volume_stats();
    assert!(
        stats.reclaimed_segments > 0 && stats.spare_segments > 0,
        "{stats:?}"
    );
    let new = log.stream("new").unwrap();
    let mut logs = vec![log];
    for i in 1..12 {
        let log = logs.last().unwrap();
        log.append(block(new, &[2; 1500])).unwrap().wait().unwrap();
        let found = is_stale(&env);
        env.kill();
        logs.push(open(&env, config.clone()));
        let log = logs.last().unwrap();
        assert_eq!(log.streams().len(), 1);
        assert_eq!(payloads(log, new).len(), i);
        assert!(
            found || i > 2,
            "the first segments of this test are recycled"
        );
    }
}

/// Whether an open segment still has bytes of its previous content.
fn is_stale(env: &MemEnv) -> bool {
    env.files().iter().any(|(path, bytes)| {
        let in_segment = path.to_str().unwrap().contains("segment-");
        in_segment && bytes.windows(10).any(|w| w == b"stale data")
    })
}

#[test]
fn a_large_block_gets_a_segment_of_its_own() {
    let env = MemEnv::new(11);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"small")).unwrap().wait().unwrap();
    log.append(block(stream, &[3; 50_000]))
        .unwrap()
        .wait()
        .unwrap();
    log.append(block(stream, b"small")).unwrap().wait().unwrap();
    env.crash();
    drop(log);
    let log = open(&env, manual());
    assert_eq!(
        payloads(&log, stream)
            .iter()
            .map(Bytes::len)
            .collect::<Vec<_>>(),
        [5, 50_000, 5]
    );
}

#[test]
fn the_small_segments_of_many_restarts_are_joined() {
    let env = MemEnv::new(18);
    let config = LogConfig {
        segment_size: 256 << 10,
        ..manual()
    };
    for i in 0..40_u8 {
        let log = open(&env, config.clone());
        let stream = log.stream("s").unwrap();
        log.append(block(stream, &[i])).unwrap().wait().unwrap();
        assert_eq!(payloads(&log, stream).len(), usize::from(i) + 1);
        log.shutdown();
    }
    assert!(segment_files(&env) <= 10, "{}", segment_files(&env));
}

#[test]
fn a_control_block_on_a_full_volume_makes_no_space_for_records() {
    let env = MemEnv::new(9);
    let config = LogConfig {
        segment_size: 64 << 20,
        min_free_bytes: 64 << 20,
        ..manual()
    };
    let log = open(&env, config);
    // Less than the minimum free space, and much more than any of these needs.
    env.set_capacity(Some(32 << 20));
    for n in 0..5 {
        let name = format!("s{n}");
        let stream = log.stream(&name).unwrap();
        // The declaration is written: control blocks use the remaining space.
        while log.step() {}
        let rejected = log.append(block(stream, &[7; 100_000])).unwrap_err();
        assert!(
            matches!(rejected, LogAppendError::Full { .. }),
            "{n}: {rejected}"
        );
    }
    let rejected = log.volume_stats().rejected;
    assert_eq!(rejected.count, 5);
    assert!(rejected.needed >= 100_000, "{rejected:?}");
    env.set_capacity(None);
    let stream = log.stream("s0").unwrap();
    let ticket = log.append(block(stream, &[7; 100_000])).unwrap();
    ticket.wait().unwrap();
}

/// The open segment is the only one, and all of it is delivered: nothing else can free space.
#[test]
fn a_volume_smaller_than_a_segment_accepts_records_again_after_delivery() {
    for (capacity, max_bytes) in [(Some(64 << 10), 0), (None, 40 << 10)] {
        let env = MemEnv::new(10);
        let config = LogConfig {
            segment_size: 1 << 20,
            preallocate_step: 4096,
            spare_segments: 0,
            max_bytes,
            ..manual()
        };
        let log = open(&env, config);
        env.set_capacity(capacity);
        let stream = log.stream("s").unwrap();
        for round in 0..5 {
            let mut accepted = 0;
            let full = loop {
                match log.append(block(stream, &[7; 900])).map(|t| t.wait()) {
                    Ok(Ok(appended)) => accepted = appended.next_seq,
                    Ok(Err(CommitError::Full)) | Err(LogAppendError::Full { .. }) => {
                        break accepted;
                    }
                    other => panic!("{other:?}"),
                }
                assert!(accepted < 1000, "never full");
            };
            assert!(
                full > 0,
                "round {round} of {capacity:?}: nothing was accepted"
            );
            log.trim(stream, full).unwrap().wait().unwrap();
            while log.step() {}
        }
        assert_eq!(log.health(), Ok(()));
        assert!(log.volume_stats().reclaimed_segments >= 4);
    }
}

/// A spare segment is an optimization: its space belongs to the records.
#[test]
fn a_full_disk_takes_the_space_of_spare_segments() {
    let env = MemEnv::new(11);
    let config = LogConfig {
        segment_size: 64 << 10,
        preallocate_step: 4096,
        spare_segments: 1,
        ..manual()
    };
    let log = open(&env, config);
    let stream = log.stream("s").unwrap();
    let append = || log.append_wait(block(stream, &[7; 900])).map(|t| t.wait());
    append().unwrap().unwrap();
    assert_eq!(log.volume_stats().spare_segments, 1);
    let used: usize = env.files().iter().map(|(_, bytes)| bytes.len()).sum();
    env.set_capacity(Some(used as u64));
    let accepted = (0..1000)
        .take_while(|_| matches!(append(), Ok(Ok(_))))
        .count();
    assert!(accepted > 50, "{accepted} blocks of 1 KB in 64 KB");
    assert_eq!(log.volume_stats().spare_segments, 0);
    log.trim(stream, 1).unwrap().wait().unwrap();
    assert_eq!(payloads(&log, stream).len(), accepted);
    assert_eq!(log.health(), Ok(()));
}
