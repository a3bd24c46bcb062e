//! A document without what is wrong in it, so that its rules can be asked.

use serde_json::{Map, Value, json};

use super::walk::{alternatives, words_of};
use crate::path::{self, Step};

/// The document without the fields that `ways` lead to. Those that it cannot do without have a value
/// that their schema allows. Nothing where the document as a whole is wrong.
pub(super) fn mended(schema: &Value, mut document: Value, ways: &[Vec<Step>]) -> Option<Value> {
    for way in ways {
        // Of a list that holds something wrong nothing can be told: its other entries keep their
        // places in no list that is shorter.
        let at = way.iter().rposition(|step| matches!(step, Step::Field(_)))?;
        let (Step::Field(field), above) = way[..=at].split_last()? else { return None };
        let around = above.iter().try_fold(schema, within);
        let map = path::find_mut(&mut document, above).and_then(Value::as_object_mut);
        let Some(map) = map else { continue };
        match around.filter(|schema| requires(schema, field)) {
            Some(around) => {
                let inner = within(around, &Step::Field(field.clone()));
                map.insert(field.clone(), inner.map_or_else(|| "x".into(), sample));
            }
            None => drop(map.shift_remove(field)),
        }
    }
    Some(document)
}

/// The schema of what a step leads to.
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

/// Of a schema that is optional, the one of what may be there.
fn chosen(schema: &Value) -> &Value {
    let is_something = |inner: &&Value| inner.get("type").is_none_or(|it| it != "null");
    let inner = alternatives(schema).and_then(|inner| inner.into_iter().find(is_something));
    inner.unwrap_or(schema)
}

fn requires(schema: &Value, field: &str) -> bool {
    let required = chosen(schema).get("required").and_then(Value::as_array);
    required.into_iter().flatten().any(|it| it == field)
}

/// A value that a schema allows.
fn sample(schema: &Value) -> Value {
    if let Some(word) = words_of(schema).next() {
        return word.into();
    }
    let schema = chosen(schema);
    let is = |wanted: &str| match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(|it| it == wanted),
        Some(one) => one == wanted,
        None => false,
    };
    if is("object") {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let field = |field: &str| {
            let inner = within(schema, &Step::Field(field.to_owned()))?;
            Some((field.to_owned(), sample(inner)))
        };
        let fields: Map<String, Value> =
            required.filter_map(Value::as_str).filter_map(field).collect();
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
