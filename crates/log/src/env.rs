//! Abstraction of files and time.
//!
//! The log uses the operating system only through [`Env`] and [`EnvFile`], so that a test can
//! substitute a disk that loses, tears, reorders and fails (`MemEnv`, feature `sim`).

use std::any::Any;
use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file; an existing one is truncated.
    Create,
}

/// Holds a lock; dropping it releases the lock.
pub type LockGuard = Box<dyn Any + Send + Sync>;

/// Files of directories, and time.
pub trait Env: Send + Sync + 'static {
    /// Creates a directory and its parents, if missing.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    fn open(&self, path: &Path, access: FileAccess) -> io::Result<Arc<dyn EnvFile>>;

    /// Marks a file as read-only: it may be closed while no read is running, and reopened.
    fn cache_read_only(&self, _path: &Path, file: Arc<dyn EnvFile>) -> Arc<dyn EnvFile> {
        file
    }

    /// Renames a file, over an existing one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file, which is created if missing. `None`: the lock is held
    /// elsewhere.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// Bytes that may still be written to the file system of a directory.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Milliseconds since 1970, by the wall clock.
    fn now_ms(&self) -> i64;

    /// Like [`Env::now_ms`], but may lag by a few milliseconds and is cheaper: for timestamps of
    /// millions of messages a second.
    fn coarse_now_ms(&self) -> i64 {
        self.now_ms()
    }

    /// Time since a fixed moment; never decreases.
    fn elapsed(&self) -> Duration;

    /// An unpredictable number (the id of a new volume).
    fn random(&self) -> u64;
}

/// An open file. Calls are positional, so a handle can be shared.
pub trait EnvFile: Send + Sync {
    /// Reads at an offset; fewer bytes than requested, or none, at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset, possibly only a part.
    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes everything written to this file durable, including the metadata needed to find it.
    ///
    /// # Errors
    /// After an error the file must not be trusted any more.
    fn sync_data(&self) -> io::Result<()>;

    /// Truncates or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Allocates disk space for a range behind the end of the file, which then reads as zeroes.
    /// Cheaper than writing zeroes where the range is about to be written anyway; yet the first
    /// sync of that data includes metadata.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        write_zeroes(self, from, to)
    }

    /// Length of the file.
    fn len(&self) -> io::Result<u64>;

    /// Whether another handle reads this file (see [`Env::cache_read_only`]).
    fn is_read_elsewhere(&self) -> bool {
        false
    }

    /// Pins a cached read-only file open, as its path is about to be removed.
    fn keep_open(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads until the buffer is full or the file ends; returns the number of bytes.
pub(crate) fn read_full(file: &dyn EnvFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes a whole buffer.
pub(crate) fn write_full<F: EnvFile + ?Sized>(file: &F, buf: &[u8], offset: u64) -> io::Result<()> {
    write_all_vectored(file, &mut [IoSlice::new(buf)], offset)
}

/// Slices per call; Linux rejects more than 1024.
const SLICES_PER_CALL: usize = 1024;

/// Writes many buffers completely, with as few calls as possible.
pub(crate) fn write_all_vectored<F: EnvFile + ?Sized>(
    file: &F,
    mut bufs: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let some = bufs.len().min(SLICES_PER_CALL);
        match file.write_at(&bufs[..some], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut bufs, n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes zeroes, so that the disk space is allocated and later syncs carry no metadata.
pub(crate) fn write_zeroes<F: EnvFile + ?Sized>(file: &F, from: u64, to: u64) -> io::Result<()> {
    static ZEROES: [u8; 256 * 1024] = [0; 256 * 1024];
    let mut at = from;
    while at < to {
        let n = usize::try_from(to - at).map_or(ZEROES.len(), |n| n.min(ZEROES.len()));
        write_full(file, &ZEROES[..n], at)?;
        at += n as u64;
    }
    Ok(())
}

impl EnvFile for fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, bufs, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(self, FallocateFlags::empty(), from, to - from) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeroes(self, from, to),
            done => Ok(done?),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
