//! A Job that is made with its first tasks.

use std::collections::BTreeMap;

use api::{Job, Task, Timestamp};
use runtime::Any;
use serde_json::{Value, json};

use super::super::plan::first_tasks::{with_first_tasks, without_first_tasks};
use super::super::starts::all_with_first_tasks;
use crate::action::{Action, Group, New};
use crate::job::plan::{View, plan};
use crate::obedient::tools;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn job(spec: Value) -> Job {
    let mut job = json!({
        "metadata": { "name": "w-1-a", "namespace": "default" },
        "spec": { "template": { "image": "x" } },
    });
    spec.as_object().unwrap().iter().for_each(|(field, value)| {
        job["spec"][field] = value.clone();
    });
    serde_json::from_value(job).unwrap()
}

/// The parts of the group that makes a Job.
fn begun(job: &Job) -> Option<(Box<Job>, Vec<Task>, Group)> {
    let group = with_first_tasks(job, NOW)?;
    let [Action::Create(New::Job(begun)), Action::Create(New::TaskTemplate(_)), tasks] =
        &group.actions[..]
    else {
        panic!("{group:?}")
    };
    let Action::CreateTasks(tasks) = tasks else { panic!("{tasks:?}") };
    Some((begun.clone(), tasks.objects().collect(), group.clone()))
}

/// Nothing is left for the job's own controller but to follow the tasks.
#[test]
fn a_job_begins_as_its_own_plan_says() {
    for spec in [
        json!({ "count": 3 }),
        json!({ "count": 3, "parallelism": 3 }),
        json!({ "items": ["p", "q"] }),
        json!({ "tasks": [{ "name": "one" }, { "name": "two" }] }),
    ] {
        let (job, tasks, group) = begun(&job(spec.clone())).unwrap();
        assert_eq!(
            (job.status.run, job.status.pending),
            (1, u32::try_from(tasks.len()).unwrap()),
            "{spec}"
        );
        let Action::Create(New::TaskTemplate(template)) = &group.actions[1] else { panic!() };
        let view = View {
            job: &job,
            chunks: &[],
            tasks: &tasks.iter().collect::<Vec<_>>(),
            template: Some(template),
            taken: &BTreeMap::new(),
            partition_set: None,
            now: NOW,
        };
        let plan = plan(&view);
        assert!(plan.groups.is_empty() && plan.status.is_none(), "{spec}: {plan:#?}");
    }
}

#[test]
fn what_has_to_be_looked_at_first_is_made_alone() {
    let target = json!({ "partitionSet": "s", "states": ["leader"] });
    for spec in [json!({ "suspend": true }), json!({ "target": target })] {
        assert_eq!(with_first_tasks(&job(spec), NOW), None);
    }
}

/// What can never be written together is written as it was: the Job alone, without a status.
#[test]
fn of_what_cannot_be_written_the_job_is_left() {
    let (_, _, group) = begun(&job(json!({ "count": 3 }))).unwrap();
    let left = without_first_tasks(group.actions);
    let [Action::Create(New::Job(left))] = &left[..] else { panic!("{left:?}") };
    assert_eq!(left.status, <_>::default());
}

/// Whoever cancels the run meanwhile does not wait for the tasks of all.
#[test]
fn of_many_jobs_a_few_are_made_with_their_tasks() {
    let plain = |_| Group::from(Action::create(job(json!({ "count": 3 }))));
    let tools = tools(Vec::new(), NOW).0;
    let groups = all_with_first_tasks(&tools, (0..100).map(plain).collect());
    let sizes: Vec<usize> = groups.iter().map(|group| group.actions.len()).collect();
    assert_eq!(sizes, [[3; 10].as_slice(), &[1; 90]].concat());
}

/// The job's own controller says whose the name is, and waits for it.
#[tokio::test]
async fn a_job_is_made_alone_while_a_name_is_not_free() {
    let plain = || Group::from(Action::create(job(json!({ "count": 3 }))));
    let made = |objects: Vec<Any>| {
        let tools = tools(objects, NOW).0;
        all_with_first_tasks(&tools, vec![plain()])[0].actions.len()
    };
    assert_eq!(made(Vec::new()), 3);
    let (_, mut tasks, group) = begun(&job(json!({ "count": 3 }))).unwrap();
    assert_eq!(made(vec![Any::Task(tasks.remove(1).into())]), 1, "of a task");
    let Action::Create(New::TaskTemplate(template)) = group.actions[1].clone() else { panic!() };
    assert_eq!(made(vec![Any::TaskTemplate((*template).into())]), 1, "of the template");
}
