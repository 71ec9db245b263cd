//! A consistent snapshot of the log, for backups.

use std::io;
use std::sync::Arc;

use crate::env::EnvFile;
use crate::log::Log;
use crate::segment::segment_name;
use crate::volume::VolumeFile;

/// Everything that was committed at one moment. While it lives, its files keep their content, even
/// those that the log has freed; the log itself continues.
pub struct LogSnapshot {
    volume: VolumeFile,
    files: Vec<SegmentFile>,
}

/// A segment of a [`LogSnapshot`].
pub struct SegmentFile {
    /// Name of the file in the log's directory.
    pub name: String,
    /// Bytes from the start that belong to the snapshot.
    pub len: u64,
    file: Arc<dyn EnvFile>,
}

impl std::fmt::Debug for LogSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSnapshot")
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentFile")
            .field("name", &self.name)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl SegmentFile {
    /// Reads at an offset; 0 bytes at the end.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let remaining = self.len.saturating_sub(offset);
        let n = buf
            .len()
            .min(usize::try_from(remaining).unwrap_or(usize::MAX));
        self.file
            .read_at(buf.get_mut(..n).unwrap_or_default(), offset)
    }
}

impl LogSnapshot {
    /// Name and content of the file `volume`.
    pub fn volume_file(&self) -> (&'static str, Vec<u8>) {
        (
            crate::volume::VOLUME_FILE,
            self.volume.encode().into_bytes(),
        )
    }

    /// The segments, by number. Copied to an empty directory together with the file `volume`, they
    /// form a log as a crash at that moment would have left it.
    pub fn segments(&self) -> &[SegmentFile] {
        &self.files
    }
}

impl Log {
    /// Takes a snapshot with every block acknowledged before the call. An unsealed segment ends
    /// with its last committed block. A file that a snapshot or reader has open is never reused
    /// (see `reclaim`), so all of them can be read at any pace.
    #[must_use]
    pub fn snapshot(&self) -> LogSnapshot {
        let shared = self.shared();
        let table = shared.committed.read();
        let file = |(id, segment): (&u64, &crate::table::Segment)| SegmentFile {
            name: segment_name(*id),
            len: if segment.sealed {
                segment.file_len
            } else {
                segment.end
            },
            file: Arc::clone(&segment.file),
        };
        LogSnapshot {
            volume: VolumeFile {
                id: shared.volume,
                version: u32::from(crate::block::FORMAT_VERSION),
            },
            files: table
                .segments
                .iter()
                .filter(|(_, s)| s.end > 0)
                .map(file)
                .collect(),
        }
    }
}
