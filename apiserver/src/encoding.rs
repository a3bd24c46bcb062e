//! How an object is stored: a byte for the schema version, and the JSON of the object without its
//! resourceVersion, which is inserted when it is read. (The store keeps the position and the write
//! id.)

use api::resource_version::ResourceVersion;
use bytes::Bytes;
use serde::Serialize;

/// The schema version. Values of an unknown version are refused.
const SCHEMA_VERSION: u8 = 1;
/// Most objects are smaller, so that their buffers need not grow.
const USUAL_BYTES: usize = 1024;
const METADATA: &[u8] = b"\"metadata\":{";

/// Why this version cannot read a stored value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored object cannot be read: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

/// Encodes an object for the store. Its metadata must have no resourceVersion.
pub(crate) fn encode(object: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.push(SCHEMA_VERSION);
    serde_json::to_writer(&mut bytes, object)
        .expect("our objects have text keys and finite numbers");
    bytes.into()
}

/// The JSON of a stored object.
pub(crate) fn json(stored: &[u8]) -> Result<&[u8], Unreadable> {
    match stored.split_first() {
        Some((&SCHEMA_VERSION, json)) => Ok(json),
        Some((version, _)) => Err(Unreadable(format!("unknown schema version {version}"))),
        None => Err(Unreadable("the value is empty".to_owned())),
    }
}

/// Inserts the resourceVersion as the first field of the metadata. Our serializers write
/// apiVersion, kind and then the metadata, so the first match is the object's own metadata.
pub(crate) fn with_version(json: &[u8], version: ResourceVersion) -> Vec<u8> {
    let field = format!("\"resourceVersion\":\"{version}\"");
    let Some(at) = json.windows(METADATA.len()).position(|window| window == METADATA) else {
        return json.to_vec();
    };
    let (before, after) = json.split_at(at + METADATA.len());
    let comma: &[u8] = if after.first() == Some(&b'}') { b"" } else { b"," };
    [before, field.as_bytes(), comma, after].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_version_is_spliced_into_the_metadata() {
        for object in [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"metadata": "x"}}),
            json!({"apiVersion": "v1", "kind": "Job", "metadata": {"name": "\"metadata\":{"}}),
        ] {
            let stored = encode(&object);
            let stored = json(&stored).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(stored).unwrap(), object);
            let wire = with_version(stored, ResourceVersion::of_event(3, 1));
            let mut wire: Value = serde_json::from_slice(&wire).unwrap();
            let metadata = wire["metadata"].as_object_mut().unwrap();
            assert_eq!(metadata.remove("resourceVersion"), Some(json!("3073")));
            assert_eq!(wire, object);
        }
    }

    #[test]
    fn another_schema_version_is_refused() {
        assert!(json(b"\x02{}").is_err());
        assert!(json(b"").is_err());
    }
}
