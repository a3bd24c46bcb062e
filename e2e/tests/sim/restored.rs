//! A store that is restored from a backup under a running cluster.

use std::sync::Arc;
use std::time::Duration;

use api::cluster::{ClusterInfo, Confirmation};
use api::task::TaskPhase;
use apiserver::backup::{Reader, Restore, backup};
use http::Method;
use runtime::Snapshot;
use serde_json::json;
use store::Simulated;

use crate::cluster::Cluster;
use crate::stories::job;

/// The store is lost, and what it held a moment before is restored into an empty one.
async fn lose_and_restore(cluster: &mut Cluster) {
    let store = Arc::new(cluster.store.clone());
    let mut lines = backup(store, cluster.clock.now()).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(some) = lines.next().await.unwrap() {
        bytes.extend_from_slice(&some);
    }
    cluster.crash_server();
    cluster.store = Simulated::new();
    let mut reader = Reader::open(&bytes[..]).unwrap();
    while reader.next_record().unwrap().is_some() {}
    let summary = reader.summary().unwrap();
    let outside = (cluster.clock.now(), &cluster.rng);
    let mut restore = Restore::begin(&cluster.store, &summary, outside).await.unwrap();
    let mut reader = Reader::open(&bytes[..]).unwrap();
    while let Some((key, value)) = reader.next_record().unwrap() {
        restore.put(&key, value).await.unwrap();
    }
    restore.finish().await.unwrap();
    cluster.start_server().await;
}

async fn info(cluster: &Cluster) -> ClusterInfo {
    cluster.god.json(Method::GET, "/apis/heliox.dev/v1/cluster", None).await.unwrap()
}

async fn confirm(cluster: &Cluster) {
    let confirmation = Confirmation { cluster: info(cluster).await.cluster };
    let body = serde_json::to_vec(&confirmation).unwrap();
    let path = "/apis/heliox.dev/v1/cluster/confirm";
    let body = Some(("application/json", body));
    let _info: ClusterInfo = cluster.god.json(Method::POST, path, body).await.unwrap();
}

fn running(seen: &Snapshot) -> usize {
    seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count()
}

#[tokio::test(start_paused = true)]
async fn no_node_of_a_restored_cluster_is_given_up_before_it_is_confirmed() {
    let mut cluster = Cluster::start(9).await;
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    job(&cluster, "a", json!({ "count": 6, "maxPerNode": 3, "template": template })).await;
    let limit = Duration::from_secs(30);
    cluster.wait_for("all run", limit, |seen| running(seen) == 6).await;
    cluster.crash_agent(2);
    lose_and_restore(&mut cluster).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let seen = cluster.look().await.unwrap();
    assert_eq!(running(&seen), 6, "nobody was taken for lost");
    assert!(seen.nodes.iter().all(|node| node.status.lost.is_none()));
    let found = info(&cluster).await;
    assert_eq!((found.confirmed, found.nodes, found.heard, found.waiting), (false, 3, 2, 2));

    confirm(&cluster).await;
    let limit = Duration::from_secs(60);
    let moved = |seen: &Snapshot| seen.tasks.iter().filter(|it| it.spec.attempt > 1).count();
    let seen = cluster
        .wait_for("the work of the lost node runs elsewhere", limit, |seen| {
            moved(seen) > 0 && running(seen) == 6
        })
        .await;
    for task in seen.tasks.iter() {
        assert_ne!(task.node(), Some("node-3"));
        assert!(task.spec.attempt == 1 || task.spec.attempt > 100, "{}", task.spec.attempt);
    }
    assert_eq!(info(&cluster).await.waiting, 0);
}
