//! The tour of README, command by command, as somebody takes it who types what is written there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use e2e::dev::{Dev, Said};
use expect_test::expect_file;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Block, blocks, root};
use crate::verbs::redact::{aligned, redacted, without_progress};

/// What the tour prints, as it was read and found good.
const PRINTED: &str = "tour.txt";

/// A command of the tour.
struct Step {
    line: String,
    /// What README says that it prints.
    printed: Option<String>,
}

/// The blocks of the tour, its part on failures included.
fn tour() -> Vec<Block> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let sections = readme.split("\n## ");
    let tour = sections.filter(|section| section.starts_with("A tour of ")).collect::<Vec<_>>();
    assert_eq!(tour.len(), 1, "README has one tour");
    blocks(tour[0])
}

/// The commands of a block. What is printed follows its command in a block of `console`.
fn steps(block: &Block) -> Vec<Step> {
    if block.language == "sh" {
        let lines = block.lines.iter().filter(|line| !line.trim().is_empty());
        return lines.map(|line| Step { line: line.clone(), printed: None }).collect();
    }
    assert_eq!(block.language, "console", "a block of the tour is sh or console");
    let mut steps: Vec<Step> = Vec::new();
    for line in &block.lines {
        match line.strip_prefix("$ ") {
            Some(line) => steps.push(Step { line: line.to_owned(), printed: Some(String::new()) }),
            None => {
                let step = steps.last_mut().expect("a block of console begins with a command");
                let printed = step.printed.get_or_insert_default();
                printed.push_str(line);
                printed.push('\n');
            }
        }
    }
    steps
}

/// The line without what it explains.
fn command(line: &str) -> &str {
    line.split(" #").next().unwrap_or(line).trim()
}

/// What is printed, the same in each run.
fn same(line: &str, text: &str) -> String {
    let text = redacted(line.trim_start_matches("hctl "), text);
    // Which node a task runs on is the scheduler's affair.
    let is_of_nodes = line.contains("get nodes");
    let nodes = if is_of_nodes { &[][..] } else { &["node-1", "node-2", "node-3"][..] };
    nodes.iter().fold(text, |text, node| text.replace(node, "NODE"))
}

/// The rows of a watch when all of `count` objects have succeeded, which ends it as Ctrl-C would.
async fn watched(dev: &Dev, line: &str, count: usize) -> String {
    let mut child =
        dev.shell(&format!("exec {line}"), &root()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut head, mut rows) = (None, BTreeMap::new());
    let is_done = |rows: &BTreeMap<String, String>| {
        rows.len() == count && rows.values().all(|row| row.contains(" Succeeded "))
    };
    while !is_done(&rows) {
        let next = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let row = next.unwrap_or_else(|_| panic!("{line} ends with {rows:#?}")).unwrap();
        let row = row.expect("a watch has no end");
        if head.is_none() {
            head = Some(row);
            continue;
        }
        let name = row.split_whitespace().next().unwrap_or_default().to_owned();
        rows.insert(name, row);
    }
    let rows: Vec<String> = head.into_iter().chain(rows.into_values()).collect();
    rows.join("\n") + "\n"
}

/// Runs a step and prints what came.
async fn walk(dev: &Dev, step: &Step, session: &mut String) {
    let line = command(&step.line);
    if line.starts_with("hctl get all") {
        // A workflow hears of the end of its run a moment after the run itself; nobody types so fast.
        dev.done(&["wait", "workflow/load", "--timeout", "60s"]).await;
    }
    let text = if line.ends_with(" --watch") {
        watched(dev, line, 3).await
    } else {
        let Said { code, out, err } = dev.said(dev.shell(line, &root())).await;
        let err = without_progress(&err);
        assert_eq!(aligned(&out), None, "{line}: a cell is not below its heading:\n{out}");
        if let Some(printed) = &step.printed {
            assert_eq!(&format!("{out}{err}"), printed, "README says so of {line}");
        }
        let code = if code == 0 { String::new() } else { format!("[exit {code}]\n") };
        format!("{out}{err}{code}")
    };
    let _infallible = write!(session, "$ {line}\n{}", same(line, &text));
}

/// Starts what the tour starts: the flags of its `heliox dev`.
async fn start(line: &str) -> Dev {
    let words: Vec<&str> = command(line).split_whitespace().collect();
    assert_eq!(words[..2], ["heliox", "dev"], "the tour begins with heliox dev");
    let nodes = words.iter().position(|word| *word == "--nodes").map(|at| words[at + 1]);
    Dev::start_with(&words[2..], nodes.unwrap_or("1").parse().unwrap()).await
}

#[tokio::test]
async fn the_tour_of_readme_does_what_it_says() {
    let (mut dev, mut session) = (None, String::new());
    for step in tour().iter().flat_map(steps) {
        match (&dev, step.line.split_whitespace().next()) {
            // The programs are there.
            (None, Some("make" | "export")) => (),
            (None, _) => dev = Some(start(&step.line).await),
            (Some(dev), _) => walk(dev, &step, &mut session).await,
        }
    }
    expect_file![PRINTED].assert_eq(&session);
}
