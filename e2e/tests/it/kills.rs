//! Processes are killed in the middle: nothing is lost, nothing is done twice, lost work moves.

use api::task::{TaskPhase, TaskSpec};
use api::{Job, Kind as _, Task, TaskTemplate};
use serde_json::json;

use e2e::fleet::{self, Fleet, Shape};

const IMAGE: &str = "heliox-e2e/busybox";

/// Tasks that say in a file that they ran, after some seconds.
fn job(fleet: &Fleet, count: u32, seconds: u32) -> Job {
    let dir = fleet.dir().join("ran");
    std::fs::create_dir_all(&dir).unwrap();
    let script = format!("sleep {seconds}; echo ran >> {}/$HELIOX_TASK", dir.display());
    serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": "work", "namespace": "default" },
        "spec": {
            "count": count, "maxPerNode": 2,
            "template": {
                "image": format!("{IMAGE}:1"), "imagePullPolicy": "Never",
                "command": ["sh", "-c"], "args": [script],
                "mounts": [{ "path": dir, "hostPath": dir }],
                "terminationGracePeriodSeconds": 1,
            },
        },
    }))
    .unwrap()
}

fn running(tasks: &[Task]) -> usize {
    tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count()
}

/// How often each task said that it ran.
fn ran(fleet: &Fleet) -> Vec<usize> {
    let files = std::fs::read_dir(fleet.dir().join("ran")).unwrap();
    let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
    files.map(|file| lines(file.unwrap().path())).collect()
}

#[tokio::test]
async fn killed_servers_and_agents_lose_nothing_and_double_nothing() {
    let mut fleet = Fleet::start(Shape::small("process", 3)).await;
    fleet.create(&job(&fleet, 6, 4)).await;
    fleet.wait_for("all run", |tasks| running(tasks) == 6).await;
    fleet.kill("server");
    fleet.kill("node-1");
    fleet.run("server").await;
    fleet.run("node-1").await;
    let tasks = fleet.succeeds("job/work").await;
    assert!(tasks.iter().all(|task| task.spec.attempt == 1), "the agent took over what ran");
    assert_eq!(ran(&fleet), vec![1; 6]);
}

#[tokio::test]
async fn tasks_of_a_killed_agent_whose_containers_are_gone_move() {
    fleet::import_image(IMAGE, "1").await;
    let mut fleet = Fleet::start(Shape::small("docker", 3)).await;
    fleet.create(&job(&fleet, 3, 8)).await;
    let tasks = fleet.wait_for("all run", |tasks| running(tasks) == 3).await;
    let lost: Vec<String> = tasks
        .iter()
        .filter(|task| task.node() == Some("node-1"))
        .map(|task| task.uid().to_owned())
        .collect();
    fleet.kill("node-1");
    lost.iter().for_each(|uid| fleet::remove_container(uid));
    let tasks = fleet.succeeds("job/work").await;
    assert!(!lost.is_empty());
    for task in tasks.iter().filter(|task| lost.contains(&task.uid().to_owned())) {
        assert_eq!((task.spec.attempt, task.spec.failures), (2, 0), "a loss costs no retry");
        assert_ne!(task.node(), Some("node-1"));
    }
    assert_eq!(ran(&fleet), vec![1; 3]);
}

/// A task without a job, whose container ends with 3 and is started again in place.
async fn restarted_in_place(fleet: &Fleet, runtime_image: &str) {
    let dir = fleet.dir().join("ran");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("web");
    let script = format!("echo ran >> {0}; wc -l < {0}; exit 3", file.display());
    let template: TaskTemplate = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "TaskTemplate",
        "metadata": { "name": "web-1", "namespace": "default" },
        "spec": {
            "owner": { "kind": "Job", "name": "web" },
            "restart": { "backoff": { "initial": "3s", "factor": 1 }, "rescheduleAfter": "1h" },
            "template": {
                "image": runtime_image, "imagePullPolicy": "Never",
                "command": ["sh", "-c"], "args": [script],
                "mounts": [{ "path": dir, "hostPath": dir }],
            },
        },
    }))
    .unwrap();
    let client = fleet.client();
    client.api::<TaskTemplate>("default").create(&template).await.unwrap();
    let spec = TaskSpec {
        template: "web-1".to_owned(),
        count: 1,
        run: 1,
        attempt: 1,
        ..TaskSpec::default()
    };
    client.api::<Task>("default").create(&Task::new("default", "web-0", spec)).await.unwrap();
}

fn waits_for_restart(tasks: &[Task], restarts: u32) -> bool {
    tasks.iter().any(|task| task.status.restarts >= restarts && task.status.restart_at.is_some())
}

/// The agent is killed in the pause between two containers.
async fn goes_on_with_restarts(runtime: &'static str) {
    let mut fleet = Fleet::start(Shape::small(runtime, 1)).await;
    restarted_in_place(&fleet, &format!("{IMAGE}:1")).await;
    for restarts in [1, 2, 3] {
        fleet.wait_for("it waits", |tasks| waits_for_restart(tasks, restarts)).await;
        fleet.kill("node-1");
        fleet.run("node-1").await;
    }
    let tasks = fleet.wait_for("it goes on", |tasks| waits_for_restart(tasks, 5)).await;
    let (task, status) = (&tasks[0], &tasks[0].status);
    assert_eq!((task.spec.attempt, status.reason.as_deref()), (1, Some("BackOff")));
    assert_eq!(status.last_exit.as_ref().unwrap().exit_code, Some(3));
    let restarts = usize::try_from(status.restarts).unwrap();
    for args in [&["logs", "web-0"][..], &["logs", "web-0", "--previous"]] {
        // While it waits, its log is that of the container that ended last.
        let shown: usize = fleet.hctl(args).await.trim().parse().unwrap();
        assert!(shown >= restarts, "{args:?}: {shown}");
    }
    assert!(ran(&fleet)[0] >= restarts, "{:?} for {restarts} restarts", ran(&fleet));
    fleet.kill("node-1");
    let seen = &fleet.wait_for("it is at rest", |tasks| !tasks.is_empty()).await[0].status.restarts;
    let begun = ran(&fleet)[0];
    let told = usize::try_from(*seen).unwrap();
    assert!(begun <= told + 1, "{begun} containers, of which {told} ended: one was begun twice");
    fleet.run("node-1").await;
}

#[tokio::test]
async fn an_agent_that_is_killed_goes_on_with_the_restarts_of_processes() {
    goes_on_with_restarts("process").await;
}

#[tokio::test]
async fn an_agent_that_is_killed_goes_on_with_the_restarts_of_containers() {
    fleet::import_image(IMAGE, "1").await;
    goes_on_with_restarts("docker").await;
}
