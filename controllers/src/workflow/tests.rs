//! What a workflow's plan does.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

use std::collections::BTreeSet;

use api::conditions::{Standing, conditions};
use api::object::Kind as _;
use api::resource::Resource as _;
use api::workflow::{
    History, WorkflowJob, WorkflowSpec, WorkflowTemplate, revision, written_revision,
};
use api::workflow_run::{RunPhase, WorkflowRunSpec, WorkflowRunStatus};
use api::{Time, Timestamp, Workflow, WorkflowRun, labels};
use serde_json::json;

use super::plan::{View, is_at_rest, plan};
use crate::action::{Action, New, Status};

fn workflow() -> Workflow {
    let job = WorkflowJob { name: "a".to_owned(), ..WorkflowJob::default() };
    let spec = WorkflowSpec { jobs: vec![job], ..WorkflowSpec::default() };
    let mut workflow = Workflow::new("default", "w", spec);
    workflow.metadata.uid = Some("w-uid".to_owned());
    workflow.metadata.generation = Some(1);
    workflow
}

/// A person's change, which the apiserver counts.
fn edit(workflow: &mut Workflow, change: impl FnOnce(&mut WorkflowSpec)) {
    change(&mut workflow.spec);
    workflow.metadata.generation = Some(workflow.generation() + 1);
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Plans and acts once; what it did, and the plan after it must be empty.
fn settle(workflow: &mut Workflow, runs: &mut Vec<WorkflowRun>, taken: &[&str]) -> Vec<String> {
    let taken: BTreeSet<String> = taken.iter().map(|name| (*name).to_owned()).collect();
    let look = |workflow: &Workflow, runs: &[WorkflowRun]| {
        let runs: Vec<&WorkflowRun> = runs.iter().collect();
        plan(&View { workflow, runs: &runs, taken: &taken, now: second(1000) })
    };
    let mut done = Vec::new();
    for group in look(workflow, runs).groups {
        for action in group.actions {
            match action {
                Action::Status(Status::Workflow(next)) => workflow.status = next.status,
                Action::Create(New::WorkflowRun(run)) => {
                    let mut run = *run;
                    run.metadata.creation_timestamp = Some(Time(second(1000)));
                    done.push(format!("create {}", run.name()));
                    runs.push(run);
                }
                Action::Delete { object: of, .. } => {
                    done.push(format!("delete {}", of.key.name));
                    runs.retain(|run| run.name() != of.key.name);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(look(workflow, runs).groups, [], "a fixpoint");
    done
}

#[test]
fn each_revision_is_run_once() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-1"]);
    assert_eq!(workflow.status.phase, Some(RunPhase::Pending));
    runs[0].status.phase = RunPhase::Succeeded;
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!(workflow.status.phase, Some(RunPhase::Succeeded));
    // What runs do not execute is no new revision.
    edit(&mut workflow, |spec| spec.history = Some(History::default()));
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    edit(&mut workflow, |spec| spec.jobs[0].count = Some(2));
    assert_eq!(settle(&mut workflow, &mut runs, &["w-2"]), ["create w-3"]);
    assert_eq!(workflow.status.active, 1);
}

#[test]
fn a_workflow_is_at_rest_while_none_of_its_runs_goes_on() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    let is_at_rest = |workflow: &Workflow, runs: &[WorkflowRun]| {
        let runs: Vec<&WorkflowRun> = runs.iter().collect();
        let view = View { workflow, runs: &runs, taken: &BTreeSet::new(), now: second(1000) };
        is_at_rest(&view, &plan(&view))
    };
    assert!(!is_at_rest(&workflow, &runs), "its first run is to be made");
    settle(&mut workflow, &mut runs, &[]);
    assert!(!is_at_rest(&workflow, &runs), "it goes on");
    runs[0].status.phase = RunPhase::Succeeded;
    assert!(!is_at_rest(&workflow, &runs), "the status does not say so yet");
    settle(&mut workflow, &mut runs, &[]);
    assert!(is_at_rest(&workflow, &runs));
    edit(&mut workflow, |spec| spec.jobs[0].count = Some(2));
    assert!(!is_at_rest(&workflow, &runs));
}

#[test]
fn without_run_on_apply_or_while_suspended_nothing_runs() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    edit(&mut workflow, |spec| spec.suspend = Some(true));
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    edit(&mut workflow, |spec| spec.run_on_apply = Some(false));
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!(workflow.status.phase, None);
    assert_eq!(workflow.status.revision, revision(&workflow.spec));
}

#[test]
fn a_revision_that_came_while_suspended_is_run_on_resume() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    edit(&mut workflow, |spec| spec.suspend = Some(true));
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    edit(&mut workflow, |spec| spec.suspend = Some(false));
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-1"]);
}

#[test]
fn a_revision_that_is_held_back_does_not_stand_as_the_one_before() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    settle(&mut workflow, &mut runs, &[]);
    runs[0].status.phase = RunPhase::Succeeded;
    settle(&mut workflow, &mut runs, &[]);
    edit(&mut workflow, |spec| {
        spec.suspend = Some(true);
        spec.jobs[0].count = Some(2);
    });
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!((workflow.status.phase, workflow.status.last_run.as_deref()), (None, None));
    edit(&mut workflow, |spec| spec.suspend = None);
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-2"]);
    assert_eq!(workflow.status.last_run.as_deref(), Some("w-2"));
}

/// It ran before another revision came: that says nothing of what is to run now.
#[test]
fn a_revision_that_is_held_back_does_not_stand_as_it_ended_once() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    settle(&mut workflow, &mut runs, &[]);
    end(&mut runs[0], &workflow, 900);
    edit(&mut workflow, |spec| spec.jobs[0].count = Some(2));
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-2"]);
    end(&mut runs[1], &workflow, 901);
    settle(&mut workflow, &mut runs, &[]);
    edit(&mut workflow, |spec| {
        spec.suspend = Some(true);
        spec.jobs[0].count = None;
    });
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!((workflow.status.phase, workflow.status.last_run.as_deref()), (None, None));
    // A person runs it meanwhile.
    let mut by_hand = runs[0].clone();
    by_hand.metadata.name = Some("by-hand".to_owned());
    by_hand.metadata.creation_timestamp = Some(Time(second(902)));
    runs.push(by_hand);
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(workflow.status.last_run.as_deref(), Some("by-hand"));
    edit(&mut workflow, |spec| spec.suspend = None);
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-3"]);
}

/// What `apply --wait` waits for: the server's word, whatever anybody runs meanwhile.
#[test]
fn a_workflow_says_which_run_it_started_for_its_revision() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    let deployed = |workflow: &Workflow| workflow.status.deployed_run.clone().unwrap_or_default();
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(deployed(&workflow), "w-1");
    let generation =
        |run: &WorkflowRun| run.metadata.annotations.clone().unwrap()[labels::GENERATION].clone();
    assert_eq!(generation(&runs[0]), "1");
    end(&mut runs[0], &workflow, 1000);
    let spec = WorkflowRunSpec { workflow: "w".to_owned(), ..WorkflowRunSpec::default() };
    runs.push(WorkflowRun::new("default", "by-hand", spec));
    end(&mut runs[1], &workflow, 2000);
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(
        (deployed(&workflow), workflow.status.last_run.as_deref()),
        ("w-1".to_owned(), Some("by-hand"))
    );
    // A version before made the same revision of other words, and said nothing.
    let now = workflow.status.revision.clone();
    workflow.status.revision = written_revision(&workflow.spec);
    workflow.status.deployed_run = None;
    runs[0] = runs[0].clone().with_labels([(labels::REVISION, &*workflow.status.revision)]);
    for _ in 0..2 {
        settle(&mut workflow, &mut runs, &[]);
        assert_eq!((deployed(&workflow), &workflow.status.revision), ("w-1".to_owned(), &now));
    }
    edit(&mut workflow, |spec| {
        spec.timeout = Some("1h".parse().unwrap());
        spec.suspend = Some(true);
    });
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(deployed(&workflow), "", "the revision is held back");
    edit(&mut workflow, |spec| spec.suspend = None);
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-2"]);
    assert_eq!((deployed(&workflow), generation(&runs[2])), ("w-2".to_owned(), "3".to_owned()));
    runs.truncate(2);
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(deployed(&workflow), "", "it is gone");
    edit(&mut workflow, |spec| {
        spec.timeout = Some("2h".parse().unwrap());
        spec.run_on_apply = Some(false);
    });
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(deployed(&workflow), "", "w-1 is of another revision");
}

/// The run succeeds, as one of the revision that the workflow has now.
fn end(run: &mut WorkflowRun, workflow: &Workflow, made: i64) {
    run.status.revision = revision(&workflow.spec);
    run.status.phase = RunPhase::Succeeded;
    run.metadata.creation_timestamp = Some(Time(second(made)));
}

fn ready(workflow: &Workflow) -> String {
    let ready = workflow.status.conditions.iter().find(|it| it.kind == "Ready").unwrap();
    format!("{} {}: {}", ready.status, ready.reason, ready.message)
}

#[test]
fn a_workflow_without_a_run_says_why_there_is_none() {
    let (mut by_hand, mut runs) = (workflow(), Vec::new());
    by_hand.spec.run_on_apply = Some(false);
    assert!(settle(&mut by_hand, &mut runs, &[]).is_empty());
    assert_eq!(ready(&by_hand), "True NoRun: runOnApply is false: no run starts by itself");
    let why = by_hand.row(second(1000)).pop().unwrap();
    assert_eq!(why, "runOnApply is false: no run starts by itself");
    let mut gone = workflow();
    assert_eq!(settle(&mut gone, &mut runs, &[]), ["create w-1"]);
    runs.clear();
    assert!(settle(&mut gone, &mut runs, &[]).is_empty());
    let said = "True NoRun: there is no run of this revision, and none starts by itself";
    assert_eq!(ready(&gone), said);
}

#[test]
fn a_workflow_that_is_suspended_from_birth_says_so() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    workflow.spec.suspend = Some(true);
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    let said = "False Suspended: suspended: no run starts until the workflow is resumed";
    assert_eq!(ready(&workflow), said);
    // A person may run it all the same, and sees that run.
    let spec = WorkflowRunSpec { workflow: "w".to_owned(), ..WorkflowRunSpec::default() };
    runs.push(WorkflowRun::new("default", "by-hand", spec));
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!(workflow.status.last_run.as_deref(), Some("by-hand"));
    runs[0].status.revision = revision(&workflow.spec);
    runs[0].status.phase = RunPhase::Succeeded;
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!(workflow.status.phase, Some(RunPhase::Succeeded));
    assert_eq!(ready(&workflow), "True Succeeded: run by-hand");
    edit(&mut workflow, |spec| spec.suspend = None);
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-1"]);
}

/// Its row shows what is Stalled.
#[test]
fn a_workflow_whose_run_waits_for_somebody_says_so() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    settle(&mut workflow, &mut runs, &[]);
    let why = "load: PartitionSet shards does not exist";
    runs[0].status.phase = RunPhase::Running;
    runs[0].status.message = Some(why.to_owned());
    let at = (1, Timestamp::UNIX_EPOCH);
    runs[0].status.conditions = conditions(&[], Standing::Stalled, "TargetMissing", why, at);
    settle(&mut workflow, &mut runs, &[]);
    let row = |workflow: &Workflow| workflow.row(Timestamp::UNIX_EPOCH).pop().unwrap();
    assert_eq!(row(&workflow), format!("run w-1: {why}"));
    runs[0].status.message = None;
    runs[0].status.conditions = conditions(&[], Standing::Reconciling, "Running", "", at);
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(row(&workflow), "");
}

#[test]
fn a_revision_that_is_held_back_is_so_while_a_run_before_it_goes_on() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    settle(&mut workflow, &mut runs, &[]);
    runs[0].status.phase = RunPhase::Running;
    runs[0].status.revision = revision(&workflow.spec);
    settle(&mut workflow, &mut runs, &[]);
    edit(&mut workflow, |spec| {
        spec.suspend = Some(true);
        spec.jobs[0].count = Some(2);
    });
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!((workflow.status.phase, workflow.status.active), (None, 1));
}

#[test]
fn history_takes_the_oldest_runs_that_heliox_made() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    let history = History { succeeded: Some(1), failed: Some(0) };
    edit(&mut workflow, |spec| spec.history = Some(history));
    let run = |number: i64, phase, ours: bool| {
        let spec = WorkflowRunSpec { workflow: "w".to_owned(), ..WorkflowRunSpec::default() };
        let mut run = WorkflowRun::new("default", &format!("old-{number}"), spec);
        run.status.phase = phase;
        run.status.finished_at = Some(second(number));
        if ours { run.with_controller(workflow.as_controller()) } else { run }
    };
    runs.push(run(1, RunPhase::Succeeded, false));
    runs.push(run(2, RunPhase::Succeeded, true));
    runs.push(run(3, RunPhase::Succeeded, true));
    runs.push(run(4, RunPhase::Failed, true));
    runs.push(run(5, RunPhase::Running, true));
    assert_eq!(
        settle(&mut workflow, &mut runs, &[]),
        ["create w-1", "delete old-2", "delete old-4"]
    );
    // The run that the workflow's phase is of stays, although no failed one is kept.
    runs.last_mut().unwrap().status.phase = RunPhase::Failed;
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
}

/// The next apply of the same is judged by it: without it, what is broken would look fine.
#[test]
fn history_leaves_the_run_that_a_revision_started_and_counts_the_newest_ones() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    let history = History { succeeded: Some(1), failed: Some(1) };
    edit(&mut workflow, |spec| spec.history = Some(history));
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-1"]);
    runs[0].status.phase = RunPhase::Failed;
    let by_hand = |number: i64, phase| {
        let mut run = runs[0].clone();
        run.metadata.name = Some(format!("w-{number}"));
        run.metadata.uid = Some(format!("w-{number}"));
        run.metadata.creation_timestamp = Some(Time(second(1000 + number)));
        run.metadata.labels.as_mut().unwrap().remove(labels::REVISION);
        run.status.revision = revision(&workflow.spec);
        run.status.phase = phase;
        run.status.finished_at = Some(second(1000 + number));
        run
    };
    let others = [(2, RunPhase::Failed), (3, RunPhase::Failed), (4, RunPhase::Succeeded)];
    let others: Vec<_> = others.into_iter().map(|(number, phase)| by_hand(number, phase)).collect();
    let newest = by_hand(5, RunPhase::Succeeded);
    runs.extend(others);
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["delete w-2"]);
    runs.push(newest);
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["delete w-4"], "one of them is kept");
}

#[test]
fn a_workflow_stands_as_its_newest_run_whoever_started_it() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    settle(&mut workflow, &mut runs, &[]);
    runs[0].status.phase = RunPhase::Succeeded;
    let by_hand = |name: &str, made: i64, phase| {
        let mut run = runs[0].clone();
        run.metadata.name = Some(name.to_owned());
        run.metadata.creation_timestamp = Some(Time(second(made)));
        run.status.phase = phase;
        run
    };
    let earlier = by_hand("w-0", 900, RunPhase::Running);
    let (ninth, tenth) =
        (by_hand("w-9", 1001, RunPhase::Succeeded), by_hand("w-10", 1001, RunPhase::Failed));
    runs.push(earlier);
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(workflow.status.last_run.as_deref(), Some("w-1"));
    runs.extend([tenth, ninth]);
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(workflow.status.last_run.as_deref(), Some("w-10"));
    assert_eq!(workflow.status.phase, Some(RunPhase::Failed));
    // One that ended before it began tells nothing of the revision.
    let mut never = runs[0].clone();
    never.metadata.name = Some("w-12".to_owned());
    never.metadata.labels = None;
    never.metadata.creation_timestamp = Some(Time(second(1003)));
    never.status = WorkflowRunStatus { phase: RunPhase::Failed, ..WorkflowRunStatus::default() };
    runs.push(never);
    // Of another revision, although it is newer.
    let mut other = runs[0].clone();
    other.metadata.name = Some("w-11".to_owned());
    other.metadata.labels = None;
    other.metadata.creation_timestamp = Some(Time(second(1002)));
    other.status.revision = "another".to_owned();
    runs.push(other);
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(workflow.status.last_run.as_deref(), Some("w-10"));
}

fn with_cpu(cpu: &str) -> WorkflowTemplate {
    let template = json!({ "image": "x", "resources": { "limits": { "cpu": cpu } } });
    serde_json::from_value(template).unwrap()
}

/// The revision that a version before made of what was written.
fn written(spec: &WorkflowSpec) -> String {
    let written = (&spec.params, &spec.defaults, &spec.jobs, &spec.max_failed_jobs, &spec.timeout);
    api::names::hash(&serde_json::to_vec(&written).unwrap())
}

/// The apiserver does not count other words for the same, and a revision is of what is meant.
#[test]
fn other_words_for_the_same_run_nothing() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    workflow.spec.jobs[0].template = with_cpu("1");
    settle(&mut workflow, &mut runs, &[]);
    let reworded = json!({ "resources": { "limits": { "cpu": "1000m" } }, "image": "x" });
    workflow.spec.jobs[0].template = serde_json::from_value(reworded).unwrap();
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    edit(&mut workflow, |spec| spec.history = Some(History::default()));
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    edit(&mut workflow, |spec| spec.jobs[0].count = Some(2));
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-2"]);
}

/// A version before hashed what was written. What it stored is the same revision still, and other
/// words that come later are, too.
#[test]
fn an_upgrade_runs_nothing() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    workflow.spec.jobs[0].template = with_cpu("1000m");
    settle(&mut workflow, &mut runs, &[]);
    let before = written(&workflow.spec);
    assert_ne!(before, revision(&workflow.spec));
    workflow.status.revision.clone_from(&before);
    runs[0].status.revision = before;
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    edit(&mut workflow, |spec| spec.history = Some(History::default()));
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    workflow.spec.jobs[0].template = with_cpu("1");
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    // Which is learnt when no run goes on.
    runs[0].status.phase = RunPhase::Succeeded;
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!(workflow.status.revision, revision(&workflow.spec), "it is known by what is meant");
}

/// A workflow that a version before has run, whose run goes on and has begun if `begun`.
fn upgraded(begun: bool) -> (Workflow, Vec<WorkflowRun>) {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    workflow.spec.jobs[0].template = with_cpu("1000m");
    settle(&mut workflow, &mut runs, &[]);
    workflow.status.revision = written(&workflow.spec);
    assert_ne!(workflow.status.revision, revision(&workflow.spec));
    if begun {
        runs[0].status.revision.clone_from(&workflow.status.revision);
        runs[0].status.workflow = Some(Box::new(workflow.spec.clone()));
        runs[0].status.phase = RunPhase::Running;
    }
    (workflow, runs)
}

/// The stored hash is of words that are gone, but the run has them still.
#[test]
fn other_words_that_come_with_a_counted_change_run_nothing_after_an_upgrade() {
    let (mut workflow, mut runs) = upgraded(true);
    edit(&mut workflow, |spec| {
        spec.jobs[0].template = with_cpu("1");
        spec.history = Some(History::default());
    });
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!(workflow.status.revision, revision(&workflow.spec), "it is known by what is meant");
    edit(&mut workflow, |spec| spec.jobs[0].template = with_cpu("2"));
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-2"], "another meaning");
}

/// What the stored hash is of is there at the first look after the upgrade.
#[test]
fn a_revision_of_words_is_known_by_what_it_means_from_the_first_look_on() {
    let (mut workflow, mut runs) = upgraded(false);
    runs[0].status.phase = RunPhase::Cancelled;
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    edit(&mut workflow, |spec| {
        spec.jobs[0].template = with_cpu("1");
        spec.history = Some(History::default());
    });
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
}

/// The label of the run is a hash that this version no longer makes.
#[test]
fn a_change_that_was_held_back_and_taken_back_after_an_upgrade_leaves_the_run_that_was_started() {
    let (mut workflow, mut runs) = upgraded(true);
    let history = History { succeeded: Some(0), failed: Some(0) };
    workflow.spec.history = Some(history);
    let before = workflow.status.revision.clone();
    runs[0] = runs[0].clone().with_labels([(labels::REVISION, &*before)]);
    runs[0].status.phase = RunPhase::Succeeded;
    settle(&mut workflow, &mut runs, &[]);
    assert_eq!(workflow.status.deployed_run.as_deref(), Some("w-1"));
    edit(&mut workflow, |spec| {
        spec.jobs[0].template = with_cpu("2");
        spec.suspend = Some(true);
    });
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty(), "its history is kept, too");
    assert_eq!(workflow.status.deployed_run, None, "another revision is held back");
    edit(&mut workflow, |spec| {
        spec.jobs[0].template = with_cpu("1000m");
        spec.suspend = None;
    });
    assert!(settle(&mut workflow, &mut runs, &[]).is_empty());
    assert_eq!(workflow.status.deployed_run.as_deref(), Some("w-1"));
}

/// What is written in the usual form has the hash that it had before this version.
#[test]
fn a_usual_revision_is_what_it_was() {
    let mut workflow = workflow();
    workflow.spec.jobs[0].template = with_cpu("2");
    assert_eq!(written(&workflow.spec), revision(&workflow.spec));
}

/// People start runs, too, and what is gone had a number all the same.
#[test]
fn a_run_has_a_number_that_no_run_had_before() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-1"]);
    let by_a_person = |name: &str, number: Option<u32>| {
        let spec = WorkflowRunSpec { workflow: "w".to_owned(), ..WorkflowRunSpec::default() };
        let label = number.map(|number| (labels::RUN_NUMBER, number.to_string()));
        WorkflowRun::new("default", name, spec).with_labels(label)
    };
    runs.push(by_a_person("w-6", Some(6)));
    runs.push(by_a_person("w-20261127", None));
    runs.push(by_a_person("w-forged", Some(u32::MAX)));
    settle(&mut workflow, &mut runs, &[]);
    runs.truncate(1);
    edit(&mut workflow, |spec| spec.jobs[0].name = "b".to_owned());
    assert_eq!(settle(&mut workflow, &mut runs, &[]), ["create w-7"]);
}

/// After the last number there is, names that are free are found from the first one on.
#[test]
fn a_run_is_made_whatever_the_last_number_was() {
    let (mut workflow, mut runs) = (workflow(), Vec::new());
    workflow.status.last_run_number = u32::MAX;
    assert_eq!(settle(&mut workflow, &mut runs, &["w-1"]), ["create w-2"]);
}

/// A namespace may hold thousands of runs of other workflows.
#[tokio::test]
async fn a_look_reads_the_workflows_own_runs_and_no_others() {
    use std::sync::Arc;

    use runtime::{Any, Controller as _};

    let run = |name: String, of: &str| {
        let spec = WorkflowRunSpec { workflow: of.to_owned(), ..WorkflowRunSpec::default() };
        Any::WorkflowRun(Arc::new(WorkflowRun::new("default", &name, spec)))
    };
    let others = (0..1_000).map(|at| run(format!("www-{at}"), "www"));
    let own = [run("w-1".to_owned(), "w"), run("by-hand".to_owned(), "w")];
    let objects = others.chain(own).chain([Any::Workflow(Arc::new(workflow()))]).collect();
    let (tools, _) = crate::obedient::tools(objects, second(1000));
    let controller = super::Controller::new(tools.clone());
    controller.reconcile(&workflow().key()).await.unwrap();
    // Itself, two runs, and of the names that are taken the one that begins like those it makes.
    assert_eq!(tools.metrics.objects_viewed("workflow"), 4);
}
