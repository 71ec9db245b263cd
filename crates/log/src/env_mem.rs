//! A simulated disk in memory that loses, tears and reorders unsynced writes, and fails on demand.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bytefields::to_usize;
use crate::env::{Env, EnvFile, FileAccess, LockGuard};

mod disk;

pub use disk::{DiskCall, WriteFault};
use disk::{DiskFault, Inode, MemDisk, NameChange, SECTOR};
use parking_lot::Mutex;

/// A disk in memory. Clones share the disk.
///
/// All randomness comes from the seed. With [`LogConfig::manual`](crate::LogConfig::manual) a run
/// is a function of the seed and of the calls made.
#[derive(Clone)]
pub struct MemEnv {
    disk: Arc<Mutex<MemDisk>>,
}

impl MemEnv {
    /// Creates an empty disk.
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Arc::new(Mutex::new(MemDisk::new(seed))),
        }
    }

    /// Simulates a power cut: each unsynced sector and each unsynced name change survives or not.
    /// All handles become invalid.
    pub fn crash(&self) {
        let mut disk = self.disk.lock();
        disk.end_process();
        disk.lose_names();
        disk.lose_sectors();
    }

    /// Simulates the end of the process; the operating system keeps what was written. All handles
    /// become invalid.
    pub fn kill(&self) {
        self.disk.lock().end_process();
    }

    /// Makes call number `n` from now (the first is 0) of this kind fail; of any kind if `None`.
    pub fn fail(&self, call: Option<DiskCall>, n: u64, errno: i32) {
        self.disk.lock().faults.push(DiskFault {
            call,
            after: n,
            errno,
        });
    }

    /// While set, opening and creating files fails with it: no descriptor is available.
    pub fn set_shortage(&self, errno: Option<i32>) {
        self.disk.lock().shortage = errno;
    }

    /// Makes write number `n` from now (the first is 0) go wrong but report success.
    pub fn corrupt_write(&self, fault: WriteFault, n: u64) {
        self.disk.lock().write_faults.push((fault, n));
    }

    /// Lets `n` more calls succeed and none after them, as in a power cut; then call
    /// [`MemEnv::crash`].
    pub fn cut_power_after(&self, n: u64) {
        self.disk.lock().power = Some(n);
    }

    /// Clears all pending faults.
    pub fn heal(&self) {
        let mut disk = self.disk.lock();
        disk.faults.clear();
        disk.write_faults.clear();
        disk.power = None;
        disk.shortage = None;
    }

    /// Number of calls so far.
    pub fn calls(&self) -> u64 {
        self.disk.lock().calls
    }

    /// Sets the capacity of the disk in bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity = bytes;
    }

    /// Makes everything that writes fail.
    pub fn set_read_only(&self, read_only: bool) {
        self.disk.lock().read_only = read_only;
    }

    /// Advances both clocks.
    pub fn advance(&self, by: Duration) {
        let mut disk = self.disk.lock();
        disk.elapsed += by;
        disk.now_ms += i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 2);
    }

    /// Sets the wall clock only.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.disk.lock().now_ms = now_ms;
    }

    /// All files with their content.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let disk = self.disk.lock();
        let bytes = |inode| {
            disk.inodes
                .get(inode)
                .map_or_else(Vec::new, |i| i.current.clone())
        };
        disk.names
            .iter()
            .map(|(path, inode)| (path.clone(), bytes(inode)))
            .collect()
    }

    /// Adds a synced file.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk.lock();
        let inode = disk.next_inode;
        disk.next_inode += 1;
        let content = Inode {
            current: bytes.clone(),
            durable: bytes,
            ..Inode::default()
        };
        disk.inodes.insert(inode, content);
        disk.names.insert(path.to_owned(), inode);
        disk.durable_names.insert(path.to_owned(), inode);
    }

    /// A copy of the current disk, with everything synced and nothing open.
    pub fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        for (path, bytes) in self.files() {
            copy.put(&path, bytes);
        }
        copy
    }
}

impl Env for MemEnv {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(disk
            .names
            .keys()
            .filter(|p| p.parent() == Some(dir))
            .filter_map(name)
            .collect())
    }

    fn open(&self, path: &Path, access: FileAccess) -> io::Result<Arc<dyn EnvFile>> {
        let mut disk = self.disk.lock();
        disk.call(DiskCall::Open)?;
        if disk.read_only && access != FileAccess::Read {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let inode = match (disk.names.get(path).copied(), access) {
            (Some(inode), FileAccess::Read | FileAccess::Write) => inode,
            (None, FileAccess::Read | FileAccess::Write) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (_, FileAccess::Create) => {
                let inode = disk.next_inode;
                disk.next_inode += 1;
                disk.inodes.insert(inode, Inode::default());
                disk.names.insert(path.to_owned(), inode);
                disk.changes
                    .push(NameChange::Create(path.to_owned(), inode));
                inode
            }
        };
        Ok(Arc::new(MemFile {
            disk: self.disk.clone(),
            inode,
            epoch: disk.epoch,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call(DiskCall::Rename)?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        disk.changes
            .push(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call(DiskCall::Remove)?;
        disk.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        disk.changes.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call(DiskCall::SyncDir)?;
        disk.durable_names = disk.names.clone();
        disk.changes.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let mut disk = self.disk.lock();
        if disk.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if disk.locks.contains_key(path) {
            return Ok(None);
        }
        let epoch = disk.epoch;
        disk.locks.insert(path.to_owned(), epoch);
        let held = MemLock {
            disk: self.disk.clone(),
            path: path.to_owned(),
            epoch,
        };
        Ok(Some(Box::new(held)))
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let disk = self.disk.lock();
        let capacity = disk.capacity.unwrap_or(1 << 40);
        Ok(capacity.saturating_sub(disk.used()))
    }

    fn now_ms(&self) -> i64 {
        self.disk.lock().now_ms
    }

    fn elapsed(&self) -> Duration {
        self.disk.lock().elapsed
    }

    fn random(&self) -> u64 {
        self.disk.lock().next_random()
    }
}

struct MemLock {
    disk: Arc<Mutex<MemDisk>>,
    path: PathBuf,
    epoch: u64,
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        if disk.locks.get(&self.path) == Some(&self.epoch) {
            disk.locks.remove(&self.path);
        }
    }
}

struct MemFile {
    disk: Arc<Mutex<MemDisk>>,
    inode: u64,
    epoch: u64,
}

impl MemFile {
    fn with<T>(
        &self,
        call: DiskCall,
        act: impl FnOnce(&mut MemDisk, &mut Inode, io::Result<()>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk.lock();
        if disk.epoch != self.epoch {
            return Err(io::Error::other(
                "the process that opened this file has ended",
            ));
        }
        let outcome = disk.call(call);
        let mut inode = disk
            .inodes
            .remove(&self.inode)
            .ok_or(io::ErrorKind::NotFound)?;
        let done = act(&mut disk, &mut inode, outcome);
        disk.inodes.insert(self.inode, inode);
        done
    }
}

impl EnvFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(DiskCall::Read, |_, inode, outcome| {
            outcome?;
            let from = to_usize(offset).min(inode.current.len());
            let n = buf.len().min(inode.current.len() - from);
            buf[..n].copy_from_slice(&inode.current[from..from + n]);
            Ok(n)
        })
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        self.with(DiskCall::Write, |disk, inode, outcome| {
            let grows = (to_usize(offset) + bytes.len()).saturating_sub(inode.current.len()) as u64;
            let others = disk.used() + inode.current.len() as u64;
            let full = disk.capacity.is_some_and(|c| others + grows > c);
            if outcome.is_err() {
                bytes.truncate(disk.below(bytes.len() + 1));
            } else if full && grows > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            } else if disk.short_writes && disk.next_random().is_multiple_of(16) {
                bytes.truncate(1 + disk.below(bytes.len().max(1)));
            }
            match outcome.as_ref().ok().and_then(|()| disk.next_write_fault()) {
                Some(fault) => disk.miswrite(fault, inode, to_usize(offset), &bytes),
                None => inode.write(to_usize(offset), &bytes),
            }
            outcome.map(|()| bytes.len())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(DiskCall::Sync, |disk, inode, outcome| {
            if outcome.is_ok() {
                inode.sync();
                return outcome;
            }
            // As the kernel does: the pages are clean now, whether they reached the disk or not.
            inode.durable.resize(inode.current.len(), 0);
            inode.lengths.clear();
            for (sector, versions) in std::mem::take(&mut inode.dirty) {
                if let Some(last) = versions.last().filter(|_| disk.next_random() & 1 == 0) {
                    inode.persist(sector, last);
                }
            }
            outcome
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(DiskCall::SetLen, |_, inode, outcome| {
            outcome?;
            let len = to_usize(len);
            let old = inode.current.len();
            inode.current.resize(len, 0);
            inode.lengths.push(len);
            for sector in old.min(len) / SECTOR..old.max(len).div_ceil(SECTOR) {
                if sector * SECTOR < len {
                    inode.dirty(sector);
                }
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(DiskCall::Read, |_, inode, outcome| {
            outcome?;
            Ok(inode.current.len() as u64)
        })
    }
}
