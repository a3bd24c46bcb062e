//! The pages in `docs/`: a page for each kind, made from the types and their docs.
//!
//! `UPDATE_EXPECT=1 cargo nextest run --workspace -E 'test(docs_)'` writes them anew.

mod pages;
mod parts;
mod render;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use api::substitute::names::{self, Name};
use api::{manifest, schema};
use expect_test::expect_file;

use pages::PAGES;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// The text of a file in `docs/examples`.
fn example(name: &str) -> String {
    let path = format!("{DOCS}/examples/{name}.yaml");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn docs_say_what_the_types_say() {
    for page in &PAGES {
        let path = format!("{DOCS}/{}", page.file);
        expect_file![path].assert_eq(&render::page(page));
    }
}

#[test]
fn docs_have_every_field_once() {
    let mut shown: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for page in &PAGES {
        for section in page.sections {
            shown.entry((page.file, section.part)).or_default().extend(section.fields);
        }
    }
    for ((file, part), mut fields) in shown {
        let page = PAGES.iter().find(|page| page.file == file).unwrap();
        let schema = render::part(schema::of(page.kind), part);
        let mut expected: Vec<&str> =
            render::properties(schema).unwrap().keys().map(String::as_str).collect();
        expected.sort_unstable();
        fields.sort_unstable();
        assert_eq!(fields, expected, "{part} in {file}");
    }
}

#[test]
fn docs_describe_every_field_of_theirs() {
    for page in &PAGES {
        let text = render::page(page);
        let bare: Vec<&str> = text.lines().filter(|line| line.ends_with("|  |")).collect();
        assert!(bare.is_empty(), "{} says nothing of {bare:#?}", page.file);
    }
}

/// The files in a folder.
fn files_in(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    // What the folders hold is for others than the API.
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

#[test]
fn docs_show_examples_that_are_right() {
    let used: BTreeSet<String> = PAGES
        .iter()
        .flat_map(|page| page.sections)
        .filter_map(|section| section.example)
        .map(|name| format!("{name}.yaml"))
        .collect();
    let there: BTreeSet<String> = files_in(&format!("{DOCS}/examples"))
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(used, there, "every example is on a page");
}

#[test]
fn every_manifest_of_ours_is_read() {
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests").to_owned();
    for path in [manifests, format!("{DOCS}/examples")].iter().flat_map(|dir| files_in(dir)) {
        let bytes = std::fs::read(&path).unwrap();
        let documents = manifest::read(&path.display().to_string(), &bytes).unwrap();
        for document in documents {
            assert_eq!(document.check(), [], "{}", path.display());
        }
    }
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
         Strings in the `template` and `placement` of a job can contain names in `$(...)`, which Heliox \
         replaces with values. This works in `command`, `args`, `env`, `mounts`, `labels` and all other \
         strings of a template.\n\n\
         ```yaml\n\
         template:\n  image: busybox\n  \
         command: [load, --day, $(params.day), --part, $(task.index)/$(task.count)]\n\
         ```\n\n\
         ## Names of a run\n\n\
         Available only in the jobs of a workflow, and replaced when a run creates its jobs. They work in \
         every string, including `image` and `placement`. The `default` of a parameter can contain \
         `$(run...)`.\n\n{}\n\
         ## Names of a task\n\n\
         Available in any job, and replaced when an attempt starts on its node. They do not work in `image` and \
         `placement`, which are needed to choose the node; in `labels` only names under `task` work.\n\n{}\n\
         `$(NAME)` is replaced with the value of a variable that `env` declares earlier, or of one that \
         Heliox sets ([Environment](#environment)).\n\n\
         ## Rules\n\n\
         - `$$(` is a literal `$(`.\n\
         - An unknown name under `params`, `run`, `task`, `node` or `ports` is an error when the manifest is \
         applied.\n\
         - Any other `$(...)`, such as the shell's `$(date)`, is left alone. `hctl apply` warns about \
         what looks like a mistake: `$(item)`, `$(task_name)`, `${{params.x}}`, `{{{{item}}}}`, \
         and variables that other systems set, such as `$JOB_COMPLETION_INDEX`.\n\
         - Values are not expanded again: the value of a parameter cannot refer to a task.\n\
         - Values are inserted as they are. In a shell script, a value could end a quoted string and run \
         as code: pass values that other people choose in `env` or as arguments instead.\n\n\
         ## Environment\n\n\
         Heliox sets these variables for every task. A template cannot declare names that begin with \
         `HELIOX_`.\n\n{}",
        names_table(&names::OF_RUN, reference),
        names_table(&names::OF_TASK, reference),
        names_table(&names::ENVIRONMENT, str::to_owned),
    );
    expect_file![format!("{DOCS}/substitution.md")].assert_eq(&page);
}
