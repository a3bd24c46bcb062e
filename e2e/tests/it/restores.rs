//! A store is lost and restored from a backup: agents hold what they have, and go on with what the
//! backup knows once a person says so.

use std::path::Path;
use std::process::{Command, Output};

use api::node::NodePhase;
use api::task::TaskPhase;
use api::{Job, Kind as _, Node, Task};
use client::ListOptions;
use serde_json::json;

use e2e::fleet::{self, ControlPlane, Fleet, Shape, program};

/// Tasks that say in a file of their own that they began, and then wait to be stopped, which they
/// say, too; or to be let end.
fn job(fleet: &Fleet, name: &str, count: u32) -> Job {
    let dir = fleet.dir().join("said");
    std::fs::create_dir_all(&dir).unwrap();
    let script = format!(
        "f={0}/$HELIOX_TASK; echo began >> $f; trap 'echo stopped >> $f; exit 0' TERM; \
         while [ ! -e {0}/end-{name} ]; do sleep 0.1; done; echo ended >> $f",
        dir.display()
    );
    serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "count": count,
            "template": {
                "image": "none", "command": ["sh", "-c"], "args": [script],
                "terminationGracePeriodSeconds": 5,
                "resources": { "requests": { "cpu": "10m" } },
            },
        },
    }))
    .unwrap()
}

/// What a task said, in words.
fn said(dir: &Path, task: &str) -> String {
    let text = std::fs::read_to_string(dir.join("said").join(task)).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn heliox(args: &[&str]) -> Output {
    let output = Command::new(program("heliox")).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "heliox {args:?}: {text}");
    output
}

fn running(tasks: &[Task], job: &str) -> usize {
    let of = tasks.iter().filter(|task| task.name().starts_with(job));
    of.filter(|task| task.phase() == TaskPhase::Running).count()
}

async fn nodes(fleet: &Fleet, phase: NodePhase) -> usize {
    let nodes = fleet.client().api::<Node>("").list(&ListOptions::default()).await;
    nodes.map_or(0, |nodes| nodes.items.iter().filter(|node| node.phase() == phase).count())
}

/// Waits until so many nodes are in this phase.
async fn nodes_are(fleet: &Fleet, phase: NodePhase, count: usize) {
    let what = format!("{count} nodes are {phase}");
    fleet::until_async(&what, async || nodes(fleet, phase).await == count).await;
}

/// Whether three attempts of a task began and two of them were stopped. An older container may live
/// beside its successor until its grace is over (docs/backup.md), so either may speak first.
fn began_thrice_and_stopped_twice(dir: &Path, task: &str) -> bool {
    let said = said(dir, task);
    let times = |word| said.split(' ').filter(|said| *said == word).count();
    (times("began"), times("stopped")) == (3, 2)
}

/// From the first backup to the last task, on a store of which `wipe` makes an empty one, and which
/// `place` names.
async fn story(mut fleet: Fleet, place: [String; 2], wipe: impl AsyncFn(&mut Fleet)) {
    let backup = fleet.dir().join("backup").display().to_string();
    work_and_back_up(&fleet, &backup).await;
    fleet.kill("server");
    wipe(&mut fleet).await;
    let [option, value] = &place;
    heliox(&["restore", &backup, option, value]);
    fleet.run("server").await;
    agents_wait(&fleet).await;
    fleet.hctl(&["cluster", "confirm", "--yes"]).await;
    agents_go_on(&fleet).await;
}

async fn work_and_back_up(fleet: &Fleet, backup: &str) {
    fleet.create(&job(fleet, "early", 3)).await;
    fleet.wait_for("all run", |tasks| running(tasks, "early") == 3).await;
    heliox(&["backup", "--server", &fleet.url(), "--out", backup]);
    heliox(&["backup", "--check", backup]);
    fleet.create(&job(fleet, "late", 2)).await;
    fleet.wait_for("the late ones run", |tasks| running(tasks, "late") == 2).await;
    // One of which the backup says that it runs ends before the store is lost.
    fleet.hctl(&["evict", "early-2"]).await;
    let again = |tasks: &[Task]| tasks.iter().any(|task| task.spec.attempt == 2);
    fleet.wait_for("it runs again", |tasks| again(tasks) && running(tasks, "early") == 3).await;
    let dir = fleet.dir();
    fleet::until("it says so", || said(dir, "early-2") == "began stopped began").await;
}

async fn agents_wait(fleet: &Fleet) {
    nodes_are(fleet, NodePhase::NotReady, 2).await;
    // Until its agent is back, a node says that it is not heard.
    fleet::until_async("both nodes say what they wait for", async || {
        let shown = fleet.hctl(&["get", "nodes"]).await;
        shown.matches("hctl cluster confirm").count() == 2
    })
    .await;
    let shown = fleet.hctl(&["cluster"]).await;
    assert!(shown.contains("2 waiting for confirmation"), "{shown}");
    for task in ["early-0", "early-1", "late-0", "late-1"] {
        assert_eq!(said(fleet.dir(), task), "began", "{task} runs on untouched");
    }
    assert_eq!(said(fleet.dir(), "early-2"), "began stopped began");
}

async fn agents_go_on(fleet: &Fleet) {
    let dir = fleet.dir();
    nodes_are(fleet, NodePhase::Ready, 2).await;
    let stopped = |task: &&str| said(dir, task) == "began stopped";
    fleet::until("the late ones are stopped with their grace", || {
        ["late-0", "late-1"].iter().all(stopped)
    })
    .await;
    let anew = || began_thrice_and_stopped_twice(dir, "early-2");
    fleet::until("what ended after the backup runs anew", anew).await;
    fleet.wait_for("all run", |tasks| running(tasks, "early") == 3 && tasks.len() == 3).await;
    std::fs::write(dir.join("said/end-early"), "").unwrap();
    for task in fleet.succeeds("job/early").await {
        let untouched = task.name() != "early-2";
        assert_eq!(task.spec.attempt == 1, untouched, "{} {}", task.name(), task.spec.attempt);
        assert_eq!(task.spec.failures, 0, "a restore costs no retry");
        let said = said(dir, task.name());
        assert!(said.ends_with(" ended"), "{}: {said}", task.name());
        match untouched {
            true => assert_eq!(said, "began ended"),
            false => assert!(began_thrice_and_stopped_twice(dir, task.name()), "{said}"),
        }
    }
}

#[tokio::test]
async fn a_restored_embedded_store_goes_on_with_what_the_backup_knows() {
    let fleet = Fleet::start(Shape::small("process", 2)).await;
    let data = fleet.dir().join("server").display().to_string();
    let wipe =
        async |fleet: &mut Fleet| std::fs::remove_dir_all(fleet.dir().join("server")).unwrap();
    story(fleet, ["--data-dir".to_owned(), data], wipe).await;
}

#[tokio::test]
async fn a_restored_etcd_goes_on_with_what_the_backup_knows() {
    let control_plane = ControlPlane::OnEtcd { members: 1 };
    let fleet = Fleet::start(Shape { control_plane, ..Shape::small("process", 2) }).await;
    let url = fleet.etcd_url();
    let wipe = async |fleet: &mut Fleet| {
        fleet.kill("etcd-1");
        std::fs::remove_dir_all(fleet.dir().join("etcd-1")).unwrap();
        fleet.run("etcd-1").await;
    };
    story(fleet, ["--etcd".to_owned(), url], wipe).await;
}
