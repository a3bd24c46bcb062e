//! Rules of a workflow.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use super::{Dependency, JOBS_MAX, Param, Workflow, WorkflowSpec, reach};
use crate::job;
use crate::kind::KindId;
use crate::schema::VIOLATIONS_MAX;
use crate::size::{EXPANDED_BYTES_MAX, OBJECT_BYTES_MAX};
use crate::substitute::{self, RunNames, Scope};
use crate::table::some_of;
use crate::violation::{Violation, duplicates, nearest};
use crate::{merge, metadata, names, path, size};

/// Most parameters.
const PARAMS_MAX: usize = 1_000;
/// Longest value of a parameter, in bytes.
const PARAM_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with a workflow.
pub(super) fn validate(workflow: &Workflow) -> Vec<Violation> {
    let mut found = metadata::validate(KindId::Workflow, &workflow.metadata);
    spec(&workflow.spec, &mut found);
    let of = "a run keeps a copy of the workflow and the state of each job, which take up to";
    found.extend(size::problem(size::run_bytes(&workflow.spec), "spec", of));
    found
}

fn spec(spec: &WorkflowSpec, found: &mut Vec<Violation>) {
    params(&spec.params, found);
    found.extend(cannot_run_by_itself(spec));
    job::timeout(spec.timeout, "spec.timeout", found);
    if let Some(retry) = spec.defaults.as_ref().and_then(|defaults| defaults.retry.as_ref()) {
        job::retry(retry, "spec.defaults.retry", found);
    }
    match spec.jobs.len() {
        0 => found.push(Violation::new("spec.jobs", "at least one job is required")),
        count if count > JOBS_MAX => {
            let why = format!("{count} jobs; at most {JOBS_MAX} are allowed");
            found.push(Violation::new("spec.jobs", why));
            return;
        }
        _ => (),
    }
    duplicates(spec.jobs.iter().map(|job| &job.name), "spec.jobs", "name", found);
    let names: BTreeSet<&str> = spec.jobs.iter().map(|job| job.name.as_str()).collect();
    let mut room = room_for_jobs(spec, found);
    for (index, job) in spec.jobs.iter().enumerate() {
        // Beyond the limit nothing is reported, and searching for similar names would only take
        // time.
        if found.len() >= VIOLATIONS_MAX {
            return;
        }
        let at = format!("spec.jobs[{index}]");
        // The name becomes part of other names and can be used in `$(jobs.NAME)`.
        if let Some(problem) = names::label_problem(&job.name) {
            found.push(Violation::new(format!("{at}.name"), problem));
        }
        if let Some(room) = &mut room {
            merged_job(spec, index, &names, room, found);
        }
        dependencies(spec, &names, index, &at, found);
        found.extend(job::too_late_to_retry(job.timeout, job.retry.as_ref(), &at));
        if let (Some(own), Some(whole)) = (job.timeout, spec.timeout)
            && own > whole
        {
            let why = format!("{own} is never reached: the workflow's timeout is {whole}");
            found.push(Violation::new(format!("{at}.timeout"), why));
        }
    }
    cycles(spec, found);
    reach::check(spec, found);
}

/// The violation of a workflow whose revisions are run automatically and that has a parameter
/// without a default: every such run would fail.
fn cannot_run_by_itself(spec: &WorkflowSpec) -> Option<Violation> {
    if spec.run_on_apply == Some(false) {
        return None;
    }
    let open = spec.params.iter().filter(|param| param.default.is_none());
    // A parameter that is declared twice counts once.
    let mut names: Vec<&str> = Vec::new();
    for name in open.map(|param| param.name.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let (parameters, have) = match names.len() {
        0 => return None,
        1 => ("parameter", "has"),
        _ => ("parameters", "have"),
    };
    let why = format!(
        "a new revision is run at once, and {parameters} {} {have} no default: the run would fail",
        some_of(names.iter(), 1)
    );
    let hint =
        "set runOnApply: false and start runs with hctl run, or give the parameter a default";
    Some(Violation::new("spec.runOnApply", why).hint(hint))
}

/// How many bytes all jobs together may have once defaults and parameters are merged in. Nothing,
/// with a violation, if the defaults alone exceed that for so many jobs.
fn room_for_jobs(spec: &WorkflowSpec, found: &mut Vec<Violation>) -> Option<usize> {
    let defaults = spec.defaults.as_ref().map_or(0, size::json_bytes);
    let bytes = defaults * spec.jobs.len() + size::json_bytes(&spec.jobs);
    let left = EXPANDED_BYTES_MAX.checked_sub(bytes);
    if left.is_none() {
        let why = format!(
            "{defaults} bytes of defaults in each of {} jobs: together {bytes} bytes; at most \
             {EXPANDED_BYTES_MAX} are allowed",
            spec.jobs.len()
        );
        found.push(Violation::new("spec.defaults", why));
    }
    left
}

/// The violations of a job after the defaults were merged in and parameters got values.
fn merged_job(
    spec: &WorkflowSpec,
    index: usize,
    jobs: &BTreeSet<&str>,
    room: &mut usize,
    found: &mut Vec<Violation>,
) {
    let job = &spec.jobs[index];
    let raw = merge::job_document(spec.defaults.as_ref(), job);
    let params: BTreeSet<&str> = spec.params.iter().map(|param| param.name.as_str()).collect();
    let mut own = Vec::new();
    substitute::check_job(&raw, Scope::Workflow(&params), "spec", &mut own);

    let values: BTreeMap<String, String> =
        spec.params.iter().filter_map(|param| Some((param.name.clone(), sample(param)?))).collect();
    let names = RunNames { run: "run", started: Timestamp::UNIX_EPOCH, params: &values };
    let mut document = raw.clone();
    let mut own_room = (*room).min(OBJECT_BYTES_MAX);
    let before = own_room;
    let substituted = substitute::substitute_job(&mut document, &names, &mut own_room);
    *room -= before - own_room;
    let mut later = Vec::new();
    match substituted.map_err(|it| vec![it]).and_then(|()| {
        merge::typed_job(document)
            .map_err(|found| found.into_iter().map(|it| it.under("spec")).collect())
    }) {
        Ok(merged) => {
            *room = room.saturating_sub(job::parts_bytes(&merged));
            job::validate_spec(&merged, "spec", &mut later);
            near(spec, jobs, &job.name, &merged, &mut later);
            let bytes = size::json_bytes(&merged) + size::index_bytes(&merged) + size::ADDED_BYTES;
            later.extend(size::problem(
                bytes,
                "spec",
                "with defaults and parameters the job takes",
            ));
        }
        Err(problems) => later.extend(problems),
    }
    // Text that refers to a parameter without a value is checked when a run gives it one.
    let way = |violation: &Violation| path::steps(&violation.path).split_off(1);
    own.extend(later.into_iter().filter(|it| !substitute::is_open(&raw, &way(it), &values)));

    let under = spec.defaults.as_ref().map(merge::to_map).unwrap_or_default();
    let (under, over) = (Value::Object(under), Value::Object(merge::to_map(job)));
    for violation in own {
        let (in_defaults, way) = merge::origin(&way(&violation), &raw, (&under, &over));
        let at =
            if in_defaults { "spec.defaults".to_owned() } else { format!("spec.jobs[{index}]") };
        let rest = path::text(&way);
        let dot = if rest.is_empty() || rest.starts_with('[') { "" } else { "." };
        let violation = violation.at(&format!("{at}{dot}{rest}"));
        // The defaults are merged into every job. Report their violations once.
        if !in_defaults || !found.contains(&violation) {
            found.push(violation);
        }
    }
    let mut twice = Vec::new();
    let own = over.get("template").and_then(Value::as_object);
    for (at, part) in [
        ("spec.defaults".to_owned(), spec.defaults.as_ref().and_then(|it| it.template.as_ref())),
        (format!("spec.jobs[{index}]"), own),
    ] {
        part.into_iter()
            .for_each(|part| merge::repeated(part, &format!("{at}.template"), &mut twice));
    }
    twice.retain(|violation| !found.contains(violation));
    found.append(&mut twice);
}

/// A value that a parameter may have, if the workflow tells one.
fn sample(param: &Param) -> Option<String> {
    let none = BTreeMap::new();
    let names = RunNames { run: "run", started: Timestamp::UNIX_EPOCH, params: &none };
    let default = param.default.as_ref().map(|it| substitute::default_in_run(it, &names));
    // A default that still contains a name is reported elsewhere: the name does not exist.
    default.filter(|text| substitute::is_plain(text)).or_else(|| param.allowed.first().cloned())
}

fn params(params: &[Param], found: &mut Vec<Violation>) {
    if params.len() > PARAMS_MAX {
        let why = format!("{} parameters; at most {PARAMS_MAX} are allowed", params.len());
        found.push(Violation::new("spec.params", why));
    }
    duplicates(params.iter().map(|param| &param.name), "spec.params", "name", found);
    for (index, param) in params.iter().enumerate() {
        let at = format!("spec.params[{index}]");
        if let Some(problem) = names::variable_problem(&param.name) {
            found.push(Violation::new(format!("{at}.name"), problem));
        }
        duplicates(&param.allowed, &format!("{at}.enum"), "", found);
        if let Some(default) = &param.default {
            substitute::check_default(default, &format!("{at}.default"), found);
        }
        // A default with a name in it is checked when the name has a value.
        let default = param.default.as_deref().filter(|default| substitute::is_plain(default));
        if let Some(default) = default
            && let Some(problem) = value_problem(param, default)
        {
            found.push(problem.at(&format!("{at}.default")));
        }
    }
}

/// Longest value that a message repeats, and longest list of values, in characters.
const SHOWN_MAX: usize = 60;
const LISTED_MAX: usize = 10;

fn quoted(value: &str) -> String {
    let start: String = value.chars().take(SHOWN_MAX).collect();
    if start.len() < value.len() { format!("{start:?}...") } else { format!("{value:?}") }
}

/// The violation of a `value` that is not allowed for `param`. The path is left empty.
fn value_problem(param: &Param, value: &str) -> Option<Violation> {
    if value.len() > PARAM_BYTES_MAX {
        let why = format!("{} bytes; at most {PARAM_BYTES_MAX} are allowed", value.len());
        return Some(Violation::new("", why));
    }
    if param.allowed.is_empty() || param.allowed.iter().any(|allowed| allowed == value) {
        return None;
    }
    let violation = Violation::new(
        "",
        format!("{} is not one of {}", quoted(value), some_of(param.allowed.iter(), LISTED_MAX)),
    );
    Some(match nearest(value, param.allowed.iter().map(String::as_str)) {
        Some(meant) => violation.hint(format!("did you mean {meant}?")),
        None => violation,
    })
}

/// The value of every parameter of a run that is given `given`. Defaults are returned as written:
/// whoever makes the run replaces names such as `$(run.date)` in them.
///
/// # Errors
/// Parameters that the workflow does not have, required ones that are missing, and values that are
/// not allowed. Paths start with `spec.params`.
pub fn check_params(
    workflow: &WorkflowSpec,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Vec<Violation>> {
    let (mut full, mut found) = (BTreeMap::new(), Vec::new());
    let known: Vec<&str> = workflow.params.iter().map(|param| param.name.as_str()).collect();
    for name in given.keys().filter(|name| !known.contains(&name.as_str())) {
        let violation = Violation::new(
            format!("spec.params.{name}"),
            "the workflow has no parameter of this name",
        );
        found.push(match nearest(name, known.iter().copied()) {
            Some(meant) => violation.hint(format!("did you mean {meant}?")),
            None => violation,
        });
    }
    for param in &workflow.params {
        let at = format!("spec.params.{}", param.name);
        match (given.get(&param.name), &param.default) {
            (Some(value), _) => {
                if let Some(problem) = value_problem(param, value) {
                    found.push(problem.at(&at));
                }
                full.insert(param.name.clone(), value.clone());
            }
            (None, Some(default)) => {
                full.insert(param.name.clone(), default.clone());
            }
            (None, None) => {
                let violation = Violation::new(at, "a value is required");
                found.push(violation.hint("it has no default"));
            }
        }
    }
    if found.is_empty() { Ok(full) } else { Err(found) }
}

fn dependencies(
    spec: &WorkflowSpec,
    names: &BTreeSet<&str>,
    index: usize,
    at: &str,
    found: &mut Vec<Violation>,
) {
    let job = &spec.jobs[index];
    let list = format!("{at}.dependsOn");
    duplicates(job.depends_on.iter().map(|it| &it.job), &list, "job", found);
    for (place, dependency) in job.depends_on.iter().enumerate() {
        if found.len() >= VIOLATIONS_MAX {
            return;
        }
        let at = format!("{list}[{place}]");
        found.extend(unknown_job(spec, names, &dependency.job, &job.name, format!("{at}.job")));
        phases(dependency, &at, found);
    }
}

/// The violation of a dependency on a job that does not exist.
fn unknown_job(
    spec: &WorkflowSpec,
    known: &BTreeSet<&str>,
    name: &str,
    of: &str,
    at: String,
) -> Option<Violation> {
    if known.contains(name) {
        return None;
    }
    let violation = Violation::new(at, format!("{name:?} is not a job of this workflow"));
    let names = spec.jobs.iter().map(|job| job.name.as_str());
    let others: Vec<&str> = names.filter(|there| *there != of).collect();
    Some(match nearest(name, others.iter().copied()) {
        Some(meant) => violation.hint(format!("did you mean {meant}?")),
        None if others.is_empty() => violation,
        None if others.len() <= 10 => violation.hint(format!("the jobs are {}", others.join(", "))),
        None => violation,
    })
}

fn phases(dependency: &Dependency, at: &str, found: &mut Vec<Violation>) {
    for (index, phase) in dependency.phases.iter().enumerate() {
        if !phase.is_final() {
            let violation = Violation::new(
                format!("{at}.phases[{index}]"),
                format!("{phase} is not how a job ends"),
            );
            found.push(violation.hint("write Succeeded, Skipped, Failed, TimedOut or Cancelled"));
        }
    }
}

fn near(
    spec: &WorkflowSpec,
    names: &BTreeSet<&str>,
    name: &str,
    merged: &job::JobSpec,
    found: &mut Vec<Violation>,
) {
    let wanted = merged.placement.iter().flat_map(|placement| &placement.near);
    for (index, near) in wanted.enumerate() {
        let Some(other) = &near.job else { continue };
        let at = format!("spec.placement.near[{index}].job");
        if other == name {
            let why = "a job cannot be near its own tasks, which have not run yet";
            found.push(Violation::new(at, why));
        } else {
            found.extend(unknown_job(spec, names, other, name, at));
        }
    }
}

/// Reports each group of jobs that wait for each other, once.
fn cycles(spec: &WorkflowSpec, found: &mut Vec<Violation>) {
    let mut graph: DiGraph<usize, ()> = DiGraph::new();
    let mut nodes: BTreeMap<&str, NodeIndex> = BTreeMap::new();
    for (index, job) in spec.jobs.iter().enumerate() {
        let node = graph.add_node(index);
        // If two jobs have one name, the first one is used; the second has a violation of its own.
        nodes.entry(&job.name).or_insert(node);
    }
    for (index, job) in spec.jobs.iter().enumerate() {
        for dependency in &job.depends_on {
            if let Some(on) = nodes.get(dependency.job.as_str()) {
                graph.add_edge(NodeIndex::new(index), *on, ());
            }
        }
    }
    for knot in tarjan_scc(&graph) {
        let start = knot.iter().copied().min();
        let Some(start) = start.filter(|it| knot.len() > 1 || graph.contains_edge(*it, *it)) else {
            continue;
        };
        let names: Vec<&str> = way_round(&graph, start)
            .into_iter()
            .map(|node| spec.jobs[graph[node]].name.as_str())
            .collect();
        let why = format!("these jobs wait for each other: {}", names.join(" -> "));
        found.push(Violation::new(format!("spec.jobs[{}].dependsOn", graph[start]), why));
    }
}

/// The shortest way from a job along its dependencies back to itself, with both ends.
fn way_round(graph: &DiGraph<usize, ()>, start: NodeIndex) -> Vec<NodeIndex> {
    let mut came_from: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
    let mut layer = vec![start];
    while !layer.is_empty() {
        let mut next = Vec::new();
        for node in layer {
            // petgraph lists edges in reverse order of their creation.
            let mut on: Vec<NodeIndex> = graph.neighbors(node).collect();
            on.reverse();
            for neighbour in on {
                if neighbour == start {
                    let mut way = vec![start, node];
                    while let Some(before) = way.last().and_then(|last| came_from.get(last)) {
                        way.push(*before);
                    }
                    if node == start {
                        way.truncate(2);
                    }
                    way.reverse();
                    return way;
                }
                if let Entry::Vacant(unseen) = came_from.entry(neighbour) {
                    unseen.insert(node);
                    next.push(neighbour);
                }
            }
        }
        layer = next;
    }
    vec![start]
}
