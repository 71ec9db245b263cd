//! State and faults of the simulated disk.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::bytefields::to_usize;

/// The unit that a disk writes atomically.
pub(super) const SECTOR: usize = 512;

pub(super) struct MemDisk {
    pub(super) random: u64,
    pub(super) now_ms: i64,
    pub(super) elapsed: Duration,
    /// Grows when the process "ends"; older handles are invalid.
    pub(super) epoch: u64,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    /// Name changes since the last sync of the directory.
    pub(super) changes: Vec<NameChange>,
    pub(super) inodes: HashMap<u64, Inode>,
    pub(super) next_inode: u64,
    pub(super) locks: HashMap<PathBuf, u64>,
    pub(super) faults: Vec<DiskFault>,
    /// Writes that go wrong, with the number of writes before each.
    pub(super) write_faults: Vec<(WriteFault, u64)>,
    /// Calls until the power cut.
    pub(super) power: Option<u64>,
    pub(super) calls: u64,
    /// Error of opening a file.
    pub(super) shortage: Option<i32>,
    pub(super) read_only: bool,
    pub(super) capacity: Option<u64>,
    pub(super) short_writes: bool,
}

pub(super) struct DiskFault {
    pub(super) call: Option<DiskCall>,
    pub(super) after: u64,
    pub(super) errno: i32,
}

pub(super) enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Default)]
pub(super) struct Inode {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Versions of each sector since the last sync, in order.
    pub(super) dirty: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    pub(super) lengths: Vec<usize>,
}

impl MemDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: seed,
            now_ms: 1_700_000_000_000,
            elapsed: Duration::ZERO,
            epoch: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            inodes: HashMap::new(),
            next_inode: 1,
            locks: HashMap::new(),
            faults: Vec::new(),
            write_faults: Vec::new(),
            power: None,
            calls: 0,
            shortage: None,
            read_only: false,
            capacity: None,
            short_writes: true,
        }
    }

    /// splitmix64
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        to_usize(self.next_random() % (n as u64))
    }

    pub(super) fn call(&mut self, call: DiskCall) -> io::Result<()> {
        self.calls += 1;
        self.elapsed += Duration::from_micros(10);
        if let Some(remaining) = &mut self.power {
            let Some(fewer) = remaining.checked_sub(1) else {
                return Err(io::Error::other("power failure"));
            };
            *remaining = fewer;
        }
        let mut failed = None;
        self.faults.retain_mut(|fault| {
            if fault.call.is_some_and(|c| c != call) {
                return true;
            }
            if fault.after == 0 {
                failed = Some(fault.errno);
                return false;
            }
            fault.after -= 1;
            true
        });
        match failed.or(self.shortage.filter(|_| call == DiskCall::Open)) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None if self.read_only && call != DiskCall::Read && call != DiskCall::Open => {
                Err(io::ErrorKind::ReadOnlyFilesystem.into())
            }
            None => Ok(()),
        }
    }

    /// The fault of the current write.
    pub(super) fn next_write_fault(&mut self) -> Option<WriteFault> {
        let mut found = None;
        self.write_faults.retain_mut(|(fault, after)| {
            match after.checked_sub(1) {
                Some(fewer) => *after = fewer,
                None => found = Some(*fault),
            }
            found.is_none()
        });
        found
    }

    /// A write that goes wrong: the file grows as if it had succeeded.
    pub(super) fn miswrite(
        &mut self,
        fault: WriteFault,
        inode: &mut Inode,
        offset: usize,
        bytes: &[u8],
    ) {
        if inode.current.len() < offset + bytes.len() {
            inode.current.resize(offset + bytes.len(), 0);
            inode.lengths.push(inode.current.len());
        }
        let (at, target) = match fault {
            WriteFault::Lost => return,
            WriteFault::Misplaced => {
                let sectors = inode.current.len().div_ceil(SECTOR).max(1);
                (self.below(sectors) * SECTOR, inode)
            }
            WriteFault::OtherFile => {
                let mut others: Vec<u64> = self.inodes.keys().copied().collect();
                others.sort_unstable();
                if others.is_empty() {
                    return;
                }
                let other = others[self.below(others.len())];
                let Some(target) = self.inodes.get_mut(&other) else {
                    return;
                };
                (offset, target)
            }
        };
        let room = target.current.len().saturating_sub(at);
        target.write(at, &bytes[..bytes.len().min(room)]);
    }

    pub(super) fn used(&self) -> u64 {
        let len = |inode| {
            self.inodes
                .get(inode)
                .map_or(0, |i: &Inode| i.current.len() as u64)
        };
        self.names.values().map(len).sum()
    }

    pub(super) fn end_process(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.faults.clear();
        self.write_faults.clear();
        self.power = None;
        self.shortage = None;
    }

    pub(super) fn lose_names(&mut self) {
        let prefix = self.next_random().is_multiple_of(2);
        let keep = self.below(self.changes.len() + 1);
        for (i, change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            let kept = if prefix {
                i < keep
            } else {
                self.next_random().is_multiple_of(2)
            };
            if !kept {
                continue;
            }
            match change {
                NameChange::Create(path, inode) => {
                    self.durable_names.insert(path, inode);
                }
                NameChange::Rename(from, to) => {
                    if let Some(inode) = self.durable_names.remove(&from) {
                        self.durable_names.insert(to, inode);
                    }
                }
                NameChange::Remove(path) => {
                    self.durable_names.remove(&path);
                }
            }
        }
        self.names = self.durable_names.clone();
    }

    pub(super) fn lose_sectors(&mut self) {
        let mut ids: Vec<u64> = self.inodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(mut inode) = self.inodes.remove(&id) else {
                continue;
            };
            let which = self.below(inode.lengths.len() + 1);
            let len = which
                .checked_sub(1)
                .map_or(inode.durable.len(), |i| inode.lengths[i]);
            inode.durable.resize(len, 0);
            for (sector, versions) in std::mem::take(&mut inode.dirty) {
                let which = self.below(versions.len() + 1);
                if let Some(i) = which.checked_sub(1) {
                    inode.persist(sector, &versions[i]);
                }
            }
            inode.lengths.clear();
            inode.current = inode.durable.clone();
            self.inodes.insert(id, inode);
        }
    }
}

impl Inode {
    pub(super) fn persist(&mut self, sector: usize, bytes: &[u8; SECTOR]) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.durable.len());
        if let Some(target) = self.durable.get_mut(from..to) {
            target.copy_from_slice(&bytes[..to - from]);
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if self.current.len() < offset + bytes.len() {
            self.current.resize(offset + bytes.len(), 0);
            self.lengths.push(self.current.len());
        }
        self.current[offset..offset + bytes.len()].copy_from_slice(bytes);
        for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
            self.dirty(sector);
        }
    }

    pub(super) fn dirty(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.current.len());
        let mut content = [0; SECTOR];
        content[..to - from].copy_from_slice(&self.current[from..to]);
        self.dirty.entry(sector).or_default().push(content);
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.current);
        self.dirty.clear();
        self.lengths.clear();
    }
}

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCall {
    /// Opening or creating a file.
    Open,
    /// Reading.
    Read,
    /// Writing; a first part may reach the disk.
    Write,
    /// Syncing a file; dirty data may reach the disk or not, and is clean afterwards.
    Sync,
    /// Truncating or extending a file.
    SetLen,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing a directory.
    SyncDir,
}

/// Fate of a write that the disk reports as successful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing is written.
    Lost,
    /// It goes to another sector of the same file.
    Misplaced,
    /// It goes to the same offset of another file.
    OtherFile,
}
