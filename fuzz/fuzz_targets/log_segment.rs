//! Arbitrary bytes as a whole segment file. Seeds: `crates/log/tests/golden`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay_log::fuzzing::segment(data));
