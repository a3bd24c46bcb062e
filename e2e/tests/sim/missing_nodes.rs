//! A partition set that names a node which is not there says so, until the node comes.

use std::time::Duration;

use api::{Kind as _, Node, PartitionSet};
use runtime::Snapshot;
use serde_json::json;

use crate::cluster::Cluster;

/// What the only set says.
fn why(seen: &Snapshot) -> Option<&str> {
    let set = seen.partition_sets.iter().next()?;
    let ready = set.status.conditions.iter().find(|it| it.kind == "Ready")?;
    Some(&ready.message)
}

#[tokio::test(start_paused = true)]
async fn a_set_names_a_missing_node_until_it_comes_or_is_not_wanted() {
    let cluster = Cluster::start(1).await;
    let sets = cluster.god.api::<PartitionSet>("default");
    let set: PartitionSet = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "PartitionSet",
        "metadata": { "name": "db", "namespace": "default" },
        "spec": {
            "partitions": 1, "replicas": 2, "stateModel": "OnlineOffline", "mode": "Manual",
            "assignment": { "db-0": { "node-8": "ONLINE", "node-9": "ONLINE" } },
        },
    }))
    .unwrap();
    sets.create(&set).await.unwrap();
    let says = async |wanted: &str| {
        let is_so = |seen: &Snapshot| why(seen) == Some(wanted);
        cluster.wait_for(&format!("the set says {wanted:?}"), Duration::from_secs(20), is_so).await;
    };
    says("nodes node-8, node-9 do not exist").await;
    let nodes = cluster.god.api::<Node>("");
    nodes.create(&Node::new("", "node-9", api::node::NodeSpec::default())).await.unwrap();
    says("node node-8 does not exist").await;
    let other = json!({ "spec": { "assignment": { "db-0": { "node-8": null } } } });
    sets.merge_patch(set.name(), &other).await.unwrap();
    says("").await;
    nodes.delete("node-9", client::DeletePropagation::Background).await.unwrap();
    says("node node-9 does not exist").await;
}
