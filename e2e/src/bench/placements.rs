//! Placement alone: how many tasks a second get the best of all nodes, on one core.

use std::sync::Arc;

use api::node::NodeSpec;
use api::task::TaskSpec;
use api::task_template::TaskTemplateSpec;
use api::{Node, Task, TaskTemplate, Time, Timestamp, labels};
use scheduler::{Change, Limits, Snapshot, place};
use serde_json::json;
use tokio::time::Instant;

use super::Figure;

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

/// The figures of some mixes of jobs.
pub(super) fn figures(nodes: u32, tasks: u32) -> Vec<Figure> {
    let figure = |jobs: u32| {
        let what = format!("placements, pure: {nodes} nodes, {tasks} tasks of {jobs} jobs");
        let number = measure(&Sizes { nodes, tasks, jobs });
        Figure::new(what, ("100000 /s", "1000000 /s"), (number, "/s"))
    };
    [1, 10, 100].map(figure).into()
}

/// Builds a snapshot, places all tasks, and says how many a second were placed.
fn measure(sizes: &Sizes) -> u64 {
    let nodes = (0..sizes.nodes).map(node);
    let templates = (0..sizes.jobs).map(template);
    let tasks = (0..sizes.tasks).map(|number| task(sizes, number));
    let changes: Vec<Change> = nodes.chain(templates).chain(tasks).collect();
    let mut snapshot = Snapshot::new();
    changes.into_iter().for_each(|change| snapshot.apply(change));
    let start = Instant::now();
    let mut placed = 0;
    loop {
        let plan = place(&mut snapshot, &Limits { now: Timestamp::UNIX_EPOCH, bindings_max: 1000 });
        placed += plan.bindings.len();
        if !plan.more {
            break;
        }
    }
    let nanos = start.elapsed().as_nanos().max(1);
    assert_eq!(u32::try_from(placed), Ok(sizes.tasks), "every task has room");
    u64::try_from(u128::from(sizes.tasks) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}
