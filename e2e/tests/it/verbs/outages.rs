//! The server goes while commands wait for something, and comes back.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use e2e::fleet::{self, Fleet, Shape, program, until};
use tokio::process::{Child, Command};

/// A job and a workflow that go on until they are ended, and a job whose task is slow to stop.
const MANIFEST: &str = r#"
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: talk}
spec: {template: {image: none, command: [sh, -c, "echo hello; sleep 600"], terminationGracePeriodSeconds: 1}}
---
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: slow}
spec:
  template:
    image: none
    command: [sh, -c, "trap '' TERM; while [ ! -e DIR/end ]; do sleep 0.2; done"]
    terminationGracePeriodSeconds: 120
---
apiVersion: heliox.dev/v1
kind: Workflow
metadata: {name: flow}
spec:
  runOnApply: false
  jobs: [{name: a, template: {image: none, command: [sleep, "600"], terminationGracePeriodSeconds: 1}}]
"#;

/// `hctl` that waits for something, with what it prints in files.
struct Waiter {
    line: String,
    process: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Waiter {
    /// Starts it, and waits until it shows `begun`.
    async fn start(fleet: &Fleet, line: &str, begun: &str) -> Self {
        let name = line.replace([' ', '/'], "-");
        let file = |end: &str| fleet.dir().join(format!("{name}.{end}"));
        let (out, err) = (file("out"), file("err"));
        let to = |path: &PathBuf| Stdio::from(std::fs::File::create(path).unwrap());
        let mut command = Command::new(program("hctl"));
        command.args(["--server", &fleet.url()]).args(line.split(' ')).current_dir(fleet.dir());
        command.stdin(Stdio::null()).stdout(to(&out)).stderr(to(&err)).kill_on_drop(true);
        let waiter = Self { line: line.to_owned(), process: command.spawn().unwrap(), out, err };
        until(&format!("hctl {line} shows {begun:?}"), || waiter.shown().contains(begun)).await;
        waiter
    }

    fn shown(&self) -> String {
        let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        text(&self.out) + &text(&self.err)
    }

    async fn says(&self, text: &str) {
        until(&format!("hctl {} says {text:?}", self.line), || self.shown().contains(text)).await;
    }

    async fn ends(&mut self) -> i32 {
        let ended = tokio::time::timeout(Duration::from_secs(120), self.process.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("no end: {}", self.shown()));
        ended.unwrap().code().unwrap()
    }
}

async fn fleet() -> Fleet {
    let fleet = Fleet::start(Shape::small("process", 1)).await;
    let manifest = MANIFEST.replace("DIR", &fleet.dir().display().to_string());
    std::fs::write(fleet.dir().join("all.yaml"), manifest).unwrap();
    let file = fleet.dir().join("all.yaml");
    fleet.hctl(&["apply", "-f", file.to_str().unwrap()]).await;
    for task in ["task/talk-0", "task/slow-0"] {
        let line = ["--server", &fleet.url(), "wait", task, "--for", "ready", "--timeout", "60s"];
        let ready = async || Command::new(program("hctl")).args(line).output().await.unwrap();
        fleet::until_async(task, async || ready().await.status.success()).await;
    }
    fleet
}

/// Ends all that runs, so that none of it is left behind.
async fn ends(fleet: &Fleet) {
    std::fs::write(fleet.dir().join("end"), "").unwrap();
    let file = fleet.dir().join("all.yaml");
    fleet.hctl(&["delete", "-f", file.to_str().unwrap(), "--wait", "--timeout", "60s"]).await;
}

#[tokio::test]
async fn what_waits_says_that_the_server_is_lost_and_goes_on_when_it_is_back() {
    let mut fleet = fleet().await;
    let mut all = Vec::new();
    for (line, begun) in [
        ("wait job/talk --timeout 10m", "job/talk: Running, 0 of 1 tasks succeeded"),
        ("apply -f all.yaml --wait", "job/talk: Running, 0 of 1 tasks succeeded"),
        ("run flow --wait", "run/flow-1: Running"),
        ("logs -f job/talk", "hello"),
        ("get tasks --watch", "talk-0"),
        ("delete job/slow --wait --timeout 10m", "job/slow: "),
    ] {
        all.push(Waiter::start(&fleet, line, begun).await);
    }
    fleet.kill("server");
    for waiter in &all {
        waiter.says("trying again").await;
    }
    fleet.run("server").await;
    for waiter in &all {
        waiter.says("is back").await;
        let (line, shown) = (&waiter.line, waiter.shown());
        assert_eq!(shown.matches("trying again").count(), 1, "hctl {line}: {shown}");
    }
    fleet.hctl(&["cancel", "job/talk", "run/flow-1"]).await;
    std::fs::write(fleet.dir().join("end"), "").unwrap();
    for (waiter, code) in all.iter_mut().zip([3, 3, 3, 0]) {
        assert_eq!(waiter.ends().await, code, "hctl {}: {}", waiter.line, waiter.shown());
    }
    ends(&fleet).await;
}

#[tokio::test]
async fn a_wait_that_is_late_since_the_server_is_lost_says_so() {
    let mut fleet = fleet().await;
    let mut waiter = Waiter::start(&fleet, "wait job/talk --timeout 15s", "Running").await;
    fleet.kill("server");
    assert_eq!(waiter.ends().await, 4, "{}", waiter.shown());
    let shown = waiter.shown();
    assert!(shown.contains("has been lost for"), "{shown}");
    assert!(shown.contains("before: Running, 0 of 1 tasks succeeded"), "{shown}");
    fleet.run("server").await;
    ends(&fleet).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_said_to_be_lost() {
    let fleet = fleet().await;
    let waiter = Waiter::start(&fleet, "wait job/talk --timeout 10m", "Running").await;
    fleet.suspend("server");
    waiter.says("it has said nothing for 15s; trying again").await;
    fleet.wake("server");
    waiter.says("is back").await;
    ends(&fleet).await;
}
