//! A file of the source: identified, and opened at any byte.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;

use forebay_connect::staging::keys::TextKeyBucket;
use sha2::{Digest, Sha256};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::name::shown;

/// Maximum number of files: a pattern that matches more is a mistake.
pub(super) const FILES_MAX: usize = 1_000_000;

/// Bytes requested past a segment of an object, in which its last line should end.
const LINE_REST: u64 = 64 << 10;

/// Bytes at the beginning of a file that identify it.
const FINGERPRINT: u64 = 1024;

/// Compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilePacking {
    Plain,
    Gzip,
    Zstd,
}

#[derive(Clone, Debug)]
pub(super) struct FileRef {
    /// Unique name for people and for the state ([`shown`]).
    pub(super) name: Arc<str>,
    location: FileLocation,
    pub(super) packing: FilePacking,
    /// Stored (compressed) size in bytes.
    pub(super) size: u64,
    /// ETag of an object.
    etag: String,
}

#[derive(Clone, Debug)]
enum FileLocation {
    Local(PathBuf),
    Object(Arc<TextKeyBucket>, String),
}

/// The compression of a file by its name; `None` if the extension is not supported.
pub(super) fn packing(name: &[u8]) -> Option<FilePacking> {
    let (stem, packing) = match ending(name) {
        Some((stem, b"gz")) => (stem, FilePacking::Gzip),
        Some((stem, b"zst")) => (stem, FilePacking::Zstd),
        _ => (name, FilePacking::Plain),
    };
    let (_, kind) = ending(stem)?;
    matches!(kind, b"jsonl" | b"ndjson" | b"json").then_some(packing)
}

/// Splits a name at its last dot.
fn ending(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = memchr::memrchr(b'.', name)?;
    Some((name.get(..dot)?, name.get(dot + 1..)?))
}

impl FileRef {
    pub(super) fn local(path: PathBuf, packing: FilePacking, size: u64) -> Self {
        Self {
            name: shown(path.as_os_str().as_bytes()).into(),
            location: FileLocation::Local(path),
            packing,
            size,
            etag: String::new(),
        }
    }

    pub(super) fn object(
        bucket: &Arc<TextKeyBucket>,
        name: String,
        key: String,
        packing: FilePacking,
        (size, etag): (u64, String),
    ) -> Self {
        Self {
            name: name.into(),
            location: FileLocation::Object(Arc::clone(bucket), key),
            packing,
            size,
            etag,
        }
    }

    /// Identifies the content: an object by its version, a local file by inode and beginning. An uncompressed
    /// file that has grown is the same; a compressed one is another.
    pub(super) fn identity(&self) -> Result<String, String> {
        match &self.location {
            FileLocation::Object(..) => Ok(format!("{}:{}", self.etag, self.size)),
            FileLocation::Local(path) => self.local_identity(path, self.size.min(FINGERPRINT)),
        }
    }

    /// Whether the file has this stored identity.
    pub(super) fn is(&self, stored: &str) -> bool {
        match &self.location {
            FileLocation::Object(..) => self.identity().is_ok_and(|i| i == stored),
            FileLocation::Local(path) => {
                let length = stored.rsplit(':').nth(1).and_then(|n| n.parse().ok());
                length.is_some_and(|n| {
                    n <= self.size && self.local_identity(path, n).is_ok_and(|i| i == stored)
                })
            }
        }
    }

    fn local_identity(&self, path: &LocalPath, length: u64) -> Result<String, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", self.name);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut beginning = Vec::new();
        file.take(length)
            .read_to_end(&mut beginning)
            .map_err(failed)?;
        let hash = format!("{:.16x}", Sha256::digest(&beginning));
        let size = match self.packing {
            FilePacking::Plain => 0,
            FilePacking::Gzip | FilePacking::Zstd => self.size,
        };
        let (dev, ino) = (metadata.dev(), metadata.ino());
        Ok(format!("{dev}:{ino}:{size}:{length}:{hash}"))
    }

    /// Opens the file at a byte of the stored data. It can be read to its end, but is expected to be read to
    /// little more than `to`. Blocks, and must be called within a runtime.
    pub(super) fn open(&self, at: u64, to: Option<u64>) -> Result<Box<dyn Read + Send>, String> {
        match &self.location {
            FileLocation::Local(path) => {
                let failed = |e: std::io::Error| format!("{}: {e}", self.name);
                let mut file = File::open(path).map_err(failed)?;
                file.seek(SeekFrom::Start(at)).map_err(failed)?;
                Ok(Box::new(file))
            }
            // A range after the last byte is invalid.
            FileLocation::Object(..) if at >= self.size => Ok(Box::new(std::io::empty())),
            FileLocation::Object(..) => Ok(Box::new(ObjectRangeReader {
                inner: self.range(at, to.map(|to| to + LINE_REST))?,
                file: self.clone(),
                next: at,
            })),
        }
    }

    /// Reads a range of an object, to its end without `to`.
    fn range(&self, at: u64, to: Option<u64>) -> Result<Box<dyn Read + Send>, String> {
        let FileLocation::Object(bucket, key) = &self.location else {
            return Err(format!("{} is not an object", self.name));
        };
        let range = Some(at)..to.filter(|to| *to < self.size);
        let runtime = tokio::runtime::Handle::current();
        let got = runtime
            .block_on(bucket.get(key, range, &self.etag))
            .map_err(|e| format!("{}: {}", self.name, with_hint(&e.to_string())))?;
        Ok(Box::new(SyncIoBridge::new(StreamReader::new(got))))
    }
}

/// Reads an object from an offset on, one range request after another, to fetch little more than is read.
struct ObjectRangeReader {
    file: FileRef,
    inner: Box<dyn Read + Send>,
    /// Offset of the next byte.
    next: u64,
}

impl Read for ObjectRangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() && self.next < self.file.size {
            let more = self.file.range(self.next, Some(self.next + LINE_REST));
            self.inner = more.map_err(std::io::Error::other)?;
            read = self.inner.read(buffer)?;
        }
        self.next += read as u64;
        Ok(read)
    }
}

/// Adds a hint to an error of a bucket.
pub(super) fn with_hint(text: &str) -> String {
    let hint = if text.contains("NoSuchBucket") || text.contains("404") {
        "no such bucket: "
    } else if [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "AccessDenied",
        "403",
    ]
    .iter()
    .any(|code| text.contains(code))
    {
        "the keys are not accepted: "
    } else {
        ""
    };
    format!("{hint}{text}")
}
