//! Patches, through the function that the apiserver uses. Nothing may panic, hang or grow beyond the
//! bounds, and what comes out must be readable again.
//!
//! Input: `m` (merge patch) or another byte (JSON patch), then the document and the patch with a zero
//! byte between them.

#![no_main]

use api::patch::{DOCUMENT_BYTES_MAX, Patch, PatchForm};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some((form, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (Some(document), Some(patch)) = (parts.next(), parts.next()) else { return };
    let Ok(mut document) = serde_json::from_slice::<Value>(document) else { return };
    let form = if *form == b'm' { PatchForm::Merge } else { PatchForm::Json };
    let Ok(patch) = Patch::parse(form, patch) else { return };
    if patch.apply(&mut document).is_ok() {
        let text = serde_json::to_vec(&document).expect("a document is text");
        // A control character takes six bytes as JSON, and one where it is counted.
        assert!(text.len() <= 6 * DOCUMENT_BYTES_MAX);
        serde_json::from_slice::<Value>(&text).expect("what was patched can be read");
    }
});
