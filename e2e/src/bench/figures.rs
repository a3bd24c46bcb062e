//! The measurements.

use std::process::{Command, Stdio};
use std::time::Duration;

use api::{Job, Kind as _, Task, Timestamp};
use client::{Client, DeletePropagation, ListOptions, Servers, http_transport};
use tokio::time::{Instant, sleep};

use super::limits::{self, Limit};
use super::workload::{IDLE, LOOK, complete, fleet, no_op};
use super::{
    Figure, Sizes, containers, idle, millis, placements, processes, removal, restart, services,
    steps, watches,
};
use crate::fleet::{ControlPlane, Fleet, program};

/// A task is created and bound.
const WRITES_TO_BOUND: u64 = 2;
/// It is created and bound, has ended and is recorded.
const WRITES_TO_END: u64 = 4;

/// Measures everything; each figure is told of when it is there. Returns where the time of the steps
/// went, if they were to be traced.
pub(super) async fn all(sizes: &Sizes, mut tell: impl FnMut(Figure)) -> Vec<String> {
    let (nodes, tasks) = sizes.placements;
    placements::figures(nodes, tasks).into_iter().for_each(&mut tell);
    tell(ready().await);
    let limit = limits::embedded().await;
    let mut fleet = fleet(sizes.nodes, ControlPlane::Embedded).await;
    memory(&fleet).await.into_iter().for_each(&mut tell);
    let timed = bound(&fleet, sizes.tasks, ("embedded", &limit)).await;
    timed.into_iter().for_each(&mut tell);
    let timed = complete_one(&fleet, sizes.tasks, ("embedded", &limit)).await;
    timed.into_iter().for_each(&mut tell);
    tell(watches::figure(&fleet, sizes.tasks.div_ceil(2)).await);
    if sizes.nodes > 1 {
        tell(loss(&mut fleet).await);
    }
    drop(fleet);
    let limit = limits::etcd().await;
    let fleet = self::fleet(sizes.nodes, ControlPlane::OnEtcd { members: 1 }).await;
    let timed = bound(&fleet, sizes.tasks, ("etcd", &limit)).await;
    timed.into_iter().for_each(&mut tell);
    let timed = complete_one(&fleet, sizes.tasks, ("etcd", &limit)).await;
    timed.into_iter().for_each(&mut tell);
    let (timed, traced) = steps::figures(&fleet, (sizes.chain, sizes.trace_steps), &limit).await;
    timed.into_iter().for_each(&mut tell);
    if sizes.large > 0 {
        large(&fleet, sizes.large).await.into_iter().for_each(&mut tell);
    }
    drop(fleet);
    tell(takeover().await);
    tell(removal::figure(sizes.tasks).await);
    if sizes.restart > 0 {
        tell(restart::figure(sizes.restart).await);
    }
    if sizes.finished > 0 {
        idle::figures(sizes.finished, sizes.idle).await.into_iter().for_each(&mut tell);
    }
    if sizes.processes > 0 {
        processes::figures(sizes.processes).await.into_iter().for_each(&mut tell);
    }
    if sizes.containers > 0 {
        tell(containers::figure(sizes.containers).await);
    }
    if sizes.replicas > 0 {
        services::on_docker(sizes.replicas).await.into_iter().for_each(&mut tell);
    }
    for nodes in &sizes.rollouts {
        services::over_nodes(*nodes).await.into_iter().for_each(&mut tell);
    }
    traced
}

fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
}

async fn ready() -> Figure {
    let port = base::reserved_port().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let start = Instant::now();
    let mut dev = Command::new(program("heliox"))
        .args(["dev", "--runtime", "sim", "--listen", &listen])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let servers = Servers::parse(&format!("http://{listen}"), 0).unwrap();
    let client = Client::new(http_transport(&servers));
    while client.bytes(http::Method::GET, "/readyz", None).await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    let number = millis(start.elapsed());
    dev.kill().unwrap();
    dev.wait().unwrap();
    let what = "heliox dev: started to ready".to_owned();
    Figure::new(what, ("1000 ms", "200 ms"), (number, "ms"))
}

async fn memory(fleet: &Fleet) -> [Figure; 2] {
    sleep(IDLE).await;
    let (server, agent) = (fleet.memory_kib("server"), fleet.memory_kib("node-1"));
    let figure = |what: &str, first, goal, kib: u64| {
        let what = format!("idle memory: {what}");
        Figure::new(what, (first, goal), (kib / 1024, "MiB"))
    };
    [figure("server", "80 MiB", "40 MiB", server), figure("agent", "25 MiB", "12 MiB", agent)]
}

/// Tasks that run on: from the job's submission to the binding of the last, and what the server's memory
/// has grown by once all run. They are gone after it.
async fn bound(fleet: &Fleet, count: u32, (store, limit): (&str, &Limit)) -> [Figure; 2] {
    let memory_before = fleet.memory_kib("server");
    let mut job = no_op("bound", count);
    job.spec.template.args = vec!["duration=3600s".to_owned()];
    let began = base::Clock::system().now();
    fleet.create(&job).await;
    let jobs = fleet.client().api::<Job>("default");
    while !jobs.get("bound").await.is_ok_and(|job| job.status.active == count) {
        sleep(LOOK).await;
    }
    let tasks = fleet.client().api::<Task>("default");
    let listed = tasks.list(&ListOptions::default()).await.unwrap();
    let times = listed.items.iter().filter_map(|task| task.binding()).map(|binding| binding.at);
    let took = times.max().map_or(0, |last| between(began, last)).max(1);
    let starting = ListOptions { fields: "status.phase!=Running".to_owned(), ..<_>::default() };
    while !tasks.list(&starting).await.is_ok_and(|left| left.items.is_empty()) {
        sleep(LOOK).await;
    }
    let memory = fleet.memory_kib("server").saturating_sub(memory_before);
    jobs.delete("bound", DeletePropagation::Background).await.unwrap();
    while !tasks.list(&ListOptions::default()).await.is_ok_and(|left| left.items.is_empty()) {
        sleep(LOOK).await;
    }
    let what = format!("submitted to bound, durable, {count} tasks, {store}");
    let number = u64::from(count) * 1000 / took;
    let allowed = limit.writes_per_second / WRITES_TO_BOUND;
    let of = format!("{}, {WRITES_TO_BOUND} writes a task", limit.of);
    let each = format!("memory a running task of {count}, control plane, {store}");
    let bytes = (memory * 1024 / u64::from(count)).max(1);
    [
        Figure::new(what, ("5000 /s", "20000 /s"), (number, "/s")).beside(allowed, of),
        Figure::new(each, ("10000 B", "3000 B"), (bytes, "B")),
    ]
}

async fn complete_one(fleet: &Fleet, count: u32, (store, limit): (&str, &Limit)) -> [Figure; 2] {
    let before = fleet.cpu_millis();
    let took = complete(fleet, &no_op("timed", count)).await;
    let cpu = fleet.cpu_millis() - before;
    let whole = format!("a job of {count} no-op tasks to its end, {store}");
    let allowed = u64::from(count) * WRITES_TO_END * 1000 / limit.writes_per_second;
    let of = format!("{}, {WRITES_TO_END} writes a task", limit.of);
    let each = format!("processor time a task of it, all processes, {store}");
    [
        Figure::new(whole, ("10 s (10,000)", "1 s"), (millis(took), "ms")).beside(allowed, of),
        Figure::new(each, ("-", "-"), (cpu * 1000 / u64::from(count), "us")),
    ]
}

async fn large(fleet: &Fleet, count: u32) -> [Figure; 2] {
    let took = complete(fleet, &no_op("large", count)).await;
    let in_use = etcd_in_use_kib(fleet).await.div_ceil(1024);
    let whole = format!("a job of {count} no-op tasks to its end, etcd");
    [
        Figure::new(whole, ("completes", "2 min (10^6)"), (took.as_secs(), "s")),
        Figure::new(
            "etcd's database in use after it".to_owned(),
            ("256 MiB (10^6)", "128 MiB"),
            (in_use, "MiB"),
        ),
    ]
}

/// What of etcd's database is in use, as it says itself, in KiB.
async fn etcd_in_use_kib(fleet: &Fleet) -> u64 {
    let etcd = Client::new(http_transport(&Servers::parse(&fleet.etcd_url(), 0).unwrap()));
    let metrics = etcd.bytes(http::Method::GET, "/metrics", None).await.unwrap();
    let text = String::from_utf8_lossy(&metrics).into_owned();
    let name = "etcd_mvcc_db_total_size_in_use_in_bytes ";
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    // Such as 1.4e+08.
    let bytes = format!("{:.0}", line.parse::<f64>().unwrap());
    bytes.parse::<u64>().unwrap() / 1024
}

/// A leader dies: from then to the next one's leadership.
async fn takeover() -> Figure {
    let control_plane =
        ControlPlane::Apart { members: 1, apiservers: 1, schedulers: 2, controllers: 1 };
    let mut fleet = fleet(1, control_plane).await;
    let (leader, term) = fleet.leader("scheduler", 0).await;
    fleet.kill(&leader);
    let died = Instant::now();
    fleet.leader("scheduler", term).await;
    let what = "a leading scheduler killed to the next one leads".to_owned();
    Figure::new(what, ("5000 ms", "5000 ms"), (millis(died.elapsed()), "ms"))
}

/// An agent dies: from then to the start of its work elsewhere.
async fn loss(fleet: &mut Fleet) -> Figure {
    let mut job = no_op("moved", 1);
    job.spec.template.args = vec!["duration=60s".to_owned()];
    fleet.create(&job).await;
    let start_of = |tasks: &[Task], attempt: u32| {
        let task = tasks.iter().find(|task| task.name() == "moved-0")?;
        // What the status says may be of the attempt before.
        let is_told = task.report().is_some() && task.spec.attempt == attempt;
        let started_at = task.status.started_at.filter(|_| is_told)?;
        Some((started_at, task.node()?.to_owned()))
    };
    let tasks = fleet.wait_for("it runs", |tasks| start_of(tasks, 1).is_some()).await;
    let (_, node) = start_of(&tasks, 1).unwrap();
    fleet.kill(&node);
    let died = base::Clock::system().now();
    let tasks = fleet.wait_for("it runs again", |tasks| start_of(tasks, 2).is_some()).await;
    let (again, _) = start_of(&tasks, 2).unwrap();
    let what = "node last heard to its work started elsewhere (after: 10 s)".to_owned();
    Figure::new(what, ("15000 ms", "12000 ms"), (between(died, again), "ms"))
}
