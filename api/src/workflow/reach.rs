//! Finds jobs that can never run, whatever happens, when the manifest is applied.

use std::collections::BTreeMap;

use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Dependency, WorkflowJob, WorkflowSpec};
use crate::job::JobPhase;
use crate::violation::Violation;

/// A set of jobs, one bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn none(jobs: usize) -> Self {
        Self(vec![0; jobs.div_ceil(64)])
    }

    fn set(&mut self, job: usize) {
        self.0[job / 64] |= 1 << (job % 64);
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own |= other);
    }

    fn has(&self, job: usize) -> bool {
        self.0[job / 64] & (1 << (job % 64)) != 0
    }

    fn first_common(&self, other: &Self) -> Option<usize> {
        let common = self.0.iter().zip(&other.0).map(|(own, other)| own & other);
        let (word, bits) = common.enumerate().find(|(_, bits)| *bits != 0)?;
        usize::try_from(bits.trailing_zeros()).ok().map(|bit| word * 64 + bit)
    }
}

/// How other jobs must have ended before a job runs.
#[derive(Debug, Clone)]
struct Before {
    succeeded: Bits,
    failed: Bits,
}

/// Reports dependencies that can never be met. Jobs that wait for each other are reported
/// elsewhere.
pub(super) fn check(spec: &WorkflowSpec, found: &mut Vec<Violation>) {
    let jobs: BTreeMap<&str, &WorkflowJob> =
        spec.jobs.iter().rev().map(|job| (job.name.as_str(), job)).collect();
    for (index, job) in spec.jobs.iter().enumerate() {
        for (place, dependency) in job.depends_on.iter().enumerate() {
            let on = jobs.get(dependency.job.as_str());
            if let Some(why) =
                on.filter(|_| !dependency.phases.is_empty()).and_then(|on| never(dependency, on))
            {
                let at = format!("spec.jobs[{index}].dependsOn[{place}].phases");
                found.push(why.at(&at));
            }
        }
    }
    contradictions(spec, found);
}

/// The violation of a dependency on a job that cannot end in any of the phases it names. The path
/// is left empty.
fn never(dependency: &Dependency, on: &WorkflowJob) -> Option<Violation> {
    let problem = |phase: &JobPhase| match phase {
        JobPhase::Skipped if on.depends_on.is_empty() => {
            Some("is never Skipped: it waits for no other job")
        }
        JobPhase::TimedOut if on.timeout.is_none() => Some("is never TimedOut: it has no timeout"),
        JobPhase::Skipped
        | JobPhase::TimedOut
        | JobPhase::Succeeded
        | JobPhase::Failed
        | JobPhase::Cancelled
        | JobPhase::Pending
        | JobPhase::Running
        | JobPhase::Suspended => None,
    };
    let problems: Option<Vec<&str>> = dependency.phases.iter().map(problem).collect();
    let violation = Violation::new("", format!("job {} {}", on.name, problems?.join(" and ")));
    Some(violation.hint("this job would never run: name another phase"))
}

/// Reports jobs that need another job both to succeed and to fail, directly or through other jobs.
fn contradictions(spec: &WorkflowSpec, found: &mut Vec<Violation>) {
    let count = spec.jobs.len();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    for (index, job) in spec.jobs.iter().enumerate() {
        graph.add_node(());
        places.entry(&job.name).or_insert(index);
    }
    for (index, job) in spec.jobs.iter().enumerate() {
        for dependency in &job.depends_on {
            if let Some(on) = places.get(dependency.job.as_str()) {
                graph.add_edge(NodeIndex::new(*on), NodeIndex::new(index), ());
            }
        }
    }
    let Ok(order) = toposort(&graph, None) else { return };
    near_what_follows(spec, &order, &places, found);
    let nothing = Before { succeeded: Bits::none(count), failed: Bits::none(count) };
    let mut before = vec![nothing; count];
    let mut never: Vec<(usize, usize)> = Vec::new();
    for index in order.into_iter().map(NodeIndex::index) {
        let mut own = before[index].clone();
        for dependency in &spec.jobs[index].depends_on {
            let Some(on) = places.get(dependency.job.as_str()).copied() else { continue };
            // The other job may have been skipped, and then how the jobs before it ended is not
            // known.
            if dependency.phases.contains(&JobPhase::Skipped) {
                continue;
            }
            own.succeeded.add(&before[on].succeeded);
            own.failed.add(&before[on].failed);
            let succeeds = |phase: &JobPhase| *phase == JobPhase::Succeeded;
            if dependency.phases.iter().all(succeeds) {
                own.succeeded.set(on);
            } else if !dependency.phases.iter().any(succeeds) {
                own.failed.set(on);
            }
        }
        if let Some(both) = own.succeeded.first_common(&own.failed) {
            never.push((index, both));
            // The jobs that depend on this one would have the same violation. Report it once.
            own = Before { succeeded: Bits::none(count), failed: Bits::none(count) };
        }
        before[index] = own;
    }
    never.sort_unstable();
    for (index, both) in never {
        let name = &spec.jobs[both].name;
        let why = format!(
            "the job waits for job {name} both to succeed and to fail, at once or through others"
        );
        let violation = Violation::new(format!("spec.jobs[{index}].dependsOn"), why);
        found.push(violation.hint("this job would never run"));
    }
}

/// Reports jobs that are to run near the tasks of a job that waits for them.
fn near_what_follows(
    spec: &WorkflowSpec,
    order: &[NodeIndex],
    places: &BTreeMap<&str, usize>,
    found: &mut Vec<Violation>,
) {
    let mut above = vec![Bits::none(spec.jobs.len()); spec.jobs.len()];
    for index in order.iter().map(|node| node.index()) {
        let mut own = above[index].clone();
        for dependency in &spec.jobs[index].depends_on {
            if let Some(on) = places.get(dependency.job.as_str()).copied() {
                own.add(&above[on]);
                own.set(on);
            }
        }
        above[index] = own;
    }
    for (index, job) in spec.jobs.iter().enumerate() {
        let near = job.placement.iter().flat_map(|placement| placement.get("near"));
        let near = near.filter_map(serde_json::Value::as_array).flatten();
        for (place, near) in near.enumerate() {
            let other = near.get("job").and_then(serde_json::Value::as_str);
            let Some(on) = other.and_then(|other| places.get(other).copied()) else { continue };
            if above[on].has(index) {
                let at = format!("spec.jobs[{index}].placement.near[{place}].job");
                let why = format!(
                    "job {} waits for this one: none of its tasks has run then",
                    spec.jobs[on].name
                );
                found.push(Violation::new(at, why));
            }
        }
    }
}
