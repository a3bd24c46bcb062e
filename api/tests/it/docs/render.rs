//! Turns the schema of a kind into the tables of a page.

use std::fmt::Write as _;

use api::{KindId, schema};
use serde_json::{Map, Value};

use super::pages::{Page, Section};

/// Deepest field that a table shows.
const DEPTH_MAX: usize = 6;

/// Most words that a table tells as a field's type.
const WORDS_MAX: usize = 4;

/// Parts with a page of their own: how a table calls them, the page, and a field that tells them by.
const LINKED: [(&str, &str, &str); 5] = [
    ("Template", "template.md", "imagePullPolicy"),
    ("Placement", "placement.md", "nodeSelector"),
    ("Retry", "retry.md", "maxAttempts"),
    ("Condition", "conditions.md", "lastTransitionTime"),
    ("Workflow's spec", "workflow.md", "maxFailedJobs"),
];

/// The whole page.
pub(super) fn page(page: &Page) -> String {
    let mut text = format!("# {}\n\n{}", page.title, wrapped(page.intro));
    if let Some(kind) = page.kind_of_page() {
        let info = kind.info();
        let names = [info.plural, info.singular].into_iter().chain(info.short.iter().copied());
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        let (version, names) = (kind.api_version(), names.join(", "));
        let line = format!("`apiVersion: {version}`, `kind: {}`; in `hctl` {names}.", info.kind);
        write!(text, "\n{}", wrapped(&line)).unwrap();
    }
    let link = |it: &Section| {
        format!(
            "[{}](#{})",
            it.title,
            it.title.to_lowercase().replace([',', '`'], "").replace(' ', "-")
        )
    };
    if page.sections.len() > 1 {
        let links: Vec<String> = page.sections.iter().map(link).collect();
        let line = format!("On this page: {}.", links.join(", "));
        write!(text, "\n{}", wrapped(&line)).unwrap();
    }
    for it in page.sections {
        text.push_str(&section(page, it));
    }
    text
}

fn section(page: &Page, section: &Section) -> String {
    let mut text = format!("\n## {}\n", section.title);
    if !section.about.is_empty() {
        write!(text, "\n{}", wrapped(section.about)).unwrap();
    }
    if let Some(name) = section.example {
        write!(text, "\n```yaml\n{}```\n", super::example(name)).unwrap();
    }
    let root = schema::of(page.kind);
    let part = part(root, section.part);
    let mut rows = String::new();
    let table = Table { root, page: page.file };
    for name in section.fields {
        fields(&table, part, ("", 0), &|field| field == *name, &mut rows);
    }
    if !rows.is_empty() {
        write!(text, "\n| field | type | meaning |\n|---|---|---|\n{rows}").unwrap();
    }
    for name in section.values {
        text.push_str(&values(root, part, name));
    }
    if !section.note.is_empty() {
        write!(text, "\n{}", section.note).unwrap();
    }
    text
}

/// Longest line of text.
const COLUMNS: usize = 118;

/// The text in lines of a readable length.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > COLUMNS {
            writeln!(lines, "{line}").unwrap();
            line.clear();
        }
        let space = if line.is_empty() { "" } else { " " };
        write!(line, "{space}{word}").unwrap();
    }
    lines + &line + "\n"
}

/// The schema of the part of an object that `path` leads to, such as `spec.template`.
pub(super) fn part<'a>(root: &'a Value, path: &str) -> &'a Value {
    within(root, root, path)
}

fn within<'a>(root: &'a Value, schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |schema, step| {
        let (name, is_list) = match step.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (step, false),
        };
        let inner = resolved(root, &schema["properties"][name]);
        if is_list { resolved(root, &inner["items"]) } else { inner }
    })
}

/// The fields of a schema, or of the entries of its list.
pub(super) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// Follows a reference into the definitions.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap_or(schema),
        None => schema,
    };
    // An optional part is its own schema or null.
    match schema.get("anyOf").and_then(Value::as_array).and_then(|any| any.first()) {
        Some(first) => resolved(root, first),
        None => schema,
    }
}

/// What a table is of.
struct Table<'a> {
    root: &'a Value,
    /// The page that it stands in.
    page: &'a str,
}

fn fields(
    table: &Table<'_>,
    schema: &Value,
    (path, depth): (&str, usize),
    shown: &dyn Fn(&str) -> bool,
    rows: &mut String,
) {
    let schema = resolved(table.root, schema);
    let Some(properties) = properties(schema) else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let of_job = of_job(properties);
    let is_shown = |name: &str| shown(name) && !of_job.contains(&name);
    for (name, field) in properties.iter().filter(|(name, _)| is_shown(name)) {
        let inner = resolved(table.root, field);
        let list = inner.get("items").map(|items| resolved(table.root, items));
        let path = format!("{path}{name}");
        let meaning = field.get("description").or(inner.get("description")).and_then(Value::as_str);
        let meaning = meaning.unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let star = if required.contains(&name.as_str()) { " (required)" } else { "" };
        let link = linked(list.unwrap_or(inner)).filter(|(_, page)| *page != table.page);
        let kind = match link {
            Some((word, page)) if list.is_some() => format!("list of [{word}]({page})"),
            Some((word, page)) => format!("[{word}]({page})"),
            None => type_of(table.root, inner),
        };
        writeln!(rows, "| `{path}`{star} | {kind} | {meaning} |").unwrap();
        if depth < DEPTH_MAX && link.is_none() {
            let dot = if list.is_some() { "[]." } else { "." };
            let at = (&*format!("{path}{dot}"), depth + 1);
            fields(table, list.unwrap_or(inner), at, &|_| true, rows);
        }
    }
    if !of_job.is_empty() {
        let names: Vec<String> = of_job.iter().map(|name| format!("`{name}`")).collect();
        let names = names.join(", ");
        writeln!(rows, "| `{path}*` | [Job's spec](job.md) | As in a Job: {names}. |").unwrap();
    }
}

/// Of the fields of a workflow's job, those that a Job's spec has too: they are explained there. Of
/// anything else, none.
fn of_job(properties: &Map<String, Value>) -> Vec<&str> {
    if !properties.contains_key("dependsOn") {
        return Vec::new();
    }
    let job = self::properties(part(schema::of(KindId::Job), "spec")).unwrap();
    properties.keys().map(String::as_str).filter(|name| job.contains_key(*name)).collect()
}

/// The page that a part has of its own.
fn linked(schema: &Value) -> Option<(&'static str, &'static str)> {
    let properties = properties(schema)?;
    let found = LINKED.iter().find(|(_, _, field)| properties.contains_key(*field));
    found.map(|(word, page, _)| (*word, *page))
}

fn type_of(root: &Value, schema: &Value) -> String {
    if let Some(variants) = variants(schema) {
        // Longer lists are told in the field's meaning, or below the table.
        if variants.len() > WORDS_MAX {
            return "string".to_owned();
        }
        return variants.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    }
    if let Some(items) = schema.get("items") {
        return format!("list of {}", type_of(root, resolved(root, items)));
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        return match format {
            "uint8" | "uint16" | "uint32" | "uint64" | "int32" | "int64" => "integer".to_owned(),
            "date-time" => "time".to_owned(),
            "port-or-name" => "integer or string".to_owned(),
            "number-or-percent" => "integer or percentage".to_owned(),
            other => other.to_owned(),
        };
    }
    let values = schema.get("additionalProperties").filter(|it| it.is_object());
    if let (Some(values), None) = (values, properties(schema)) {
        return format!("map of {}", type_of(root, resolved(root, values)));
    }
    match &schema["type"] {
        Value::String(word) => word.clone(),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            words.into_iter().filter(|word| *word != "null").collect::<Vec<_>>().join(" or ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
    }
}

/// The words that a field may have, with what they mean where that is said.
fn variants(schema: &Value) -> Option<Vec<(&str, &str)>> {
    let variants = schema.get("enum").or(schema.get("oneOf"))?.as_array()?;
    Some(variants.iter().map(variant).collect())
}

fn variant(variant: &Value) -> (&str, &str) {
    let word = variant.get("const").unwrap_or(variant).as_str().unwrap_or("...");
    let meaning = variant.get("description").and_then(Value::as_str).unwrap_or_default();
    (word, meaning)
}

/// What the words of a field mean: `phase`, or `rules[].action`.
fn values(root: &Value, part: &Value, path: &str) -> String {
    let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
    let schema = if above.is_empty() { part } else { within(root, part, above) };
    let field = resolved(root, &schema["properties"][name]);
    let variants = variants(field).unwrap_or_else(|| panic!("{path} has no words: {field}"));
    let line = |(word, meaning): &(&str, &str)| {
        assert!(!meaning.is_empty(), "{path}: {word} is not explained");
        format!("- `{word}`: {}\n", meaning.replace('\n', " "))
    };
    format!("\nValues of `{path}`:\n\n{}", variants.iter().map(line).collect::<String>())
}
