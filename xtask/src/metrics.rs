//! Checks that the metrics, their documentation and their alerts agree.

use std::collections::BTreeSet;

use crate::tidy::{read, rust_files};

/// Files that name metrics without registering them.
const NAMED_IN: [&str; 3] = [
    "docs/operations.md",
    "manifests/monitoring/alerts.yaml",
    "manifests/monitoring/dashboard.json",
];
/// The suffixes of the series of a histogram.
const SERIES: [&str; 3] = ["_bucket", "_sum", "_count"];
/// The prefix of our metrics.
const PREFIX: &str = "heliox_";

/// Every word of `text` that starts like one of our metrics.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// What the files called `metrics.rs` register. They name metrics in full, except for an agent's,
/// which lack the prefix.
fn registered() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in rust_files() {
        if !file.ends_with("/src/metrics.rs") || file.starts_with("xtask/") {
            continue;
        }
        let text = read(&file);
        let literals = text.split('"').skip(1).step_by(2);
        let prefix = literals.clone().find_map(|it| it.strip_suffix("{name}"));
        names.extend(
            literals
                .clone()
                .filter(|it| it.starts_with(PREFIX) && !it.contains('{'))
                .map(str::to_owned),
        );
        let Some(prefix) = prefix else { continue };
        let calls = ["gauge(", "counter("];
        for call in calls {
            for after in text.split(call).skip(1) {
                let name = after.trim_start().strip_prefix('"').and_then(|it| it.split('"').next());
                names.extend(name.map(|name| format!("{prefix}{name}")));
            }
        }
    }
    names
}

#[test]
fn every_metric_is_in_the_operators_document() {
    let (registered, documented) = (registered(), named(&read("docs/operations.md")));
    assert!(registered.len() > 10, "only found {registered:?}");
    let missing: Vec<_> = registered.difference(&documented).collect();
    assert!(missing.is_empty(), "say in docs/operations.md what these mean: {missing:?}");
}

#[test]
fn what_is_watched_is_there() {
    let registered = registered();
    for file in NAMED_IN {
        for name in named(&read(file)) {
            let series = SERIES.iter().find_map(|end| name.strip_suffix(end));
            let known =
                registered.contains(&name) || series.is_some_and(|it| registered.contains(it));
            assert!(known, "{file} names {name}, which no metrics.rs registers");
        }
    }
}
