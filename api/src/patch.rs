//! Applies patches to documents, within bounds: JSON merge patch (RFC 7396) and JSON patch (RFC
//! 6902).
//!
//! # Invariants
//!
//! * With each operation, a JSON patch of a few hundred bytes can double a document in size and in
//!   depth. So the cost of every operation is computed and checked **before** it is applied.
//! * A patched document nests less deeply than [`DEPTH_MAX`], so that parsing or walking it later
//!   needs no more stack than any other object.

use json_patch::{Patch as JsonPatch, PatchOperation};
use serde_json::Value;

use crate::json;

/// Most operations of a JSON patch. Kubernetes has the same bound.
pub const OPERATIONS_MAX: usize = 10_000;
/// Largest document that a patch may produce, even between two operations: 4 MiB. That has room for
/// a stored object (1 MiB) and a whole request body (2 MiB). The stored result has its own, lower
/// bound.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes that the operations of one JSON patch may copy, drop and move, all together: 64 MiB,
/// which takes some tens of milliseconds.
pub const WORK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Deepest nesting of a document. Our kinds need 20 levels; JSON readers give up at 128 levels,
/// which include the lists and watch events around an object.
pub const DEPTH_MAX: usize = 64;

/// Approximate size of a list element in memory. Inserting one moves all that follow.
const ELEMENT_BYTES: usize = 32;

/// The forms of patches that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchForm {
    /// RFC 7396.
    Merge,
    /// RFC 6902.
    Json,
}

impl PatchForm {
    /// Every form.
    pub const ALL: [PatchForm; 2] = [PatchForm::Merge, PatchForm::Json];

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            PatchForm::Merge => "application/merge-patch+json",
            PatchForm::Json => "application/json-patch+json",
        }
    }

    /// The form that a `Content-Type` header names. Parameters after `;` are ignored.
    pub fn of_content_type(header: &str) -> Option<Self> {
        let named = header.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|form| form.content_type().eq_ignore_ascii_case(named))
    }
}

/// A parsed patch.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 7396.
    Merge(Value),
    /// RFC 6902.
    Json(JsonPatch),
}

/// Why a patch was not applied: one variant for each thing the client does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The bytes are not a patch of this form. Correct the patch.
    #[error("cannot parse the patch: {0}")]
    Malformed(String),
    /// The patch asks for more than is allowed. Send less, or several patches.
    #[error("the patch is too large: {0}")]
    TooLarge(String),
    /// The document is not as the patch expects it. Read it and decide again.
    #[error("the patch does not apply: {0}")]
    Inapplicable(String),
}

impl Patch {
    /// Parses a patch.
    ///
    /// # Errors
    /// The bytes are not a patch of this form, or it has too many operations.
    pub fn parse(form: PatchForm, bytes: &[u8]) -> Result<Self, PatchError> {
        match form {
            PatchForm::Merge => json::read(bytes).map(Patch::Merge).map_err(PatchError::Malformed),
            PatchForm::Json => {
                let patch: JsonPatch = json::read(bytes).map_err(PatchError::Malformed)?;
                if patch.len() > OPERATIONS_MAX {
                    let count = patch.len();
                    let why = format!("{count} operations; at most {OPERATIONS_MAX} are allowed");
                    return Err(PatchError::TooLarge(why));
                }
                Ok(Patch::Json(patch))
            }
        }
    }

    /// Applies the patch to a document. After an error the document may be changed in part.
    ///
    /// # Errors
    /// The patch does not fit the document, or would make it too large or too deep.
    pub fn apply(&self, document: &mut Value) -> Result<(), PatchError> {
        match self {
            Patch::Merge(patch) => merge(document, patch),
            Patch::Json(patch) => {
                let mut bounds = Bounds { bytes: Measure::of(document).bytes, work: 0 };
                let numbered = patch.iter().enumerate();
                numbered.into_iter().try_for_each(|(at, step)| bounds.apply(document, at, step))
            }
        }
    }
}

/// A merge result is at most as large as both documents together, and at most as deep as the deeper
/// one.
fn merge(document: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let (under, over) = (Measure::of(document), Measure::of(patch));
    check_bytes(under.bytes + over.bytes).map_err(PatchError::TooLarge)?;
    check_depth(under.depth.max(over.depth)).map_err(PatchError::TooLarge)?;
    json_patch::merge(document, patch);
    Ok(())
}

/// How much of the bounds the operations of a JSON patch have used.
#[derive(Debug)]
struct Bounds {
    /// An upper bound of the document's current size.
    bytes: usize,
    /// Bytes that were copied, dropped and moved so far.
    work: usize,
}

/// The cost of one operation.
#[derive(Debug, Default)]
struct Cost {
    added: usize,
    removed: usize,
    /// Depth of the place that is written.
    depth: usize,
    /// Bytes that are moved within the list that is written.
    shifted: usize,
}

impl Bounds {
    /// Applies one operation if it is within the bounds.
    fn apply(
        &mut self,
        document: &mut Value,
        at: usize,
        operation: &PatchOperation,
    ) -> Result<(), PatchError> {
        let place = || format!("operation {at} ({} {})", word(operation), shown(operation));
        let too_large = |why: String| PatchError::TooLarge(format!("{}: {why}", place()));
        let cost = Cost::of(document, operation);
        let bytes = self.bytes.saturating_sub(cost.removed) + cost.added;
        check_bytes(bytes).map_err(too_large)?;
        check_depth(cost.depth).map_err(too_large)?;
        self.work += cost.added + cost.removed + cost.shifted;
        if self.work > WORK_BYTES_MAX {
            let max = WORK_BYTES_MAX / 1024 / 1024;
            let why = format!("the operations move more than {max} MiB of data; send fewer");
            return Err(too_large(why));
        }
        json_patch::patch_unsafe(document, std::slice::from_ref(operation))
            .map_err(|error| PatchError::Inapplicable(format!("{}: {}", place(), error.kind)))?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Cost {
    fn of(document: &Value, operation: &PatchOperation) -> Self {
        let at = |path: &str| document.pointer(path).map(Measure::of).unwrap_or_default();
        let path = operation.path();
        let levels = path.count();
        // A new field needs room for its name, too.
        let name = path.last().map_or(0, |token| token.encoded().len() + FIELD_BYTES);
        let placed = |value: Measure, removed| Cost {
            added: value.bytes + name,
            removed,
            depth: levels + value.depth,
            shifted: shifted(document, path.as_str()),
        };
        match operation {
            PatchOperation::Add(add) => {
                placed(Measure::of(&add.value), replaced(document, path.as_str()))
            }
            PatchOperation::Replace(replace) => {
                placed(Measure::of(&replace.value), at(path.as_str()).bytes)
            }
            PatchOperation::Copy(copy) => {
                placed(at(copy.from.as_str()), replaced(document, path.as_str()))
            }
            // A moved value counts at both places, which is what keeps the size an upper bound.
            PatchOperation::Move(step) => {
                let value = at(step.from.as_str());
                let there = shifted(document, step.from.as_str());
                let cost = placed(value, value.bytes);
                Cost { shifted: cost.shifted + there, ..cost }
            }
            PatchOperation::Remove(_) => Cost {
                removed: at(path.as_str()).bytes,
                shifted: shifted(document, path.as_str()),
                ..Cost::default()
            },
            // A comparison reads at most the value in the patch, which is bounded by the request's
            // body.
            PatchOperation::Test(_) => Cost::default(),
        }
    }
}

/// Size of the value that an `add` or `copy` to `path` overwrites: none in a list, where it
/// inserts.
fn replaced(document: &Value, path: &str) -> usize {
    match parent(document, path) {
        Some(Value::Array(_)) => 0,
        _ => document.pointer(path).map_or(0, |value| Measure::of(value).bytes),
    }
}

/// Upper bound of the bytes that a change at `path` moves within the list around it.
fn shifted(document: &Value, path: &str) -> usize {
    match parent(document, path) {
        Some(Value::Array(list)) => list.len() * ELEMENT_BYTES,
        _ => 0,
    }
}

fn parent<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let (parent, _) = path.rsplit_once('/')?;
    document.pointer(parent)
}

fn word(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}

/// The beginning of an operation's path, for messages.
fn shown(operation: &PatchOperation) -> String {
    const CHARS_MAX: usize = 100;
    let path = operation.path().as_str();
    let mut shown: String = path.chars().take(CHARS_MAX).collect();
    if shown.len() < path.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}

fn check_bytes(bytes: usize) -> Result<(), String> {
    if bytes <= DOCUMENT_BYTES_MAX {
        return Ok(());
    }
    let max = DOCUMENT_BYTES_MAX / 1024 / 1024;
    Err(format!("the object would have {bytes} bytes; at most {max} MiB are allowed"))
}

fn check_depth(depth: usize) -> Result<(), String> {
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    Err(format!("the object would nest {depth} levels deep; at most {DEPTH_MAX} are allowed"))
}

/// Size and depth of a value.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    /// Approximate size as JSON.
    bytes: usize,
    /// 0 for a text or a number, 1 for a flat list or map.
    depth: usize,
}

/// The quotes, colon and comma of a field.
const FIELD_BYTES: usize = 4;
/// Approximate size of a number, `null` or a boolean.
const SCALAR_BYTES: usize = 8;

impl Measure {
    /// Recursion is bounded: either the JSON parser or [`DEPTH_MAX`] has limited the depth of the
    /// value.
    fn of(value: &Value) -> Self {
        let inner = |parts: &mut dyn Iterator<Item = (usize, &Value)>| {
            parts.fold(Self { bytes: 2, depth: 1 }, |sum, (more, part)| {
                let part = Self::of(part);
                let bytes = sum.bytes + more + part.bytes;
                Self { bytes, depth: sum.depth.max(part.depth + 1) }
            })
        };
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                Self { bytes: SCALAR_BYTES, depth: 0 }
            }
            Value::String(text) => Self { bytes: text.len() + 2, depth: 0 },
            Value::Array(list) => inner(&mut list.iter().map(|part| (1, part))),
            Value::Object(map) => {
                inner(&mut map.iter().map(|(name, part)| (name.len() + FIELD_BYTES, part)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn applied(form: PatchForm, document: Value, patch: &Value) -> Result<Value, PatchError> {
        let mut document = document;
        Patch::parse(form, patch.to_string().as_bytes())?.apply(&mut document).map(|()| document)
    }

    fn json_patch(document: Value, patch: &Value) -> Result<Value, PatchError> {
        applied(PatchForm::Json, document, patch)
    }

    fn too_large(outcome: Result<Value, PatchError>) -> String {
        match outcome {
            Err(PatchError::TooLarge(why)) => why,
            other => panic!("{other:?} is not too large"),
        }
    }

    #[test]
    fn both_forms_change_a_document() {
        let document = json!({"a": {"b": 1, "c": 2}, "list": [1, 2]});
        let merged =
            applied(PatchForm::Merge, document.clone(), &json!({"a": {"b": null, "d": 3}}));
        assert_eq!(merged, Ok(json!({"a": {"c": 2, "d": 3}, "list": [1, 2]})));
        let patched = json_patch(
            document.clone(),
            &json!([
                {"op": "test", "path": "/a/b", "value": 1},
                {"op": "move", "from": "/a/b", "path": "/e"},
                {"op": "add", "path": "/list/-", "value": 3},
                {"op": "copy", "from": "/list", "path": "/a/list"},
                {"op": "remove", "path": "/list"},
                {"op": "replace", "path": "/a/c", "value": 5},
            ]),
        );
        assert_eq!(patched, Ok(json!({"a": {"c": 5, "list": [1, 2, 3]}, "e": 1})));
        let failed = json_patch(document, &json!([{"op": "test", "path": "/a/b", "value": 2}]));
        let why = "operation 0 (test \"/a/b\"): value did not match";
        assert_eq!(failed, Err(PatchError::Inapplicable(why.to_owned())));
    }

    #[test]
    fn a_document_that_doubles_with_each_operation_is_stopped_before_it_is_large() {
        let mut steps: Vec<Value> = Vec::new();
        for step in 0..40 {
            let path = format!("/data/{step}");
            steps.push(json!({"op": "copy", "from": "/data", "path": path}));
        }
        let document = json!({"data": {"x": "y".repeat(1000)}});
        let why = too_large(json_patch(document, &json!(steps)));
        assert!(
            why.starts_with("operation 12 (copy \"/data/12\"): the object would have"),
            "{why}"
        );
    }

    #[test]
    fn a_document_that_deepens_with_each_operation_is_stopped() {
        let mut steps = Vec::new();
        for _ in 0..20 {
            steps.push(json!({"op": "copy", "from": "/a", "path": "/b"}));
            steps.push(json!({"op": "add", "path": "/a", "value": {}}));
            steps.push(json!({"op": "move", "from": "/b", "path": "/a/a"}));
        }
        // Each round puts a level around; without lists of paths it takes as many as levels.
        let rounds: Vec<Value> = std::iter::repeat_n(steps, 5).flatten().collect();
        let why = too_large(json_patch(json!({"a": {}}), &json!(rounds)));
        assert!(why.contains("the object would nest 65 levels deep; at most 64"), "{why}");
    }

    #[test]
    fn a_deep_merge_is_refused() {
        let mut deep = json!(1);
        for _ in 0..70 {
            deep = json!({"a": deep});
        }
        let why = too_large(applied(PatchForm::Merge, json!({}), &deep));
        assert!(why.contains("70 levels"), "{why}");
    }

    #[test]
    fn a_large_merge_is_refused() {
        let text = |mebibytes: usize| "x".repeat(mebibytes * 1024 * 1024);
        let merge = |mebibytes| {
            applied(PatchForm::Merge, json!({ "a": text(2) }), &json!({ "b": text(mebibytes) }))
        };
        assert!(too_large(merge(2)).contains("at most 4 MiB"));
        assert!(merge(1).is_ok());
    }

    #[test]
    fn many_operations_and_much_work_are_refused() {
        let step = json!({"op": "test", "path": "/a", "value": 1});
        let many: Vec<&Value> = std::iter::repeat_n(&step, OPERATIONS_MAX + 1).collect();
        assert!(too_large(json_patch(json!({"a": 1}), &json!(many))).contains("10001 operations"));
        // Each operation is small, and replaces a megabyte by a megabyte.
        let copy = json!({"op": "copy", "from": "/a", "path": "/b"});
        let many: Vec<&Value> = std::iter::repeat_n(&copy, OPERATIONS_MAX).collect();
        let large = json!({"a": "x".repeat(1_000_000)});
        assert!(too_large(json_patch(large, &json!(many))).contains("move more than 64 MiB"));
        // Each inserts a number before a hundred thousand others.
        let insert = json!({"op": "add", "path": "/a/0", "value": 0});
        let many: Vec<&Value> = std::iter::repeat_n(&insert, OPERATIONS_MAX).collect();
        let long = json!({"a": vec![0; 100_000]});
        assert!(
            too_large(json_patch(long.clone(), &json!(many))).contains("move more than 64 MiB")
        );
        // Each takes the first of a hundred thousand numbers away.
        let take = json!({"op": "move", "from": "/a/0", "path": "/b"});
        let many: Vec<&Value> = std::iter::repeat_n(&take, OPERATIONS_MAX).collect();
        assert!(too_large(json_patch(long, &json!(many))).contains("move more than 64 MiB"));
    }

    #[test]
    fn odd_patches_are_errors() {
        for (document, patch) in [
            (json!([]), json!([{"op": "remove", "path": "/-"}])),
            (json!([]), json!([{"op": "remove", "path": ""}])),
            (json!({}), json!([{"op": "move", "from": "/a", "path": "/b"}])),
            (json!({"a": {}}), json!([{"op": "move", "from": "/a", "path": "/a/b"}])),
            (json!({"a": 1}), json!([{"op": "add", "path": "/a/b", "value": 1}])),
            (json!([1]), json!([{"op": "add", "path": "/99999999999999999999", "value": 1}])),
            (json!([1]), json!([{"op": "add", "path": "/01", "value": 1}])),
        ] {
            let outcome = json_patch(document, &patch);
            assert!(matches!(outcome, Err(PatchError::Inapplicable(_))), "{patch}: {outcome:?}");
        }
        for bytes in [&b"{}"[..], b"[{}]", br#"[{"op": "grow"}]"#, br#"[{"op":"add","path":"a"}]"#]
        {
            let parsed = Patch::parse(PatchForm::Json, bytes);
            assert!(matches!(parsed, Err(PatchError::Malformed(_))), "{parsed:?}");
        }
    }

    #[test]
    fn a_content_type_names_a_form() {
        for form in PatchForm::ALL {
            let header = format!("{}; charset=utf-8", form.content_type());
            assert_eq!(PatchForm::of_content_type(&header), Some(form));
        }
        assert_eq!(PatchForm::of_content_type("application/json"), None);
    }

    fn step() -> impl Strategy<Value = Value> {
        let path = "(/[ab]|/list|/list/[0-3-]){0,3}";
        let value = prop_oneof![
            Just(json!(1)),
            Just(json!({"a": [], "list": [1]})),
            Just(json!(["x", {"b": {}}])),
        ];
        (0..6, path, path, value).prop_map(|(which, path, from, value)| match which {
            0 => json!({"op": "add", "path": path, "value": value}),
            1 => json!({"op": "replace", "path": path, "value": value}),
            2 => json!({"op": "remove", "path": path}),
            3 => json!({"op": "move", "from": from, "path": path}),
            4 => json!({"op": "test", "path": path, "value": value}),
            _ => json!({"op": "copy", "from": from, "path": path}),
        })
    }

    proptest! {
        #[test]
        fn the_size_that_is_kept_count_of_is_never_less_than_the_true_one(
            steps in proptest::collection::vec(step(), 0..40)
        ) {
            let mut document = json!({"a": {"b": 1}, "list": [1, {"a": 2}]});
            let mut bounds = Bounds { bytes: Measure::of(&document).bytes, work: 0 };
            for (at, step) in steps.iter().enumerate() {
                let operation: PatchOperation = serde_json::from_value(step.clone()).unwrap();
                let before = document.clone();
                if bounds.apply(&mut document, at, &operation).is_err() {
                    // A `move` takes its value away before it finds that there is no place for it.
                    document = before;
                }
                let is = Measure::of(&document);
                prop_assert!(bounds.bytes >= is.bytes, "{step}: {} < {}", bounds.bytes, is.bytes);
                prop_assert!(is.depth <= DEPTH_MAX);
            }
        }
    }
}
