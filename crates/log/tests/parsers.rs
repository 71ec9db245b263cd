//! The fuzz targets on generated input, for machines without a nightly compiler.

use forebay_log::fuzzing;
use proptest::prelude::*;

/// Real structures to start from: random bytes never match a checksum.
fn golden() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1");
    let files = std::fs::read_dir(dir).expect("the golden files are in the repository");
    let files: Result<Vec<_>, std::io::Error> = files.map(|f| std::fs::read(f?.path())).collect();
    files.expect("the golden files can be read")
}

fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (
        prop::sample::select(golden()),
        edits,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut bytes, edits, cut, whole)| {
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if !whole {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn block_parsers_accept_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::block(&bytes);
    }

    #[test]
    fn the_segment_scan_accepts_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzzing::segment(&bytes);
    }

    #[test]
    fn the_segment_scan_accepts_damaged_segments(bytes in mangled()) {
        fuzzing::segment(&bytes);
        for at in (0..bytes.len()).step_by(8) {
            fuzzing::block(&bytes[at..]);
        }
    }
}
