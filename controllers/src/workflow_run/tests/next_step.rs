//! What is created together with the end of a job.

use std::sync::Arc;

use api::batch::{Batch, BatchResponse, GroupResult};
use api::job::JobPhase;
use api::object::Kind as _;
use api::resource_version::ResourceVersion;
use api::status::Why;
use api::{Job, KindId, Timestamp};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use runtime::{Any, Controller as _};

use super::super::with_next_step;
use super::{World, workflow};
use crate::action::{Action, Group, created};
use crate::job;
use crate::obedient::{tools, tools_at};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A run of these jobs, all of which exist but for those that wait.
fn world(jobs: &[&str]) -> World {
    let mut world = World::new();
    world.workflow = Some(workflow(jobs));
    let plan = world.plan();
    world.act(&plan);
    for job in world.jobs.values_mut() {
        job.metadata.uid = Some(format!("{}-uid", job.name()));
    }
    world
}

fn objects(world: &World) -> Vec<Any> {
    let jobs = world.jobs.values().map(|job| Any::Job(Arc::new(job.clone())));
    jobs.chain([Any::WorkflowRun(Arc::new(world.run.clone()))]).collect()
}

fn ended(world: &World, job: &str, phase: JobPhase) -> Job {
    let mut job = world.jobs[&format!("w-1-{job}")].clone();
    job.status.phase = phase;
    job
}

/// The Jobs that are created together with the success of a job.
fn follow(world: &World, job: &str) -> Vec<String> {
    let tools = tools(objects(world), NOW).0;
    let end = Action::status(ended(world, job, JobPhase::Succeeded));
    let group = with_next_step(&tools, &Group::from(end.clone()));
    let Some(group) = group else { return Vec::new() };
    assert_eq!(group.actions.last(), Some(&end), "the end comes with it, after what follows");
    let jobs = created(std::slice::from_ref(&group), KindId::Job);
    jobs.into_iter().map(str::to_owned).collect()
}

#[test]
fn what_waits_for_one_job_alone_is_created_with_its_end() {
    let world = world(&["a", "b<a", "c<a", "d<b", "e<a:Failed"]);
    assert_eq!(follow(&world, "a"), ["w-1-b", "w-1-c"]);
    let tools = tools(objects(&world), NOW).0;
    let goes_on = Action::status(ended(&world, "a", JobPhase::Running));
    assert_eq!(with_next_step(&tools, &goes_on.into()), None, "it has not ended");
}

/// What follows comes with its first tasks, so that the scheduler need not wait for another write.
#[test]
fn what_follows_has_its_tasks() {
    let world = world(&["a", "b<a"]);
    let tools = tools(objects(&world), NOW).0;
    let end = Action::status(ended(&world, "a", JobPhase::Succeeded)).into();
    let group = with_next_step(&tools, &end).unwrap();
    assert_eq!(created(std::slice::from_ref(&group), KindId::Task), ["w-1-b-0"]);
}

#[test]
fn what_waits_for_others_too_comes_with_the_last_of_them() {
    let mut world = world(&["a", "b", "c<a<b"]);
    assert_eq!(follow(&world, "a"), [""; 0]);
    world.jobs.get_mut("w-1-b").unwrap().status.phase = JobPhase::Succeeded;
    assert_eq!(follow(&world, "a"), ["w-1-c"]);
    // As the run knows it, whose Job is gone.
    let plan = world.plan();
    world.act(&plan);
    world.run.status.jobs[1].phase = JobPhase::Succeeded;
    world.jobs.remove("w-1-b").unwrap();
    assert_eq!(follow(&world, "a"), ["w-1-c"]);
}

/// Then its own controller decides.
#[test]
fn nothing_follows_in_a_run_that_starts_nothing() {
    let mut world = world(&["a", "b<a"]);
    world.run.spec.suspend = true;
    assert_eq!(follow(&world, "a"), [""; 0], "suspended");
    world.run.spec.suspend = false;
    world.run.spec.cancel = true;
    assert_eq!(follow(&world, "a"), [""; 0], "cancelled");
    world.run.spec.cancel = false;
    assert_eq!(follow(&world, "a"), ["w-1-b"]);
    let mut stranger = ended(&world, "a", JobPhase::Running);
    stranger.metadata.owner_references = None;
    stranger.metadata.name = Some("w-1-b".to_owned());
    world.jobs.insert("w-1-b".to_owned(), stranger);
    assert_eq!(follow(&world, "a"), [""; 0], "the name is taken");
}

/// An apiserver that refuses every group with more than these operations.
fn refusing(
    request: &Request<Bytes>,
    ops_max: usize,
    asked: &std::sync::Mutex<Vec<usize>>,
) -> Response<Full<Bytes>> {
    let batch: Batch = serde_json::from_slice(request.body()).unwrap();
    let result = |group: &api::batch::Group| {
        asked.lock().unwrap().push(group.ops.len());
        if group.ops.len() > ops_max {
            GroupResult::refused(Why::Conflict, "it has changed")
        } else {
            GroupResult::Done
        }
    };
    let results = batch.groups.iter().map(result).collect();
    let answer = BatchResponse { resource_version: ResourceVersion::default(), results };
    Response::new(Full::new(Bytes::from(serde_json::to_vec(&answer).unwrap())))
}

/// The end of a job is written whatever becomes of what follows it.
#[tokio::test(start_paused = true)]
async fn an_end_does_not_wait_for_what_follows() {
    let mut world = world(&["a", "b<a:Cancelled"]);
    let a = world.jobs.get_mut("w-1-a").unwrap();
    // Without tasks, its run ends at the next look.
    (a.spec.cancel, a.status.run, a.status.total) = (true, 1, 0);
    a.status.revision = api::job::revision(&a.spec);
    let key = a.key();
    let asked: Arc<std::sync::Mutex<Vec<usize>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let tools =
        tools_at(objects(&world), NOW, move |request: &Request<Bytes>| refusing(request, 1, &seen));
    job::Controller::new(tools).reconcile(&key).await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked[0] > 1, "together with what follows: {asked:?}");
    assert_eq!(asked[1], 1, "and then alone: {asked:?}");
}
