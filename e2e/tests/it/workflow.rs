//! The demo's workflow on a server and three agents with the real Docker Engine, while both are
//! killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use api::task::TaskPhase;
use api::{Kind as _, Task};

use e2e::fleet::{self, Fleet, Shape};

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

/// The files of a directory by name.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let read = |file: std::io::Result<fs::DirEntry>| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        (name, fs::read_to_string(file.path()).unwrap())
    };
    fs::read_dir(dir).unwrap().map(read).collect()
}

fn run_of_job<'a>(tasks: &'a [Task], job: &str) -> Vec<&'a Task> {
    let prefix = format!("data-load-1-{job}-");
    let running = |task: &&Task| task.phase() == TaskPhase::Running;
    tasks.iter().filter(|task| task.name().starts_with(&prefix)).filter(running).collect()
}

#[tokio::test]
async fn the_demo_comes_right_while_agent_and_server_are_killed() {
    fleet::import_image("heliox/busybox", "demo").await;
    let mut fleet = Fleet::start(Shape::small("docker", 3)).await;
    let dir = fleet.dir().join("data");
    fs::create_dir_all(dir.join("ran")).unwrap();
    let wanted = write_input(&dir);
    let manifest = fleet.dir().join("data-load.yaml");
    let text = gated_manifest().replace("/tmp/heliox-demo", dir.to_str().unwrap());
    fs::write(&manifest, text).unwrap();
    fleet.hctl(&["apply", "-f", manifest.to_str().unwrap()]).await;

    // A machine burns down in the middle of the first job: its task moves to another loader.
    let tasks = fleet.wait_for("3 collect", |tasks| run_of_job(tasks, "collect").len() == 3).await;
    let lost = tasks.iter().find(|task| task.node() == Some("node-1")).unwrap();
    fleet.kill("node-1");
    fleet::remove_container(lost.uid());
    fs::write(dir.join("go-collect"), "").unwrap();
    fleet
        .wait_for("the lost task runs or ran elsewhere", |tasks| {
            let moved = |task: &&Task| task.uid() == lost.uid() && task.spec.attempt == 2;
            tasks
                .iter()
                .find(moved)
                .is_some_and(|task| task.node().is_some_and(|at| at != "node-1"))
        })
        .await;
    fleet.run("node-1").await;

    // The server dies in the middle of the second, whose tasks end while it is away.
    fleet.wait_for("6 load", |tasks| run_of_job(tasks, "load").len() == 6).await;
    fleet.kill("server");
    fs::write(dir.join("go-load"), "").unwrap();
    fleet::until("all totals are written", || {
        dir.join("totals").is_dir() && files(&dir.join("totals")).len() == wanted.len()
    })
    .await;
    fleet.run("server").await;

    let tasks = fleet.succeeds("workflow/data-load").await;
    assert_eq!(files(&dir.join("totals")), wanted, "each total is right and made by its leader");
    let ran = files(&dir.join("ran"));
    assert_eq!(ran.len(), 9);
    assert!(ran.values().all(|text| text == "passed\n"), "nothing is done twice: {ran:?}");
    let again = |task: &&Task| task.spec.attempt != 1;
    let again: Vec<&str> = tasks.iter().filter(again).map(|task| task.name()).collect();
    assert_eq!(again, [lost.name()]);
}
