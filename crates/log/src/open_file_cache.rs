//! Files of sealed segments, of which a bounded number is open: a backlog may have any number of
//! segments, and the process may open only so many files.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::env::EnvFile;
use crate::queue::lock;

/// The open ones.
pub(crate) struct OpenFileCache {
    most: usize,
    state: Mutex<OpenFileState>,
}

#[derive(Default)]
struct OpenFileState {
    next: u64,
    /// Grows with each use.
    uses: u64,
    /// By number, with their last use.
    open: HashMap<u64, (u64, Arc<dyn EnvFile>)>,
}

impl OpenFileCache {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            state: Mutex::default(),
        })
    }

    /// Puts a file on it that is only read from now on.
    pub(crate) fn insert(
        self: &Arc<Self>,
        path: &Path,
        file: Arc<dyn EnvFile>,
    ) -> Arc<dyn EnvFile> {
        let mut state = lock(&self.state);
        state.next += 1;
        let cached = CachedFile {
            cache: Arc::clone(self),
            number: state.next,
            path: path.to_owned(),
            original: Arc::downgrade(&file),
            pinned: OnceLock::new(),
        };
        state.add(cached.number, file, self.most);
        drop(state);
        Arc::new(cached)
    }

    fn get(&self, number: u64) -> Option<Arc<dyn EnvFile>> {
        let mut state = lock(&self.state);
        state.uses += 1;
        let uses = state.uses;
        let (used, file) = state.open.get_mut(&number)?;
        *used = uses;
        Some(Arc::clone(file))
    }
}

impl OpenFileState {
    fn add(&mut self, number: u64, file: Arc<dyn EnvFile>, most: usize) {
        while self.open.len() >= most && self.close_one() {}
        self.uses += 1;
        self.open.insert(number, (self.uses, file));
    }

    /// Closes the one that was not used for longest.
    fn close_one(&mut self) -> bool {
        let oldest = self.open.iter().min_by_key(|(_, (used, _))| *used);
        let oldest = oldest.map(|(number, _)| *number);
        oldest.is_some_and(|number| self.open.remove(&number).is_some())
    }
}

/// A file that is open when it is read.
struct CachedFile {
    cache: Arc<OpenFileCache>,
    number: u64,
    path: PathBuf,
    /// What it was before; who began to read it then still has that.
    original: Weak<dyn EnvFile>,
    pinned: OnceLock<Arc<dyn EnvFile>>,
}

impl CachedFile {
    fn open(&self) -> io::Result<Arc<dyn EnvFile>> {
        if let Some(pinned) = self.pinned.get() {
            return Ok(Arc::clone(pinned));
        }
        if let Some(open) = self.cache.get(self.number) {
            return Ok(open);
        }
        let file = match fs::File::open(&self.path) {
            Err(e)
                if crate::active_segment::is_no_descriptor(&e)
                    && lock(&self.cache.state).close_one() =>
            {
                fs::File::open(&self.path)
            }
            opened => opened,
        };
        let file: Arc<dyn EnvFile> =
            Arc::new(
                file.map_err(|e| match crate::active_segment::is_scarce(&e) {
                    true => e,
                    false => io::Error::other(ReopenError(e)),
                })?,
            );
        let mut state = lock(&self.cache.state);
        state.add(self.number, Arc::clone(&file), self.cache.most);
        Ok(file)
    }
}

impl EnvFile for CachedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.open()?.read_at(buf, offset)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.open()?.sync_data()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.open()?.len()
    }

    fn is_read_elsewhere(&self) -> bool {
        let in_cache = lock(&self.cache.state)
            .open
            .get(&self.number)
            .is_some_and(|(_, open)| std::ptr::addr_eq(Arc::as_ptr(open), self.original.as_ptr()));
        self.original.strong_count() > usize::from(in_cache)
    }

    fn keep_open(&self) -> io::Result<()> {
        let file = self.open()?;
        drop(self.pinned.set(file));
        Ok(())
    }
}

impl Drop for CachedFile {
    fn drop(&mut self) {
        lock(&self.cache.state).open.remove(&self.number);
    }
}

/// A segment that could not be opened again: it says nothing of what is in it.
#[derive(Debug)]
pub(crate) struct ReopenError(io::Error);

impl fmt::Display for ReopenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't be opened again: {}", self.0)
    }
}

impl std::error::Error for ReopenError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(file: &dyn EnvFile) -> io::Result<u8> {
        let mut byte = [0];
        file.read_at(&mut byte, 0)?;
        Ok(byte[0])
    }

    #[test]
    fn few_are_open_and_all_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = OpenFileCache::new(3);
        let path = |n: u8| dir.path().join(n.to_string());
        let put = |n: u8| {
            fs::write(path(n), [n]).unwrap();
            shelf.insert(&path(n), Arc::new(fs::File::open(path(n)).unwrap()))
        };
        let open = || lock(&shelf.state).open.len();
        let files: Vec<_> = (0..10).map(put).collect();
        for round in 0..3 {
            for (n, file) in files.iter().enumerate() {
                assert_eq!(usize::from(content(&**file).unwrap()), n, "round {round}");
                assert!(open() <= 3);
            }
        }
        // One that is removed is read on by who said so before, and only by them.
        files[0].keep_open().unwrap();
        fs::remove_file(path(0)).unwrap();
        fs::remove_file(path(1)).unwrap();
        let read: Vec<_> = files.iter().map(|f| content(&**f)).collect();
        assert_eq!(*read[0].as_ref().unwrap(), 0);
        let gone = read[1].as_ref().unwrap_err();
        assert!(
            crate::active_segment::is_scarce(gone),
            "no sign of damage: {gone}"
        );
        drop((read, files));
        assert_eq!(open(), 0);
    }

    #[test]
    fn who_has_read_it_before_it_came_to_rest_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, [7]).unwrap();
        let shelf = OpenFileCache::new(1);
        let active: Arc<dyn EnvFile> = Arc::new(fs::File::open(&path).unwrap());
        let reader = Arc::clone(&active);
        let resting = shelf.insert(&path, active);
        assert!(resting.is_read_elsewhere());
        assert_eq!(content(&*resting).unwrap(), 7);
        lock(&shelf.state).close_one();
        assert!(resting.is_read_elsewhere());
        assert_eq!(content(&*resting).unwrap(), 7);
        drop(reader);
        assert!(!resting.is_read_elsewhere());
    }
}
