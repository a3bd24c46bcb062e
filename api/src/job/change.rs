//! What a change of a job does to its run.
//!
//! One table for all who must agree on it: the apiserver refuses by it, the job controller acts by it,
//! and `hctl apply` tells what comes of it. `docs/job.md` shows it to people.
//!
//! | what changed | `Rerun` | `Ignore` | `Reject` |
//! |---|---|---|---|
//! | `template`, `target` | another run | tasks that exist stay as they are | refused |
//! | one of `count`, `tasks`, `items`, `target` in place of another | another run | refused once there is a run | refused |
//! | `template` of a listed task | that task runs again; another run where the run takes in no tasks | it stays as it is | refused |
//! | `count`, entries of `tasks` and `items` | tasks are added and stopped in the run | the same | the same |
//! | all else | in place | in place | in place |
//!
//! # Invariants
//!
//! * A run never takes tasks of one kind of list for those of another.
//! * Nothing is compared before the generation has moved: an upgrade runs nothing anew.

use std::collections::{BTreeMap, BTreeSet};

use super::indexes::{changed_tasks, part};
use super::{Job, JobSpec, JobStatus, ListedTask, OnChange, is_revision, revision};
use crate::object::Kind as _;
use crate::table::some_of;
use crate::violation::Violation;

/// The current run of a job, or the one that begins now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Number of the run, from 1.
    pub number: u32,
    /// The revision that it runs.
    pub revision: String,
    /// Whether it begins now: the job's status does not have it yet.
    pub opens: bool,
}

impl Run {
    /// The run of a job.
    pub fn of(job: &Job) -> Self {
        let is_changed = job.generation() > job.status.observed_generation;
        Self::of_parts(&job.spec, &job.status, is_changed)
    }

    /// The run of a job with this spec whose status is `status`. `is_changed` says whether the spec
    /// means something else than when the controller last wrote that status.
    fn of_parts(spec: &JobSpec, status: &JobStatus, is_changed: bool) -> Self {
        // Cannot saturate: the apiserver keeps stored numbers far below the maximum
        // (`crate::object::NUMBER_MAX`).
        let number = status.run.saturating_add(1);
        let opened = || Self { number, revision: revision(spec), opens: true };
        let same = |revision| Self { number: status.run, revision, opens: false };
        if status.run == 0 || is_of_another_list(spec, status) {
            return opened();
        }
        let now = revision(spec);
        let reruns = spec.on_change() == OnChange::Rerun && is_changed;
        if now == status.revision || is_revision(spec, &status.revision) {
            let misses =
                reruns && status.ending.is_some() && !changed_tasks(spec, status).is_empty();
            // An earlier version may have stored a hash of the text. From now on the hash of the
            // meaning is stored.
            return if misses { opened() } else { same(now) };
        }
        match spec.on_change() {
            OnChange::Rerun if is_changed => opened(),
            // The spec was written in other words, and the generation counts only changes of the
            // meaning.
            OnChange::Rerun => same(now),
            OnChange::Ignore | OnChange::Reject => same(status.revision.clone()),
        }
    }
}

/// Whether the run's tasks come from another kind of list than the spec's. Such a change is refused
/// where it would not begin another run, unless `onChange` itself was changed before the run began.
fn is_of_another_list(spec: &JobSpec, status: &JobStatus) -> bool {
    !status.tasks_from.is_empty() && status.tasks_from != tasks_from(spec)
}

/// What a job's tasks come from: `count`, `tasks`, `items`, or `target` with the name of its set.
pub fn tasks_from(spec: &JobSpec) -> String {
    match &spec.target {
        Some(target) => format!("target {}", target.partition_set),
        None if spec.items.is_some() => "items".to_owned(),
        None if spec.tasks.is_empty() => "count".to_owned(),
        None => "tasks".to_owned(),
    }
}

/// Listed tasks that both specs have, with different templates.
fn differing<'a>(new: &'a JobSpec, old: &JobSpec) -> Vec<(usize, &'a str)> {
    let before: BTreeMap<&str, &ListedTask> =
        old.tasks.iter().map(|task| (task.name.as_str(), task)).collect();
    let differs = |task: &ListedTask| {
        let before = before.get(task.name.as_str());
        before.is_some_and(|it| it.template != task.template && part(it) != part(task))
    };
    let tasks = new.tasks.iter().enumerate().filter(|(_, task)| differs(task));
    tasks.map(|(index, task)| (index, task.name.as_str())).collect()
}

/// Whether the change from `old` to `new` begins another run than the one that exists or that `old`
/// already asked for.
pub(super) fn opens_run(new: &Job, old: &Job) -> bool {
    if new.spec.on_change() != OnChange::Rerun {
        return false;
    }
    // With onChange: Ignore the template may have changed earlier. That change begins a run only
    // now.
    let was_held_back = old.spec.on_change() != OnChange::Rerun
        && old.status.run > 0
        && !is_revision(&new.spec, &old.status.revision);
    let has_ended = old.status.ending.is_some();
    was_held_back
        || revision(&new.spec) != revision(&old.spec)
        || (has_ended && !differing(&new.spec, &old.spec).is_empty())
}

/// Whether the run of `new` takes nothing over from the status of `old`.
pub(super) fn run_begins_anew(new: &Job, old: &Job) -> bool {
    Run::of_parts(&new.spec, &old.status, true).opens
}

/// The violations of a change that the job's `onChange` does not allow.
pub(super) fn refused(new: &Job, old: &Job) -> Vec<Violation> {
    let (from, to) = (tasks_from(&old.spec), tasks_from(&new.spec));
    match old.spec.on_change() {
        OnChange::Rerun if new.spec.on_change() == OnChange::Rerun => Vec::new(),
        // `onChange` itself changes to this value, so what is changed with it is ignored or refused
        // already.
        OnChange::Rerun | OnChange::Ignore => {
            let is_kept = new.spec.on_change() != OnChange::Rerun && old.status.run > 0;
            let why = format!(
                "{} cannot replace {} because onChange is {:?}: run {} has its tasks",
                list_words(&to),
                list_words(&from),
                new.spec.on_change(),
                old.status.run
            );
            let violation = Violation::new(format!("spec.{}", field_of(&to)), why);
            let hint = "create a job with another name, or set onChange: Rerun";
            (is_kept && from != to).then(|| violation.hint(hint)).into_iter().collect()
        }
        OnChange::Reject => rejected(new, old, (&from, &to)),
    }
}

fn rejected(new: &Job, old: &Job, (from, to): (&str, &str)) -> Vec<Violation> {
    let hint = "create a job with another name, or set onChange: Rerun first";
    let mut found = Vec::new();
    let mut reject = |field: String, what: &str| {
        let why = format!("{what} because onChange is Reject");
        found.push(Violation::new(format!("spec.{field}"), why).hint(hint));
    };
    if !revision::same_template(new, old) {
        reject("template".to_owned(), "cannot be changed");
    }
    if new.spec.target != old.spec.target {
        reject("target".to_owned(), "cannot be changed");
    } else if from != to {
        let what = format!("cannot replace {}", list_words(from));
        reject(field_of(to).to_owned(), &what);
    }
    for (index, _) in differing(&new.spec, &old.spec) {
        reject(format!("tasks[{index}].template"), "cannot be changed");
    }
    found
}

fn field_of(tasks_from: &str) -> &str {
    tasks_from.split(' ').next().unwrap_or_default()
}

fn list_words(tasks_from: &str) -> String {
    match tasks_from.split_once(' ') {
        Some((_, set)) => format!("partition set {set}"),
        None => tasks_from.to_owned(),
    }
}

/// The sentence that listed tasks run again in their run because their template has changed: `task
/// us runs again with its changed template; 1 running task is stopped`.
pub fn run_again<'a>(names: impl IntoIterator<Item = &'a str>, running: usize) -> String {
    const NAMED_MAX: usize = 3;
    let names: Vec<&str> = names.into_iter().collect();
    let named = some_of(names.iter(), NAMED_MAX);
    let stopped = stopped(running);
    match names.len() {
        1 => format!("task {named} runs again with its changed template{stopped}"),
        _ => format!("tasks {named} run again with their changed templates{stopped}"),
    }
}

/// How many running tasks are stopped, as the end of a sentence.
pub(super) fn stopped(running: usize) -> String {
    match running {
        0 => String::new(),
        1 => "; 1 running task is stopped".to_owned(),
        running => format!("; {running} running tasks are stopped"),
    }
}

/// What a change does to the current run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consequence {
    /// The run continues, with or without changes in place.
    InPlace,
    /// Another run begins; the text says so.
    Opens(String),
    /// The listed tasks of these names run again in the same run.
    RunAgain(Vec<String>),
    /// Existing tasks ignore the change; the text says so.
    Ignored(String),
    /// Tasks were added to a run that accepts none any more; the text says so.
    TooLate(String),
}

/// What the change from `before` to `after` does to the run of `before`.
pub fn consequence(before: &Job, after: &Job) -> Consequence {
    let status = &before.status;
    if status.run == 0 || before.generation() == after.generation() {
        return Consequence::InPlace;
    }
    let run = Run::of_parts(&after.spec, status, true);
    if run.opens {
        return Consequence::Opens(if status.phase.is_final() {
            format!("run {} starts", run.number)
        } else {
            status.replaced_by(run.number)
        });
    }
    let reruns = after.spec.on_change() == OnChange::Rerun;
    let is_other = revision(&before.spec) != revision(&after.spec)
        || !differing(&after.spec, &before.spec).is_empty();
    if !reruns && is_other {
        return Consequence::Ignored(format!(
            "run {} stays as it is; only tasks that are added use the change (onChange: {:?})",
            status.run,
            after.spec.on_change()
        ));
    }
    if let Some(phase) = status.ending.filter(|_| adds_tasks(before, after)) {
        return Consequence::TooLate(format!(
            "run {} accepts no more tasks ({phase}); run the job again with hctl rerun job/{}",
            status.run,
            after.name()
        ));
    }
    let again = changed_tasks(&after.spec, status);
    if again.is_empty() || !reruns {
        return Consequence::InPlace;
    }
    Consequence::RunAgain(again.into_iter().map(str::to_owned).collect())
}

/// Whether the job gets tasks that it did not have.
fn adds_tasks(before: &Job, after: &Job) -> bool {
    let keys = |spec: &JobSpec| super::indexes::keys(spec).map(BTreeSet::from_iter);
    match (keys(&before.spec), keys(&after.spec)) {
        (Some(before), Some(after)) => !after.is_subset(&before),
        _ => after.spec.count() > before.spec.count(),
    }
}

#[cfg(test)]
mod tests;
