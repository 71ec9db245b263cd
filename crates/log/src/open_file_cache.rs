//! A bounded cache of open files of sealed segments: a backlog may have more segments than the
//! process may open files.

use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::env::EnvFile;
use crate::io_failure::ReopenError;

/// An LRU cache of open files.
pub(crate) struct OpenFileCache {
    most: usize,
    state: Mutex<OpenFileState>,
}

#[derive(Default)]
struct OpenFileState {
    next: u64,
    /// Use counter.
    uses: u64,
    /// Open files with their last use, by number.
    open: HashMap<u64, (u64, Arc<dyn EnvFile>)>,
}

impl OpenFileCache {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            state: Mutex::default(),
        })
    }

    /// Adds a file that is only read from now on.
    pub(crate) fn insert(
        self: &Arc<Self>,
        path: &Path,
        file: Arc<dyn EnvFile>,
    ) -> Arc<dyn EnvFile> {
        let mut state = self.state.lock();
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
        let mut state = self.state.lock();
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

    /// Closes the least recently used file.
    fn close_one(&mut self) -> bool {
        let oldest = self.open.iter().min_by_key(|(_, (used, _))| *used);
        let oldest = oldest.map(|(number, _)| *number);
        oldest.is_some_and(|number| self.open.remove(&number).is_some())
    }
}

/// A file that is opened on demand.
struct CachedFile {
    cache: Arc<OpenFileCache>,
    number: u64,
    path: PathBuf,
    /// The handle before caching; earlier readers may still use it.
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
                if crate::io_failure::is_no_descriptor(&e)
                    && self.cache.state.lock().close_one() =>
            {
                fs::File::open(&self.path)
            }
            opened => opened,
        };
        let file: Arc<dyn EnvFile> =
            Arc::new(file.map_err(|e| match crate::io_failure::is_scarce(&e) {
                true => e,
                false => io::Error::other(ReopenError(e)),
            })?);
        let mut state = self.cache.state.lock();
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
        let in_cache = self
            .cache
            .state
            .lock()
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
        self.cache.state.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(file: &dyn EnvFile) -> io::Result<u8> {
        let mut byte = [0];
        file.read_at(&mut byte, 0)?;
        Ok(byte[0])
    }

    #[test]
    fn open_files_are_bounded_and_all_files_are_readable() {
        let dir = tempfile::tempdir().unwrap();
        let cache = OpenFileCache::new(3);
        let path = |n: u8| dir.path().join(n.to_string());
        let put = |n: u8| {
            fs::write(path(n), [n]).unwrap();
            cache.insert(&path(n), Arc::new(fs::File::open(path(n)).unwrap()))
        };
        let open = || cache.state.lock().open.len();
        let files: Vec<_> = (0..10).map(put).collect();
        for round in 0..3 {
            for (n, file) in files.iter().enumerate() {
                assert_eq!(usize::from(content(&**file).unwrap()), n, "round {round}");
                assert!(open() <= 3);
            }
        }
        // A removed file stays readable only if it was pinned before.
        files[0].keep_open().unwrap();
        fs::remove_file(path(0)).unwrap();
        fs::remove_file(path(1)).unwrap();
        let read: Vec<_> = files.iter().map(|f| content(&**f)).collect();
        assert_eq!(*read[0].as_ref().unwrap(), 0);
        let error = read[1].as_ref().unwrap_err();
        assert!(
            crate::io_failure::is_scarce(error),
            "no sign of damage: {error}"
        );
        drop((read, files));
        assert_eq!(open(), 0);
    }

    #[test]
    fn readers_of_the_original_handle_are_detected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, [7]).unwrap();
        let cache = OpenFileCache::new(1);
        let active: Arc<dyn EnvFile> = Arc::new(fs::File::open(&path).unwrap());
        let reader = Arc::clone(&active);
        let cached = cache.insert(&path, active);
        assert!(cached.is_read_elsewhere());
        assert_eq!(content(&*cached).unwrap(), 7);
        cache.state.lock().close_one();
        assert!(cached.is_read_elsewhere());
        assert_eq!(content(&*cached).unwrap(), 7);
        drop(reader);
        assert!(!cached.is_read_elsewhere());
    }
}
