//! Checking a template at its definition always ends, with an answer that can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    for problem in forebay_record::jsonnet::check_all(vec![source]) {
        drop(problem.map(|p| p.to_string()));
    }
});
