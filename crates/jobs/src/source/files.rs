//! JSON Lines files as a source.
//!
//! Readers cut files, or segments of large ones, into chunks of whole lines; chunks are parsed in parallel
//! and sent on in order, so that of two lines with the same key the later one stays. The checkpoint of each
//! file advances as its chunks are acknowledged, so a killed job reads at most the last chunks again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;

use crate::convert::LineReader;
use crate::definition::FileSourceConfig;
use crate::engine::checkpoint::CheckpointTracker;
use crate::engine::execution::{JobContext, JobExecution};
use crate::engine::outcome::{JobFailure, JobProgress, add};
use crate::engine::queue::QueueSender;
use crate::record::{
    DeadRecord, JobStage, PartLines, RecordOrigin, RecordOutcomes, RecordPosition, StageBatch,
};
use crate::state::FileCheckpoint;

mod chunk;
pub(crate) mod chunk_buffers;
mod encoding;
mod file_errors;
mod file_ref;
mod list;
mod local;
mod name;
mod objects;
mod parse;
mod segment_readers;
mod unpack;

use chunk::{ChunkContent, ChunkLimits, FileChunk, PendingFile};
use chunk_buffers::ChunkBuffers;
use file_errors::FileErrors;
use file_ref::{FilePacking, FileRef};
use list::FileListing;
use parse::{BadLine, ParsedChunk, parse_chunk};
use segment_readers::SegmentReaders;

pub(crate) struct FileSource {
    pub(crate) execution: Arc<JobExecution>,
    pub(crate) files: FileSourceConfig,
    pub(crate) tracker: Arc<CheckpointTracker>,
    /// Builds rows while parsing, if nothing comes between parsing and the table.
    pub(crate) reader: LineReader,
    pub(crate) concurrency: usize,
}

/// Position in the sequence of parts.
struct PartCursor {
    part: u64,
    /// Lines of the file before the next part.
    lines: u64,
    bad: u64,
    buffers: ChunkBuffers,
    errors: FileErrors,
}

impl FileSource {
    /// Reads until the end, a stop or a failure. True at the end.
    pub(crate) async fn read(self, context: &JobContext, out: QueueSender<StageBatch>) -> bool {
        match self.read_all(context, &out).await {
            Ok(is_end) => is_end,
            Err(failure) => {
                self.execution.control.fail(failure);
                false
            }
        }
    }

    async fn read_all(
        &self,
        context: &JobContext,
        out: &QueueSender<StageBatch>,
    ) -> Result<bool, JobFailure> {
        let Some((pending, errors)) = self.pending_files(context).await? else {
            return Ok(false);
        };
        let limits = ChunkLimits {
            chunk: usize::try_from(self.files.chunk_size.0).unwrap_or(usize::MAX),
            line: usize::try_from(self.files.max_line_size.0).unwrap_or(usize::MAX),
        };
        let progress = Arc::clone(&self.execution.progress);
        let buffers = ChunkBuffers::new(limits.chunk.saturating_add(chunk::READ));
        let count = self.files.readers as usize;
        let readers = SegmentReaders::new(pending, count, limits, progress, buffers.clone());
        let chunks = futures::stream::unfold(readers, async |mut readers| {
            let chunk = readers.next().await?;
            Some((chunk, readers))
        });
        let parse = |chunk: Result<FileChunk, String>| {
            let reader = self.reader.clone();
            async move {
                let chunk = chunk?;
                tokio::task::spawn_blocking(move || parse_chunk(chunk, &reader, limits.line))
                    .await
                    .map_err(|e| format!("parsing failed: {e}"))
            }
        };
        let mut parts = std::pin::pin!(chunks.map(parse).buffered(self.concurrency));
        let mut cursor = PartCursor {
            part: 0,
            lines: 0,
            bad: 0,
            buffers,
            errors,
        };
        loop {
            let next = tokio::select! {
                next = parts.next() => next,
                () = self.execution.control.stop.cancelled() => return Ok(false),
            };
            let Some(part) = next else { break };
            let part = part.map_err(JobFailure::Source)?;
            if !self.send_part(part, &mut cursor, out).await? {
                return Ok(false);
            }
        }
        match cursor.errors.text() {
            Some(text) => Err(JobFailure::Source(text)),
            None => Ok(true),
        }
    }

    /// The unread rest of each file; `None` when the run ends.
    async fn pending_files(
        &self,
        context: &JobContext,
    ) -> Result<Option<(Vec<PendingFile>, FileErrors)>, JobFailure> {
        let stop = &self.execution.control.stop;
        let listing = list::list(&self.files, &context.variable, stop).await;
        let listing = listing.map_err(JobFailure::Source)?;
        let known = self
            .execution
            .state
            .files()
            .await
            .map_err(self.execution.state_failed())?;
        let total = listing.files.iter().map(|f| f.size).sum();
        tracing::debug!(files = listing.files.len(), bytes = total, "source listed");
        self.execution
            .progress
            .bytes_total
            .store(total, Ordering::Relaxed);
        let (progress, stopped) = (Arc::clone(&self.execution.progress), stop.clone());
        // Opens each file: in a thread where blocking is allowed.
        let task = tokio::task::spawn_blocking(move || {
            pending_files(listing, &known, &progress, &|| stopped.is_cancelled())
        });
        let result = tokio::select! {
            result = task => result,
            () = stop.cancelled() => return Ok(None),
        };
        let pending =
            result.map_err(|e| JobFailure::Source(format!("opening the files failed: {e}")))?;
        Ok(Some(pending).filter(|_| !stop.is_cancelled()))
    }

    /// Sends a part's records, and its bad lines to the dead letters. False when the run ends.
    async fn send_part(
        &self,
        part: ParsedChunk,
        cursor: &mut PartCursor,
        out: &QueueSender<StageBatch>,
    ) -> Result<bool, JobFailure> {
        let chunk = part.chunk;
        if let ChunkContent::Encoding(encoding) = chunk.kind {
            let name = &chunk.file.name;
            cursor.errors.add(format!(
                "{name} is {encoding}, but has to be UTF-8 (`iconv -f {encoding} -t UTF-8`)"
            ));
            return Ok(true);
        }
        cursor.part += 1;
        cursor.lines = chunk.first_line.unwrap_or(cursor.lines);
        let before = cursor.lines;
        cursor.lines += part.lines;
        let point = FileCheckpoint {
            name: chunk.file.name.to_string(),
            identity: chunk.identity.to_string(),
            offset: chunk.end,
            lines: cursor.lines,
            done: chunk.is_last,
        };
        let position = RecordPosition(cursor.part);
        let count = part.good.len() + part.bad.len();
        if chunk.is_last {
            tracing::debug!(file = %chunk.file.name, lines = cursor.lines, "file read");
        }
        self.tracker.begin_part(position, count, point);
        add(&self.execution.progress.read, count);
        let file = Arc::clone(&chunk.file.name);
        let dead = |bad| dead_record(bad, position, before, &file);
        let bad = RecordOutcomes {
            delivered: Vec::new(),
            dead: part.bad.into_iter().map(dead).collect(),
        };
        cursor.bad += bad.dead.len() as u64;
        let last = bad
            .dead
            .last()
            .map(|d| format!("{}: {}", d.origin, d.error));
        self.execution.acknowledge(bad).await;
        if cursor.bad > self.files.max_errors {
            return Err(JobFailure::TooManyErrors(format!(
                "{} bad lines, allowed are {} (maxErrors); the last is {}",
                cursor.bad,
                self.files.max_errors,
                last.unwrap_or_default()
            )));
        }
        let is_typed = part.table.is_some();
        let lines = PartLines {
            position,
            file,
            before,
            bytes: match chunk.kind {
                ChunkContent::Lines(bytes) => bytes,
                ChunkContent::LongLine(..)
                | ChunkContent::Damage(_)
                | ChunkContent::Encoding(_) => Bytes::new(),
            },
            lines: part.good,
            table: part.table.unwrap_or_default(),
            buffers: cursor.buffers.clone(),
        };
        if !is_typed {
            return Ok(self.send_each(&lines, out).await);
        }
        let is_over = self.execution.control.stop.is_cancelled();
        let is_empty = lines.lines.is_empty();
        Ok(is_empty || !is_over && out.send(StageBatch::Lines(Arc::new(lines))).await)
    }

    /// Sends records one by one. False when the run ends.
    async fn send_each(&self, lines: &PartLines, out: &QueueSender<StageBatch>) -> bool {
        for index in 0..lines.lines.len() {
            let Some(record) = lines.record(index) else {
                continue;
            };
            let record = StageBatch::Records(vec![record]);
            if self.execution.control.stop.is_cancelled() || !out.send(record).await {
                return false;
            }
        }
        true
    }
}

fn dead_record(bad: BadLine, position: RecordPosition, before: u64, file: &Arc<str>) -> DeadRecord {
    DeadRecord {
        position,
        origin: RecordOrigin::Line(Arc::clone(file), before + bad.number + 1, bad.value),
        stage: JobStage::Parse,
        body: bad.body,
        request: "parse".to_owned(),
        status: None,
        error: bad.error,
        attempts: 1,
    }
}

/// The unread rest of each file, and the errors of files that can't be opened.
fn pending_files(
    listing: FileListing,
    known: &HashMap<String, FileCheckpoint>,
    progress: &JobProgress,
    is_stopped: &dyn Fn() -> bool,
) -> (Vec<PendingFile>, FileErrors) {
    let FileListing { files, mut errors } = listing;
    let mut pending = Vec::new();
    for file in files {
        if is_stopped() {
            break;
        }
        let checkpoint = known.get(&*file.name).filter(|p| file.is(&p.identity));
        let (offset, lines, identity) = match checkpoint {
            Some(p) if p.done && is_all(&file, p) => {
                let size = usize::try_from(file.size).unwrap_or(0);
                add(&progress.bytes, size);
                continue;
            }
            Some(p) => (p.offset, p.lines, p.identity.clone()),
            None => match file.identity() {
                Ok(identity) => (0, 0, identity),
                Err(problem) => {
                    errors.add(problem);
                    continue;
                }
            },
        };
        pending.push(PendingFile {
            file,
            identity,
            offset,
            lines,
        });
    }
    (pending, errors)
}

/// Whether the file was read completely: a plain file may have grown, a compressed one would be another file.
fn is_all(file: &FileRef, point: &FileCheckpoint) -> bool {
    file.packing != FilePacking::Plain || file.size <= point.offset
}
