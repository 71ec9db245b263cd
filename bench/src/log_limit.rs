//! The limit of an append log: batches gather in one buffer, and a thread writes it to a preallocated
//! file and syncs. No headers, checksums or index; it can't be read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::log::Sink;

/// Queue limit, as in the log.
const QUEUE: usize = 32 << 20;
/// Preallocated bytes, overwritten as a ring.
const FILE: u64 = 1 << 30;

struct State {
    waiting: Vec<u8>,
    /// Bytes that were appended, and that are durable.
    queued: u64,
    durable: u64,
    /// Bytes being written.
    writing: usize,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
}

pub struct Plain {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Plain {
    pub fn new(directory: &Path, sync: bool) -> anyhow::Result<Self> {
        let file = File::create(directory.join("plain"))?;
        let zeroes = vec![0; 4 << 20];
        for at in (0..FILE).step_by(zeroes.len()) {
            file.write_all_at(&zeroes, at)?;
        }
        file.sync_all()?;
        let state = State {
            waiting: Vec::new(),
            queued: 0,
            durable: 0,
            writing: 0,
            stop: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let own = shared.clone();
        let writer = std::thread::spawn(move || own.run(&file, sync));
        Ok(Self {
            shared,
            writer: Some(writer),
        })
    }
}

impl Shared {
    fn run(&self, file: &File, sync: bool) {
        let mut at = 0;
        let mut bytes = Vec::new();
        loop {
            let mut state = self.state.lock().expect("nobody panics");
            while state.waiting.is_empty() {
                if state.stop {
                    return;
                }
                state = self.work.wait(state).expect("nobody panics");
            }
            std::mem::swap(&mut state.waiting, &mut bytes);
            state.writing = bytes.len();
            let group = state.queued;
            drop(state);
            if at + bytes.len() as u64 > FILE {
                at = 0;
            }
            file.write_all_at(&bytes, at).expect("the disk works");
            if sync {
                file.sync_data().expect("the disk works");
            }
            at += bytes.len() as u64;
            bytes.clear();
            let mut state = self.state.lock().expect("nobody panics");
            state.durable = group;
            state.writing = 0;
            drop(state);
            self.done.notify_all();
        }
    }
}

impl Sink for Plain {
    fn append(&self, _: usize, batch: &Bytes, _: u32, wait: bool) {
        let mut state = self.shared.state.lock().expect("nobody panics");
        while state.waiting.len() + state.writing + batch.len() > QUEUE {
            state = self.shared.done.wait(state).expect("nobody panics");
        }
        if state.waiting.is_empty() {
            self.shared.work.notify_one();
        }
        state.waiting.extend_from_slice(batch);
        state.queued += batch.len() as u64;
        let mine = state.queued;
        while wait && state.durable < mine {
            state = self.shared.done.wait(state).expect("nobody panics");
        }
    }

    fn drain(&self) {
        let mut state = self.shared.state.lock().expect("nobody panics");
        while state.durable < state.queued {
            state = self.shared.done.wait(state).expect("nobody panics");
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.shared.state.lock().expect("nobody panics").stop = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}
