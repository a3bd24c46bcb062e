//! A workflow in which each job follows the one before: how long from a job's end to the next task's
//! start, and where that time goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::workflow_run::RunPhase;
use api::{Job, Kind as _, KindId, Task, Timestamp, Workflow, WorkflowRun};
use client::{AnyEvent, Client, ListOptions};
use serde_json::json;
use tokio::time::sleep;

use super::limits::Limit;
use super::workload::{LOOK, typed};
use super::{Figure, millis};
use crate::fleet::Fleet;

/// A step of a workflow at its least: the end is reported, the next job is there with its task, the
/// task is bound.
const COMMITS_OF_A_STEP: u32 = 3;
/// The name of the workflow that is timed.
const CHAIN: &str = "chain";
/// What happens in a step, in this order, and is told of between these moments.
const PARTS: [&str; 6] = [
    "its end reported",
    "job's end recorded",
    "next job created",
    "binding decided",
    "binding written",
    "task started",
];

/// When a step came to its moments: its parent's end, and the end of each of [`PARTS`].
#[derive(Debug, Clone, Copy)]
struct Step {
    number: u32,
    moments: [Timestamp; PARTS.len() + 1],
}

/// When a client saw what of the chain: the first event of each sort.
#[derive(Debug, Default)]
struct Seen {
    ended_tasks: BTreeMap<String, Timestamp>,
    bound_tasks: BTreeMap<String, Timestamp>,
    jobs: BTreeMap<String, Timestamp>,
    ended_jobs: BTreeMap<String, Timestamp>,
}

impl Seen {
    fn job(&mut self, job: &Job, at: Timestamp) {
        self.jobs.entry(job.name().to_owned()).or_insert(at);
        if job.status.phase.is_final() {
            self.ended_jobs.entry(job.name().to_owned()).or_insert(at);
        }
    }

    fn task(&mut self, task: &Task, at: Timestamp) {
        if task.binding().is_some() {
            self.bound_tasks.entry(task.name().to_owned()).or_insert(at);
        }
        if task.status.finished_at.is_some() {
            self.ended_tasks.entry(task.name().to_owned()).or_insert(at);
        }
    }

    /// The step to the job of this number; nothing if something of it was not seen.
    fn step(&self, number: u32, tasks: &[Task]) -> Option<Step> {
        let (before, next) = (number.checked_sub(1)?, number);
        let task = |number| tasks.iter().find(|task| task.name() == task_name(number));
        let moments = [
            task(before)?.status.finished_at?,
            *self.ended_tasks.get(&task_name(before))?,
            *self.ended_jobs.get(&job_name(before))?,
            *self.jobs.get(&job_name(next))?,
            task(next)?.binding()?.at,
            *self.bound_tasks.get(&task_name(next))?,
            task(next)?.status.started_at?,
        ];
        Some(Step { number, moments })
    }
}

impl Step {
    /// How long each part took, in microseconds. Two may come in one write, and an agent may see a
    /// binding before the client that watches does.
    fn parts(&self) -> impl Iterator<Item = u64> {
        self.moments.windows(2).map(|pair| micros(pair[0], pair[1]))
    }

    fn micros(&self) -> u64 {
        micros(self.moments[0], self.moments[PARTS.len()])
    }
}

fn job_name(number: u32) -> String {
    format!("{CHAIN}-1-s{number}")
}

fn task_name(number: u32) -> String {
    format!("{}-0", job_name(number))
}

fn micros(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_micros()).unwrap_or_default()
}

/// Notes when events of jobs and tasks come, until it is dropped.
async fn follow(client: Client, seen: Arc<Mutex<Seen>>) {
    let clock = base::Clock::system();
    let mut watch = client.watch_many(&[KindId::Job, KindId::Task], None, "").await.unwrap();
    while let Some(event) = watch.next().await.unwrap() {
        let at = clock.now();
        let AnyEvent::Upsert { kind, json, .. } = event else { continue };
        let mut seen = seen.lock().unwrap();
        if kind == KindId::Job {
            seen.job(&serde_json::from_slice(&json).unwrap(), at);
        } else {
            seen.task(&serde_json::from_slice(&json).unwrap(), at);
        }
    }
}

/// The workflow, run to its end.
async fn run(client: &Client, jobs: u32) -> Vec<Task> {
    let step = |number: u32| {
        let before = number.checked_sub(1).map(|before| json!({ "job": format!("s{before}") }));
        json!({
            "name": format!("s{number}"), "count": 1, "template": { "image": "x" },
            "dependsOn": before.into_iter().collect::<Vec<_>>(),
        })
    };
    let workflow: Workflow = typed(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": CHAIN, "namespace": "default" },
        "spec": { "jobs": (0..jobs).map(step).collect::<Vec<_>>() },
    }));
    client.api::<Workflow>("default").create(&workflow).await.unwrap();
    loop {
        let run = client.api::<WorkflowRun>("default").find(&format!("{CHAIN}-1")).await;
        let phase = run.ok().flatten().map(|run| run.status.phase);
        if phase.is_some_and(RunPhase::is_final) {
            assert_eq!(phase, Some(RunPhase::Succeeded));
            break;
        }
        sleep(LOOK).await;
    }
    client.api::<Task>("default").list(&ListOptions::default()).await.unwrap().items
}

/// Where the time of each step went, as lines: the slowest step first, and at the end the median of
/// each part.
fn trace(seen: &Seen, tasks: &[Task], jobs: u32) -> Vec<String> {
    let mut steps: Vec<Step> = (1..jobs).filter_map(|number| seen.step(number, tasks)).collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.micros()));
    let line = |name: String, total: u64, parts: &[u64]| {
        let parts = parts.iter().map(|part| format!("{part:>18}"));
        format!("{name:<10} {total:>8}{}", parts.collect::<String>())
    };
    let titles: String = PARTS.iter().map(|part| format!("{part:>18}")).collect();
    let mut lines = vec![format!("{:<10} {:>8}{titles}", "STEP, US", "ALL")];
    let of_step = |step: &Step| {
        let parts: Vec<u64> = step.parts().collect();
        line(format!("to s{}", step.number), step.micros(), &parts)
    };
    lines.extend(steps.iter().map(of_step));
    let median = |mut all: Vec<u64>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let part =
        |place: usize| median(steps.iter().filter_map(|step| step.parts().nth(place)).collect());
    let parts: Vec<u64> = (0..PARTS.len()).map(part).collect();
    lines.push(line("median".to_owned(), median(steps.iter().map(Step::micros).collect()), &parts));
    lines
}

/// From a job's end to the next task's start, and where that time went if it is to be traced: a
/// client then watches beside, which costs some of it.
pub(super) async fn figures(
    fleet: &Fleet,
    (jobs, is_traced): (u32, bool),
    limit: &Limit,
) -> ([Figure; 3], Vec<String>) {
    let client = fleet.client();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let watching = base::Tasks::new("trace of steps");
    if is_traced {
        watching.spawn("watch", follow(client.clone(), Arc::clone(&seen)));
    }
    let tasks = run(&client, jobs).await;
    drop(watching);
    let traced = is_traced.then(|| trace(&seen.lock().unwrap(), &tasks, jobs));
    let task = |number: u32| tasks.iter().find(|task| task.name() == task_name(number)).unwrap();
    let times = |number: u32| {
        let status = &task(number).status;
        (status.started_at.unwrap(), status.finished_at.unwrap())
    };
    let mut took: Vec<u64> =
        (1..jobs).map(|it| micros(times(it - 1).1, times(it).0) / 1000).collect();
    took.sort_unstable();
    let allowed = millis(limit.write * COMMITS_OF_A_STEP);
    let of = format!("{}, {COMMITS_OF_A_STEP} writes", limit.of);
    let figure = |percent: usize, first, goal| {
        let what = format!("DAG step: parent ended to child started, p{percent} of {jobs}");
        let number = took[(took.len() * percent / 100).min(took.len() - 1)];
        Figure::new(what, (first, goal), (number, "ms")).beside(allowed, of.clone())
    };
    let bound = |number: u32| task(number).binding().unwrap().at;
    let mut calls: Vec<u64> =
        (0..jobs).map(|number| micros(bound(number), times(number).0)).collect();
    calls.sort_unstable();
    let what = format!("bound to the agent's call for a container, p50 of {jobs}");
    let write = u64::try_from(limit.write.as_micros()).unwrap_or(u64::MAX);
    let call = Figure::new(what, ("20000 us", "2000 us"), (calls[calls.len() / 2], "us"))
        .beside(write, format!("{}, 1 write", limit.of));
    // The first column of the budgets has no p99.
    let figures = [figure(50, "20 ms", "5 ms"), figure(99, "-", "20 ms"), call];
    (figures, traced.unwrap_or_default())
}
