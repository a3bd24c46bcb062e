//! The second stage: an attempt starts on a node.

use std::collections::BTreeMap;

use serde_json::Value;

use super::reference::{Piece, Reference, pieces};
use crate::template::{self, Template};
use crate::violation::Violation;

/// What names mean on a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeNames<'a> {
    /// The task's name.
    pub task: &'a str,
    /// Its index.
    pub index: u32,
    /// How many tasks its owner has.
    pub count: u32,
    /// The attempt.
    pub attempt: u32,
    /// The partition that it targets.
    pub partition: Option<&'a str>,
    /// Its item.
    pub item: Option<&'a Value>,
    /// The node.
    pub node: &'a str,
    /// The numbers to listen on, by the ports' names.
    pub ports: &'a BTreeMap<String, u16>,
    /// Variables that are set beside the template's own: `HELIOX_...`.
    pub env: &'a BTreeMap<String, String>,
}

impl NodeNames<'_> {
    fn value(&self, reference: &Reference<'_>) -> Option<String> {
        match (reference.root, reference.names.as_slice()) {
            ("task", ["name"]) => Some(self.task.to_owned()),
            ("task", ["index"]) => Some(self.index.to_string()),
            ("task", ["count"]) => Some(self.count.to_string()),
            ("task", ["attempt"]) => Some(self.attempt.to_string()),
            ("task", ["partition"]) => self.partition.map(str::to_owned),
            ("task", ["item"]) => self.item.map(text_of),
            ("task", ["item", field]) => self.item?.get(field).map(text_of),
            ("node", ["name"]) => Some(self.node.to_owned()),
            ("ports", [name]) => self.ports.get(*name).map(u16::to_string),
            _ => None,
        }
    }
}

/// An item as text: text as it is, all else as JSON.
fn text_of(item: &Value) -> String {
    item.as_str().map_or_else(|| item.to_string(), str::to_owned)
}

/// The template of one attempt: everything substituted. Lay the task's own part over the template
/// before ([`crate::merge::template`]).
///
/// # Errors
/// Names without a value, and what a value made wrong (a path with `..`); paths are relative to
/// the template.
pub fn for_node(template: &Template, names: &NodeNames<'_>) -> Result<Template, Vec<Violation>> {
    let mut next = template.clone();
    let mut stage = Stage { names, env: names.env.clone(), found: Vec::new() };
    // In order: a variable may use those before it.
    for (index, variable) in next.env.iter_mut().enumerate() {
        stage.text(&mut variable.value, || format!("env[{index}].value"));
        stage.env.insert(variable.name.clone(), variable.value.clone());
    }
    for (list, texts) in [("command", &mut next.command), ("args", &mut next.args)] {
        for (index, text) in texts.iter_mut().enumerate() {
            stage.text(text, || format!("{list}[{index}]"));
        }
    }
    for (field, text) in [
        ("workingDir", &mut next.working_dir),
        ("networkMode", &mut next.network_mode),
        ("stopSignal", &mut next.stop_signal),
    ] {
        if let Some(text) = text {
            stage.text(text, || field.to_owned());
        }
    }
    for (index, mount) in next.mounts.iter_mut().enumerate() {
        stage.text(&mut mount.path, || format!("mounts[{index}].path"));
        if let Some(path) = &mut mount.host_path {
            stage.text(path, || format!("mounts[{index}].hostPath"));
        }
    }
    for (key, text) in &mut next.labels {
        stage.text(text, || format!("labels[{key:?}]"));
    }
    if stage.found.is_empty() {
        let mut found = Vec::new();
        template::validate(&next, "template", &mut found);
        let relative = |mut it: Violation| {
            it.path = it.path.trim_start_matches("template.").to_owned();
            it
        };
        stage.found.extend(found.into_iter().map(relative));
    }
    if stage.found.is_empty() { Ok(next) } else { Err(stage.found) }
}

struct Stage<'a> {
    names: &'a NodeNames<'a>,
    /// Variables declared so far, with their values.
    env: BTreeMap<String, String>,
    found: Vec<Violation>,
}

impl Stage<'_> {
    fn text(&mut self, text: &mut String, path: impl Fn() -> String) {
        if !text.contains("$(") {
            return;
        }
        let mut whole = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::Escaped => whole.push_str("$("),
                Piece::Variable { whole: text, name } => {
                    whole.push_str(self.env.get(name).map_or(text, String::as_str));
                }
                Piece::Ours(reference) => match self.names.value(&reference) {
                    Some(value) => whole.push_str(&value),
                    None => {
                        let why = format!("{} has no value here", reference.whole);
                        self.found.push(Violation::new(path(), why));
                    }
                },
            }
        }
        *text = whole;
    }
}
