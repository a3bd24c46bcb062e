//! Removes what is wrong from a document, so that the rules can be checked for the rest.

use serde_json::{Map, Value, json};

use super::walk::{alternatives, required_of, types, words_of};
use crate::path::{self, Step};

/// The document without the fields at the paths `ways`. Required fields get a value that their
/// schema allows. Nothing if the document as a whole is wrong.
pub(super) fn mended(schema: &Value, mut document: Value, ways: &[Vec<Step>]) -> Option<Value> {
    for way in ways {
        // If an element of a list is wrong, the whole list is removed. Without that element the
        // others would move to other indexes, and violations of the rules would name the wrong
        // ones.
        let at = way.iter().rposition(|step| matches!(step, Step::Field(_)))?;
        let (Step::Field(field), above) = way[..=at].split_last()? else { return None };
        let around = above.iter().try_fold(schema, within);
        let map = path::find_mut(&mut document, above).and_then(Value::as_object_mut);
        let Some(map) = map else { continue };
        let requires = |schema: &&Value| required_of(chosen(schema)).any(|it| it == field);
        match around.filter(requires) {
            Some(around) => {
                let inner = within(around, &Step::Field(field.clone()));
                map.insert(field.clone(), inner.map_or_else(|| "x".into(), sample));
            }
            None => drop(map.shift_remove(field)),
        }
    }
    Some(document)
}

/// The schema of the value that a step leads to.
fn within<'a>(schema: &'a Value, step: &Step) -> Option<&'a Value> {
    let schema = chosen(schema);
    match step {
        Step::Field(field) => {
            let known = schema.get("properties").and_then(|properties| properties.get(field));
            known.or_else(|| schema.get("additionalProperties"))
        }
        Step::Index(_) => schema.get("items"),
    }
}

/// For an optional value: the schema of the value if it is present.
fn chosen(schema: &Value) -> &Value {
    let is_something = |inner: &&Value| inner.get("type").is_none_or(|it| it != "null");
    let inner = alternatives(schema).and_then(|inner| inner.into_iter().find(is_something));
    inner.unwrap_or(schema)
}

/// Any value that a schema allows.
fn sample(schema: &Value) -> Value {
    if let Some(word) = words_of(schema).next() {
        return word.into();
    }
    let schema = chosen(schema);
    let types = types(schema);
    let is = |wanted: &str| types.contains(&wanted);
    if is("object") {
        let field = |field: &str| {
            let inner = within(schema, &Step::Field(field.to_owned()))?;
            Some((field.to_owned(), sample(inner)))
        };
        let fields: Map<String, Value> = required_of(schema).filter_map(field).collect();
        return Value::Object(fields);
    }
    if is("array") {
        return json!([]);
    }
    if is("integer") || is("number") {
        return schema.get("minimum").cloned().unwrap_or_else(|| json!(1));
    }
    if is("boolean") {
        return json!(false);
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("duration") => json!("1s"),
        Some("quantity") => json!("1"),
        Some("date-time") => json!("2026-01-01T00:00:00Z"),
        _ => json!("x"),
    }
}
