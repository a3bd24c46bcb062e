//! Tests of the source tree for what no lint can check.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Which crates may depend on which. A new dependency is a design decision: make it here, on
/// purpose.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("api", &[]),
    ("store", &["base"]),
    ("apiserver", &["api", "base", "store"]),
    ("client", &["api", "base"]),
    ("runtime", &["api", "base", "client"]),
    ("controllers", &["api", "base", "client", "runtime"]),
    ("scheduler", &["api", "base", "client", "runtime"]),
    ("shim", &[]),
    ("node-agent", &["api", "base", "client", "runtime", "shim"]),
    ("ctl", &["api", "base", "client"]),
    ("xtask", &[]),
];
/// These may depend on every crate, since they put things together.
const KNOW_ALL: [&str; 2] = ["heliox", "e2e"];

/// What a file with decisions must not contain.
const IMPURE: [&str; 9] = [
    "async ",
    ".await",
    "tokio",
    "tracing::",
    "::now()",
    "std::env",
    "std::fs",
    "std::net",
    "println!",
];

/// The longest file.
const LINES_MAX: usize = 600;

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

pub(crate) fn rust_files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root())
        .output()
        .unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    list.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect()
}

pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: Vec<&str> =
        packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if KNOW_ALL.contains(&name) {
            continue;
        }
        let (_, allowed) = MAY_DEPEND_ON
            .iter()
            .find(|(crate_name, _)| *crate_name == name)
            .unwrap_or_else(|| panic!("{name} is new: say in xtask/src/tidy.rs whom it may know"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let edge = ours.contains(&to) && to != name && !allowed.contains(&to);
            assert!(!edge, "{name} must not know {to}; if it is to, allow it in xtask/src/tidy.rs");
        }
    }
}

#[test]
fn plans_are_pure() {
    for file in rust_files() {
        let decides = file.ends_with("/plan.rs") || file.contains("/plan/");
        if !decides || file.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            let found = IMPURE.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{file}:{}: {found:?} in a file that decides", number + 1);
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for file in rust_files() {
        let text = read(&file);
        assert!(text.starts_with("//!"), "{file}: begin with `//!` and what the file is");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{file}: {lines} lines; split it by idea");
        for marker in [concat!("to", "do!("), concat!("unimple", "mented!(")] {
            assert!(!text.contains(marker), "{file}: a leftover {marker}");
        }
        assert!(!text.contains(concat!("#[", "ignore")), "{file}: a test that is not run");
    }
}

/// Documents are for people who do not read the code: they have no rustdoc links and no paths of
/// crates.
#[test]
fn documents_name_nothing_of_the_code() {
    let crates = MAY_DEPEND_ON.iter().map(|(name, _)| name.replace('-', "_"));
    let paths: Vec<String> =
        crates.chain(["crate".to_owned(), "Self".to_owned()]).map(|it| format!("{it}::")).collect();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let file = format!("docs/{}", entry.unwrap().file_name().to_string_lossy());
        if !file.ends_with(".md") {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            let is_of_code = line.contains("[`") && !line.contains("`](")
                || paths.iter().any(|path| line.contains(path));
            assert!(!is_of_code, "{file}:{}: say it in the user's words: {line}", number + 1);
        }
    }
}

/// The paths that the documents for developers name exist: a file that moves takes its name there
/// along.
#[test]
fn the_map_names_what_is_there() {
    let crates: Vec<String> = MAY_DEPEND_ON.iter().map(|(name, _)| format!("{name}/")).collect();
    for file in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(file);
        let quoted = text.split('`').skip(1).step_by(2);
        for path in quoted.filter(|it| crates.iter().any(|name| it.starts_with(name.as_str()))) {
            let is_pattern = path.contains(['<', '*', ' ']);
            assert!(
                is_pattern || root().join(path).exists(),
                "{file} names {path}: it is not there"
            );
        }
    }
}
