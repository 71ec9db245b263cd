//! The file `volume`, which identifies a data directory, and the lock on it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::block::FORMAT_VERSION;
use crate::env::{Env, FileAccess, LockGuard, read_full, write_full};
use crate::error::LogOpenError;

/// Name of the file that identifies the directory.
pub(crate) const VOLUME_FILE: &str = "volume";
const NEW_VOLUME_FILE: &str = "volume.new";
const LOCK_FILE: &str = "lock";
const MAX_LEN: usize = 4096;

/// Content of the file `volume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VolumeFile {
    pub(crate) id: u64,
    pub(crate) version: u32,
}

/// State of the file `volume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VolumeFileStatus {
    Sound(VolumeFile),
    Missing,
    Damaged,
}

impl VolumeFileStatus {
    /// The volume of a directory, by its file and the headers of its segments. The file decides
    /// unless no segment agrees with it: a damaged or copied file must not turn the directory into
    /// another volume. Where segments of several volumes are mixed, the most frequent one counts,
    /// or that of the newest segment.
    pub(crate) fn id(self, headers: &[(u64, u64)]) -> Option<u64> {
        let written = match self {
            Self::Sound(volume) => Some(volume.id),
            Self::Missing | Self::Damaged => None,
        };
        let mut counts: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
        for (segment, volume) in headers {
            let (count, newest) = counts.entry(*volume).or_default();
            *count += 1;
            *newest = (*newest).max(*segment);
        }
        if written.is_some_and(|id| counts.is_empty() || counts.contains_key(&id)) {
            return written;
        }
        let most = counts.into_iter().max_by_key(|(_, most)| *most);
        most.map(|(id, _)| id)
    }
}

impl VolumeFile {
    /// Text, for people to read. The last line is a checksum, so that a damaged file is not taken
    /// for one of a newer version.
    pub(crate) fn encode(&self) -> String {
        let body = format!(
            "forebay-log\nversion {}\nvolume {:016x}\n",
            self.version, self.id
        );
        let crc = crc32c::crc32c(body.as_bytes());
        format!("{body}crc32c {crc:08x}\n")
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (body, crc) = text.split_once("crc32c ")?;
        let crc = u32::from_str_radix(crc.strip_suffix('\n')?, 16).ok()?;
        if crc != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let mut lines = body.lines();
        (lines.next()? == "forebay-log").then_some(())?;
        Some(Self {
            version: lines.next()?.strip_prefix("version ")?.parse().ok()?,
            id: u64::from_str_radix(lines.next()?.strip_prefix("volume ")?, 16).ok()?,
        })
    }
}

/// Reads the file; a newer version is an error.
pub(crate) fn read(env: &dyn Env, dir: &Path) -> Result<VolumeFileStatus, LogOpenError> {
    let path = dir.join(VOLUME_FILE);
    let io = |source| LogOpenError::Io {
        path: path.clone(),
        source,
    };
    let file = match env.open(&path, FileAccess::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(VolumeFileStatus::Missing),
        Err(e) => return Err(io(e)),
    };
    let mut buf = vec![0; MAX_LEN];
    let n = read_full(&*file, &mut buf, 0).map_err(io)?;
    let Some(volume) = VolumeFile::decode(buf.get(..n).unwrap_or_default()) else {
        return Ok(VolumeFileStatus::Damaged);
    };
    if volume.version > u32::from(FORMAT_VERSION) {
        return Err(LogOpenError::Version {
            dir: dir.to_owned(),
            found: volume.version,
            known: u32::from(FORMAT_VERSION),
        });
    }
    Ok(VolumeFileStatus::Sound(volume))
}

/// Writes the file: under another name, synced, then renamed. A crash leaves the old or the new
/// one, never a part.
pub(crate) fn write(env: &dyn Env, dir: &Path, volume: &VolumeFile) -> Result<(), LogOpenError> {
    let path = dir.join(NEW_VOLUME_FILE);
    let io = |source| open_error(dir, &path, source);
    let file = env.open(&path, FileAccess::Create).map_err(io)?;
    write_full(&*file, volume.encode().as_bytes(), 0).map_err(io)?;
    file.sync_data().map_err(io)?;
    env.rename(&path, &dir.join(VOLUME_FILE)).map_err(io)?;
    env.sync_dir(dir).map_err(io)
}

/// Locks the directory for this process.
pub(crate) fn lock(env: &dyn Env, dir: &Path) -> Result<LockGuard, LogOpenError> {
    let path = dir.join(LOCK_FILE);
    match env.lock(&path) {
        Ok(Some(guard)) => Ok(guard),
        Ok(None) => Err(LogOpenError::Locked {
            dir: dir.to_owned(),
        }),
        Err(e) => Err(open_error(dir, &path, e)),
    }
}

/// Converts an error of the operating system.
pub(crate) fn open_error(dir: &Path, path: &Path, source: io::Error) -> LogOpenError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            LogOpenError::ReadOnly {
                dir: dir.to_owned(),
                source,
            }
        }
        _ => LogOpenError::Io {
            path: path.to_owned(),
            source,
        },
    }
}
