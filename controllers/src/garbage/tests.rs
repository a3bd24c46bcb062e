//! What garbage collection removes.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

use api::batch::{Group, Op};
use api::job::JobSpec;
use api::object::Kind as _;
use api::task::transition::{Step, TaskChange, apply};
use api::task::{StopReason, TaskSpec};
use api::{CompletionChunk, Job, KindId, ObjectMeta, Task, TaskTemplate, Time, Timestamp, labels};
use serde_json::json;

use super::plan::{Dependent, Object, Patch, View, old_events, outdated, plan};
use crate::job::plan::template_name;

fn job() -> Job {
    let mut job = Job::new("default", "j", JobSpec::default());
    job.metadata.uid = Some("job-uid".to_owned());
    job
}

fn task(name: &str) -> Task {
    let spec = TaskSpec { run: 1, attempt: 1, ..TaskSpec::default() };
    let mut task = Task::new("default", name, spec).with_controller(job().as_controller());
    task.metadata.uid = Some(name.to_owned());
    task
}

fn changed(task: &Task, change: &TaskChange) -> Task {
    match apply(task, task.spec.attempt, change, Timestamp::UNIX_EPOCH).unwrap() {
        Step::Changed(task) => *task,
        Step::Already => panic!("nothing changed"),
    }
}

fn bound(name: &str) -> Task {
    changed(&task(name), &TaskChange::Bind { node: "n1".to_owned() })
}

fn ops(groups: &[Group]) -> Vec<String> {
    let words = groups.iter().flat_map(|group| &group.ops).map(|op| match op {
        Op::Remove { key, .. } => format!("remove {}", key.name),
        Op::Delete { kind, key, .. } => format!("delete {kind}/{}", key.name),
        Op::Task { key, change: TaskChange::Evict { reason }, .. } => {
            format!("evict {} {reason}", key.name)
        }
        other => format!("{other:?}"),
    });
    words.collect()
}

fn deleting(finalizer: &str) -> ObjectMeta {
    let mut meta = job().metadata;
    meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    meta.finalizers = Some(vec![finalizer.to_owned(), "other".to_owned()]);
    meta
}

#[test]
fn dependents_of_a_gone_owner_go_and_tasks_on_a_node_are_stopped_first() {
    let (waits, runs) = (task("waits"), bound("runs"));
    let stops = changed(&bound("stops"), &TaskChange::Evict { reason: StopReason::Drain });
    let lost = changed(&bound("lost"), &TaskChange::Lose);
    let replaceable =
        changed(&changed(&bound("replaceable"), &TaskChange::Lose), &TaskChange::Replaceable);
    let chunk = CompletionChunk::empty("job-uid", 1, 0);
    let tasks = [&waits, &runs, &stops, &lost, &replaceable];
    let mut dependents: Vec<Dependent<'_>> = tasks.into_iter().map(Dependent::Task).collect();
    dependents.push(Dependent::Other(Object { kind: KindId::CompletionChunk, meta: chunk.meta() }));
    let view = View { owner: None, uid: "job-uid", dependents: &dependents };
    assert_eq!(
        ops(&plan(&view).groups),
        [
            "remove waits",
            "evict runs Delete",
            "evict lost Delete",
            "remove replaceable",
            "delete done/1.0"
        ]
    );
}

#[test]
fn dependents_of_a_living_owner_stay() {
    let (job, task) = (job(), task("t"));
    let owner = Object { kind: KindId::Job, meta: job.meta() };
    let view = View { owner: Some(owner), uid: "job-uid", dependents: &[Dependent::Task(&task)] };
    let plan = plan(&view);
    assert!(plan.groups.is_empty() && plan.patches.is_empty());
}

#[test]
fn an_owner_that_waits_for_its_dependents_goes_after_them() {
    let (meta, task) = (deleting(labels::FINALIZER_FOREGROUND), task("t"));
    let owner = Some(Object { kind: KindId::Job, meta: &meta });
    let some = plan(&View { owner, uid: "job-uid", dependents: &[Dependent::Task(&task)] });
    assert_eq!(ops(&some.groups), ["remove t"]);
    assert!(some.patches.is_empty());
    let none = plan(&View { owner, uid: "job-uid", dependents: &[] });
    assert_eq!(none.patches[0].body["metadata"]["finalizers"], json!(["other"]));
}

#[test]
fn an_owner_that_leaves_its_dependents_goes_after_they_are_cut_loose() {
    let (meta, task) = (deleting(labels::FINALIZER_ORPHAN), task("t"));
    let owner = Some(Object { kind: KindId::Job, meta: &meta });
    let some = plan(&View { owner, uid: "job-uid", dependents: &[Dependent::Task(&task)] });
    let Patch { key, body, .. } = &some.patches[0];
    assert_eq!((key.name.as_str(), &body["metadata"]["ownerReferences"]), ("t", &json!([])));
    assert!(some.groups.is_empty() && some.patches.len() == 1);
    let none = plan(&View { owner, uid: "job-uid", dependents: &[] });
    assert_eq!(none.patches[0].body["metadata"]["finalizers"], json!(["other"]));
}

#[test]
fn a_job_keeps_its_current_template_those_in_use_and_records_of_runs_with_tasks() {
    let mut job = job();
    job.status.run = 3;
    let mut user = task("t");
    user.spec.template = "used".to_owned();
    user.spec.run = 2;
    let template = |name: &str| TaskTemplate::new("default", name, Default::default());
    let (current, used, old) = (template(&template_name(&job)), template("used"), template("old"));
    let chunks: Vec<CompletionChunk> =
        (1..=3).map(|run| CompletionChunk::empty("job-uid", run, 0)).collect();
    let chunks: Vec<&CompletionChunk> = chunks.iter().collect();
    let groups = outdated(&job, &[&user], &[&current, &used, &old], &chunks);
    assert_eq!(ops(&groups), ["delete tasktemplates/old", "delete done/1.0"]);
}

#[test]
fn events_go_after_an_hour() {
    let event = |name: &str, at: i64| api::core::Event {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        last_timestamp: Some(Time(Timestamp::from_second(at).unwrap())),
        ..api::core::Event::default()
    };
    let (old, young) = (event("old", 0), event("young", 10));
    let (groups, next) = old_events(&[&young, &old], Timestamp::from_second(3600).unwrap());
    assert_eq!(ops(&groups), ["delete events/old"]);
    assert_eq!(next, Some(Timestamp::from_second(3610).unwrap()));
}
