//! A full disk: a small real file system that another file fills, with the threads and the clock of
//! the operating system.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_buffer::scripted::{ScriptedPlan, ScriptedProvider};
use forebay_buffer::{
    Buffer, BufferConfig, BufferEvent, CloseMode, Message, OverflowPolicy, WriteError,
};
use forebay_log::SmallDisk;

const LIMIT: Duration = Duration::from_secs(60);
/// Messages of 10 KB: more than twice the size of the file system.
const MESSAGES: u32 = 4_000;

/// A file system of 16 MiB.
struct Volume {
    _disk: SmallDisk,
    at: PathBuf,
}

impl Volume {
    /// `None` if the test ran in a child process or was skipped: see [`SmallDisk::mount`].
    fn mount(at: &Path, test: &str) -> Option<Self> {
        let disk = SmallDisk::mount(at, "16m", test)?;
        let at = at.to_owned();
        Some(Self { _disk: disk, at })
    }

    /// Fills the free space with another file.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.at.join("other")).unwrap();
        let block = [1; 64 << 10];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }

    fn open(&self, overflow: OverflowPolicy, provider: &ScriptedProvider) -> Buffer {
        let config = BufferConfig {
            overflow,
            min_free_bytes: 0,
            segment_size: Some(1 << 20),
            backoff: Duration::from_millis(5),
            backoff_max: Duration::from_millis(20),
            ..BufferConfig::new(self.at.join("buffer"))
        };
        Buffer::open(config, provider.clone()).unwrap()
    }
}

fn message(i: u32) -> Message {
    Message::new(format!("{i} {}", "x".repeat(10_000)))
}

/// Numbers of the delivered messages in order.
fn delivered(provider: &ScriptedProvider) -> Vec<u32> {
    let number = |text: String| text.split(' ').next().unwrap().parse().unwrap();
    provider.payloads("t").into_iter().map(number).collect()
}

/// Each acknowledged message is delivered once and in order, also after a restart on a full disk; a
/// rejected one is not delivered.
#[test]
fn a_full_disk_with_reject_loses_no_acknowledged_message() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_with_reject_loses_no_acknowledged_message";
    let Some(volume) = Volume::mount(dir.path(), test) else {
        return;
    };
    let provider = ScriptedProvider::new();
    provider.plan(ScriptedPlan::Unavailable);
    let buffer = volume.open(OverflowPolicy::Reject, &provider);
    let mut acknowledged = Vec::new();
    let mut rejected = 0;
    for i in 0..MESSAGES {
        if i == 200 {
            volume.fill();
        }
        match buffer.write_blocking("t", message(i)) {
            Ok(_) => acknowledged.push(i),
            Err(error) => {
                let full = matches!(&error, WriteError::Full { what, .. } if what == "the disk");
                assert!(full, "{error}");
                rejected += 1;
            }
        }
    }
    assert!(rejected > 0, "the disk became full");
    assert!(
        acknowledged.len() >= 200,
        "{} before it was full",
        acknowledged.len()
    );
    buffer.close(CloseMode::Detach).unwrap();
    drop(buffer);
    provider.plan(ScriptedPlan::Take);
    let buffer = volume.open(OverflowPolicy::Reject, &provider);
    buffer.flush_blocking(LIMIT).unwrap();
    assert_eq!(delivered(&provider), acknowledged);
    // The space of delivered messages is freed a moment later.
    let events = buffer.events();
    let tries = (0..1_000).find(|_| {
        let accepted = buffer.write_blocking("t", message(MESSAGES)).is_ok();
        if !accepted {
            drop(events.wait(Duration::from_millis(10)));
        }
        accepted
    });
    assert!(tries.is_some(), "delivered messages free space");
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    acknowledged.push(MESSAGES);
    assert_eq!(delivered(&provider), acknowledged);
}

/// A write waits until delivery frees space: no write fails, no message is lost.
#[test]
fn a_full_disk_with_block_waits_for_the_provider() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_with_block_waits_for_the_provider";
    let Some(volume) = Volume::mount(dir.path(), test) else {
        return;
    };
    let provider = ScriptedProvider::new();
    provider.plan(ScriptedPlan::Unavailable);
    let buffer = volume.open(OverflowPolicy::Block(LIMIT), &provider);
    let events = buffer.events();
    let writer = {
        let buffer = buffer.clone();
        std::thread::spawn(move || {
            for i in 0..MESSAGES {
                buffer.write_blocking("t", message(i)).unwrap();
            }
        })
    };
    while !matches!(events.wait(LIMIT).unwrap(), BufferEvent::Blocked { .. }) {}
    assert!(!writer.is_finished());
    assert!(delivered(&provider).is_empty());
    provider.plan(ScriptedPlan::Take);
    writer.join().unwrap();
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    assert_eq!(delivered(&provider), (0..MESSAGES).collect::<Vec<_>>());
}

/// Every write is acknowledged; exactly the oldest messages are missing, and each is counted.
#[test]
fn a_full_disk_with_drop_oldest_loses_only_counted_messages() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_with_drop_oldest_loses_only_counted_messages";
    let Some(volume) = Volume::mount(dir.path(), test) else {
        return;
    };
    let provider = ScriptedProvider::new();
    provider.plan(ScriptedPlan::Unavailable);
    let buffer = volume.open(OverflowPolicy::DropOldest, &provider);
    let events = buffer.events();
    for i in 0..MESSAGES {
        buffer.write_blocking("t", message(i)).unwrap();
    }
    provider.plan(ScriptedPlan::Take);
    buffer.flush_blocking(LIMIT).unwrap();
    let numbers = delivered(&provider);
    let dropped = buffer.stats().partitions[0].dropped;
    assert!(dropped > 0, "the disk became full");
    let first = u32::try_from(dropped).unwrap();
    assert_eq!(numbers, (first..MESSAGES).collect::<Vec<_>>());
    let mut reported = 0;
    while let Some(event) = events.wait(Duration::ZERO) {
        match event {
            BufferEvent::Dropped { messages, .. } => reported += messages,
            BufferEvent::Missed(count) => panic!("{count} events were missed"),
            _ => {}
        }
    }
    assert_eq!(reported, dropped);
    buffer.close(CloseMode::Detach).unwrap();
}
