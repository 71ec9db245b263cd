//! Arbitrary bytes as a block header, a control block, a catalog, a segment header and footer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay_log::fuzzing::block(data));
