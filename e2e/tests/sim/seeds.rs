//! Two hundred seeds: a workload, faults of every kind, and the promises after every step.

use std::time::Duration;

use api::Node;
use base::{Rng, Tasks};
use serde_json::{Value, json};
use store::{Fault, Store as _};

use crate::cluster::Cluster;
use crate::promises::Promises;
use crate::watcher::{self, Memory};
use crate::workload;
use crate::writer::{self, Ledger};

/// Steps with faults, each some seconds long.
const STEPS: u32 = 12;
/// When faults have stopped, everything has ended within this: the longest back-off, the longest
/// task, and a node's loss, several times over.
const LIVENESS: Duration = Duration::from_secs(900);

/// Runs a cluster from a seed. Panics with the promise that was broken.
async fn run(seed: u64) {
    let mut cluster = Cluster::start(seed).await;
    let rng = cluster.rng.fork("faults");
    let (ledger, memory) = (Ledger::default(), Memory::default());
    let mut promises = Promises::new(ledger.clone(), memory.clone());
    let clients = Tasks::new("clients");
    let line = cluster.network.line(rng.fork("watcher"));
    clients.spawn("watcher", watcher::watch(line.client(), memory));
    let writers = Tasks::new("writers");
    let line = cluster.network.line(rng.fork("writer line"));
    writers.spawn("writer", writer::write(line.client(), rng.fork("writer"), ledger));
    workload::start(&cluster, &rng).await;
    for _ in 0..STEPS {
        fault(&mut cluster, &rng).await;
        tokio::time::sleep(Duration::from_millis(rng.below(6000))).await;
        promises.check(&cluster).await;
        if rng.chance(100) {
            // History is forgotten, and whoever lags behind has to list anew.
            let now = cluster.store.revision().await.unwrap();
            cluster.store.compact(now).await.unwrap();
        }
    }
    // The third machine may stay away: no partition of the workload is there.
    cluster.heal(if rng.chance(300) { 2 } else { 3 }).await;
    let open = json!({ "drain": null, "unschedulable": false, "taints": null });
    for host in 0..cluster.hosts.len() {
        change(&cluster, host, open.clone()).await;
    }
    workload::settle_service(&cluster).await;
    promises.until(&cluster, "promise 4: all is done", LIVENESS, workload::is_done).await;
    drop(writers);
    workload::ended_as_meant(promises.seen());
    promises.check_quiet(&cluster).await;
    workload::delete_what_stays(&cluster).await;
    promises
        .until(&cluster, "promise 7: what was deleted is gone", LIVENESS, workload::is_gone)
        .await;
    promises.check_quiet(&cluster).await;
    for host in &cluster.hosts {
        assert_eq!(host.machine.running(), [], "promise 7: on {}", host.name);
    }
}

/// One fault, or one mend.
async fn fault(cluster: &mut Cluster, rng: &Rng) {
    let host = usize::try_from(rng.below(3)).unwrap();
    let candidate = usize::try_from(rng.below(2)).unwrap();
    match rng.below(27) {
        0 => cluster.crash_server(),
        1 | 2 => cluster.start_server().await,
        3 => cluster.schedulers[candidate].crash(),
        4 => cluster.start_scheduler(candidate),
        5 => cluster.controllers[candidate].crash(),
        6 => cluster.start_controllers(candidate),
        7 => cluster.crash_agent(host),
        8 => cluster.start_agent(host),
        9 => cluster.lose_machine(host),
        10 => cluster.hosts[host].line.cut(true),
        11 => cluster.hosts[host].line.cut(false),
        12 => cluster.network.lose(rng.below(200)),
        13 => cluster.store.restart(),
        // What a leader sends arrives when another leads.
        14 => cluster.schedulers[candidate].line.delay(true).await,
        15 => cluster.schedulers[candidate].line.delay(false).await,
        16 => cluster.controllers[candidate].line.delay(true).await,
        17 => cluster.controllers[candidate].line.delay(false).await,
        18 => change(cluster, host, json!({ "drain": {} })).await,
        19 => change(cluster, host, json!({ "drain": null, "unschedulable": false })).await,
        20 => {
            let effect = if rng.chance(500) { "NoExecute" } else { "NoSchedule" };
            change(cluster, host, json!({ "taints": [{ "key": "k", "effect": effect }] })).await;
        }
        21 => change(cluster, host, json!({ "taints": null })).await,
        22..=25 => workload::change_service(cluster, rng).await,
        _ => {
            let faults = cluster.store.faults();
            let kind = match rng.below(3) {
                0 => Fault::AnswerLost,
                1 => Fault::RequestLost,
                _ => Fault::Late(Duration::from_millis(rng.below(3000))),
            };
            faults.next_groups(5, kind);
        }
    }
}

/// Changes the spec of a node, if the apiserver and the node are there.
async fn change(cluster: &Cluster, host: usize, spec: Value) {
    let nodes = cluster.god.api::<Node>("");
    let _away = nodes.merge_patch(&cluster.hosts[host].name, &json!({ "spec": spec })).await;
}

/// Runs one seed on virtual time; names it when it fails.
#[expect(clippy::print_stderr, reason = "whoever sees it fail wants to see it again")]
fn seed(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
    if let Err(panic) = outcome {
        eprintln!("run it again with: make replay SEED={seed}");
        std::panic::resume_unwind(panic);
    }
}

fn seeds(range: std::ops::Range<u64>) {
    range.for_each(seed);
}

#[test]
fn seeds_0_to_49() {
    seeds(0..50);
}

#[test]
fn seeds_50_to_99() {
    seeds(50..100);
}

#[test]
fn seeds_100_to_149() {
    seeds(100..150);
}

#[test]
fn seeds_150_to_199() {
    seeds(150..200);
}

/// `make replay SEED=n`: the seed of the environment with its log, or seed 0.
#[test]
fn a_seed_that_is_named() {
    let named = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok());
    if named.is_some() {
        tracing_subscriber::fmt().with_env_filter("debug").with_test_writer().init();
    }
    seed(named.unwrap_or(0));
}
