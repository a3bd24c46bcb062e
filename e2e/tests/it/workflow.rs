//! The demo's workflow on three agents with the real Docker Engine, while processes are killed: of a
//! small control plane, and of one that has several of everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use api::task::TaskPhase;
use api::{Kind as _, Task};

use e2e::fleet::{self, ControlPlane, Fleet, Shape};

const MANIFEST: &str = include_str!("../../../manifests/data-load.yaml");
const PARTITIONS: u64 = 6;
const ROWS: u64 = 60_000;

/// The demo's manifest with a gate before the work of each job, so that a test can say when it goes
/// on; what has passed the gate says so in a file.
fn gated_manifest() -> String {
    let enter = "cd \"$(params.dir)\"\n";
    let mut parts = MANIFEST.split(enter);
    let mut manifest = parts.next().unwrap().to_owned();
    for (gate, part) in ["collect", "load"].into_iter().zip(parts) {
        let wait = format!("while [ ! -e go-{gate} ]; do sleep 0.1; done");
        let pad = " ".repeat(12);
        let passed = "echo passed >> ran/$HELIOX_TASK";
        let _infallible = write!(manifest, "{enter}{pad}{wait}\n{pad}{passed}\n{part}");
    }
    assert_eq!(manifest.matches("go-").count(), 2, "the demo has two jobs");
    manifest
}

/// Writes rows of `number,amount`; what each partition's file is to say.
fn write_input(dir: &Path) -> BTreeMap<String, String> {
    let mut text = String::new();
    let mut totals: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for number in 0..ROWS {
        let amount = number * 7919 % 1_000_003;
        let _infallible = writeln!(text, "{number},{amount}");
        let total = totals.entry(number % PARTITIONS).or_default();
        *total = (total.0 + 1, total.1 + amount);
    }
    fs::write(dir.join("input.csv"), text).unwrap();
    let line = |(partition, (rows, sum))| {
        (format!("mydb-{partition}"), format!("{rows} {sum} node-{}\n", partition % 3 + 1))
    };
    totals.into_iter().map(line).collect()
}

/// The files of a directory by name. One that is moved into its place while this looks is left out:
/// programs write beside that place first.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let read = |file: std::io::Result<fs::DirEntry>| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        match fs::read_to_string(file.path()) {
            Ok(text) => Some((name, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{name}: {error}"),
        }
    };
    fs::read_dir(dir).unwrap().filter_map(read).collect()
}

fn run_of_job<'a>(tasks: &'a [Task], job: &str) -> Vec<&'a Task> {
    let prefix = format!("data-load-1-{job}-");
    let running = |task: &&Task| task.phase() == TaskPhase::Running;
    tasks.iter().filter(|task| task.name().starts_with(&prefix)).filter(running).collect()
}

/// The demo on a fleet, as far as it has come.
struct Demo {
    fleet: Fleet,
    dir: PathBuf,
    /// What each partition's file is to say.
    wanted: BTreeMap<String, String>,
}

impl Demo {
    async fn start(control_plane: ControlPlane) -> Self {
        fleet::import_image("heliox/busybox", "demo").await;
        let shape = Shape { control_plane, ..Shape::small("docker", 3) };
        let fleet = Fleet::start(shape).await;
        let dir = fleet.dir().join("data");
        fs::create_dir_all(dir.join("ran")).unwrap();
        let wanted = write_input(&dir);
        let manifest = fleet.dir().join("data-load.yaml");
        let text = gated_manifest().replace("/tmp/heliox-demo", dir.to_str().unwrap());
        fs::write(&manifest, text).unwrap();
        fleet.hctl(&["apply", "-f", manifest.to_str().unwrap()]).await;
        Self { fleet, dir, wanted }
    }

    /// Waits until so many tasks of a job run.
    async fn runs(&self, job: &str, count: usize) -> Vec<Task> {
        let running = |tasks: &[Task]| run_of_job(tasks, job).len() == count;
        self.fleet.wait_for(&format!("{count} of {job}"), running).await
    }

    /// Lets the tasks of a job go on.
    fn open(&self, gate: &str) {
        fs::write(self.dir.join(format!("go-{gate}")), "").unwrap();
    }

    /// The machine of the first node burns down while `tasks` run, and comes back when its work has
    /// moved. The task that was lost.
    async fn burn(&mut self, tasks: &[Task]) -> Task {
        let lost = tasks.iter().find(|task| task.node() == Some("node-1")).unwrap().clone();
        self.fleet.kill("node-1");
        fleet::remove_container(lost.uid());
        lost
    }

    /// Waits until a lost task runs, or ran, elsewhere.
    async fn has_moved(&self, lost: &Task) {
        let moved = |task: &Task| {
            let elsewhere = task.node().is_some_and(|at| at != "node-1");
            task.uid() == lost.uid() && task.spec.attempt == 2 && elsewhere
        };
        self.fleet.wait_for("the lost task moves", |tasks| tasks.iter().any(moved)).await;
    }

    async fn all_is_written(&self) {
        let totals = self.dir.join("totals");
        fleet::until("all totals are written", || {
            totals.is_dir() && files(&totals).len() == self.wanted.len()
        })
        .await;
    }

    /// It has succeeded: each total is right and made by its leader, nothing was done twice, and only
    /// the lost task was tried again.
    async fn came_right(&self, lost: &Task) {
        let tasks = self.fleet.succeeds("workflow/data-load").await;
        assert_eq!(files(&self.dir.join("totals")), self.wanted);
        let ran = files(&self.dir.join("ran"));
        assert_eq!(ran.len(), 9);
        assert!(ran.values().all(|text| text == "passed\n"), "nothing is done twice: {ran:?}");
        let again = tasks.iter().filter(|task| task.spec.attempt != 1);
        assert_eq!(again.map(|task| task.name()).collect::<Vec<_>>(), [lost.name()]);
    }
}

#[tokio::test]
async fn the_demo_comes_right_while_agent_and_server_are_killed() {
    let mut demo = Demo::start(ControlPlane::Embedded).await;
    // A machine burns down in the middle of the first job: its task moves to another loader.
    let tasks = demo.runs("collect", 3).await;
    let lost = demo.burn(&tasks).await;
    demo.open("collect");
    demo.has_moved(&lost).await;
    demo.fleet.run("node-1").await;

    // The server dies in the middle of the second, whose tasks end while it is away.
    demo.runs("load", 6).await;
    demo.fleet.kill("server");
    demo.open("load");
    demo.all_is_written().await;
    demo.fleet.run("server").await;
    demo.came_right(&lost).await;
}

#[tokio::test]
async fn the_demo_comes_right_while_one_of_each_is_killed() {
    let mut demo = Demo::start(ControlPlane::Apart {
        members: 3,
        apiservers: 3,
        schedulers: 2,
        controllers: 2,
    })
    .await;
    // One of each dies in the middle of the first job, leaders where there are any.
    let tasks = demo.runs("collect", 3).await;
    let (scheduler, scheduler_term) = demo.fleet.leader("scheduler", 0).await;
    let (controllers, controllers_term) = demo.fleet.leader("controllers", 0).await;
    let dead = ["etcd-1", "apiserver-1", &scheduler, &controllers];
    dead.iter().for_each(|name| demo.fleet.kill(name));
    let lost = demo.burn(&tasks).await;
    demo.open("collect");
    demo.has_moved(&lost).await;
    demo.fleet.run("node-1").await;

    // They come back in the middle of the second, and the others die.
    demo.runs("load", 6).await;
    for name in dead {
        demo.fleet.run(name).await;
    }
    let (scheduler, scheduler_term) = demo.fleet.leader("scheduler", scheduler_term).await;
    let (controllers, controllers_term) = demo.fleet.leader("controllers", controllers_term).await;
    for name in ["etcd-2", "apiserver-2", &scheduler, &controllers] {
        demo.fleet.kill(name);
    }
    demo.open("load");
    demo.all_is_written().await;
    demo.came_right(&lost).await;
    demo.fleet.leader("scheduler", scheduler_term).await;
    demo.fleet.leader("controllers", controllers_term).await;
}
