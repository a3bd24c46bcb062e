//! A real agent on the real Docker Engine whose state directory is on a disk that fills: its containers
//! run on, what it was given and has not begun goes elsewhere, and it works again once there is room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use api::node::NodePhase;
use api::task::TaskPhase;
use api::{Job, Kind as _, Node, Task};
use serde_json::json;

use e2e::fleet::{self, Fleet, Shape};

const IMAGE: &str = "heliox-e2e/busybox";

/// A disk of a few MiB where an agent keeps its state. Needs root, as the Docker Engine does.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "small"]).arg(&dir));
        Self(dir)
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        for block in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; block]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?} needs root: {status}");
}

/// A job whose tasks run until there is a file beside the disk.
fn job(fleet: &Fleet, name: &str, count: u32, script: &str) -> Job {
    let script = script.replace("WAIT", "until [ -e /signs/go ]; do sleep 0.1; done");
    serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "count": count, "template": {
            "image": format!("{IMAGE}:1"), "imagePullPolicy": "Never",
            "command": ["sh", "-c"], "args": [script],
            "mounts": [{ "path": "/signs", "hostPath": fleet.dir().join("signs") }],
            "terminationGracePeriodSeconds": 1,
        }},
    }))
    .unwrap()
}

/// What stops the first node, if anything.
async fn problem(fleet: &Fleet) -> Option<String> {
    let node = fleet.client().api::<Node>("").find("node-1").await.ok()??;
    node.status.problem.clone().filter(|_| node.phase() == NodePhase::NotReady)
}

/// What `hctl logs` prints, on both outputs.
async fn logs(fleet: &Fleet, task: &str) -> String {
    let mut hctl = tokio::process::Command::new(fleet::program("hctl"));
    let printed = hctl.args(["--server", &fleet.url(), "logs", task]).output().await.unwrap();
    let (out, err) = (printed.stdout, printed.stderr);
    format!("{}{}", String::from_utf8_lossy(&err), String::from_utf8_lossy(&out))
}

fn of<'a>(tasks: &'a [Task], job: &'a str) -> impl Iterator<Item = &'a Task> {
    tasks.iter().filter(move |task| task.name().starts_with(job))
}

#[tokio::test]
async fn an_agent_of_docker_whose_disk_is_full_loses_nothing_and_begins_nothing() {
    fleet::import_image(IMAGE, "1").await;
    let mut fleet = Fleet::prepare(Shape::small("docker", 1));
    let disk = SmallDisk::under(fleet.dir().join("node-1"));
    fs::create_dir(fleet.dir().join("signs")).unwrap();
    fleet.run_all().await;
    fleet.create(&job(&fleet, "runs", 2, "echo before; WAIT; seq 1 20000; echo after")).await;
    let is_running = |tasks: &[Task], count| {
        of(tasks, "runs").filter(|task| task.phase() == TaskPhase::Running).count() == count
    };
    fleet.wait_for("both run", |tasks| is_running(tasks, 2)).await;
    disk.fill();
    fleet::until_async("the node says so", async || {
        problem(&fleet).await.is_some_and(|it| it.contains("nearly full"))
    })
    .await;
    fleet.create(&job(&fleet, "waits", 1, "true")).await;
    let says_why = |task: &Task| {
        task.phase() == TaskPhase::Pending && !task.why(base::Clock::system().now()).is_empty()
    };
    fleet.wait_for("it waits and says why", |tasks| of(tasks, "waits").any(says_why)).await;
    // A new agent on the full disk takes over what runs, and what ends meanwhile is heard.
    fleet.kill("node-1");
    fleet.run("node-1").await;
    fs::write(fleet.dir().join("signs/go"), "").unwrap();
    let tasks = fleet
        .wait_for("both have ended", |tasks| {
            of(tasks, "runs").filter(|task| task.phase() == TaskPhase::Succeeded).count() == 2
        })
        .await;
    assert!(of(&tasks, "waits").all(says_why), "{tasks:#?}");
    for index in 0..2 {
        // As much as there is room for, and that some of it is missing is told.
        let log = logs(&fleet, &format!("task/runs-{index}")).await;
        let is_told = ["missing", "has no log of this attempt"].iter().any(|it| log.contains(it));
        assert!(is_told || log.ends_with("after\n"), "{log}");
    }
    disk.make_room();
    let tasks = fleet.succeeds("job/waits").await;
    assert_eq!(problem(&fleet).await, None);
    assert!(tasks.iter().all(|task| task.spec.attempt == 1), "{tasks:#?}");
}
