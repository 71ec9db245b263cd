//! Behavior of a buffer, step by step: no threads, a disk in memory and a scripted provider.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod delivery;
mod limits;

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::scripted::ScriptedProvider;
use forebay_buffer::{Buffer, BufferConfig, BufferEvent, BufferMode, EventStream, Message};
use forebay_log::MemEnv;

pub(crate) struct World {
    pub(crate) env: MemEnv,
    pub(crate) provider: ScriptedProvider,
    pub(crate) config: BufferConfig,
}

impl World {
    pub(crate) fn new(mode: BufferMode) -> Self {
        Self {
            env: MemEnv::new(7),
            provider: ScriptedProvider::new(),
            config: BufferConfig {
                mode,
                manual: true,
                max_bytes: 64 << 20,
                segment_size: Some(64 << 10),
                min_free_bytes: 0,
                ..BufferConfig::new("/buffer")
            },
        }
    }

    pub(crate) fn open(&self) -> Buffer {
        let provider = Arc::new(self.provider.clone());
        Buffer::open_in(Arc::new(self.env.clone()), self.config.clone(), provider).unwrap()
    }

    /// Advances the clock until the buffer is idle, for at most 200 steps.
    pub(crate) fn run(&self, buffer: &Buffer) {
        for _ in 0..200 {
            let max_wait = buffer.step();
            if max_wait >= Duration::from_secs(60) {
                return;
            }
            self.env.advance(max_wait);
        }
    }
}

pub(crate) fn put(buffer: &Buffer, topic: &str, range: std::ops::Range<u32>) {
    for i in range {
        buffer
            .write_blocking(topic, Message::new(i.to_string()))
            .unwrap();
    }
}

pub(crate) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

pub(crate) fn all(events: &EventStream) -> Vec<BufferEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}
