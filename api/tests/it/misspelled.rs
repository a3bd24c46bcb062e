//! Fields with a letter too few, and fields in the wrong place: each is told with what was meant.

use api::{KindId, schema};
use expect_test::{Expect, expect};
use serde_json::{Map, Value, json};

/// Deepest nesting that is walked: schemas are finite, and no kind is deeper.
const DEPTH_MAX: usize = 20;

/// A place in a document: what stands around the map there.
type Around<'a> = &'a dyn Fn(Value) -> Value;

/// Hands every map of a schema to `see`, with the fields that it may have.
fn maps(
    schema: &Value,
    depth: usize,
    around: Around<'_>,
    see: &mut dyn FnMut(&Map<String, Value>, Around<'_>),
) {
    assert!(depth < DEPTH_MAX, "a schema without an end");
    for list in ["oneOf", "anyOf"] {
        for inner in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
            maps(inner, depth, around, see);
        }
    }
    if let Some(items) = schema.get("items") {
        maps(items, depth + 1, &|entry| around(json!([entry])), see);
    }
    if let Some(others) = schema.get("additionalProperties").filter(|it| it.is_object()) {
        maps(others, depth + 1, &|entry| around(json!({ "x": entry })), see);
    }
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else { return };
    see(fields, around);
    for (field, inner) in fields {
        maps(inner, depth + 1, &|value| around(json!({ field: value })), see);
    }
}

/// The word with each of its letters left out.
fn misspelled(word: &str) -> Vec<String> {
    let without = |place: usize| format!("{}{}", &word[..place], &word[place + 1..]);
    (0..word.len()).map(without).filter(|other| !other.is_empty()).collect()
}

#[test]
fn every_field_of_every_kind_is_known_with_a_letter_too_few() {
    let (mut tried, mut untold) = (0, Vec::new());
    for kind in KindId::ALL.into_iter().filter(|kind| !kind.info().internal) {
        let mut see = |fields: &Map<String, Value>, around: Around<'_>| {
            for field in fields.keys().filter(|field| field.len() > 1) {
                for wrong in misspelled(field).into_iter().filter(|it| !fields.contains_key(it)) {
                    let document = around(json!({ &wrong: null }));
                    if document.get("status").is_some() {
                        continue;
                    }
                    tried += 1;
                    let found = schema::check(kind, &document);
                    let is_of = |path: &str| path == wrong || path.ends_with(&format!(".{wrong}"));
                    let told = found.iter().find(|it| is_of(&it.path) && it.hint.is_some());
                    if told.is_none() {
                        untold.push(format!("{kind:?}: {document}"));
                    }
                }
            }
        };
        maps(schema::of(kind), 0, &|whole| whole, &mut see);
    }
    assert!(tried > 1_000, "{tried}");
    assert_eq!(untold, [""; 0]);
}

fn check(kind: KindId, document: &Value, expected: &Expect) {
    let found = schema::check(kind, document);
    let lines: String = found.iter().map(|it| format!("{it}\n")).collect();
    expected.assert_eq(&lines);
}

#[test]
fn a_field_in_the_wrong_place_is_told_where_it_belongs() {
    check(
        KindId::Job,
        &json!({
            "spec": {
                "template": {
                    "image": "busybox", "timeout": "10s", "timout": "10s", "retry": {},
                    "env": [{ "name": "A", "args": [] }], "apiVersion": "v1",
                },
                "maxAttempts": 3, "exitCodes": [1],
                "tasks": [{ "name": "a", "timout": "10s", "parallelism": 2, "attemptTimeout": "1s" }],
            },
        }),
        &expect![[r#"
            spec.template.timeout: unknown field (timeout belongs in spec)
            spec.template.timout: unknown field (did you mean timeout? It belongs in spec)
            spec.template.retry: unknown field (retry belongs in spec)
            spec.template.env[0].args: unknown field (args belongs in spec.template)
            spec.template.apiVersion: unknown field (apiVersion belongs at the top of the document)
            spec.maxAttempts: unknown field (maxAttempts belongs in retry)
            spec.exitCodes: unknown field
            spec.tasks[0].timout: unknown field (did you mean timeout? It belongs in spec)
            spec.tasks[0].parallelism: unknown field (parallelism belongs in spec)
            spec.tasks[0].attemptTimeout: unknown field (attemptTimeout belongs in spec)
        "#]],
    );
    check(
        KindId::Workflow,
        &json!({
            "spec": { "jobs": [{ "name": "a", "template": { "timout": "10s", "image": "x" } }] },
        }),
        &expect![[r#"
            spec.jobs[0].template.timout: unknown field (did you mean timeout? It belongs in spec.jobs[0])
        "#]],
    );
}
