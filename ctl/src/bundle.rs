//! The content of a bug report: objects without confidential values, in one archive.
//!
//! Keys stay, values are removed: the reader sees that a variable is set, and not to what. Fields
//! are selected by name, wherever they occur, so that a field of the same name in a future kind is
//! removed as well. Messages of events and statuses stay.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tar::{Builder, Header};

/// The replacement for a removed value.
pub const REDACTED: &str = "<redacted>";
/// Fields in which all text and numbers are removed.
const PRIVATE: [&str; 12] = [
    "annotations",
    "args",
    "binaryData",
    "command",
    "data",
    "env",
    "indexes",
    "item",
    "items",
    "params",
    "stringData",
    "values",
];
/// Those of them that are lists of entries with a name, where the name is kept. Below other private
/// fields, users choose the keys as well.
const NAMED: [&str; 2] = ["env", "params"];
/// Fields that are removed entirely, because they repeat others.
const DROPPED: [&str; 1] = ["managedFields"];
/// Most bytes of all files together, before compression.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The files of a bundle, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Bundle {
    files: Vec<(String, Vec<u8>)>,
    bytes: usize,
}

impl Bundle {
    /// Adds a file. Returns whether it fits into [`BYTES_MAX`].
    pub fn put(&mut self, name: &str, content: Vec<u8>) -> bool {
        let bytes = self.bytes.saturating_add(content.len());
        if bytes > BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.files.push((name.to_owned(), content));
        true
    }

    /// The files' names and sizes in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.files.iter().map(|(name, content)| (name.as_str(), content.len()))
    }

    /// The compressed archive with all files in the folder `folder`, dated `seconds` after 1970.
    ///
    /// # Errors
    /// A name is too long for an archive.
    pub fn archive(&self, folder: &str, seconds: u64) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, content) in &self.files {
            let mut header = Header::new_gnu();
            header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
            header.set_mode(0o600);
            header.set_mtime(seconds);
            archive.append_data(&mut header, format!("{folder}/{name}"), content.as_slice())?;
        }
        let mut compressed = archive.into_inner()?;
        compressed.flush()?;
        compressed.finish()
    }
}

/// Removes confidential values from an object.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !DROPPED.contains(&name.as_str()));
            for (name, value) in fields {
                let name = name.as_str();
                if NAMED.contains(&name)
                    && let Value::Array(things) = value
                {
                    things.iter_mut().for_each(blank_but_name);
                } else if PRIVATE.contains(&name) {
                    blank(value);
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// Removes every value from a list entry, except its name.
fn blank_but_name(thing: &mut Value) {
    let name = thing.get("name").filter(|name| name.is_string()).cloned();
    blank(thing);
    if let (Some(kept), Some(name)) = (thing.get_mut("name"), name) {
        *kept = name;
    }
}

/// Removes every value.
fn blank(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(blank),
        Value::Array(items) => items.iter_mut().for_each(blank),
        Value::Null => (),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => *value = Value::from(REDACTED),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn keys_stay_and_values_go_wherever_they_stand() {
        let mut job = json!({
            "metadata": {
                "name": "load",
                "annotations": { "heliox.dev/last-applied-configuration": "{\"hush\":1}" },
                "managedFields": [{ "fieldsV1": "hush" }],
            },
            "spec": {
                "items": ["hush", { "name": "hush", "table": "hush" }, 7],
                "params": { "name": "hush" },
                "template": {
                    "image": "busybox:1",
                    "command": ["sh", "-c", "hush"],
                    "env": [{ "name": "PASSWORD", "value": "hush" }, { "name": "EMPTY" }],
                },
                "tasks": [{ "name": "x", "template": { "args": ["hush"] } }],
            },
            "data": { "key": "hush" },
            "status": { "phase": "Running", "failed": 2, "message": "1 of 2" },
        });
        redact(&mut job);
        let expected = json!({
            "metadata": {
                "name": "load",
                "annotations": { "heliox.dev/last-applied-configuration": REDACTED },
            },
            "spec": {
                "items": [REDACTED, { "name": REDACTED, "table": REDACTED }, REDACTED],
                "params": { "name": REDACTED },
                "template": {
                    "image": "busybox:1",
                    "command": [REDACTED, REDACTED, REDACTED],
                    "env": [{ "name": "PASSWORD", "value": REDACTED }, { "name": "EMPTY" }],
                },
                "tasks": [{ "name": "x", "template": { "args": [REDACTED] } }],
            },
            "data": { "key": REDACTED },
            "status": { "phase": "Running", "failed": 2, "message": "1 of 2" },
        });
        assert_eq!(job, expected);
    }

    #[test]
    fn an_archive_holds_what_was_put_and_no_more_than_its_bound() {
        let mut bundle = Bundle::default();
        assert!(bundle.put("a.txt", b"one".to_vec()));
        assert!(bundle.put("objects/b.json", vec![b'x'; BYTES_MAX - 3]));
        assert!(!bundle.put("c.txt", b"1".to_vec()), "it is full");
        bundle.files.pop();
        let archive = bundle.archive("heliox-debug", 1).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive.as_slice()));
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("heliox-debug/a.txt"));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
        drop(entry);
        assert!(entries.next().is_none());
    }
}
