//! What a run's plan does, as scripts.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

mod clean_ups;
mod first_tasks;
mod next_step;
mod sizes;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use api::conditions::{Standing, UNSCHEDULABLE, conditions};
use api::job::JobPhase;
use api::object::Kind as _;
use api::workflow::{Dependency, WorkflowJob, WorkflowSpec};
use api::workflow_run::{WorkflowRunSpec, WorkflowRunStatus};
use api::{Job, Timestamp, Workflow, WorkflowRun};
use expect_test::{Expect, expect};
use jiff::SignedDuration;
use serde_json::json;

use super::plan::{Plan, View, is_at_rest, plan};
use crate::action::{Action, Field, Group, New, Patch, Status};

struct World {
    workflow: Option<Workflow>,
    run: WorkflowRun,
    jobs: BTreeMap<String, Job>,
    taken: BTreeSet<String>,
    unwritable: BTreeMap<String, String>,
    now: Timestamp,
}

/// Runs a script against the run `w-1` of a workflow and compares what its `plan` lines show.
///
/// `workflow FIELD=JSON ... JOB[<DEPENDENCY[:PHASE,...]] ...` writes the workflow, `plan` shows what
/// the plan does and does it, `job NAME PHASE [WHY]` is the job controller (WHY no node takes it),
/// `run FIELD=JSON ...` is a person, `wait SECONDS` lets time pass.
fn check(script: &str, expected: Expect) {
    let mut world = World::new();
    let mut shown = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (verb, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
        match verb {
            "workflow" => world.workflow = Some(workflow(&rest)),
            "run" => set_fields(&mut world.run, &rest),
            "taken" => world.taken.extend([format!("w-1-{}", rest[0])]),
            "unwritable" => {
                let name = format!("w-1-{}", rest[0]);
                world.unwritable.insert(name, rest[1..].join(" "));
            }
            "job" => {
                let job = world.jobs.get_mut(&format!("w-1-{}", rest[0])).unwrap();
                job.status.phase = serde_json::from_value(json!(rest[1])).unwrap();
                job.status.total = 1;
                let succeeded = job.status.phase == JobPhase::Succeeded;
                job.status.succeeded = u32::from(succeeded);
                job.status.pending = u32::from(!succeeded);
                job.status.message = (rest.len() > 2).then(|| rest[2..].join(" "));
                let reason = if rest.len() > 2 { UNSCHEDULABLE } else { "" };
                let at = (1, Timestamp::UNIX_EPOCH);
                job.status.conditions = conditions(&[], Standing::Reconciling, reason, "", at);
            }
            "stalled" => {
                let job = world.jobs.get_mut(&format!("w-1-{}", rest[0])).unwrap();
                job.status.message = Some(rest[1..].join(" "));
                let at = (1, Timestamp::UNIX_EPOCH);
                job.status.conditions = conditions(&[], Standing::Stalled, "TargetMissing", "", at);
            }
            // As a person does it.
            "cancelled" => {
                let job = world.jobs.get_mut(&format!("w-1-{}", rest[0])).unwrap();
                job.spec.cancel = true;
                job.status.phase = JobPhase::Cancelled;
                job.status.message = Some("cancelled on request".to_owned());
            }
            "remove" => drop(world.jobs.remove(&format!("w-1-{}", rest[0])).unwrap()),
            "wait" => {
                let seconds = SignedDuration::from_secs(rest[0].parse().unwrap());
                world.now = world.now.saturating_add(seconds).unwrap();
            }
            "plan" => {
                let plan = world.plan();
                show(&plan, &mut shown);
                world.act(&plan);
                let again = world.plan();
                assert!(again.groups.is_empty() && again.status.is_none(), "{again:#?}");
                let is_over = world.run.status.phase.is_final();
                assert_eq!(is_at_rest(&world.run, &again), is_over, "{again:#?}");
            }
            other => panic!("no such verb: {other}"),
        }
    }
    expected.assert_eq(&shown);
}

impl World {
    fn new() -> Self {
        let spec = WorkflowRunSpec { workflow: "w".to_owned(), ..WorkflowRunSpec::default() };
        let mut run = WorkflowRun::new("default", "w-1", spec);
        run.metadata.uid = Some("run-uid".to_owned());
        let (jobs, taken, unwritable) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { workflow: None, run, jobs, taken, unwritable, now: Timestamp::UNIX_EPOCH }
    }

    fn plan(&self) -> Plan {
        plan(&View {
            run: &self.run,
            workflow: self.workflow.as_ref(),
            jobs: &self.jobs.values().collect::<Vec<_>>(),
            taken: &self.taken,
            unwritable: &self.unwritable,
            now: self.now,
        })
    }

    fn act(&mut self, plan: &Plan) {
        for action in plan.groups.iter().flat_map(|group| &group.actions) {
            match action {
                Action::Create(New::Job(job)) => {
                    assert_eq!(job.controller().unwrap().uid, "run-uid");
                    self.jobs.insert(job.name().to_owned(), Job::clone(job));
                }
                Action::Patch(patch) => {
                    let job = self.jobs.get_mut(&patch.object.key.name).unwrap();
                    for field in &patch.fields {
                        match field {
                            Field::Cancel(cancel) => job.spec.cancel = *cancel,
                            Field::CancelReason(why) => {
                                job.spec.cancel_reason = Some(why.clone());
                            }
                            Field::Suspend(held) => job.spec.suspend = held.then_some(true),
                            other => panic!("{other:?}"),
                        }
                    }
                }
                Action::Status(Status::WorkflowRun(run)) => {
                    self.run.status = run.status.clone();
                }
                other => panic!("{other:?}"),
            }
        }
        if let Some(run) = &plan.status {
            self.run.status = run.status.clone();
        }
    }
}

fn workflow(words: &[&str]) -> Workflow {
    let mut document = json!({ "jobs": [] });
    let mut jobs = Vec::new();
    for word in words {
        if let Some((field, value)) = word.split_once('=') {
            document[field] = serde_json::from_str(value).unwrap();
            continue;
        }
        let mut parts = word.split('<');
        let name = parts.next().unwrap().to_owned();
        let dependency = |text: &str| {
            let (job, phases) = text.split_once(':').unwrap_or((text, ""));
            let phases = phases.split(',').filter(|phase| !phase.is_empty());
            let phases = phases.map(|phase| serde_json::from_value(json!(phase)).unwrap());
            Dependency { job: job.to_owned(), phases: phases.collect() }
        };
        let depends_on = parts.map(dependency).collect();
        let image = json!({ "image": "busybox" });
        let template = serde_json::from_value(image).unwrap();
        jobs.push(WorkflowJob { name, depends_on, template, ..WorkflowJob::default() });
    }
    let mut spec: WorkflowSpec = serde_json::from_value(document).unwrap();
    spec.jobs = jobs;
    Workflow::new("default", "w", spec)
}

fn set_fields(run: &mut WorkflowRun, fields: &[&str]) {
    let mut document = serde_json::to_value(&run.spec).unwrap();
    for field in fields {
        let (name, value) = field.split_once('=').unwrap();
        document[name] = serde_json::from_str(value).unwrap();
    }
    run.spec = serde_json::from_value(document).unwrap();
}

fn show(plan: &Plan, shown: &mut String) {
    shown.push_str("plan\n");
    for group in &plan.groups {
        writeln!(shown, "  {}", show_group(group)).unwrap();
    }
    if let Some(run) = &plan.status {
        writeln!(shown, "  later: {}", show_status(&run.status)).unwrap();
    }
    if let Some(at) = plan.wake_at {
        writeln!(shown, "  wakes at {}s", at.as_second()).unwrap();
    }
    if let Some((phase, why)) = &plan.ended {
        writeln!(shown, "  tells: {phase}: {why}").unwrap();
    }
}

fn show_group(group: &Group) -> String {
    let actions = group.actions.iter().map(|action| match action {
        Action::Create(New::Job(job)) => format!("create {}", job.name()),
        Action::Patch(Patch { object, fields, .. }) => {
            format!("change {} {fields:?}", object.key.name)
        }
        Action::Status(Status::WorkflowRun(run)) => show_status(&run.status),
        other => format!("{other:?}"),
    });
    actions.collect::<Vec<_>>().join(" + ")
}

fn show_status(status: &WorkflowRunStatus) -> String {
    let jobs = status.jobs.iter().map(|job| {
        let message = job.message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
        format!("{} {}{message}", job.name, job.phase)
    });
    let message = status.message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    let jobs = jobs.collect::<Vec<_>>().join(", ");
    format!("{}{message} {}/{}: {jobs}", status.phase, status.succeeded, status.total)
}

#[test]
fn a_run_whose_job_a_person_cancelled_has_not_succeeded() {
    check(
        "
        workflow a b<a c
        plan
        job c Running
        cancelled a
        plan
        job c Cancelled
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending (waits for job a), c Pending + create w-1-a + create w-1-c
            plan
              change w-1-c [Cancel(true), CancelReason("job a was cancelled: cancelled on request")]
              Running (job a was cancelled: cancelled on request) 0/1: a Cancelled (cancelled on request), b Skipped (job a was cancelled), c Running
            plan
              Failed (job a was cancelled: cancelled on request) 0/1: a Cancelled (cancelled on request), b Skipped (job a was cancelled), c Cancelled
              tells: Failed: job a was cancelled: cancelled on request
        "#]],
    );
}

#[test]
fn jobs_are_made_as_their_dependencies_end() {
    check(
        "
        workflow a b<a c<a d<b<c
        plan
        job a Running
        plan
        job a Succeeded
        plan
        job b Succeeded
        job c Succeeded
        plan
        job d Succeeded
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending (waits for job a), c Pending (waits for job a), d Pending (waits for jobs b, c) + create w-1-a
            plan
              later: Running 0/1: a Running, b Pending (waits for job a), c Pending (waits for job a), d Pending (waits for jobs b, c)
            plan
              create w-1-b
              create w-1-c
              Running 1/1: a Succeeded, b Pending, c Pending, d Pending (waits for jobs b, c)
            plan
              create w-1-d
              Running 3/3: a Succeeded, b Succeeded, c Succeeded, d Pending
            plan
              Succeeded 4/4: a Succeeded, b Succeeded, c Succeeded, d Succeeded
              tells: Succeeded: 4 jobs
        "#]],
    );
}

#[test]
fn a_run_whose_workflow_is_missing_waits_for_it() {
    check(
        "
        plan
        workflow a
        plan
        ",
        expect![[r#"
            plan
              Pending (workflow w does not exist) 0/0: 
            plan
              Running 0/0: a Pending + create w-1-a
        "#]],
    );
}

#[test]
fn a_failed_job_ends_the_run_once_the_others_have_stopped() {
    check(
        "
        workflow a b c<a
        plan
        job a Failed
        job b Running
        plan
        job b Cancelled
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending, c Pending (waits for job a) + create w-1-a + create w-1-b
            plan
              change w-1-b [Cancel(true), CancelReason("job a failed")]
              Running (job a failed) 0/2: a Failed, b Running, c Skipped (job a failed)
            plan
              Failed (job a failed) 0/2: a Failed, b Cancelled, c Skipped (job a failed)
              tells: Failed: job a failed
        "#]],
    );
}

#[test]
fn what_can_never_start_is_skipped_and_so_is_what_waits_for_it() {
    check(
        "
        workflow maxFailedJobs=1 d<c a b<a c<b e<a:Failed,Succeeded f<b:Skipped
        plan
        job a TimedOut
        plan
        job e Succeeded
        job f Succeeded
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: d Pending (waits for job c), a Pending, b Pending (waits for job a), c Pending (waits for job b), e Pending (waits for job a), f Pending (waits for job b) + create w-1-a
            plan
              create w-1-e
              create w-1-f
              Running 0/1: d Skipped (job c was skipped), a TimedOut, b Skipped (job a timed out), c Skipped (job b was skipped), e Pending, f Pending
            plan
              Succeeded 2/3: d Skipped (job c was skipped), a TimedOut, b Skipped (job a timed out), c Skipped (job b was skipped), e Succeeded, f Succeeded
              tells: Succeeded: 6 jobs
        "#]],
    );
}

#[test]
fn suspending_a_run_holds_its_jobs_and_its_clock() {
    check(
        r#"
        workflow timeout="60s" a b<a
        plan
        wait 20
        run suspend=true
        plan
        job a Succeeded
        plan
        wait 200
        run suspend=false
        plan
        wait 39
        plan
        wait 1
        plan
        job b Cancelled
        plan
        "#,
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending (waits for job a) + create w-1-a
              wakes at 60s
            plan
              change w-1-a [Suspend(true)]
              Suspended 0/0: a Pending, b Pending (waits for job a)
            plan
              Suspended 1/1: a Succeeded, b Pending
            plan
              create w-1-b
              Running 1/1: a Succeeded, b Pending
              wakes at 260s
            plan
              wakes at 260s
            plan
              change w-1-b [Cancel(true), CancelReason("the run took longer than timeout (1m)")]
              Running (longer than timeout (1m)) 1/1: a Succeeded, b Pending
            plan
              TimedOut (longer than timeout (1m)) 1/2: a Succeeded, b Cancelled
              tells: TimedOut: longer than timeout (1m)
        "#]],
    );
}

/// What somebody wrote by hand, or an old store holds, kills no controller.
#[test]
fn numbers_at_the_end_of_their_range_kill_no_plan() {
    let mut world = World::new();
    world.workflow = Some(workflow(&[r#"timeout="60s""#, "a", "b"]));
    let plan = world.plan();
    world.act(&plan);
    for job in world.jobs.values_mut() {
        let status = &mut job.status;
        let counts = [
            &mut status.total,
            &mut status.pending,
            &mut status.active,
            &mut status.succeeded,
            &mut status.failed,
            &mut status.cancelled,
        ];
        counts.into_iter().for_each(|count| *count = u32::MAX);
    }
    world.run.status.suspended_seconds = u64::MAX;
    world.run.status.suspended_at = Some(world.now);
    world.now = world.now.saturating_add(SignedDuration::from_secs(10)).unwrap();
    let plan = world.plan();
    world.act(&plan);
    let status = &world.run.status;
    assert_eq!((status.total, status.active, status.cancelled), (u32::MAX, u32::MAX, u32::MAX));
    assert_eq!((status.suspended_seconds, status.suspended_at), (u64::MAX, None));
    assert!(!status.phase.is_final(), "it has all the time there is");
}

#[test]
fn a_cancelled_run_makes_nothing_more() {
    check(
        "
        workflow a b<a
        plan
        run cancel=true
        plan
        job a Cancelled
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending (waits for job a) + create w-1-a
            plan
              change w-1-a [Cancel(true), CancelReason("the run was cancelled")]
              Running (cancelled on request) 0/0: a Pending, b Cancelled (the run ended before this job started)
            plan
              Cancelled (cancelled on request) 0/1: a Cancelled, b Cancelled (the run ended before this job started)
              tells: Cancelled: cancelled on request
        "#]],
    );
}

#[test]
fn a_run_keeps_the_workflow_that_it_began_with_and_the_jobs_that_ended() {
    check(
        "
        workflow a b<a
        plan
        workflow x
        job a Succeeded
        plan
        remove a
        plan
        job b Succeeded
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending (waits for job a) + create w-1-a
            plan
              create w-1-b
              Running 1/1: a Succeeded, b Pending
            plan
            plan
              Succeeded 2/2: a Succeeded, b Succeeded
              tells: Succeeded: 2 jobs
        "#]],
    );
}

#[test]
fn a_job_name_of_another_owner_stalls_the_run() {
    check(
        "
        workflow a b
        taken a
        plan
        plan
        ",
        expect![[r#"
            plan
              Running (job w-1-a exists and belongs to another owner) 0/0: a Pending (job w-1-a exists and belongs to another owner), b Pending + create w-1-b
            plan
        "#]],
    );
}

#[test]
fn a_parameter_without_a_value_fails_the_run() {
    check(
        r#"
        workflow params=[{"name":"date"}] a
        plan
        "#,
        expect![[r#"
            plan
              Failed (spec.params.date: a value is required (it has no default)) 0/0: 
              tells: Failed: spec.params.date: a value is required (it has no default)
        "#]],
    );
}

#[test]
fn a_run_says_which_job_fits_nowhere() {
    check(
        "
        workflow a b
        plan
        job a Running
        job b Pending 0 of 3 nodes: 3 have cpu < 64
        plan
        job b Running
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending + create w-1-a + create w-1-b
            plan
              Running (b: 0 of 3 nodes: 3 have cpu < 64) 0/2: a Running, b Pending (0 of 3 nodes: 3 have cpu < 64)
            plan
              Running 0/2: a Running, b Running
        "#]],
    );
}

/// Others of its jobs go on, and still somebody has to do something.
#[test]
fn a_run_says_which_job_waits_for_somebody() {
    check(
        "
        workflow a load after<load
        plan
        job a Running
        stalled load PartitionSet shards does not exist
        plan
        job load Running
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, load Pending, after Pending (waits for job load) + create w-1-a + create w-1-load
            plan
              Running (load: PartitionSet shards does not exist) 0/1: a Running, load Pending (PartitionSet shards does not exist), after Pending (waits for job load)
            plan
              Running 0/2: a Running, load Running, after Pending (waits for job load)
        "#]],
    );
}

#[test]
fn a_job_that_was_never_made_is_no_failure_of_a_run_whose_time_was_up() {
    check(
        r#"
        workflow timeout="60s" a b<a
        plan
        wait 60
        plan
        job a Cancelled
        plan
        "#,
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending (waits for job a) + create w-1-a
              wakes at 60s
            plan
              change w-1-a [Cancel(true), CancelReason("the run took longer than timeout (1m)")]
              Running (longer than timeout (1m)) 0/0: a Pending, b Cancelled (the run ended before this job started)
            plan
              TimedOut (longer than timeout (1m)) 0/1: a Cancelled, b Cancelled (the run ended before this job started)
              tells: TimedOut: longer than timeout (1m)
        "#]],
    );
}
