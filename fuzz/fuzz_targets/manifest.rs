//! The manifest reader: bytes to documents, schema, types, rules. Nothing may panic or hang.
//!
//! `cargo +nightly fuzz run manifest fuzz/corpus/manifest fuzz/seeds/manifest` at the root. The
//! same entry runs over the seeds and over hostile inputs in `api/tests/it/hostile.rs`.

#![no_main]

use api::manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for problem in manifest::read("fuzz", bytes).err().unwrap_or_default() {
        let _told = problem.to_string();
    }
});
