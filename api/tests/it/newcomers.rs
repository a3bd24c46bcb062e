//! What somebody who writes a manifest for the first time gets wrong, and what he is told: each with
//! the line, the column and the field, and with what to do where that can be known.

use std::fmt::Write as _;

use api::manifest;
use expect_test::expect_file;

use crate::bad_manifests::{job, workflow};

/// A job of which one line is another.
fn but(line: &str, other: &str) -> String {
    let good = job("    command: [sh, -c, date]\n  count: 3\n");
    assert!(good.contains(line), "{line}");
    good.replacen(line, other, 1)
}

/// A workflow of one job that has this template.
fn flow(template: &str) -> String {
    workflow(&format!("  jobs:\n  - name: a\n    template:\n{template}"))
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn mistakes() -> Vec<(&'static str, String)> {
    let good = job("  count: 3\n");
    vec![
        ("an empty file", String::new()),
        ("comments alone", "# to be written\n".to_owned()),
        ("a tab", but("  count: 3", "\tcount: 3")),
        ("a tab in a map", but("    image: busybox", "    image: busybox\n\t\targs: []")),
        ("wrong indentation", but("  count: 3", "   count: 3")),
        (
            "a list for a map",
            but("  template:\n    image: busybox", "  template:\n    - image: busybox"),
        ),
        ("a map for a list", but("command: [sh, -c, date]", "command: {sh: -c}")),
        ("text for a list", but("command: [sh, -c, date]", "command: sh")),
        ("text for a map", but("metadata: {name: resize}", "metadata: resize")),
        ("a number for text", but("image: busybox", "image: 5")),
        ("a number in a list of texts", but("[sh, -c, date]", "[sleep, 5]")),
        ("true in a list of texts", but("[sh, -c, date]", "[echo, true]")),
        ("text for a number", but("count: 3", "count: three")),
        ("a quoted number", but("count: 3", "count: '3'")),
        ("a leading zero", but("count: 3", "count: 01")),
        ("an underscore", but("count: 3", "count: 1_000")),
        ("a fraction", but("count: 3", "count: 2.5")),
        ("a negative number", but("count: 3", "count: -1")),
        ("too large a number", but("count: 3", "count: 99999999999")),
        ("yes", but("count: 3", "suspend: yes")),
        ("Off", but("count: 3", "suspend: Off")),
        ("nothing", but("count: 3", "count:")),
        ("no kind", but("kind: Job\n", "")),
        ("no apiVersion", but("apiVersion: heliox.dev/v1\n", "")),
        ("a typo in kind", but("kind: Job", "kind: Jbo")),
        ("a kind in small letters", but("kind: Job", "kind: job")),
        ("Kubernetes' group", but("heliox.dev/v1", "batch/v1")),
        ("another version", but("heliox.dev/v1", "heliox.dev/v1beta1")),
        ("a typo in apiVersion", but("apiVersion:", "apiversion:")),
        ("no metadata", but("metadata: {name: resize}\n", "")),
        ("no name", but("{name: resize}", "{labels: {app: web}}")),
        ("capitals in a name", but("name: resize", "name: Resize_1")),
        ("no spec", "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: a}\n".to_owned()),
        ("no template", but("  template:\n    image: busybox\n    command: [sh, -c, date]\n", "")),
        ("no image", but("    image: busybox\n", "")),
        ("a typo in a field", but("  count:", "  cuont:")),
        ("another case", but("  count:", "  Count:")),
        ("Kubernetes' word", but("  count:", "  completions:")),
        ("Nomad's word", but("    command:", "    entrypoint:")),
        ("env as a map", but("  count: 3", "    env: {A: b}")),
        ("a key twice", but("  count: 3", "  count: 3\n  count: 4")),
        ("an unknown anchor", but("count: 3", "count: *three")),
        ("an anchor", but("count: 3", "count: &n 3\n  parallelism: *n")),
        ("a tag", but("count: 3", "count: !!js/undefined 3")),
        ("two documents, one bad", format!("{good}---\n{}", but("count", "cuont"))),
        ("two documents, one no YAML", format!("{good}---\na: [\n")),
        ("no line between documents", format!("{good}{good}")),
        ("a list of objects", "- a\n- b\n".to_owned()),
        ("a duration without unit", but("count: 3", "timeout: 30")),
        ("a duration in words", but("count: 3", "timeout: 5 minutes")),
        (
            "memory in words",
            but("    command", "    resources: {requests: {memory: 5GB}}\n    command"),
        ),
        ("a type and a typo", but("image: busybox", "image: 5").replace("count", "cuont")),
        (
            "a type and a rule",
            but("image: busybox", "image: 5").replace("count: 3", "retry: {maxAttempts: 0}"),
        ),
        (
            "a port twice in a workflow",
            flow("      image: x\n      ports: [{name: a}, {name: b}, {name: a}]\n"),
        ),
        (
            "env twice over defaults",
            flow("      env: [{name: A}, {name: A}]\n").replace(
                "  jobs:",
                "  defaults: {template: {image: x, env: [{name: B, value: b}]}}\n  jobs:",
            ),
        ),
        (
            "env twice in a listed task",
            but(
                "  count: 3",
                "    env: [{name: B}]\n  tasks:\n  - name: a\n    template: {env: [{name: A}, {name: A}]}",
            ),
        ),
        ("a workflow's job without a name", workflow("  jobs:\n  - template: {image: x}\n")),
        ("jobs as a map", workflow("  jobs:\n    a: {template: {image: x}}\n")),
        (
            "dependsOn as text",
            workflow(
                "  jobs:\n  - {name: a, template: {image: x}}\n  - {name: b, dependsOn: a, template: {image: x}}\n",
            ),
        ),
        (
            "dependsOn as texts",
            workflow(
                "  jobs:\n  - {name: a, template: {image: x}}\n  - {name: b, dependsOn: [a], template: {image: x}}\n",
            ),
        ),
    ]
}

#[test]
fn every_first_mistake_says_where_it_is_and_what_to_do() {
    let mut shown = String::new();
    for (what, text) in mistakes() {
        let _infallible = writeln!(shown, "# {what}");
        match manifest::read("a.yaml", text.as_bytes()) {
            Ok(documents) => {
                let _infallible = writeln!(shown, "{} documents, nothing wrong", documents.len());
            }
            Err(problems) => {
                for problem in problems {
                    assert!(problem.line > 0, "{what}: {problem}");
                    let _infallible = writeln!(shown, "{problem}");
                }
            }
        }
    }
    expect_file!["newcomers.txt"].assert_eq(&shown);
}
