//! Checks documents against the schema of their kind, before they are typed.
//!
//! The entry point is [`parse_object`]: first the schema, then the types, then the rules. All
//! violations are reported at once: unknown fields (with what was probably meant), fields that are
//! documented and not supported yet, wrong types, missing fields, unknown words and wrong formats.

pub(crate) mod generate;
mod mend;
mod walk;
mod words;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::every_kind::WithType;
use crate::job::JobSpec;
use crate::kind::KindId;
use crate::path::{self, Step};
use crate::placement::Placement;
use crate::resource::Resource;
use crate::size;
use crate::template::Template;
use crate::violation::Violation;

use generate::schema_for;

pub use words::{another_tools_file, neighbours_word, unknown_kind};

/// Deepest nesting of a document.
pub const DEPTH_MAX: usize = 64;
/// Most violations that are reported for one document.
pub const VIOLATIONS_MAX: usize = 100;

/// The JSON Schema of a kind: `apiVersion`, `kind`, `metadata`, and what the kind has.
pub fn of(kind: KindId) -> &'static Value {
    static SCHEMAS: LazyLock<BTreeMap<KindId, Value>> = LazyLock::new(|| {
        KindId::ALL.into_iter().map(|kind| (kind, described(kind.with_type(Generate)))).collect()
    });
    &SCHEMAS[&kind]
}

/// The schema with descriptions for readers outside the code: rustdoc's link syntax becomes plain
/// text.
fn described(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            let inner =
                fields.iter_mut().filter(|(_, value)| value.is_object() || value.is_array());
            inner.for_each(|(_, value)| *value = described(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = described(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
    schema
}

/// Makes the schema of a kind.
struct Generate;

impl WithType for Generate {
    type Output = Value;

    fn of<K: Resource>(self) -> Value {
        K::schema()
    }
}

/// All violations of a document's shape. Its `status` is ignored.
pub fn check(kind: KindId, document: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    walk::document(kind, of(kind), document, &mut found);
    found
}

/// All violations of the shape of a status. Paths start with `status`.
pub fn check_status(kind: KindId, status: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let schema = &of(kind)["properties"]["status"];
    walk::part(kind, ("status", schema), status, &mut found);
    found
}

/// All violations of the shape of a merged document of a Job's spec. Paths are relative to it.
pub(crate) fn check_job_spec(document: &Value) -> Vec<Violation> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_for::<JobSpec>);
    relative(KindId::Job, ("spec", &SCHEMA), document)
}

/// All violations of the shape of a merged template. Paths are relative to it.
pub(crate) fn check_template(document: &Value) -> Vec<Violation> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_for::<Template>);
    relative(KindId::Job, ("template", &SCHEMA), document)
}

/// All violations of the shape of a merged placement. Paths are relative to it.
pub(crate) fn check_placement(document: &Value) -> Vec<Violation> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_for::<Placement>);
    relative(KindId::Job, ("placement", &SCHEMA), document)
}

fn relative(kind: KindId, (root, schema): (&str, &Value), document: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    walk::part(kind, (root, schema), document, &mut found);
    for violation in &mut found {
        let rest = violation.path.strip_prefix(root).unwrap_or(&violation.path);
        violation.path = rest.strip_prefix('.').unwrap_or(rest).to_owned();
    }
    found
}

/// Makes a valid object of a user's document: its shape is checked, then it is typed, then its
/// rules are checked. A status is ignored.
///
/// # Errors
/// All violations.
pub fn parse_object<K: Resource>(mut document: Value) -> Result<K, Vec<Violation>> {
    if let Some(map) = document.as_object_mut() {
        map.remove("status");
    }
    let mut found = check(K::ID, &document);
    if !found.is_empty() {
        let rules = rules_of_the_rest::<K>(&document, &found);
        found.extend(rules);
        found.truncate(VIOLATIONS_MAX);
        return Err(found);
    }
    let object: K = serde_json::from_value(document)
        .map_err(|error| vec![Violation::new("", error.to_string())])?;
    let mut found = object.validate();
    found.extend(too_large(&object));
    found.truncate(VIOLATIONS_MAX);
    if found.is_empty() { Ok(object) } else { Err(found) }
}

/// The violation of an object that, with what Heliox will add to it, exceeds what the store takes.
fn too_large<K: Resource>(object: &K) -> Option<Violation> {
    let (own, added) = (size::json_bytes(object), object.added_bytes());
    let of = format!("the object takes {own} bytes and its status up to {added}: together");
    size::problem(own + added, "", &of)
}

/// Violations of the rules in those parts of a document whose shape is correct. Without this, a
/// mistyped field would hide a cycle of jobs until it is corrected.
fn rules_of_the_rest<K: Resource>(document: &Value, shape: &[Violation]) -> Vec<Violation> {
    let ways: Vec<Vec<Step>> = shape.iter().map(|it| path::steps(&it.path)).collect();
    // A required field that was wrong has an invented value now. Violations of that value are not
    // reported.
    let mended = mend::mended(of(K::ID), document.clone(), &ways);
    let object = mended.and_then(|document| serde_json::from_value::<K>(document).ok());
    let Some(object) = object else { return Vec::new() };
    let said_before = |rule: &Violation| {
        let rule = path::steps(&rule.path);
        ways.iter().any(|way| way.starts_with(&rule) || rule.starts_with(way))
    };
    object.validate().into_iter().filter(|rule| !said_before(rule)).collect()
}

/// All violations of a user's document: [`parse_object`] for a kind that is known only at run time.
pub fn check_document(kind: KindId, document: &Value) -> Vec<Violation> {
    kind.with_type(Check(document))
}

/// Checks a document as an object of one kind.
struct Check<'a>(&'a Value);

impl WithType for Check<'_> {
    type Output = Vec<Violation>;

    fn of<K: Resource>(self) -> Vec<Violation> {
        parse_object::<K>(self.0.clone()).err().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_text(kind: KindId, document: Value) -> String {
        check(kind, &document).iter().map(|it| format!("{it}\n")).collect()
    }

    #[test]
    fn everything_is_reported_at_once() {
        let document = json!({
            "apiVersion": "heliox.dev/v1", "kind": "Job",
            "metadata": {"name": "a", "creationTimestamp": null, "labls": {}},
            "spec": {
                "completions": 3, "queue": "batch", "paralelism": 3, "count": "3",
                "template": {
                    "image": "x", "containers": [], "env": [{"name": "A", "value": 8080}],
                    "resources": {"requests": {"cpu": "one"}},
                },
                "placement": {"onNodeLoss": {"action": "Fence", "after": "10 parsecs"}},
                "retry": {"maxAttempts": -1, "rules": [{"exitCodes": [1], "action": "failtask"}]},
            },
            "status": {"whatever": 1},
        });
        let found = check_text(KindId::Job, document);
        expect_test::expect![[r#"
            metadata.labls: unknown field (did you mean labels?)
            spec.completions: unknown field (write count)
            spec.queue: not supported yet
            spec.paralelism: unknown field (did you mean parallelism?)
            spec.count: expected a whole number, found text (remove the quotes)
            spec.template.containers: unknown field (write its fields here: a template is one container)
            spec.template.env[0].value: expected text, found a number (quote it: "8080")
            spec.template.resources.requests.cpu: "one" is not a quantity (write for example 2, 500m, 64Mi or 1.5Gi)
            spec.placement.onNodeLoss.action: Fence is not supported yet (write one of Replace, Wait)
            spec.placement.onNodeLoss.after: "10 parsecs" is not a duration (write for example 30s, 10m or 1h30m)
            spec.retry.maxAttempts: -1 is not a whole number of at least 1
            spec.retry.rules[0].action: "failtask" is not one of Retry, FailTask, FailJob, Ignore (did you mean FailTask?)
        "#]].assert_eq(&found);
    }

    #[test]
    fn what_is_served_is_what_is_allowed() {
        let job = json!({
            "apiVersion": "heliox.dev/v1", "kind": "Job",
            "metadata": {"name": "a"}, "spec": {"template": {"image": "x"}},
        });
        let job: crate::Job = parse_object(job).unwrap();
        let served = serde_json::to_value(&job).unwrap();
        assert_eq!(check(KindId::Job, &served), []);
    }
}
