//! What the log promises, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use forebay_log::inspect::Inspection;
use forebay_log::{
    AppendError, Call, CommitError, Env, Item, Log, LogConfig, MemEnv, NewBlock, OpenError, StdEnv,
    StreamId, SyncMode,
};

const DIR: &str = "/data";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn manual() -> LogConfig {
    LogConfig {
        segment_size: 8192,
        preallocate_step: 2048,
        min_free_bytes: 0,
        manual: true,
        ..LogConfig::default()
    }
}

fn open(env: &MemEnv, config: LogConfig) -> Log {
    Log::open(Arc::new(env.clone()), Path::new(DIR), config)
        .unwrap()
        .0
}

fn block(stream: StreamId, payload: &[u8]) -> NewBlock {
    NewBlock {
        stream,
        records: 1,
        codec: 0,
        raw_len: 5,
        first_at_ms: 100,
        last_at_ms: 200,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn payloads(log: &Log, stream: StreamId) -> Vec<Bytes> {
    let items = log.reader(stream, 0).unwrap().map(Result::unwrap);
    let payload = |item| match item {
        Item::Block(block) => block.payload,
        Item::Gap(gap) => panic!("{gap:?}"),
    };
    items.map(payload).collect()
}

fn segment_files(env: &MemEnv) -> usize {
    let is_segment = |p: &PathBuf| p.to_str().unwrap().contains("segment-");
    env.files().iter().filter(|(p, _)| is_segment(p)).count()
}

#[test]
fn a_failed_sync_is_final_until_the_log_is_opened_anew() {
    let env = MemEnv::new(1);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"before"))
        .unwrap()
        .wait()
        .unwrap();
    env.fail(Some(Call::Sync), 0, EIO);
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
    let refused = log.append(block(stream, b"after")).unwrap_err();
    assert!(matches!(refused, AppendError::Latched(_)), "{refused}");
    let calls = env.calls();
    assert!(!log.step());
    assert_eq!(env.calls(), calls, "nothing is tried again");
    assert_eq!(payloads(&log, stream), ["before"], "reads go on");
    assert_eq!(log.volume_stats().latched, Some(latched));
    drop(log);
    let log = open(&env, manual());
    log.append(block(log.find("s").unwrap(), b"after"))
        .unwrap()
        .wait()
        .unwrap();
}

#[test]
fn a_full_disk_refuses_and_does_not_latch() {
    let env = MemEnv::new(2);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"before"))
        .unwrap()
        .wait()
        .unwrap();
    // Met while space is made, although the file system said that there was some.
    env.fail(Some(Call::Write), 0, ENOSPC);
    let ticket = log.append(block(stream, &[7; 4000])).unwrap();
    assert_eq!(ticket.wait(), Err(CommitError::Full));
    assert_eq!(log.health(), Ok(()));
    // Seen before: refused at the door.
    env.set_capacity(Some(0));
    let refused = log.append(block(stream, &[7; 20_000])).unwrap_err();
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!(matches!(
        log.reserve(1 << 20),
        Err(AppendError::Full { .. })
    ));
    env.set_capacity(None);
    let appended = log
        .append(block(stream, &[8; 4000]))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(appended.first_seq, 1, "the refused block left no gap");
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
    assert!(matches!(log.reserve(8000), Err(AppendError::Full { .. })));
    let refused = log.append(block(stream, &[1; 4000])).unwrap_err();
    assert!(
        matches!(refused, AppendError::Full { needed: 4080, .. }),
        "{refused}"
    );
    log.append_reserved(block(stream, &[1; 4000]), &reservation)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(reservation.left(), 8000 - 4080);
    drop(reservation);
    log.append(block(stream, &[1; 2000]))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(log.volume_stats().reserved_bytes, 0);
}

#[test]
fn a_full_queue_pushes_back_and_says_when_there_is_room() {
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
        AppendError::Busy
    );
    large.wait().unwrap();
    let ticket = log.append(block(stream, b"x")).unwrap();
    let busy = log.append(block(stream, &[0; 900])).unwrap_err();
    assert_eq!(busy, AppendError::Busy);
    // Waiting does it.
    let waited = log.append_wait(block(stream, &[0; 900])).unwrap();
    let mut waiting = pin!(log.append_async(block(stream, &[0; 900])));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(last)) = waiting.as_mut().poll(&mut cx) else {
        panic!("no room")
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
                let Item::Block(block) = item.unwrap() else {
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
fn a_closed_stream_takes_no_more_also_after_a_crash() {
    let env = MemEnv::new(5);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    let block_ticket = log.append(block(stream, b"last")).unwrap();
    let closed = log.close_stream(stream).unwrap();
    assert_eq!(
        log.append(block(stream, b"late")).unwrap_err(),
        AppendError::Closed
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
        AppendError::Closed
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
        AppendError::UnknownStream
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
fn trimmed_segments_are_given_back_and_reused() {
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
    // One spare, three to be written again.
    assert!(
        stats.spare_segments <= 4 && stats.reclaimed_segments > 20,
        "{stats:?}"
    );
    assert!(stats.file_bytes <= 6 * 8192, "{stats:?}");
    assert!(stats.used_bytes <= 2 * 8192, "{stats:?}");
}

#[test]
fn dead_segments_are_kept_to_be_written_again_only_where_there_is_room() {
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
        let kept = stats.spare_segments as u64;
        let recycled = if all { stats.reclaimed_segments } else { 0 };
        assert_eq!(kept, 1 + recycled, "{free} bytes free");
    }
}

#[test]
fn a_straggler_does_not_hold_back_a_segment_and_survives_a_crash_at_every_call() {
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
    assert!(log.volume_stats().moved_blocks > 0);
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
            // The outcome is not the point: what is there afterwards is.
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
fn a_recycled_segment_does_not_give_back_what_was_in_it() {
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
            "the first segments of this test are recycled ones"
        );
    }
}

/// Whether an open segment still has bytes of its former life.
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
fn cache_survives_the_end_of_the_process_and_none_does_not_wait() {
    let env = MemEnv::new(12);
    let log = open(
        &env,
        LogConfig {
            sync: SyncMode::Cache,
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
            sync: SyncMode::None,
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
        "a shutdown writes what waits"
    );
}

#[test]
fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = || LogConfig {
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), config()).unwrap();
    let error = Log::open(Arc::new(StdEnv::new()), dir.path(), config()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    let text = error.to_string();
    assert!(
        text.contains(dir.path().to_str().unwrap()) && text.contains("another process"),
        "{text}"
    );
    drop(log);
    Log::open(Arc::new(StdEnv::new()), dir.path(), config()).unwrap();
}

#[test]
fn a_newer_version_is_refused_in_one_sentence() {
    let env = MemEnv::new(13);
    let body = "forebay-log\nversion 2\nvolume 00000000000000ff\n";
    let file = format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()));
    env.put(&Path::new(DIR).join("volume"), file.into_bytes());
    let opened = Log::open(Arc::new(env), Path::new(DIR), manual());
    let error = opened.unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Version {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("/data"));
}

#[test]
fn a_read_only_directory_says_what_to_do_and_can_be_inspected() {
    let env = MemEnv::new(14);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"x")).unwrap().wait().unwrap();
    log.shutdown();
    env.set_read_only(true);
    let error = Log::open(Arc::new(env.clone()), Path::new(DIR), manual()).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("mount it writable"), "{error}");
    let inspection = Inspection::open(Arc::new(env), Path::new(DIR)).unwrap();
    assert_eq!(inspection.find("s").unwrap().records, 1);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let config = LogConfig {
        segment_size: 1,
        ..LogConfig::default()
    };
    let error = Log::open(Arc::new(MemEnv::new(0)), Path::new(DIR), config).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`segment_size` is 1, allowed is 4 KiB to 2 GiB")
    );
}

#[test]
fn a_running_log_can_be_inspected() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), config).unwrap();
    let stream = log.stream("s").unwrap();
    for i in 0..10_u8 {
        log.append(block(stream, &[i])).unwrap().wait().unwrap();
    }
    let inspection = Inspection::open_dir(dir.path()).unwrap();
    assert_eq!(inspection.streams(), log.streams());
    assert_eq!(inspection.reader(stream, 4).unwrap().count(), 6);
    let verified = inspection.verify(|done, all| assert!(done <= all));
    assert!(
        verified.is_sound() && verified.sound_blocks >= 10,
        "{verified:?}"
    );
    assert!(matches!(
        Inspection::open_dir(Path::new("/nowhere")),
        Err(OpenError::NoLog { .. })
    ));
}

#[test]
fn tickets_can_be_awaited() {
    let env = MemEnv::new(15);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    let blocks = vec![block(stream, b"one"), block(stream, b"two")];
    let tickets = log.append_all(blocks).unwrap();
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
        AppendError::Shutdown
    );
    assert!(
        env.lock(&Path::new(DIR).join("lock")).unwrap().is_some(),
        "the lock was given back"
    );
}

#[test]
fn opening_and_closing_writes_no_segments() {
    let env = MemEnv::new(17);
    for _ in 0..5 {
        open(&env, manual()).shutdown();
    }
    assert_eq!(segment_files(&env), 0);
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
