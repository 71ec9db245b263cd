//! Reads files one after another and cuts them into parts of whole lines.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

use super::list::{FileRef, Packing};
use crate::engine::outcome::{Progress, add};

/// What is read at once.
const READ: usize = 128 << 10;
/// What is kept of a line that is too long.
const LONG_KEPT: usize = 1024;

/// A part of a file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) file: Arc<FileRef>,
    pub(super) identity: Arc<str>,
    pub(super) kind: Kind,
    /// Lines before the file's first part, when this is one.
    pub(super) first_line: Option<u64>,
    /// The byte (of what is unpacked) behind it.
    pub(super) end: u64,
    /// It is the file's last one.
    pub(super) is_last: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Whole lines.
    Lines(Bytes),
    /// The beginning of a line that is too long.
    LongLine(Bytes),
    /// The file can't be unpacked from here on.
    Damage(String),
}

/// How a file is read.
pub(super) struct Job {
    pub(super) file: FileRef,
    pub(super) identity: String,
    /// Bytes (of what is unpacked) and lines that are done.
    pub(super) offset: u64,
    pub(super) lines: u64,
}

pub(super) struct Limits {
    pub(super) chunk: usize,
    pub(super) line: usize,
}

/// Reads all files; ends early when nobody takes the parts any more. Blocks.
///
/// # Errors
/// When a file can't be read; what can't be unpacked is a part of its own instead.
pub(super) fn read_all(
    jobs: Vec<Job>,
    limits: &Limits,
    progress: &Arc<Progress>,
    out: &mpsc::Sender<Chunk>,
) -> Result<(), String> {
    for job in jobs {
        let mut cutter = Cutter {
            identity: job.identity.into(),
            file: Arc::new(job.file),
            first_line: Some(job.lines),
            end: job.offset,
            out,
        };
        if !cutter.read(job.offset, limits, progress)? {
            return Ok(());
        }
    }
    Ok(())
}

struct Cutter<'a> {
    file: Arc<FileRef>,
    identity: Arc<str>,
    first_line: Option<u64>,
    end: u64,
    out: &'a mpsc::Sender<Chunk>,
}

impl Cutter<'_> {
    /// False when nobody takes the parts any more.
    fn read(
        &mut self,
        offset: u64,
        limits: &Limits,
        progress: &Arc<Progress>,
    ) -> Result<bool, String> {
        let failed = Arc::new(AtomicBool::new(false));
        let (mut reader, skip) = self.open(offset, &failed, progress)?;
        let mut buffer = BytesMut::new();
        let mut left = skip;
        let mut in_long_line = false;
        loop {
            let from = buffer.len();
            buffer.resize(from + READ, 0);
            let room = buffer.get_mut(from..).unwrap_or_default();
            let read = match reader.read(room) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    buffer.truncate(from);
                    continue;
                }
                Err(e) if failed.load(Ordering::SeqCst) || self.file.packing == Packing::Plain => {
                    return Err(format!("{}: {e}", self.file.name));
                }
                Err(e) => {
                    // What was unpacked before is good; only a line that was cut is not.
                    buffer.truncate(from);
                    return Ok(self.give_lines(&mut buffer, 0)
                        && self.give(Kind::Damage(damage(&e)), 0, true));
                }
            };
            buffer.truncate(from + read);
            if left > 0 {
                let skipped = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                drop(buffer.split_to(skipped));
                left -= skipped as u64;
            }
            if in_long_line {
                in_long_line = self.skip_line(&mut buffer, read == 0);
            }
            if read == 0 {
                // Without a line feed at its end the last line is one nevertheless.
                let bytes = buffer.split().freeze();
                let length = bytes.len();
                return Ok(self.give(Kind::Lines(bytes), length, true));
            }
            if buffer.len() >= limits.chunk && !self.give_lines(&mut buffer, limits.chunk) {
                return Ok(false);
            }
            if !in_long_line && buffer.len() > limits.line {
                let start = buffer.split().freeze();
                let kept = start.slice(..LONG_KEPT.min(start.len()));
                // A job that goes on here sees the line from its beginning again.
                if !self.give(Kind::LongLine(kept), 0, false) {
                    return Ok(false);
                }
                self.end += start.len() as u64;
                in_long_line = true;
            }
        }
    }

    /// The reader of what is unpacked, and how much of that is to be skipped.
    fn open(
        &self,
        offset: u64,
        failed: &Arc<AtomicBool>,
        progress: &Arc<Progress>,
    ) -> Result<(Box<dyn Read>, u64), String> {
        let at = match self.file.packing {
            Packing::Plain => offset,
            Packing::Gzip | Packing::Zstd => 0,
        };
        add(&progress.bytes, usize::try_from(at).unwrap_or(0));
        let raw = BufReader::with_capacity(
            READ,
            Counted {
                inner: self.file.open(at)?,
                failed: Arc::clone(failed),
                progress: Arc::clone(progress),
            },
        );
        Ok(match self.file.packing {
            Packing::Plain => (Box::new(raw), 0),
            Packing::Gzip => (Box::new(MultiGzDecoder::new(raw)), offset),
            Packing::Zstd => {
                let decoder = zstd::Decoder::with_buffer(raw)
                    .map_err(|e| format!("{}: {e}", self.file.name))?;
                (Box::new(decoder), offset)
            }
        })
    }

    /// Drops what belongs to a line that is too long. True when it goes on.
    fn skip_line(&mut self, buffer: &mut BytesMut, is_end: bool) -> bool {
        let end = memchr::memchr(b'\n', buffer).map(|at| at + 1);
        let dropped = end.unwrap_or(buffer.len());
        drop(buffer.split_to(dropped));
        self.end += dropped as u64;
        end.is_none() && !is_end
    }

    /// Gives the whole lines of the buffer in parts of at least `least`.
    fn give_lines(&mut self, buffer: &mut BytesMut, least: usize) -> bool {
        let least = least.max(1);
        while buffer.len() >= least {
            // The first line that ends at or behind the size; else the last one before it.
            let window = buffer.get(..least).unwrap_or(buffer);
            let Some(at) = memchr::memrchr(b'\n', window).or_else(|| memchr::memchr(b'\n', buffer))
            else {
                return true;
            };
            let bytes = buffer.split_to(at + 1).freeze();
            let length = bytes.len();
            if !self.give(Kind::Lines(bytes), length, false) {
                return false;
            }
        }
        true
    }

    fn give(&mut self, kind: Kind, length: usize, is_last: bool) -> bool {
        self.end += length as u64;
        let chunk = Chunk {
            file: Arc::clone(&self.file),
            identity: Arc::clone(&self.identity),
            kind,
            first_line: self.first_line.take(),
            end: self.end,
            is_last,
        };
        self.out.blocking_send(chunk).is_ok()
    }
}

/// Counts what is read, and remembers whether it was reading that failed and not unpacking.
struct Counted {
    inner: Box<dyn Read + Send>,
    failed: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        match &read {
            Ok(n) => add(&self.progress.bytes, *n),
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                self.failed.store(true, Ordering::SeqCst);
            }
            Err(_) => {}
        }
        read
    }
}

fn damage(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        "the packed file ends in the middle: what comes after this line is missing".to_owned()
    } else {
        format!("the packed file is damaged, what comes after this line can't be read: {error}")
    }
}
