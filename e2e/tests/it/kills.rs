//! Processes are killed in the middle: nothing is lost, nothing is done twice, lost work moves.

use api::task::TaskPhase;
use api::{Job, Kind as _, Task};
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
