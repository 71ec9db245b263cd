//! A disk that is really full: a small file system of its own, other people's files on it, the
//! threads and the clock of the operating system.

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
/// So many messages of 10 KB are more than twice what the file system holds.
const MESSAGES: u32 = 4_000;

/// A file system of 16 MiB.
struct Volume {
    _disk: SmallDisk,
    at: PathBuf,
}

impl Volume {
    /// Nothing where this process has nothing more to do: see [`SmallDisk::mount`].
    fn mount(at: &Path, test: &str) -> Option<Self> {
        let disk = SmallDisk::mount(at, "16m", test)?;
        let at = at.to_owned();
        Some(Self { _disk: disk, at })
    }

    /// Somebody else fills what is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.at.join("somebody-elses")).unwrap();
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

/// The numbers of what the provider has, in order.
fn delivered(provider: &ScriptedProvider) -> Vec<u32> {
    let number = |text: String| text.split(' ').next().unwrap().parse().unwrap();
    provider.payloads("t").into_iter().map(number).collect()
}

/// Each acknowledged message is delivered once and in order, also when the process ended while the
/// disk was full; a refused one is not delivered.
#[test]
fn a_full_disk_under_refuse_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_under_refuse_loses_nothing_that_was_acknowledged";
    let Some(volume) = Volume::mount(dir.path(), test) else {
        return;
    };
    let provider = ScriptedProvider::new();
    provider.plan(ScriptedPlan::Unavailable);
    let buffer = volume.open(OverflowPolicy::Reject, &provider);
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for i in 0..MESSAGES {
        if i == 200 {
            volume.fill();
        }
        match buffer.write_blocking("t", message(i)) {
            Ok(_) => acknowledged.push(i),
            Err(error) => {
                let full = matches!(&error, WriteError::Full { what, .. } if what == "the disk");
                assert!(full, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "it became full");
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
    // The room of what was delivered is given back a moment later.
    let events = buffer.events();
    let tries = (0..1_000).find(|_| {
        let accepted = buffer.write_blocking("t", message(MESSAGES)).is_ok();
        if !accepted {
            drop(events.wait(Duration::from_millis(10)));
        }
        accepted
    });
    assert!(tries.is_some(), "what was delivered makes room");
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    acknowledged.push(MESSAGES);
    assert_eq!(delivered(&provider), acknowledged);
}

/// A write waits for room, and gets it when the provider takes what waits: none fails, none is lost.
#[test]
fn a_full_disk_under_block_waits_for_the_provider() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_under_block_waits_for_the_provider";
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

/// Every write is acknowledged; what is missing at the end is the oldest, and counted one by one.
#[test]
fn a_full_disk_under_drop_oldest_loses_what_is_counted_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_under_drop_oldest_loses_what_is_counted_and_no_more";
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
    assert!(dropped > 0, "it became full");
    let first = u32::try_from(dropped).unwrap();
    assert_eq!(numbers, (first..MESSAGES).collect::<Vec<_>>());
    let mut told = 0;
    while let Some(event) = events.wait(Duration::ZERO) {
        match event {
            BufferEvent::Dropped { messages, .. } => told += messages,
            BufferEvent::Missed(count) => panic!("{count} events were not heard"),
            _ => {}
        }
    }
    assert_eq!(told, dropped);
    buffer.close(CloseMode::Detach).unwrap();
}
