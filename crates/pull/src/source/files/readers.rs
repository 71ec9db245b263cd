//! Several readers at once, whose parts come in the order of the files.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::buffers::Buffers;
use super::chunk::{Chunk, Job, Limits, Segment};
use crate::engine::outcome::Progress;

/// Bytes that a reader may be ahead, where parts are not larger.
const AHEAD: usize = 4 << 20;
/// Parts that a reader may be ahead at most.
const PARTS_AHEAD: usize = 16;

/// Readers of the segments of files: as many as are allowed are read at once, each a little ahead
/// of who takes the parts.
pub(super) struct Readers {
    left: Box<dyn Iterator<Item = Segment> + Send>,
    /// In the order of the files.
    reading: VecDeque<Reading>,
    count: usize,
    ahead: usize,
    limits: Limits,
    progress: Arc<Progress>,
    buffers: Buffers,
    /// The byte behind the last segment of this file.
    reached: u64,
}

/// A segment that is being read.
struct Reading {
    parts: mpsc::Receiver<Chunk>,
    task: JoinHandle<Result<Option<u64>, String>>,
    /// No part of it was taken yet, and it has to begin where the one before ended.
    is_joint: bool,
}

impl Readers {
    pub(super) fn new(
        jobs: Vec<Job>,
        count: usize,
        limits: Limits,
        progress: Arc<Progress>,
        buffers: Buffers,
    ) -> Self {
        let ahead = (AHEAD / limits.chunk.max(1)).clamp(1, PARTS_AHEAD);
        let size = (ahead * limits.chunk) as u64;
        Self {
            left: Box::new(jobs.into_iter().flat_map(move |job| job.segments(size))),
            reading: VecDeque::new(),
            count: count.max(1),
            ahead,
            limits,
            progress,
            buffers,
            reached: 0,
        }
    }

    /// The next part; nothing at the end of the last file.
    ///
    /// # Errors
    /// When a file can't be read, or has changed meanwhile.
    pub(super) async fn next(&mut self) -> Option<Result<Chunk, String>> {
        loop {
            while self.reading.len() < self.count {
                let Some(segment) = self.left.next() else {
                    break;
                };
                self.start(segment);
            }
            let first = self.reading.front_mut()?;
            if let Some(part) = first.parts.recv().await {
                if std::mem::take(&mut first.is_joint) && part.start != self.reached {
                    return Some(Err(format!(
                        "{} has changed while it was read: run the job again",
                        part.file.name
                    )));
                }
                return Some(Ok(part));
            }
            let ended = self.reading.pop_front()?.task.await;
            match ended.unwrap_or_else(|e| Err(format!("reading has ended: {e}"))) {
                Ok(Some(reached)) => self.reached = reached,
                Ok(None) => {}
                Err(text) => return Some(Err(text)),
            }
        }
    }

    fn start(&mut self, segment: Segment) {
        let (sender, parts) = mpsc::channel(self.ahead);
        let (limits, progress) = (self.limits, Arc::clone(&self.progress));
        let buffers = self.buffers.clone();
        self.reading.push_back(Reading {
            parts,
            is_joint: segment.is_joint(),
            task: tokio::task::spawn_blocking(move || {
                segment.read(limits, &progress, &buffers, &sender)
            }),
        });
    }
}
