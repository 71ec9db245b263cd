//! Checking a template always terminates, with a printable result.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    for problem in forebay_record::jsonnet::check_all(vec![source]) {
        drop(problem.map(|p| p.to_string()));
    }
});
