//! Entry points for fuzzers: arbitrary bytes for every parser of on-disk data.

use std::io::{self, IoSlice};

use crate::block::BlockHeader;
use crate::catalog::{Catalog, ControlBlock};
use crate::env::EnvFile;
use crate::extent::SegmentExtents;
use crate::locate::load_entries;
use crate::scan;
use crate::segment::{SegmentFooter, SegmentHeader};

struct ReadOnlyFile<'a>(&'a [u8]);

impl EnvFile for ReadOnlyFile<'_> {
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

/// Parses single structures; a parsed one must survive encoding and decoding.
///
/// # Panics
/// When a parser is wrong.
pub fn block(data: &[u8]) {
    if let Some(header) = BlockHeader::decode(data) {
        let mut again = Vec::new();
        header.encode(&mut again);
        assert_eq!(BlockHeader::decode(&again), Some(header));
    }
    if let Some(control) = ControlBlock::decode(data) {
        assert_eq!(ControlBlock::decode(&control.encode()), Some(control));
    }
    if let Some(catalog) = Catalog::decode(data) {
        assert_eq!(Catalog::decode(&catalog.encode()), Some(catalog));
    }
    if let Some(header) = SegmentHeader::decode(data) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
    }
    if let Some(extents) = SegmentExtents::decode(data) {
        let again = SegmentExtents::decode(&extents.encode()).expect("it was encoded just now");
        assert_eq!(again.all, extents.all);
    }
    if let Some(footer) = SegmentFooter::decode(data) {
        assert_eq!(SegmentFooter::decode(&footer.encode()), Some(footer));
    }
}

/// Scans a whole segment, by index and by blocks.
///
/// # Panics
/// When the scan violates an invariant.
pub fn segment(data: &[u8]) {
    for scan in [
        scan::segment(&ReadOnlyFile(data), 1),
        scan::outline(&ReadOnlyFile(data), 1),
        scan::by_blocks(&ReadOnlyFile(data), 1),
    ] {
        let scan = scan.expect("reading memory does not fail");
        assert!(scan.index_entries.is_sorted_by_key(|l| l.offset));
        assert!(scan.end <= (data.len() as u64).max(64));
        for extent in &scan.extents.all {
            let found = load_entries(
                &ReadOnlyFile(data),
                1,
                scan.end,
                extent.stream,
                &extent.index_range,
            );
            let found = found.expect("reading memory does not fail");
            assert!(found.is_none_or(|found| found.len() <= 1024));
        }
    }
}
