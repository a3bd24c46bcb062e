//! What a newer version writes is read by this one, which knows nothing of what is new in it.

use api::{KindId, schema};
use serde_json::Value;

/// Where a schema refuses fields that it does not know: there its types refuse them, too.
fn closed(schema: &Value, way: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
                found.push(way.to_owned());
            }
            fields
                .iter()
                .for_each(|(field, inner)| closed(inner, &format!("{way}/{field}"), found));
        }
        Value::Array(items) => items.iter().for_each(|inner| closed(inner, way, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// Admission refuses them by walking the schema. A type that refused them would have every component
/// of this version stand still at the first object that a newer one has written.
#[test]
fn no_stored_type_refuses_fields_that_it_does_not_know() {
    let mut found = Vec::new();
    for kind in KindId::ALL {
        closed(schema::of(kind), &kind.to_string(), &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}
