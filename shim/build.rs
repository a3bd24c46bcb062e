//! Tells this build of the shim from others: a sum of its sources.
//!
//! The agent and the small binary beside it are two files that may come from two builds. They speak
//! through files and a line of text, so the agent uses the binary only where both were built from the
//! same sources of this crate.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// FNV-1a of 64 bits.
const SUM_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;
const SUM_PRIME: u64 = 0x100_0000_01b3;

fn main() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let sources = folder.join("src");
    println!("cargo::rerun-if-changed={}", sources.display());
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let sum = files(&sources).iter().fold(SUM_OF_NOTHING, |sum, file| {
        let name = file.strip_prefix(&sources).unwrap_or(file).as_os_str().as_encoded_bytes();
        let text = fs::read(file).expect("a source can be read");
        [name, &text]
            .concat()
            .iter()
            .fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(SUM_PRIME))
    });
    println!("cargo::rustc-env=HELIOX_SHIM_BUILD={version}-{sum:016x}");
}

/// The files of a folder, sorted by name, so that the sum does not depend on the file system.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder of sources can be read");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it is there").path()).collect();
    files.sort();
    files
}
