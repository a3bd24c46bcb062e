//! Logs that are followed while the agent and the server are killed, and logs at full speed.

use std::path::PathBuf;
use std::process::Stdio;

use api::task::TaskPhase;
use api::{Job, Task};
use e2e::fleet::{self, Fleet, Shape, program};
use serde_json::json;
use tokio::process::{Child, Command};

const IMAGE: &str = "heliox-e2e/busybox";

fn job(script: &str) -> Job {
    serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": "talk", "namespace": "default" },
        "spec": { "count": 1, "template": {
            "image": format!("{IMAGE}:1"), "imagePullPolicy": "Never",
            "command": ["sh", "-c"], "args": [script],
            "terminationGracePeriodSeconds": 1,
        } },
    }))
    .unwrap()
}

/// `hctl logs -f` in the background, with what it prints in files.
struct Follower {
    process: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Follower {
    fn start(fleet: &Fleet, args: &[&str]) -> Self {
        let (out, err) = (fleet.dir().join("followed.out"), fleet.dir().join("followed.err"));
        let file = |path: &PathBuf| Stdio::from(std::fs::File::create(path).unwrap());
        let mut command = Command::new(program("hctl"));
        command.args(["--server", &fleet.url(), "logs", "-f"]).args(args);
        command.stdout(file(&out)).stderr(file(&err)).kill_on_drop(true);
        Self { process: command.spawn().unwrap(), out, err }
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap()).into_owned()
    }

    fn err(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    async fn prints(&self, line: &str) {
        let what = format!("{line:?} is printed");
        fleet::until(&what, || self.out().lines().any(|it| it.ends_with(line))).await;
    }

    async fn ends(&mut self) -> i32 {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(120), self.process.wait());
        ended.await.unwrap().unwrap().code().unwrap()
    }
}

async fn runs(fleet: &Fleet) {
    let runs = |tasks: &[Task]| tasks.iter().any(|task| task.phase() == TaskPhase::Running);
    fleet.wait_for("it runs", runs).await;
}

/// Each line is printed once and in order, whoever is killed meanwhile; and the end is the task's.
async fn follow_through_kills(runtime: &'static str) {
    let mut fleet = Fleet::start(Shape::small(runtime, 1)).await;
    // It waits for nobody, and says more after each kill and while nobody listens.
    let script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo tick $i; sleep 0.25; done; \
                  echo done >&2";
    fleet.create(&job(script)).await;
    runs(&fleet).await;
    let mut of_task = Follower::start(&fleet, &["talk-0"]);
    of_task.prints("tick 4").await;
    fleet.kill("node-1");
    // It goes on while its agent is away: what it wrote meanwhile is read afterwards.
    fleet::until("the follower says so", || of_task.err().contains("trying again")).await;
    fleet.run("node-1").await;
    fleet::until("the follower goes on", || of_task.err().contains("is back")).await;
    of_task.prints("tick 12").await;
    fleet.kill("server");
    fleet.run("server").await;
    let code = of_task.ends().await;
    let expected: String = (1..=60).map(|n| format!("tick {n}\n")).collect();
    assert_eq!(of_task.out(), format!("{expected}done\n"), "{}", of_task.err());
    assert_eq!(code, 0, "{}", of_task.err());
    // What is read afterwards is the same.
    let read = fleet.hctl(&["logs", "job/talk"]).await;
    assert_eq!(read, of_task.out());
    let tail = fleet.hctl(&["logs", "talk-0", "--tail", "2"]).await;
    assert_eq!(tail, "tick 60\ndone\n");
}

#[tokio::test]
async fn a_followed_process_is_heard_to_its_end_through_kills() {
    follow_through_kills("process").await;
}

#[tokio::test]
async fn a_followed_container_is_heard_to_its_end_through_kills() {
    fleet::import_image(IMAGE, "1").await;
    follow_through_kills("docker").await;
}

/// A task that will be tried again has not ended: whoever follows it hears its attempts to the last.
#[tokio::test]
async fn a_followed_task_is_heard_through_its_attempts() {
    let fleet = Fleet::start(Shape::small("process", 1)).await;
    let mut job = job("echo try $HELIOX_ATTEMPT; exit 5");
    let retry = json!({ "maxAttempts": 3, "backoff": { "initial": "1s" } });
    job.spec.retry = Some(serde_json::from_value(retry).unwrap());
    fleet.create(&job).await;
    fleet.wait_for("it is there", |tasks| !tasks.is_empty()).await;
    let mut follower = Follower::start(&fleet, &["talk-0"]);
    assert_eq!(follower.ends().await, 0, "{}", follower.err());
    assert_eq!(follower.out(), "try 1\ntry 2\ntry 3\n", "{}", follower.err());
}

/// 20 MB as fast as they can be written: the follower of the job prints all of it, and a line that
/// is longer than the engine stores in one piece is one line.
async fn follow_at_full_speed(runtime: &'static str) {
    let fleet = Fleet::start(Shape::small(runtime, 1)).await;
    let filler = "x".repeat(180);
    let script = format!(
        "head -c 70000 /dev/zero | tr '\\0' y; echo; \
         i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo \"$i {filler}\"; done; echo THE END"
    );
    fleet.create(&job(&script)).await;
    let mut follower = Follower::start(&fleet, &["job/talk", "--timestamps"]);
    let code = follower.ends().await;
    let out = follower.out();
    let mut lines = out.lines();
    let mut next = || {
        let line = lines.next().unwrap_or_else(|| panic!("lines are missing: {}", follower.err()));
        let (name, rest) = line.split_once(" | ").unwrap();
        assert_eq!(name, "talk-0");
        rest.split_once(' ').unwrap().1
    };
    assert!(next() == "y".repeat(70_000), "a long line is one line, with one time");
    for number in 1..=100_000 {
        assert_eq!(next(), format!("{number} {filler}"));
    }
    assert_eq!(next(), "THE END");
    assert_eq!((lines.next(), code), (None, 0), "{}", follower.err());
}

#[tokio::test]
async fn a_process_is_followed_at_full_speed() {
    follow_at_full_speed("process").await;
}

#[tokio::test]
async fn a_container_is_followed_at_full_speed() {
    fleet::import_image(IMAGE, "1").await;
    follow_at_full_speed("docker").await;
}

#[tokio::test]
async fn a_log_that_cannot_be_had_says_why_at_once() {
    let mut fleet = Fleet::start(Shape::small("process", 1)).await;
    fleet.create(&job("echo hello; sleep 1000")).await;
    runs(&fleet).await;
    let said = async |fleet: &Fleet, args: &[&str]| {
        let mut command = Command::new(program("hctl"));
        command.args(["--server", &fleet.url(), "logs"]).args(args).kill_on_drop(true);
        let said = command.output().await.unwrap();
        (String::from_utf8_lossy(&said.stderr).into_owned(), said.status.code().unwrap())
    };
    let (why, code) = said(&fleet, &["talk-0", "--attempt", "2"]).await;
    assert!(why.contains("has no attempt 2") && code == 6, "{why}");
    let (why, code) = said(&fleet, &["talk-0", "--previous"]).await;
    assert!(why.contains("no attempt before attempt 1") && code == 6, "{why}");
    fleet.kill("node-1");
    let (why, code) = said(&fleet, &["talk-0"]).await;
    assert!(why.contains("node-1") && code == 1, "{why}");
    let (why, code) = said(&fleet, &["job/talk"]).await;
    assert!(why.contains("node-1") && code == 1, "{why}");
    // Its process is not left behind.
    fleet.run("node-1").await;
    fleet.hctl(&["delete", "job", "talk", "--wait"]).await;
}
