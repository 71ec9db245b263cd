//! The direct modes, with the threads and the clock of the operating system.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::{Duration, Instant};

use forebay_buffer::scripted::{ScriptedPlan, ScriptedProvider};
use forebay_buffer::{
    Buffer, BufferConfig, BufferEvent, BufferMode, CloseMode, Message, WriteError,
};

const LIMIT: Duration = Duration::from_secs(20);

fn open(dir: &tempfile::TempDir, mode: BufferMode, provider: &ScriptedProvider) -> Buffer {
    let config = BufferConfig {
        mode,
        min_free_bytes: 0,
        segment_size: Some(1 << 20),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        direct_timeout: Duration::from_millis(200),
        ..BufferConfig::new(dir.path())
    };
    Buffer::open(config, provider.clone()).unwrap()
}

fn text(i: u32) -> Message {
    Message::new(i.to_string())
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

#[test]
fn direct_writes_are_delivered_when_they_return() {
    for mode in [BufferMode::OnError, BufferMode::Block, BufferMode::Error] {
        let dir = tempfile::tempdir().unwrap();
        let provider = ScriptedProvider::new();
        let buffer = open(&dir, mode, &provider);
        for i in 0..50 {
            let accepted = buffer.write_blocking("t", text(i)).unwrap();
            assert!(!accepted.buffered, "{mode:?}");
            assert_eq!(provider.payloads("t"), numbers(0..i + 1), "{mode:?}");
        }
    }
}

#[test]
fn error_on_error_returns_the_providers_error() {
    let dir = tempfile::tempdir().unwrap();
    let provider = ScriptedProvider::new();
    let buffer = open(&dir, BufferMode::Error, &provider);
    provider.plan(ScriptedPlan::Unavailable);
    let error = buffer.write_blocking("t", text(0)).unwrap_err();
    assert!(
        matches!(
            &error,
            WriteError::Provider {
                retryable: true,
                ..
            }
        ),
        "{error}"
    );
    provider.plan(ScriptedPlan::Take);
    provider.poison(b"1");
    let error = loop {
        // During the backoff the write fails with the earlier error.
        match buffer.write_blocking("t", text(1)) {
            Err(WriteError::Provider {
                retryable: true, ..
            }) => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(
        matches!(
            &error,
            WriteError::Provider {
                retryable: false,
                ..
            }
        ),
        "{error}"
    );
    buffer.write_blocking("t", text(2)).unwrap();
    assert_eq!(provider.payloads("t"), ["2"]);
}

#[test]
fn block_on_error_waits_for_the_provider() {
    let dir = tempfile::tempdir().unwrap();
    let provider = ScriptedProvider::new();
    let buffer = open(&dir, BufferMode::Block, &provider);
    let events = buffer.events();
    provider.plan(ScriptedPlan::Unavailable);
    let writer = std::thread::spawn({
        let buffer = buffer.clone();
        move || buffer.write_blocking("t", text(0))
    });
    while !matches!(events.wait(LIMIT), Some(BufferEvent::ProviderDown { .. })) {}
    provider.plan(ScriptedPlan::Silent);
    while provider.opened() < 3 {
        // Each silent connection is aborted after `direct_timeout`.
        drop(events.wait(Duration::from_millis(10)));
    }
    assert!(!writer.is_finished());
    provider.plan(ScriptedPlan::Take);
    assert!(!writer.join().unwrap().unwrap().buffered);
    assert_eq!(provider.payloads("t"), ["0"]);
    provider.poison(b"1");
    let error = buffer.write_blocking("t", text(1)).unwrap_err();
    assert!(
        matches!(
            &error,
            WriteError::Provider {
                retryable: false,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn buffer_on_error_keeps_the_order_to_the_disk_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let provider = ScriptedProvider::new();
    let buffer = open(&dir, BufferMode::OnError, &provider);
    let topic = buffer.topic("t").unwrap();
    let mut receipts = Vec::new();
    for i in 0..6_000_u32 {
        // Only direct writes time out with a silent provider; buffered messages wait forever.
        while i == 5_000 && !buffer.stats().partitions[0].direct {
            buffer.flush_blocking(LIMIT).unwrap();
            std::thread::yield_now();
        }
        match i {
            1_000 | 3_000 => provider.plan(ScriptedPlan::Half),
            1_500 => provider.plan(ScriptedPlan::Unavailable),
            2_000 | 4_000 => provider.plan(ScriptedPlan::Take),
            5_000 => provider.plan(ScriptedPlan::Silent),
            5_500 => provider.plan(ScriptedPlan::Take),
            _ => {}
        }
        receipts.push(topic.hand_over_blocking(&[text(i)]).unwrap());
        if i % 500 == 499 && i != 5_499 {
            // So that each plan applies to some messages, and the partition can become direct
            // again.
            for receipt in receipts.drain(..) {
                receipt.wait().unwrap();
            }
        }
    }
    for receipt in receipts {
        receipt.wait().unwrap();
    }
    buffer.flush_blocking(LIMIT).unwrap();
    assert_eq!(
        provider.payloads("t"),
        numbers(0..6_000),
        "each message once, in order"
    );
    let events = buffer.events();
    while buffer.write_blocking("t", text(6_000)).unwrap().buffered {
        // It becomes direct again when the disk is drained.
        drop(events.wait(Duration::from_millis(5)));
    }
}

#[test]
fn buffer_on_error_survives_a_restart_and_drains_first() {
    let dir = tempfile::tempdir().unwrap();
    let provider = ScriptedProvider::new();
    let buffer = open(&dir, BufferMode::OnError, &provider);
    provider.plan(ScriptedPlan::Unavailable);
    for i in 0..10 {
        assert!(buffer.write_blocking("t", text(i)).unwrap().buffered);
    }
    buffer.close(CloseMode::Detach).unwrap();
    drop(buffer);
    provider.plan(ScriptedPlan::Take);
    let buffer = open(&dir, BufferMode::OnError, &provider);
    for i in 10..20 {
        buffer.write_blocking("t", text(i)).unwrap();
    }
    buffer.flush_blocking(LIMIT).unwrap();
    assert_eq!(provider.payloads("t"), numbers(0..20));
}

#[test]
fn threads_and_futures_write_concurrently() {
    let dir = tempfile::tempdir().unwrap();
    let provider = ScriptedProvider::new();
    let buffer = open(&dir, BufferMode::Always, &provider);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..4_u32)
        .map(|task| {
            let buffer = buffer.clone();
            runtime.spawn(async move {
                for i in 0..200 {
                    buffer
                        .write(&format!("task {task}"), text(i))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let buffer = &buffer;
            scope.spawn(move || {
                let batch: Vec<_> = (0..100).map(text).collect();
                let topic = format!("thread {thread}");
                for _ in 0..20 {
                    buffer.write_batch_blocking(&topic, &batch).unwrap();
                }
            });
        }
    });
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
        buffer.flush(LIMIT).await.unwrap();
    });
    for n in 0..4 {
        assert_eq!(provider.payloads(&format!("task {n}")), numbers(0..200));
        let batches = provider.payloads(&format!("thread {n}"));
        assert_eq!(batches.len(), 2_000);
        assert!(batches.chunks(100).all(|batch| batch == numbers(0..100)));
    }
    let stats = buffer.stats();
    assert_eq!(
        stats.partitions.iter().map(|l| l.delivered).sum::<u64>(),
        8_800
    );
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
}

#[test]
fn a_full_buffer_blocks_writes_until_messages_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let provider = ScriptedProvider::new();
    provider.plan(ScriptedPlan::Unavailable);
    let config = BufferConfig {
        max_bytes: 1 << 20,
        overflow: forebay_buffer::OverflowPolicy::Block(LIMIT),
        min_free_bytes: 0,
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(5),
        ..BufferConfig::new(dir.path())
    };
    let buffer = Buffer::open(config, provider.clone()).unwrap();
    let events = buffer.events();
    let writer = std::thread::spawn({
        let buffer = buffer.clone();
        move || {
            for _ in 0..5_000 {
                buffer
                    .write_blocking("t", Message::new(vec![b'x'; 1_000]))
                    .unwrap();
            }
        }
    });
    while !matches!(events.wait(LIMIT), Some(BufferEvent::Blocked { .. })) {}
    provider.plan(ScriptedPlan::Take);
    writer.join().unwrap();
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    assert_eq!(provider.taken().len(), 5_000);
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a growing backoff must fail the test, not hang it"
)]
fn partial_progress_resets_the_backoff() {
    let dir = tempfile::tempdir().unwrap();
    let provider = ScriptedProvider::new();
    provider.plan(ScriptedPlan::Half);
    let config = BufferConfig {
        min_free_bytes: 0,
        batch_messages: 8,
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_secs(600),
        ..BufferConfig::new(dir.path())
    };
    let buffer = Buffer::open(config, provider.clone()).unwrap();
    for n in 0..200 {
        let message = Message::new(n.to_string().into_bytes());
        buffer.write_blocking("t", message).unwrap();
    }
    let started = Instant::now();
    while provider.taken().len() < 190 {
        assert!(
            started.elapsed() < LIMIT,
            "{} taken",
            provider.taken().len()
        );
        std::thread::yield_now();
    }
    provider.plan(ScriptedPlan::Take);
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    let payloads = provider.payloads("t");
    let wanted: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(payloads, wanted);
}
