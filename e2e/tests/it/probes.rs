//! Probes of real programs, with Docker and as processes: of each kind, that hang, and with an agent
//! that is killed while they fail.

use std::path::{Path, PathBuf};

use api::service::Service;
use api::task::TaskPhase;
use api::{Kind as _, Task};
use e2e::fleet::{self, Fleet, Shape};
use serde_json::{Value, json};

const IMAGE: &str = "heliox-e2e/busybox";

/// What the probes of the tests look at: files in a folder that programs and tests share.
struct Files(PathBuf);

impl Files {
    fn of(fleet: &Fleet) -> Self {
        let dir = fleet.dir().join("files");
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn make(&self, name: &str) {
        std::fs::write(self.path(name), "x").unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.path(name)).unwrap_or_default().lines().count()
    }

    /// A command that succeeds while a file is there, and counts how often it was asked.
    fn exec(&self, name: &str) -> Value {
        let (file, count) = (self.path(name), self.path("asked"));
        let script = format!("echo x >> {}; test -f {}", count.display(), file.display());
        json!({ "exec": { "command": ["sh", "-c", script] }, "periodSeconds": 1 })
    }
}

/// A service with one task, which serves the files by HTTP after a second.
async fn serve(fleet: &Fleet, name: &str, dir: &Path, fields: Value) {
    let script = format!("sleep 1; exec busybox httpd -f -p $(ports.http) -h {}", dir.display());
    let mut template = json!({
        "image": format!("{IMAGE}:1"), "imagePullPolicy": "Never",
        "command": ["sh", "-c", script], "ports": [{ "name": "http" }],
        "mounts": [{ "path": dir, "hostPath": dir }], "terminationGracePeriodSeconds": 1,
    });
    template.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let service: Service = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "template": template, "restart": { "backoff": { "initial": "100ms" } } },
    }))
    .unwrap();
    fleet.client().api::<Service>("default").create(&service).await.unwrap();
}

fn of<'a>(tasks: &'a [Task], service: &str) -> Option<&'a Task> {
    tasks.iter().find(|task| task.controller().is_some_and(|owner| owner.name == service))
}

fn says(tasks: &[Task], service: &str, words: &str) -> bool {
    let message = of(tasks, service).and_then(|task| task.status.message.as_deref());
    message == Some(words)
}

fn is_ready(tasks: &[Task], service: &str) -> bool {
    of(tasks, service).is_some_and(Task::is_ready)
}

/// Ready and not ready by each kind of probe, as a file comes and goes.
async fn each_kind(runtime: &'static str) {
    let fleet = Fleet::start(Shape::small(runtime, 1)).await;
    let files = Files::of(&fleet);
    let once = |mut probe: Value| {
        probe["periodSeconds"] = json!(1);
        probe["failureThreshold"] = json!(1);
        json!({ "readinessProbe": probe })
    };
    let http = json!({ "httpGet": { "path": "/ready", "port": "http" } });
    let tcp = json!({ "tcpSocket": { "port": "http" } });
    serve(&fleet, "http", &files.0, once(http)).await;
    serve(&fleet, "tcp", &files.0, once(tcp)).await;
    serve(&fleet, "exec", &files.0, once(files.exec("ready"))).await;
    let of_file = ["http", "exec"];
    let answered = "readiness probe fails: GET /ready answered 404";
    fleet.wait_for("no file", |tasks| says(tasks, "http", answered)).await;
    fleet.wait_for("exit 1", |tasks| says(tasks, "exec", "readiness probe fails: exit 1")).await;
    fleet.wait_for("it listens", |tasks| is_ready(tasks, "tcp")).await;
    files.make("ready");
    fleet.wait_for("ready", |tasks| of_file.iter().all(|it| is_ready(tasks, it))).await;
    files.remove("ready");
    fleet.wait_for("not ready", |tasks| !of_file.iter().any(|it| is_ready(tasks, it))).await;
    let runs = |task: &Task| task.phase() == TaskPhase::Running && task.status.restarts == 0;
    fleet.wait_for("all run still", |tasks| tasks.len() == 3 && tasks.iter().all(runs)).await;
}

#[tokio::test]
async fn tasks_are_ready_by_each_kind_of_probe_with_docker() {
    fleet::import_image(IMAGE, "1").await;
    each_kind("docker").await;
}

#[tokio::test]
async fn tasks_are_ready_by_each_kind_of_probe_as_processes() {
    each_kind("process").await;
}

/// Trap A3: a check that was failing counted as passed once its agent had been restarted.
async fn killed_while_it_fails(runtime: &'static str) {
    let mut fleet = Fleet::start(Shape::small(runtime, 1)).await;
    let files = Files::of(&fleet);
    serve(&fleet, "web", &files.0, json!({ "readinessProbe": files.exec("ready") })).await;
    fleet.wait_for("it fails", |tasks| says(tasks, "web", "readiness probe fails: exit 1")).await;
    for _ in 0..3 {
        fleet.kill("node-1");
        fleet.run("node-1").await;
        // Three probes of the next agent.
        let asked = files.lines("asked") + 3;
        let seen = fleet.wait_for("it is probed again", |tasks| {
            assert!(!of(tasks, "web").unwrap().status.ready, "its probe has never succeeded");
            files.lines("asked") >= asked
        });
        seen.await;
    }
    files.make("ready");
    fleet.wait_for("it is ready", |tasks| is_ready(tasks, "web")).await;
    let asked = files.lines("asked");
    fleet.kill("node-1");
    fleet.run("node-1").await;
    fleet
        .wait_for("it stays ready", |tasks| {
            assert!(is_ready(tasks, "web"), "its probe has not failed");
            files.lines("asked") >= asked + 3
        })
        .await;
    let tasks = fleet.wait_for("it ran on", |_| true).await;
    assert_eq!(of(&tasks, "web").unwrap().status.restarts, 0);
}

#[tokio::test]
async fn a_killed_agent_takes_no_probe_for_passed_with_docker() {
    fleet::import_image(IMAGE, "1").await;
    killed_while_it_fails("docker").await;
}

#[tokio::test]
async fn a_killed_agent_takes_no_probe_for_passed_as_processes() {
    killed_while_it_fails("process").await;
}

/// How many commands on this machine have this word among their arguments.
fn running(word: &str) -> usize {
    let has = |entry: std::io::Result<std::fs::DirEntry>| {
        let words = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let is_sleep = words.next().is_some_and(|program| program.ends_with(b"sleep"));
        (is_sleep && words.any(|it| it == word.as_bytes())).then_some(())
    };
    std::fs::read_dir("/proc").unwrap().filter_map(has).count()
}

/// A command that hangs fails in its time, is stopped, and its container is started again.
async fn hangs(runtime: &'static str, seconds: &'static str) {
    let fleet = Fleet::start(Shape::small(runtime, 1)).await;
    let files = Files::of(&fleet);
    let hangs = json!({
        "exec": { "command": ["sleep", seconds] }, "periodSeconds": 1, "failureThreshold": 3,
    });
    serve(&fleet, "web", &files.0, json!({ "livenessProbe": hangs })).await;
    let again = |tasks: &[Task]| {
        assert!(running(seconds) <= 2, "{} commands run", running(seconds));
        of(tasks, "web").is_some_and(|task| task.status.restarts >= 2)
    };
    let tasks = fleet.wait_for("it is started again twice", again).await;
    let last = of(&tasks, "web").unwrap().status.last_exit.as_ref().unwrap();
    assert_eq!(last.reason.as_deref(), Some("Unhealthy"));
    let message = last.message.as_deref().unwrap_or_default();
    assert!(message.starts_with("liveness probe failed 3 times: "), "{message}");
    fleet.hctl(&["delete", "service/web"]).await;
    fleet.wait_for("it is gone", <[Task]>::is_empty).await;
    fleet::until("no command is left", || running(seconds) == 0).await;
}

#[tokio::test]
async fn a_command_that_hangs_is_stopped_with_docker() {
    fleet::import_image(IMAGE, "1").await;
    hangs("docker", "98761").await;
}

#[tokio::test]
async fn a_command_that_hangs_is_stopped_as_a_process() {
    hangs("process", "98762").await;
}

/// The agent is killed in the delay before the stop signal.
#[tokio::test]
async fn a_killed_agent_goes_on_with_a_drain() {
    fleet::import_image(IMAGE, "1").await;
    let mut fleet = Fleet::start(Shape::small("docker", 1)).await;
    let files = Files::of(&fleet);
    serve(&fleet, "web", &files.0, json!({ "drainDelay": "10s" })).await;
    fleet.wait_for("it is ready", |tasks| is_ready(tasks, "web")).await;
    let began = tokio::time::Instant::now();
    fleet.hctl(&["scale", "service/web", "--replicas", "0"]).await;
    let drains = |tasks: &[Task]| tasks.iter().all(|task| !task.status.ready);
    fleet.wait_for("it is not ready", drains).await;
    fleet.kill("node-1");
    fleet.run("node-1").await;
    fleet.wait_for("it is gone", <[Task]>::is_empty).await;
    assert!(began.elapsed().as_secs() >= 10, "it was drained for {:?}", began.elapsed());
}
