//! Entrances for fuzzers: arbitrary bytes into whatever parses what is on disk.

use std::io::{self, IoSlice};

use crate::block::Header;
use crate::catalog::{Catalog, Control};
use crate::env::File;
use crate::extent::{Extents, entries};
use crate::scan;
use crate::segment::{Foot, Head};

/// A file that can only be read.
struct Bytes<'a>(&'a [u8]);

impl File for Bytes<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        let rest = self.0.get(from..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// The parsers of single structures. What is read is written again and must be the same.
///
/// # Panics
/// When a parser is wrong.
pub fn block(data: &[u8]) {
    if let Some(header) = Header::decode(data) {
        let mut again = Vec::new();
        header.encode(&mut again);
        assert_eq!(Header::decode(&again), Some(header));
    }
    if let Some(control) = Control::decode(data) {
        assert_eq!(Control::decode(&control.encode()), Some(control));
    }
    if let Some(catalog) = Catalog::decode(data) {
        assert_eq!(Catalog::decode(&catalog.encode()), Some(catalog));
    }
    if let Some(head) = Head::decode(data) {
        assert_eq!(Head::decode(&head.encode()), Some(head));
    }
    if let Some(extents) = Extents::decode(data) {
        let again = Extents::decode(&extents.encode()).expect("it was written just now");
        assert_eq!(again.all, extents.all);
    }
    if let Some(foot) = Foot::decode(data) {
        assert_eq!(Foot::decode(&foot.encode()), Some(foot));
    }
}

/// A whole segment, by index and by blocks.
///
/// # Panics
/// When the scan says something that can't be.
pub fn segment(data: &[u8]) {
    for scan in [
        scan::segment(&Bytes(data), 1),
        scan::outline(&Bytes(data), 1),
        scan::by_blocks(&Bytes(data), 1),
    ] {
        let scan = scan.expect("reading memory does not fail");
        assert!(scan.lines.is_sorted_by_key(|l| l.offset));
        assert!(scan.end <= (data.len() as u64).max(64));
        for extent in &scan.extents.all {
            let found = entries(&Bytes(data), 1, scan.end, extent.stream, &extent.place);
            let found = found.expect("reading memory does not fail");
            assert!(found.is_none_or(|found| found.len() <= 1024));
        }
    }
}
