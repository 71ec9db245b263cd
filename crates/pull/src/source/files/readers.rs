//! Several readers at once, whose parts come in the order of the files.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::buffers::Buffers;
use super::chunk::{Chunk, Job, Kind, Limits, Segment};
use super::list::FileRef;
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
    /// A file of which nothing more is wanted.
    left_out: Option<Arc<FileRef>>,
}

/// A segment that is being read.
struct Reading {
    file: Arc<FileRef>,
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
            left_out: None,
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
                if !self.is_left_out(segment.file()) {
                    self.start(segment);
                }
            }
            let first = self.reading.front()?;
            if self.is_left_out(&first.file) {
                let Reading { parts, task, .. } = self.reading.pop_front()?;
                // It ends when nobody takes its parts.
                drop(parts);
                drop(task.await);
                continue;
            }
            let first = self.reading.front_mut()?;
            if let Some(part) = first.parts.recv().await {
                if std::mem::take(&mut first.is_joint) && part.start != self.reached {
                    return Some(Err(format!(
                        "{} has changed while it was read: run the job again",
                        part.file.name
                    )));
                }
                if matches!(part.kind, Kind::Encoding(_)) {
                    self.left_out = Some(Arc::clone(&part.file));
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

    fn is_left_out(&self, file: &Arc<FileRef>) -> bool {
        let left_out = self.left_out.as_ref();
        left_out.is_some_and(|left_out| Arc::ptr_eq(left_out, file))
    }

    fn start(&mut self, segment: Segment) {
        let (sender, parts) = mpsc::channel(self.ahead);
        let (limits, progress) = (self.limits, Arc::clone(&self.progress));
        let buffers = self.buffers.clone();
        self.reading.push_back(Reading {
            parts,
            is_joint: segment.is_joint(),
            file: Arc::clone(segment.file()),
            task: tokio::task::spawn_blocking(move || {
                segment.read(limits, &progress, &buffers, &sender)
            }),
        });
    }
}
