//! The files and clocks of the operating system.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::env::{Env, EnvFile, FileAccess, LockGuard};
use crate::open_file_cache::OpenFileCache;

/// The operating system's files and clocks.
pub struct StdEnv {
    started: Instant,
    /// Synced directories, kept open: a directory must be synced even when no more files can be
    /// opened. One per log.
    dirs: Mutex<BTreeMap<PathBuf, Arc<fs::File>>>,
    open_files: Arc<OpenFileCache>,
}

impl fmt::Debug for StdEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StdEnv")
    }
}

impl StdEnv {
    /// Creates an environment with the default limits.
    #[allow(clippy::disallowed_methods, reason = "the log reads clocks only here")]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            dirs: Mutex::default(),
            open_files: OpenFileCache::new(OPEN_SEGMENTS_MAX),
        }
    }

    /// Limits the open files of sealed segments to `most`, at least one.
    pub fn with_open_segments(most: usize) -> Self {
        Self {
            open_files: OpenFileCache::new(most),
            ..Self::new()
        }
    }
}

impl StdEnv {
    /// The directory that has this path now; the path may have moved to another one.
    fn dir(&self, path: &Path) -> io::Result<Arc<fs::File>> {
        let mut dirs = self.dirs.lock();
        if let Some(dir) = dirs.get(path) {
            let (open, named) = (dir.metadata()?, fs::metadata(path)?);
            if (open.dev(), open.ino()) == (named.dev(), named.ino()) {
                return Ok(Arc::clone(dir));
            }
        }
        let dir = Arc::new(fs::File::open(path)?);
        dirs.insert(path.to_owned(), Arc::clone(&dir));
        Ok(dir)
    }
}

impl Default for StdEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for StdEnv {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.is_dir()).collect();
        // The log is readable for its owner only, whatever the umask allows.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        // Otherwise a power cut may lose a new directory with its content.
        for parent in missing.iter().filter_map(|d| d.parent()) {
            let is_here = parent.as_os_str().is_empty();
            fs::File::open(if is_here { Path::new(".") } else { parent })?.sync_all()?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path, access: FileAccess) -> io::Result<Arc<dyn EnvFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match access {
            FileAccess::Read => {}
            FileAccess::Write => {
                options.write(true);
            }
            FileAccess::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(options.open(path)?))
    }

    fn cache_read_only(&self, path: &Path, file: Arc<dyn EnvFile>) -> Arc<dyn EnvFile> {
        self.open_files.insert(path, file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.dir(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    #[allow(clippy::disallowed_methods, reason = "the log reads clocks only here")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }

    fn coarse_now_ms(&self) -> i64 {
        // The kernel's time of its last tick: read from memory, without the processor's counter.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn random(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher, RandomState};
        // Seeded by the operating system; good enough for an id, and no dependency.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_i64(self.now_ms());
        hasher.finish()
    }
}

/// Default limit of open files of sealed segments.
const OPEN_SEGMENTS_MAX: usize = 256;
