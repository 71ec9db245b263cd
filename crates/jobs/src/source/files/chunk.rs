//! Cuts files into parts of whole lines.
//!
//! A plain file is read in *segments*, several at once; a packed one is one segment. A line belongs
//! to the segment that its first byte is in: its reader goes on behind the segment's end until the
//! line ends, and the reader of the next segment begins behind that. So each line is in one segment,
//! and segments abut: who puts them together checks that ([`FileChunk::start`], [`FileSegment::read`]).

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::chunk_buffers::ChunkBuffers;
use super::encoding::{ENCODING_BYTES, encoding};
use super::list::{FilePacking, FileRef};
use super::unpack::{UnpackError, UnpackReader, unpack_error};
use crate::engine::outcome::{JobProgress, add};

/// What is read at once.
pub(super) const READ: usize = 128 << 10;
/// What is kept of a line that is too long.
pub(super) const LONG_LINE_PREFIX: usize = 1024;

/// A part of a file.
#[derive(Debug)]
pub(super) struct FileChunk {
    pub(super) file: Arc<FileRef>,
    pub(super) identity: Arc<str>,
    pub(super) kind: ChunkContent,
    /// Lines before it; only of a file's first part is that known.
    pub(super) first_line: Option<u64>,
    /// The byte (of what is unpacked) where it begins.
    pub(super) start: u64,
    /// The byte (of what is unpacked) behind it.
    pub(super) end: u64,
    /// It is the file's last one.
    pub(super) is_last: bool,
}

#[derive(Debug)]
pub(super) enum ChunkContent {
    /// Whole lines.
    Lines(Bytes),
    /// The beginning of a line that is too long, its length, and whether a line feed ends it.
    LongLine(Bytes, u64, bool),
    /// The file can't be unpacked from here on, or has something behind what is packed.
    Damage(String),
    /// It is no text that this source can read: which one it is.
    Encoding(&'static str),
}

/// What is left to read of a file.
pub(super) struct PendingFile {
    pub(super) file: FileRef,
    pub(super) identity: String,
    /// Bytes (of what is unpacked) and lines that are done.
    pub(super) offset: u64,
    pub(super) lines: u64,
}

/// A piece of a file that one reader reads.
pub(super) struct FileSegment {
    file: Arc<FileRef>,
    identity: Arc<str>,
    /// Lines before it, where it is the first one that is read of its file.
    lines: Option<u64>,
    /// Its first byte: of the first segment the beginning of a line, of others any.
    from: u64,
    /// The byte behind it; none at the end of the file, wherever that is by then.
    to: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkLimits {
    pub(super) chunk: usize,
    pub(super) line: usize,
}

impl PendingFile {
    /// Cuts what is left into segments of about that many bytes.
    pub(super) fn segments(self, size: u64) -> impl Iterator<Item = FileSegment> {
        let size = size.max(1);
        let left = match self.file.packing {
            FilePacking::Plain => self.file.size.saturating_sub(self.offset),
            FilePacking::Gzip | FilePacking::Zstd => 0,
        };
        // The rest goes with the last one: a line that is being appended is not cut off.
        let count = (left / size).max(1);
        let (file, identity) = (Arc::new(self.file), Arc::<str>::from(self.identity));
        (0..count).map(move |n| FileSegment {
            file: Arc::clone(&file),
            identity: Arc::clone(&identity),
            lines: (n == 0).then_some(self.lines),
            from: self.offset + n * size,
            to: (n + 1 < count).then(|| self.offset + (n + 1) * size),
        })
    }
}

impl FileSegment {
    pub(super) fn file(&self) -> &Arc<FileRef> {
        &self.file
    }

    /// Another segment of the same file comes before it.
    pub(super) fn is_joint(&self) -> bool {
        self.lines.is_none()
    }

    /// Reads it, in parts; ends early when nobody takes them any more. Answers the byte behind its
    /// last line; nothing when one line is all of it and more. Blocks, within a runtime.
    ///
    /// # Errors
    /// When the file can't be read; what can't be unpacked is a part of its own instead.
    pub(super) fn read(
        self,
        limits: ChunkLimits,
        progress: &Arc<JobProgress>,
        buffers: &ChunkBuffers,
        out: &mpsc::Sender<FileChunk>,
    ) -> Result<Option<u64>, String> {
        let failed = Arc::new(AtomicBool::new(false));
        let mut cutter = SegmentChunker {
            first_line: self.lines,
            end: self.from,
            segment: self,
            limits,
            buffer: BytesMut::new(),
            long_line: None,
            failed,
            progress,
            buffers,
            out,
        };
        let has_lines = cutter.read()?;
        Ok(has_lines.then_some(cutter.end))
    }
}

struct SegmentChunker<'a> {
    segment: FileSegment,
    limits: ChunkLimits,
    first_line: Option<u64>,
    /// Where the next part begins.
    end: u64,
    /// What was read and not given.
    buffer: BytesMut,
    /// The beginning of the line that is too long which is being skipped, and the bytes of it so far.
    long_line: Option<(Bytes, u64)>,
    /// Reading has failed, not unpacking.
    failed: Arc<AtomicBool>,
    progress: &'a Arc<JobProgress>,
    buffers: &'a ChunkBuffers,
    out: &'a mpsc::Sender<FileChunk>,
}

impl SegmentChunker<'_> {
    /// False when no line begins in the segment.
    fn read(&mut self) -> Result<bool, String> {
        let (mut reader, mut left) = self.open()?;
        // The line that the byte before is in belongs to the segment before.
        let mut seeks_line = self.segment.lines.is_none();
        let mut is_begin = !seeks_line && self.end == 0;
        loop {
            let from = self.buffer.len();
            if self.buffer.capacity() < from + READ {
                // Room for all of the next part: what is read stays where it is.
                let mut next = self.buffers.take(self.limits.chunk.max(from) + READ);
                next.extend_from_slice(&self.buffer);
                self.buffer = next;
            }
            self.buffer.resize(from + READ, 0);
            let room = self.buffer.get_mut(from..).unwrap_or_default();
            let read = match reader.read(room) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(from);
                    continue;
                }
                Err(e) => {
                    self.buffer.truncate(from);
                    return self.handle_error(&e);
                }
            };
            self.buffer.truncate(from + read);
            if left > 0 {
                let skipped = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(self.buffer.len());
                drop(self.buffer.split_to(skipped));
                left -= skipped as u64;
            }
            if is_begin {
                if read > 0 && self.buffer.len() < ENCODING_BYTES {
                    continue;
                }
                is_begin = false;
                if let Some(encoding) = encoding(&self.buffer) {
                    self.buffer.clear();
                    self.send(ChunkContent::Encoding(encoding), true);
                    return Ok(true);
                }
            }
            if seeks_line {
                seeks_line = self.skip_line(read == 0);
                if seeks_line && self.is_over() {
                    return Ok(false);
                }
            }
            if self.long_line.is_some() && !self.skip_long_line(read == 0) {
                return Ok(true);
            }
            if read == 0 {
                // Without a line feed at its end the last line is one nevertheless.
                let bytes = self.buffer.split().freeze();
                let is_last = self.segment.to.is_none();
                if is_last || !bytes.is_empty() {
                    self.send(ChunkContent::Lines(bytes), is_last);
                }
                return Ok(true);
            }
            if seeks_line || self.long_line.is_some() {
                continue;
            }
            if !self.cut() {
                return Ok(true);
            }
        }
    }

    /// Gives what is whole. False at the segment's end, and when nobody takes parts any more.
    fn cut(&mut self) -> bool {
        if let Some(to) = self.segment.to {
            // The last line of the segment is the one that its last byte is in.
            let last = usize::try_from(to.saturating_sub(self.end)).unwrap_or(usize::MAX);
            let Some(last) = last.checked_sub(1) else {
                return false;
            };
            let rest = self.buffer.get(last..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', rest) {
                self.buffer.truncate(last + at + 1);
                self.send_lines(self.buffer.len());
                return false;
            }
        }
        if self.buffer.len() >= self.limits.chunk && !self.send_lines(self.limits.chunk) {
            return false;
        }
        if self.buffer.len() > self.limits.line && !self.send_lines(self.buffer.len()) {
            return false;
        }
        if self.buffer.len() > self.limits.line {
            let start = self.buffer.split().freeze();
            let kept = Bytes::copy_from_slice(start.get(..LONG_LINE_PREFIX).unwrap_or(&start));
            self.long_line = Some((kept, start.len() as u64));
        }
        true
    }

    /// Reading or unpacking has failed.
    fn handle_error(&mut self, error: &io::Error) -> Result<bool, String> {
        let file = &self.segment.file;
        if self.failed.load(Ordering::SeqCst) || file.packing == FilePacking::Plain {
            return Err(format!("{}: {error}", file.name));
        }
        let broken = unpack_error(error);
        // What was unpacked before is good; only a line that was cut is not.
        let mut is_taken = self.send_long_line(false) && self.send_lines(self.buffer.len());
        let rest = self.buffer.split().freeze();
        if is_taken && !rest.is_empty() && matches!(broken, UnpackError::Extra(_)) {
            is_taken = self.send(ChunkContent::Lines(rest), false);
        }
        if is_taken {
            self.send(ChunkContent::Damage(broken.to_string()), true);
        }
        Ok(true)
    }

    /// The reader of what is unpacked, and how much of that is to be skipped.
    fn open(&mut self) -> Result<(Box<dyn Read>, u64), String> {
        let file = &self.segment.file;
        let is_plain = file.packing == FilePacking::Plain;
        if self.segment.lines.is_none() {
            // One byte earlier: a segment may begin where a line does.
            self.end = self.end.saturating_sub(1);
        }
        let at = if is_plain { self.end } else { 0 };
        let skip = self.end - at;
        if is_plain && self.segment.lines.is_some() {
            add(&self.progress.bytes, usize::try_from(at).unwrap_or(0));
        }
        let raw = BufReader::with_capacity(
            READ,
            CountingReader {
                inner: file.open(at, self.segment.to)?,
                failed: Arc::clone(&self.failed),
                progress: (!is_plain).then(|| Arc::clone(self.progress)),
            },
        );
        Ok(match file.packing {
            FilePacking::Plain => (Box::new(raw), skip),
            packing => (Box::new(UnpackReader::new(raw, packing)), skip),
        })
    }

    /// Drops what belongs to the line that the buffer begins in. True when it goes on.
    fn skip_line(&mut self, is_end: bool) -> bool {
        let end = memchr::memchr(b'\n', &self.buffer).map(|at| at + 1);
        let dropped = end.unwrap_or(self.buffer.len());
        drop(self.buffer.split_to(dropped));
        self.end += dropped as u64;
        end.is_none() && !is_end
    }

    /// Drops what belongs to the line that is too long, and gives it once it has ended. False when
    /// nobody takes parts any more.
    fn skip_long_line(&mut self, is_end: bool) -> bool {
        let end = memchr::memchr(b'\n', &self.buffer).map(|at| at + 1);
        let dropped = self.buffer.split_to(end.unwrap_or(self.buffer.len()));
        if let Some((_, length)) = &mut self.long_line {
            *length += dropped.len() as u64 - u64::from(end.is_some());
        }
        (end.is_none() && !is_end) || self.send_long_line(end.is_some())
    }

    fn send_long_line(&mut self, is_ended: bool) -> bool {
        let Some((kept, length)) = self.long_line.take() else {
            return true;
        };
        self.send(ChunkContent::LongLine(kept, length, is_ended), false)
    }

    /// Whether no line that begins from here on belongs to the segment.
    fn is_over(&self) -> bool {
        self.segment.to.is_some_and(|to| self.end >= to)
    }

    /// Gives the whole lines of the buffer in parts of at least `least`. False when nobody takes
    /// parts any more.
    fn send_lines(&mut self, least: usize) -> bool {
        let least = least.max(1);
        while self.buffer.len() >= least {
            // The first line that ends at or behind the size; else the last one before it.
            let window = self.buffer.get(..least).unwrap_or(&self.buffer);
            let Some(at) =
                memchr::memrchr(b'\n', window).or_else(|| memchr::memchr(b'\n', &self.buffer))
            else {
                return true;
            };
            let bytes = self.buffer.split_to(at + 1).freeze();
            if !self.send(ChunkContent::Lines(bytes), false) {
                return false;
            }
        }
        true
    }

    fn send(&mut self, kind: ChunkContent, is_last: bool) -> bool {
        let start = self.end;
        let length = match &kind {
            ChunkContent::Lines(bytes) => bytes.len() as u64,
            ChunkContent::LongLine(_, length, is_ended) => length + u64::from(*is_ended),
            ChunkContent::Damage(_) | ChunkContent::Encoding(_) => 0,
        };
        self.end += length;
        self.count(usize::try_from(length).unwrap_or(usize::MAX));
        let chunk = FileChunk {
            file: Arc::clone(&self.segment.file),
            identity: Arc::clone(&self.segment.identity),
            kind,
            first_line: self.first_line.take(),
            start,
            end: self.end,
            is_last,
        };
        self.out.blocking_send(chunk).is_ok()
    }

    /// Of a plain file what is given counts as read: readers read a little of each other's.
    fn count(&self, bytes: usize) {
        if self.segment.file.packing == FilePacking::Plain {
            add(&self.progress.bytes, bytes);
        }
    }
}

/// Counts what is read, and remembers whether it was reading that failed and not unpacking.
struct CountingReader {
    inner: Box<dyn Read + Send>,
    failed: Arc<AtomicBool>,
    progress: Option<Arc<JobProgress>>,
}

impl Read for CountingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        match &read {
            Ok(n) => {
                if let Some(progress) = &self.progress {
                    add(&progress.bytes, *n);
                }
            }
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                self.failed.store(true, Ordering::SeqCst);
            }
            Err(_) => {}
        }
        read
    }
}
