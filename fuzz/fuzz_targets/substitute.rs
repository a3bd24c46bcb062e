//! `$(...)` in a template, as an agent substitutes it. Nothing may panic, hang or grow without bound.
//!
//! Input: a template as JSON, a zero byte, and an item as JSON.

#![no_main]

use std::collections::BTreeMap;

use api::substitute::{NodeNames, for_node};
use api::template::Template;
use libfuzzer_sys::fuzz_target;

/// What is substituted fits in memory many times over.
const BYTES_MAX: usize = 32 * 1024 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (template, item) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(template) = serde_json::from_slice::<Template>(template) else { return };
    let item = serde_json::from_slice(item).ok();
    let ports = BTreeMap::from([("http".to_owned(), 8080)]);
    let env = BTreeMap::from([("HELIOX_TASK_NAME".to_owned(), "a-0".to_owned())]);
    let names = NodeNames {
        task: "a-0",
        index: 0,
        count: 1,
        attempt: 1,
        partition: Some("p"),
        item: item.as_ref(),
        node: "n",
        ports: &ports,
        env: &env,
    };
    match for_node(&template, &names) {
        Ok(next) => {
            let text = serde_json::to_vec(&next).expect("a template is text");
            assert!(text.len() <= BYTES_MAX);
        }
        Err(found) => found.iter().for_each(|violation| drop(violation.to_string())),
    }
});
