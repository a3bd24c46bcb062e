//! Measures placement: how many tasks a second get the best of all nodes, on one core.
//!
//! `cargo run --release --example place -- [NODES] [TASKS] [JOBS]`

use std::sync::Arc;

use api::node::NodeSpec;
use api::task::TaskSpec;
use api::task_template::TaskTemplateSpec;
use api::{Node, Task, TaskTemplate, Time, Timestamp, labels};
use scheduler::{Change, Limits, Snapshot, place};
use serde_json::json;
use tokio::time::Instant;

/// Sizes of one measurement.
struct Sizes {
    nodes: u32,
    tasks: u32,
    jobs: u32,
}

fn node(number: u32) -> Change {
    let mut node = Node::new("", &format!("node-{number:05}"), NodeSpec::default());
    let cpu = [8, 16, 32, 64][number as usize % 4];
    let offered = json!({ "cpu": cpu, "memory": format!("{}Gi", cpu * 4) });
    node.status.allocatable = serde_json::from_value(offered).expect("these are quantities");
    node.status.ready_since = Some(Timestamp::UNIX_EPOCH);
    let zone = ["a", "b", "c"][number as usize % 3];
    Change::Node(Arc::new(node.with_labels([("zone", zone)])))
}

fn template(job: u32) -> Change {
    let spec: TaskTemplateSpec = serde_json::from_value(json!({
        "job": format!("job-{job:05}"),
        "template": {
            "image": "app",
            "resources": { "requests": { "cpu": "500m", "memory": "1Gi" } },
        },
        "placement": { "constraints": ["zone in (a, b)"] },
    }))
    .expect("this is a template");
    Change::TaskTemplate(Arc::new(TaskTemplate::new("default", &format!("job-{job:05}-x"), spec)))
}

fn task(sizes: &Sizes, number: u32) -> Change {
    let (job, index) = (number % sizes.jobs, number / sizes.jobs);
    let spec = TaskSpec {
        template: format!("job-{job:05}-x"),
        run: 1,
        attempt: 1,
        index,
        ..TaskSpec::default()
    };
    let mut task = Task::new("default", &format!("job-{job:05}-{index}"), spec)
        .with_labels([(labels::JOB, format!("job-{job:05}"))]);
    // As if all jobs were made at once, and each made its tasks over some time.
    let created = Timestamp::from_second(i64::from(index / 10)).expect("this is a time");
    task.metadata.creation_timestamp = Some(Time(created));
    Change::Task(Arc::new(task))
}

/// Builds a snapshot, places all tasks, and says how many a second were taken in and placed.
fn measure(sizes: &Sizes) -> (u128, u128) {
    let nodes = (0..sizes.nodes).map(node);
    let templates = (0..sizes.jobs).map(template);
    let tasks = (0..sizes.tasks).map(|number| task(sizes, number));
    let changes: Vec<Change> = nodes.chain(templates).chain(tasks).collect();
    let mut snapshot = Snapshot::new();
    let start = Instant::now();
    let count = changes.len() as u128;
    changes.into_iter().for_each(|change| snapshot.apply(change));
    let taken_in = start.elapsed();
    let start = Instant::now();
    let mut placed = 0;
    loop {
        let plan = place(&mut snapshot, &Limits { now: Timestamp::UNIX_EPOCH, bindings_max: 1000 });
        placed += plan.bindings.len() as u128;
        if !plan.more {
            break;
        }
    }
    let taken = start.elapsed();
    assert_eq!(placed, u128::from(sizes.tasks), "every task has room");
    let a_second = |count: u128, nanos: u128| count * 1_000_000_000 / nanos.max(1);
    (a_second(count, taken_in.as_nanos()), a_second(placed, taken.as_nanos()))
}

#[expect(clippy::print_stdout, reason = "a measurement is for people to read")]
fn main() {
    let mut given = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let mut size = |default: u32| given.next().unwrap_or(default).max(1);
    let (nodes, tasks) = (size(5_000), size(50_000));
    let given_jobs = size(0);
    println!("{:>7} {:>8} {:>6} {:>14} {:>12}", "NODES", "TASKS", "JOBS", "CHANGES/s", "PLACED/s");
    let jobs = if given_jobs > 1 { vec![given_jobs] } else { vec![1, 10, 100, 1_000] };
    for jobs in jobs {
        let (changes, placed) = measure(&Sizes { nodes, tasks, jobs });
        println!("{nodes:>7} {tasks:>8} {jobs:>6} {changes:>14} {placed:>12}");
    }
}

#[test]
fn a_small_measurement_places_every_task() {
    let (changes, placed) = measure(&Sizes { nodes: 20, tasks: 200, jobs: 3 });
    assert!(changes > 0 && placed > 0);
}
