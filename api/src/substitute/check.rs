//! Finds names in `$(...)` that do not exist, when a manifest is applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::names as known;
use super::reference::{Piece, Reference, pieces};
use crate::schema::VIOLATIONS_MAX;
use crate::violation::{Violation, nearest};

/// Names under `run` that are reserved for later versions.
const LATER_OF_RUN: [&str; 5] =
    ["scheduledTime", "previousTime", "previousDate", "phase", "failedJobs"];

/// Which names exist besides those that every task has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// A job of a workflow that has these parameters.
    Workflow(&'a BTreeSet<&'a str>),
    /// A Job by itself: it has no parameters and no run.
    Job,
    /// A Service: it has no parameters and no run, and its tasks are all alike.
    Service,
}

/// Where a text is, which decides which substitution stages apply to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    /// In a template, other than in the following.
    Template,
    /// A label of a template: the Task object has it before it has a node, so node names are not
    /// known.
    Label,
    /// An image: nodes are chosen by it, so it must be known before.
    Image,
    /// A placement.
    Placement,
}

/// All violations of names in a document of a Job's spec. Paths begin with `path`.
pub(crate) fn check_job(
    document: &Value,
    scope: Scope<'_>,
    path: &str,
    found: &mut Vec<Violation>,
) {
    let Some(job) = document.as_object() else { return };
    let mut check = Check { job, ports: Vec::new(), lacking: BTreeMap::new(), scope, found };
    let own: Vec<&str> = port_names(job.get("template"));
    let listed = job.get("tasks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (field, value) in job {
        check.ports.clone_from(&own);
        check.part(field, value, &format!("{path}.{field}"));
    }
    for (index, task) in listed.iter().enumerate() {
        for (field, value) in task.as_object().into_iter().flatten() {
            check.ports.clone_from(&own);
            check.ports.extend(port_names(task.get("template")));
            check.part(field, value, &format!("{path}.tasks[{index}].{field}"));
        }
    }
}

/// All violations of names in a parameter's default at `path`. A default gets its value when a run
/// begins; then only the names under `run` are known.
pub(crate) fn check_default(default: &str, path: &str, found: &mut Vec<Violation>) {
    for piece in pieces(default) {
        if found.len() >= VIOLATIONS_MAX {
            return;
        }
        if let Piece::Ours(reference) = piece
            && let Some((why, hint)) = problem_in_default(&reference)
        {
            let violation = Violation::new(path, format!("{} {why}", reference.whole));
            found.push(match hint {
                Some(hint) => violation.hint(hint),
                None => violation,
            });
        }
    }
}

fn problem_in_default(reference: &Reference<'_>) -> Option<(String, Option<String>)> {
    let known = known::under("run");
    match (reference.root, reference.names.as_slice()) {
        ("run", [name]) if known.contains(name) => None,
        ("run", [name]) if LATER_OF_RUN.contains(name) => not_yet(),
        ("run", [name]) => unknown("name under run", name, &known),
        ("jobs" | "transition", _) => not_yet(),
        _ => {
            let why = "cannot be used in a default, which is set when a run begins";
            let known = known.iter().map(|name| format!("$(run.{name})")).collect::<Vec<_>>();
            Some((why.to_owned(), Some(format!("it may contain {}", known.join(" and ")))))
        }
    }
}

/// Whether a text contains nothing that is substituted when a run begins.
pub(crate) fn is_plain(text: &str) -> bool {
    pieces(text).iter().all(|piece| match piece {
        Piece::Text(_) | Piece::Variable { .. } => true,
        Piece::Escaped | Piece::Ours(_) => false,
    })
}

fn port_names(template: Option<&Value>) -> Vec<&str> {
    let ports = template.and_then(|template| template.get("ports")?.as_array());
    ports.into_iter().flatten().filter_map(|port| port.get("name")?.as_str()).collect()
}

struct Check<'a> {
    job: &'a Map<String, Value>,
    /// The names of the ports that the texts may refer to.
    ports: Vec<&'a str>,
    /// For each field of items that a text refers to: the index of the first item without it.
    lacking: BTreeMap<String, Option<usize>>,
    scope: Scope<'a>,
    found: &'a mut Vec<Violation>,
}

impl Check<'_> {
    fn part(&mut self, field: &str, value: &Value, path: &str) {
        match field {
            "template" => {
                for (field, value) in value.as_object().into_iter().flatten() {
                    let zone = match field.as_str() {
                        "image" => Zone::Image,
                        "labels" => Zone::Label,
                        _ => Zone::Template,
                    };
                    self.texts(value, zone, &format!("{path}.{field}"));
                }
            }
            "placement" => self.texts(value, Zone::Placement, path),
            _ => (),
        }
    }

    fn texts(&mut self, value: &Value, zone: Zone, path: &str) {
        match value {
            Value::String(text) => self.text(text, zone, path),
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    self.texts(value, zone, &format!("{path}[{index}]"));
                }
            }
            Value::Object(map) => {
                for (field, value) in map {
                    self.texts(value, zone, &format!("{path}.{field}"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }

    fn text(&mut self, text: &str, zone: Zone, path: &str) {
        for piece in pieces(text) {
            // Beyond the limit nothing is reported, and searching for similar names would only take
            // time.
            if self.found.len() >= VIOLATIONS_MAX {
                return;
            }
            if let Piece::Ours(reference) = piece
                && let Some((why, hint)) = self.problem(&reference, zone)
            {
                let violation = Violation::new(path, format!("{} {why}", reference.whole));
                self.found.push(match hint {
                    Some(hint) => violation.hint(hint),
                    None => violation,
                });
            }
        }
    }

    /// Why a name has no meaning and what to write instead.
    fn problem(
        &mut self,
        reference: &Reference<'_>,
        zone: Zone,
    ) -> Option<(String, Option<String>)> {
        let plain = |why: &str| Some((why.to_owned(), None));
        let names = reference.names.as_slice();
        match (reference.root, names) {
            ("jobs" | "transition", _) => not_yet(),
            ("params", [name]) => match self.scope {
                Scope::Job => no_run("a job of its own has no parameters"),
                Scope::Service => plain("is not known: a service has no parameters"),
                Scope::Workflow(params) if params.contains(name) => None,
                Scope::Workflow(params) => {
                    let known: Vec<&str> = params.iter().copied().collect();
                    unknown("parameter", name, &known)
                }
            },
            ("run", [name]) => match (*name, self.scope) {
                (name, _) if LATER_OF_RUN.contains(&name) => not_yet(),
                ("name" | "date", Scope::Job) => no_run("the job is in no run"),
                ("name" | "date", Scope::Service) => plain("is not known: a service is in no run"),
                (name, _) => unknown("name under run", name, &known::under("run")),
            },
            ("task" | "node" | "ports", _) if matches!(zone, Zone::Image | Zone::Placement) => {
                let (thing, hint) = match zone {
                    Zone::Placement => ("a placement", "a node is chosen before"),
                    Zone::Image | Zone::Label | Zone::Template => {
                        ("an image", "all tasks of a job have one image")
                    }
                };
                Some((format!("cannot be used in {thing}"), Some(hint.to_owned())))
            }
            ("node" | "ports", _) if zone == Zone::Label => {
                plain("cannot be used in a label, which the task has before its node")
            }
            ("task", ["count"]) if self.scope == Scope::Service => {
                plain("is not known: the number of a service's tasks changes while they run")
            }
            ("task", ["partition" | "item", ..]) if self.scope == Scope::Service => {
                plain("is not known: the tasks of a service are all alike")
            }
            ("task", names) => self.task_problem(names),
            ("node", [name]) => unknown("name under node", name, &known::under("node")),
            ("ports", [name]) => unknown("port", name, &self.ports),
            _ => plain("names nothing"),
        }
    }

    fn task_problem(&mut self, names: &[&str]) -> Option<(String, Option<String>)> {
        match names {
            ["name" | "index" | "count" | "attempt"] => None,
            ["partition"] => (!self.job.contains_key("target"))
                .then(|| ("is not known: the job has no target".to_owned(), None)),
            ["item", field @ ..] => {
                let Some(items) = self.job.get("items").and_then(Value::as_array) else {
                    return Some(("is not known: the job has no items".to_owned(), None));
                };
                let [field] = field else {
                    let deep = || ("names nothing: items have one level".to_owned(), None);
                    return (!field.is_empty()).then(deep);
                };
                let first = || items.iter().position(|item| item.get(*field).is_none());
                let lacking = self.lacking.entry((*field).to_owned()).or_insert_with(first);
                let lacking = (*lacking)?;
                Some((format!("is not known: items[{lacking}] has no {field}"), None))
            }
            [name, ..] => unknown("name under task", name, &known::under("task"))
                .or_else(|| Some(("names nothing".to_owned(), None))),
            [] => Some(("names nothing".to_owned(), None)),
        }
    }
}

fn not_yet() -> Option<(String, Option<String>)> {
    Some(("is not supported yet".to_owned(), None))
}

fn no_run(why: &str) -> Option<(String, Option<String>)> {
    Some((format!("is not known: {why}"), Some("make it a job of a Workflow".to_owned())))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Option<(String, Option<String>)> {
    if known.contains(&name) {
        return None;
    }
    let hint = match nearest(name, known.iter().copied()) {
        Some(meant) => Some(format!("did you mean {meant}?")),
        None if known.is_empty() => None,
        None => Some(format!("there is {}", known.join(", "))),
    };
    Some((format!("is not known: there is no {what} {name:?}"), hint))
}
