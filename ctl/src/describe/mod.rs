//! The description of an object as a sheet of lines. Pure: objects in, lines out.

pub mod events;
pub mod job;
pub mod node;
pub mod partition_set;
pub mod run;
pub mod secret;
pub mod service;
pub mod task;
pub mod workflow;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::conditions::Condition;
use api::table::span;
use api::{Kind, Task, Timestamp};

use crate::{hints, output};

/// Width of the labels on the left.
const LABEL_CHARS: usize = 10;
/// Indentation of what belongs to the line above.
const INDENT: &str = "  ";
/// Most rows of a section; the rest is counted.
const ROWS_MAX: usize = 40;

/// A text of labelled lines.
#[derive(Debug, Default)]
pub struct Sheet(Vec<Line>);

#[derive(Debug)]
struct Line {
    text: String,
    /// Where the text begins, so that continuation lines are indented to it; `None` for a line that
    /// is not folded, such as YAML.
    hang: Option<usize>,
}

/// What the deletion of an object waits for; nothing if it does not say.
pub fn deletion(waits_for: Option<&str>) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.field("Deletion", &waits_for.map(|what| format!("waits: {what}")).unwrap_or_default());
    sheet
}

impl Sheet {
    /// A document as it is.
    pub fn verbatim(text: &str) -> Self {
        Self(text.lines().map(|line| Line { text: line.to_owned(), hang: None }).collect())
    }

    /// Appends another sheet.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The text, folded between words at the width of a terminal. Output for programs is not
    /// folded.
    pub fn on(&self, width: Option<usize>) -> String {
        let folded = |line: &Line| match (width, line.hang) {
            (Some(width), Some(hang)) => output::folded(&line.text, hang, width),
            _ => format!("{}\n", line.text),
        };
        self.0.iter().map(folded).collect()
    }

    /// Adds the namespace to the suggested commands if it has to be named.
    pub fn name_namespace(&mut self, namespace: Option<&str>) {
        for line in &mut self.0 {
            if line.hang.is_some() && line.text.contains("hctl ") {
                line.text = hints::within(&line.text, namespace);
            }
        }
    }

    fn push(&mut self, text: &str, hang: usize) {
        let text = output::printable(text).trim_end().to_owned();
        self.0.push(Line { text, hang: Some(hang) });
    }

    /// A line without a label.
    fn line(&mut self, text: &str) {
        self.push(text, INDENT.len());
    }

    /// A labelled line; nothing if the text is empty.
    fn field(&mut self, label: &str, text: &str) {
        if !text.is_empty() {
            self.push(&format!("{:LABEL_CHARS$}{text}", format!("{label}:")), LABEL_CHARS);
        }
    }

    /// A labelled table; nothing without rows.
    fn table(&mut self, label: &str, headings: &[&str], rows: Vec<Vec<String>>) {
        self.list(label, headings, rows, (ROWS_MAX, ""));
    }

    /// A labelled table with a maximum number of rows. If there are more, the number is printed,
    /// with the command that shows all.
    fn list(
        &mut self,
        label: &str,
        headings: &[&str],
        mut rows: Vec<Vec<String>>,
        (rows_max, command): (usize, &str),
    ) {
        if rows.is_empty() {
            return;
        }
        self.line(&format!("{label}:"));
        let more = rows.len().saturating_sub(rows_max);
        rows.truncate(rows_max);
        let headings: Vec<String> = headings.iter().map(|it| (*it).to_owned()).collect();
        let last = headings.last().cloned().unwrap_or_default();
        let all: Vec<Vec<String>> = std::iter::once(headings).chain(rows).collect();
        let text = output::indented(INDENT, &all);
        let mut lines = text.lines();
        let headings = lines.next().unwrap_or_default();
        // Only the last column is folded, at the position of its heading.
        let hang = headings.rfind(&last).unwrap_or_default();
        self.0.push(Line { text: headings.to_owned(), hang: None });
        lines.for_each(|line| self.push(line, hang));
        if more > 0 {
            let how = if command.is_empty() { String::new() } else { format!(": {command}") };
            self.line(&format!("{INDENT}and {more} more{how}"));
        }
    }

    fn conditions(&mut self, conditions: &[Condition]) {
        let one = |it: &Condition| {
            let reason = if it.status == "True" || it.kind == "Ready" {
                format!(" ({})", it.reason)
            } else {
                String::new()
            };
            format!("{}={}{reason}", it.kind, it.status)
        };
        let all: Vec<String> = conditions.iter().map(one).collect();
        if !all.is_empty() {
            self.line(&all.join("  "));
        }
    }
}

/// `namespace/name`, or the name alone.
fn place<K: Kind>(object: &K) -> String {
    object.key().to_string()
}

/// Labels as `a=1, b=2`.
fn pairs(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

fn labels<K: Kind>(object: &K) -> String {
    object.meta().labels.as_ref().map(pairs).unwrap_or_default()
}

/// The controller of this object, as users write it.
fn owner<K: Kind>(object: &K) -> String {
    let Some(owner) = object.controller() else { return String::new() };
    let kind = api::KindId::from_manifest(&owner.api_version, &owner.kind);
    let word = kind
        .map_or_else(|| owner.kind.to_ascii_lowercase(), |it| crate::target::word(it).to_owned());
    format!("{word}/{}", owner.name)
}

/// ` for 3h12m`, ` after 2m`: how long it runs or ran; empty before its start.
fn lasting(start: Option<Timestamp>, end: Option<Timestamp>, now: Timestamp) -> String {
    match (start, end) {
        (Some(start), Some(end)) => format!(" after {}, {} ago", span(start, end), span(end, now)),
        (Some(start), None) => format!(" for {}", span(start, now)),
        (None, _) => String::new(),
    }
}

/// The headings of tables of tasks.
const TASK_HEADINGS: [&str; 5] = ["TASK", "STATUS", "ATTEMPT", "SINCE", "WHY"];

/// The row of a task in the description of a node or a partition set.
fn task_row(task: &Task, now: Timestamp) -> Vec<String> {
    let since = task.status.started_at.or(task.created());
    vec![
        place(task),
        task.phase().to_string(),
        task.spec.attempt.to_string(),
        api::table::age(since, now),
        task.why(now),
    ]
}
