//! Arbitrary bytes as a block's header, a control block, a catalog, a segment's head and foot.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay_log::fuzzing::block(data));
