//! Parallel readers whose chunks are returned in the order of the files.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::chunk::{ChunkContent, ChunkLimits, FileChunk, FileSegment, PendingFile};
use super::chunk_buffers::ChunkBuffers;
use super::file_ref::FileRef;
use crate::engine::outcome::JobProgress;

/// Bytes that a reader may read ahead, unless chunks are larger.
const READ_AHEAD_BYTES: usize = 4 << 20;
/// Maximum number of chunks that a reader may read ahead.
const READ_AHEAD_PARTS: usize = 16;

/// Readers of file segments: at most `count` segments are read in parallel, each a little ahead of the
/// consumer.
pub(super) struct SegmentReaders {
    remaining: Box<dyn Iterator<Item = FileSegment> + Send>,
    /// In the order of the files.
    reading: VecDeque<SegmentTask>,
    count: usize,
    ahead: usize,
    limits: ChunkLimits,
    progress: Arc<JobProgress>,
    buffers: ChunkBuffers,
    /// End offset of the last segment of the current file.
    reached: u64,
    /// A file whose remaining segments are skipped.
    skipped: Option<Arc<FileRef>>,
}

/// A segment that is being read.
struct SegmentTask {
    file: Arc<FileRef>,
    parts: mpsc::Receiver<FileChunk>,
    task: JoinHandle<Result<Option<u64>, String>>,
    /// The next chunk is the first of a segment that must begin where the previous one ended.
    is_joint: bool,
}

impl SegmentReaders {
    pub(super) fn new(
        pending: Vec<PendingFile>,
        count: usize,
        limits: ChunkLimits,
        progress: Arc<JobProgress>,
        buffers: ChunkBuffers,
    ) -> Self {
        let ahead = (READ_AHEAD_BYTES / limits.chunk.max(1)).clamp(1, READ_AHEAD_PARTS);
        let size = (ahead * limits.chunk) as u64;
        Self {
            remaining: Box::new(pending.into_iter().flat_map(move |job| job.segments(size))),
            reading: VecDeque::new(),
            count: count.max(1),
            ahead,
            limits,
            progress,
            buffers,
            reached: 0,
            skipped: None,
        }
    }

    /// The next chunk; `None` at the end of the last file.
    ///
    /// # Errors
    /// A file can't be read, or has changed meanwhile.
    pub(super) async fn next(&mut self) -> Option<Result<FileChunk, String>> {
        loop {
            while self.reading.len() < self.count {
                let Some(segment) = self.remaining.next() else {
                    break;
                };
                if !self.is_skipped(segment.file()) {
                    self.start(segment);
                }
            }
            let first = self.reading.front()?;
            if self.is_skipped(&first.file) {
                let SegmentTask { parts, task, .. } = self.reading.pop_front()?;
                // The reader ends when its receiver is dropped.
                drop(parts);
                drop(task.await);
                continue;
            }
            let first = self.reading.front_mut()?;
            if let Some(part) = first.parts.recv().await {
                if std::mem::take(&mut first.is_joint) && part.start != self.reached {
                    return Some(Err(format!(
                        "{} changed while it was read: run the job again",
                        part.file.name
                    )));
                }
                if matches!(part.kind, ChunkContent::Encoding(_)) {
                    self.skipped = Some(Arc::clone(&part.file));
                }
                return Some(Ok(part));
            }
            let ended = self.reading.pop_front()?.task.await;
            match ended.unwrap_or_else(|e| Err(format!("reading failed: {e}"))) {
                Ok(Some(reached)) => self.reached = reached,
                Ok(None) => {}
                Err(text) => return Some(Err(text)),
            }
        }
    }

    fn is_skipped(&self, file: &Arc<FileRef>) -> bool {
        let skipped = self.skipped.as_ref();
        skipped.is_some_and(|skipped| Arc::ptr_eq(skipped, file))
    }

    fn start(&mut self, segment: FileSegment) {
        let (sender, parts) = mpsc::channel(self.ahead);
        let (limits, progress) = (self.limits, Arc::clone(&self.progress));
        let buffers = self.buffers.clone();
        self.reading.push_back(SegmentTask {
            parts,
            is_joint: segment.is_joint(),
            file: Arc::clone(segment.file()),
            task: tokio::task::spawn_blocking(move || {
                segment.read(limits, &progress, &buffers, &sender)
            }),
        });
    }
}
