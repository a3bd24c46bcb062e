//! The pages in `docs/`: a page for each kind, made from the types and their docs.
//!
//! `UPDATE_EXPECT=1 cargo nextest run -E 'test(docs)'` writes them anew.

use std::fmt::Write as _;

use api::substitute::names::{self, Name};
use api::{KindId, schema};
use expect_test::expect_file;
use serde_json::Value;

/// Deepest field that a page shows.
const DEPTH_MAX: usize = 6;

/// A page: what the kind is, its names, and every field that users write or read.
fn page(kind: KindId) -> String {
    let info = kind.info();
    let root = schema::of(kind);
    let mut page = format!("# {}\n\n", info.kind);
    let names: Vec<&str> =
        [info.plural, info.singular].into_iter().chain(info.short.iter().copied()).collect();
    writeln!(
        page,
        "`apiVersion: {}`, `kind: {}`. Known to `hctl` as {}.",
        kind.api_version(),
        info.kind,
        names.join(", ")
    )
    .unwrap();
    for (part, title) in [("spec", "Spec"), ("status", "Status (read only)")] {
        let mut rows = String::new();
        fields(root, &root["properties"][part], "", 0, &mut rows);
        if !rows.is_empty() {
            write!(page, "\n## {title}\n\n| field | type | meaning |\n|---|---|---|\n{rows}")
                .unwrap();
        }
    }
    page
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

fn fields(root: &Value, schema: &Value, path: &str, depth: usize, rows: &mut String) {
    let schema = resolved(root, schema);
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in properties {
        let inner = resolved(root, field);
        let list = inner.get("items").map(|items| resolved(root, items));
        let path = format!("{path}{name}");
        let meaning = field.get("description").or(inner.get("description")).and_then(Value::as_str);
        let meaning = meaning.unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let star = if required.contains(&name.as_str()) { " (required)" } else { "" };
        writeln!(rows, "| `{path}`{star} | {} | {meaning} |", type_of(root, inner)).unwrap();
        if depth < DEPTH_MAX {
            let dot = if list.is_some() { "[]." } else { "." };
            fields(root, list.unwrap_or(inner), &format!("{path}{dot}"), depth + 1, rows);
        }
    }
}

fn type_of(root: &Value, schema: &Value) -> String {
    let variants = schema.get("enum").or(schema.get("oneOf")).and_then(Value::as_array);
    if let Some(variants) = variants {
        let word = |variant: &Value| {
            let word = variant.get("const").unwrap_or(variant).as_str().map(str::to_owned);
            word.unwrap_or_else(|| "...".to_owned())
        };
        return variants.iter().map(word).collect::<Vec<_>>().join(", ");
    }
    if let Some(items) = schema.get("items") {
        return format!("list of {}", type_of(root, resolved(root, items)));
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        return format.to_owned();
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

/// Kinds that have a page, in the order of the index.
const PAGES: [KindId; 7] = [
    KindId::Job,
    KindId::Workflow,
    KindId::WorkflowRun,
    KindId::PartitionSet,
    KindId::Task,
    KindId::TaskTemplate,
    KindId::Node,
];

#[test]
fn docs_have_a_page_for_each_kind_that_says_what_the_types_say() {
    let mut index = "# Kinds\n\nMade from the types. Durations are text such as `30s` or `1h30m`, \
                     quantities such as `500m` or `64Mi`.\n\n"
        .to_owned();
    for kind in PAGES {
        let file = format!("{}.md", kind.info().singular);
        writeln!(index, "- [{}]({file})", kind.info().kind).unwrap();
        let path = format!("{}/../docs/{file}", env!("CARGO_MANIFEST_DIR"));
        expect_file![path].assert_eq(&page(kind));
    }
    index.push_str(
        "\nWhat `$(...)` may name, and what a program finds in its environment: \
         [Substitution](substitution.md).\n\nNamespace, ConfigMap, Secret, Event and Lease are Kubernetes' own, in Kubernetes' own \
         shapes.\n",
    );
    expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/README.md")].assert_eq(&index);
}

/// A table of names and what they mean.
fn names_table(names: &[Name], written: impl Fn(&str) -> String) -> String {
    let row = |it: &Name| format!("| `{}` | {} |\n", written(it.name), it.meaning);
    format!("| | |\n|---|---|\n{}", names.iter().map(row).collect::<String>())
}

#[test]
fn docs_tell_every_name_that_is_substituted_and_every_variable() {
    let reference = |name: &str| format!("$({name})");
    let page = format!(
        "# Substitution and environment\n\n\
         Text in a job's `template` and `placement` may name values. Everything in `command`, `args`, \
         `env`, `mounts`, `labels` and the other fields of a template is searched.\n\n\
         ```yaml\n\
         template:\n  image: busybox\n  \
         command: [load, --day, $(params.day), --part, $(task.index)/$(task.count)]\n\
         ```\n\n\
         ## When a run makes its jobs\n\n\
         Only in jobs of a Workflow, in every field that is text, `image` and `placement` too. A \
         parameter's `default` may name the run.\n\n{}\n\
         ## When an attempt starts on its node\n\n\
         In any job; not in `image` and `placement`, which decide on the node, and only names under \
         `task` in `labels`.\n\n{}\n\
         `$(NAME)` is the value of a variable that `env` declares before, or of one of those below.\n\n\
         ## Rules\n\n\
         - `$$(` is a literal `$(`.\n\
         - A name under `params`, `run`, `task`, `node` or `ports` that does not exist is refused when \
         the manifest is applied.\n\
         - Any other `$(...)`, such as the shell's `$(date)`, is left alone. `hctl apply` warns of what \
         looks like a slip: `$(item)`, `$(task_name)`, `${{params.x}}`.\n\
         - A value is not searched again: a parameter cannot name a task.\n\
         - A value is put into the text as it is. In a shell script it could end a quoted string and \
         run as code: hand over what others choose in `env` or as an argument.\n\n\
         ## Environment\n\n\
         Every program finds these variables. A template cannot declare names that begin with \
         `HELIOX_`.\n\n{}",
        names_table(&names::OF_RUN, reference),
        names_table(&names::OF_TASK, reference),
        names_table(&names::ENVIRONMENT, str::to_owned),
    );
    expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/substitution.md")].assert_eq(&page);
}

#[test]
fn every_manifest_of_ours_is_read() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // What the folders hold is for others than the API.
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let documents = api::manifest::read(&path.display().to_string(), &bytes).unwrap();
        for document in documents {
            assert_eq!(document.check(), [], "{}", path.display());
        }
    }
}
