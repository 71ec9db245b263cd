//! Cuts files into chunks of whole lines.
//!
//! An uncompressed file is read in *segments*, several in parallel; a compressed one is a single segment. A
//! line belongs to the segment of its first byte: that segment's reader continues past its end until the
//! line ends, and the next segment's reader begins after that. So each line is in one segment, and segments
//! abut, which [`SegmentReaders`](super::SegmentReaders) checks ([`FileChunk::start`], [`FileSegment::read`]).

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::chunk_buffers::ChunkBuffers;
use super::encoding::{ENCODING_BYTES, encoding};
use super::file_ref::{FilePacking, FileRef};
use super::unpack::{UnpackError, UnpackReader, unpack_error};
use crate::engine::outcome::{JobProgress, add};

/// Bytes per read.
pub(super) const READ: usize = 128 << 10;
/// Bytes that are stored of a line that is too long.
pub(super) const LONG_LINE_PREFIX: usize = 1024;

#[derive(Debug)]
pub(super) struct FileChunk {
    pub(super) file: Arc<FileRef>,
    pub(super) identity: Arc<str>,
    pub(super) kind: ChunkContent,
    /// Lines before the chunk; known only for the first chunk of a file.
    pub(super) first_line: Option<u64>,
    /// Offset of the first byte in the uncompressed data.
    pub(super) start: u64,
    /// Offset after the last byte in the uncompressed data.
    pub(super) end: u64,
    /// Last chunk of the file.
    pub(super) is_last: bool,
}

#[derive(Debug)]
pub(super) enum ChunkContent {
    /// Whole lines.
    Lines(Bytes),
    /// The beginning of a line that is too long, its length, and whether a line feed ends it.
    LongLine(Bytes, u64, bool),
    /// The rest of the file can't be decompressed, or other data follows the compressed data.
    Damage(String),
    /// The file has this unsupported encoding.
    Encoding(&'static str),
}

/// The unread rest of a file.
pub(super) struct PendingFile {
    pub(super) file: FileRef,
    pub(super) identity: String,
    /// Bytes (uncompressed) and lines that are done.
    pub(super) offset: u64,
    pub(super) lines: u64,
}

/// A range of a file that one reader reads.
pub(super) struct FileSegment {
    file: Arc<FileRef>,
    identity: Arc<str>,
    /// Lines before the segment; known only for the first segment of a file.
    lines: Option<u64>,
    /// First byte: in the first segment the beginning of a line, in others any byte.
    from: u64,
    /// End of the range; `None` for the end of the file, wherever that is by then.
    to: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkLimits {
    pub(super) chunk: usize,
    pub(super) line: usize,
}

impl PendingFile {
    /// Cuts the rest of the file into segments of about `size` bytes.
    pub(super) fn segments(self, size: u64) -> impl Iterator<Item = FileSegment> {
        let size = size.max(1);
        let left = match self.file.packing {
            FilePacking::Plain => self.file.size.saturating_sub(self.offset),
            FilePacking::Gzip | FilePacking::Zstd => 0,
        };
        // The remainder belongs to the last segment: a line that is being appended is not cut off.
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

    /// Whether an earlier segment of the same file precedes this one.
    pub(super) fn is_joint(&self) -> bool {
        self.lines.is_none()
    }

    /// Reads the segment in chunks; ends early when the receiver is dropped. Returns the offset after its last
    /// line, or `None` if no line begins in it. Blocks, and must be called within a runtime.
    ///
    /// # Errors
    /// The file can't be read. Data that can't be decompressed is a chunk of its own instead.
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
    /// Start of the next chunk.
    end: u64,
    /// Bytes that were read and not sent.
    buffer: BytesMut,
    /// A line that is too long and is being skipped: its beginning, and its bytes so far.
    long_line: Option<(Bytes, u64)>,
    /// Reading failed, as opposed to decompressing.
    failed: Arc<AtomicBool>,
    progress: &'a Arc<JobProgress>,
    buffers: &'a ChunkBuffers,
    out: &'a mpsc::Sender<FileChunk>,
}

impl SegmentChunker<'_> {
    /// False when no line begins in the segment.
    fn read(&mut self) -> Result<bool, String> {
        let (mut reader, mut left) = self.open()?;
        // The line of the preceding byte belongs to the segment before.
        let mut seeks_line = self.segment.lines.is_none();
        let mut is_begin = !seeks_line && self.end == 0;
        loop {
            let from = self.buffer.len();
            if self.buffer.capacity() < from + READ {
                // Reserve memory for the whole next chunk, so that it is not copied while it grows.
                let mut next = self.buffers.take(self.limits.chunk.max(from) + READ);
                next.extend_from_slice(&self.buffer);
                self.buffer = next;
            }
            self.buffer.resize(from + READ, 0);
            let free = self.buffer.get_mut(from..).unwrap_or_default();
            let read = match reader.read(free) {
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
                // The last line may lack a line feed.
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

    /// Sends complete lines. False at the segment's end, and when the receiver is dropped.
    fn cut(&mut self) -> bool {
        if let Some(to) = self.segment.to {
            // The last line of the segment is the one with its last byte.
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

    /// Handles a failure to read or decompress.
    fn handle_error(&mut self, error: &io::Error) -> Result<bool, String> {
        let file = &self.segment.file;
        if self.failed.load(Ordering::SeqCst) || file.packing == FilePacking::Plain {
            return Err(format!("{}: {error}", file.name));
        }
        let broken = unpack_error(error);
        // Everything decompressed so far is good, except a line that was cut.
        let mut is_sent = self.send_long_line(false) && self.send_lines(self.buffer.len());
        let rest = self.buffer.split().freeze();
        if is_sent && !rest.is_empty() && matches!(broken, UnpackError::Extra(_)) {
            is_sent = self.send(ChunkContent::Lines(rest), false);
        }
        if is_sent {
            self.send(ChunkContent::Damage(broken.to_string()), true);
        }
        Ok(true)
    }

    /// Opens a reader of the uncompressed data; also returns the number of bytes to skip.
    fn open(&mut self) -> Result<(Box<dyn Read>, u64), String> {
        let file = &self.segment.file;
        let is_plain = file.packing == FilePacking::Plain;
        if self.segment.lines.is_none() {
            // Begin one byte earlier: the segment may begin at the start of a line.
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

    /// Drops the rest of the line at the start of the buffer. True if it continues.
    fn skip_line(&mut self, is_end: bool) -> bool {
        let end = memchr::memchr(b'\n', &self.buffer).map(|at| at + 1);
        let dropped = end.unwrap_or(self.buffer.len());
        drop(self.buffer.split_to(dropped));
        self.end += dropped as u64;
        end.is_none() && !is_end
    }

    /// Drops the rest of the line that is too long, and sends its beginning once it has ended. False when the
    /// receiver is dropped.
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

    /// Whether lines that begin from here on belong to the next segment.
    fn is_over(&self) -> bool {
        self.segment.to.is_some_and(|to| self.end >= to)
    }

    /// Sends the complete lines of the buffer in chunks of at least `least` bytes. False when the receiver is
    /// dropped.
    fn send_lines(&mut self, least: usize) -> bool {
        let least = least.max(1);
        while self.buffer.len() >= least {
            // The last line that ends within `least`, otherwise the first one after it.
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

    /// Counts sent bytes of uncompressed files as read, since their readers overlap a little.
    fn count(&self, bytes: usize) {
        if self.segment.file.packing == FilePacking::Plain {
            add(&self.progress.bytes, bytes);
        }
    }
}

/// Counts bytes, and records whether an error came from reading rather than decompressing.
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
