//! Leaders that sleep while others take over, as real processes.

use api::task::TaskPhase;
use api::{Job, Kind as _};
use serde_json::json;

use e2e::fleet::{self, ControlPlane, Fleet, Shape};

/// Tasks of the job: enough for both leaders to be in the middle of it when they fall asleep.
const COUNT: u32 = 2000;

#[tokio::test]
async fn leaders_that_wake_up_deposed_change_nothing() {
    let control_plane =
        ControlPlane::Apart { members: 1, apiservers: 1, schedulers: 2, controllers: 2 };
    let shape = Shape { control_plane, ..Shape::small("sim", 2) };
    let fleet = Fleet::start(shape).await;
    let job: Job = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": "work", "namespace": "default" },
        "spec": {
            "count": COUNT,
            "template": {
                "image": "x", "args": ["duration=100ms"],
                "resources": { "requests": { "cpu": "50m" } },
            },
        },
    }))
    .unwrap();
    fleet.create(&job).await;
    let ended = |tasks: &[api::Task]| {
        tasks.iter().filter(|task| task.phase() == TaskPhase::Succeeded).count()
    };
    fleet.wait_for("some have ended", |tasks| ended(tasks) > 50).await;

    let mut asleep = Vec::new();
    for part in ["scheduler", "controllers"] {
        let (name, term) = fleet.leader(part, 0).await;
        fleet.suspend(&name);
        asleep.push((part, name, term));
    }
    for (part, name, term) in &asleep {
        let (next, _) = fleet.leader(part, *term).await;
        assert_ne!(next, *name, "who sleeps does not lead");
    }
    for (_, name, _) in &asleep {
        fleet.wake(name);
    }
    // They go on where they were, with what they believed then, until they learn better.
    fleet::until("they know that their terms are over", || {
        asleep.iter().all(|(_, name, _)| fleet.log(name).contains("the term is over"))
    })
    .await;

    let tasks = fleet.succeeds("job/work").await;
    assert_eq!(tasks.len(), usize::try_from(COUNT).unwrap());
    let odd: Vec<_> = tasks.iter().filter(|it| it.spec.attempt != 1).map(|it| it.name()).collect();
    assert!(odd.is_empty(), "tried again: {odd:?}");
    let job = fleet.client().api::<Job>("default").get(job.name()).await.unwrap();
    let status = job.status;
    assert_eq!((status.succeeded, status.failed, status.cancelled), (COUNT, 0, 0));
}
