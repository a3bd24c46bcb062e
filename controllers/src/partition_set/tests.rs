//! A set names the nodes that are not there, and stops naming them by itself.

use api::resource::Resource as _;
use api::{Node, Timestamp};
use runtime::Controller as _;
use serde_json::{Value, json};

use super::*;
use crate::action::{Action, Status};

fn set(assignment: &Value) -> PartitionSet {
    let spec = json!({
        "partitions": 2, "stateModel": "OnlineOffline", "mode": "Manual", "assignment": assignment,
    });
    PartitionSet::new("default", "db", serde_json::from_value(spec).unwrap())
}

/// The set with the status that is planned for it, if any is.
fn plan(set: &PartitionSet, exists: impl Fn(&str) -> bool) -> Option<PartitionSet> {
    let action = plan::plan(set, exists)?;
    let Action::Status(Status::PartitionSet(next)) = action else { panic!("{action:?}") };
    Some(*next)
}

/// What a set says once its status was written.
fn why(set: &PartitionSet) -> String {
    let mut settled = set.clone();
    settled.settle(None, Timestamp::UNIX_EPOCH);
    let ready = settled.status.conditions.iter().find(|it| it.kind == "Ready").unwrap().clone();
    let row = settled.row(Timestamp::UNIX_EPOCH);
    assert_eq!(row.last(), Some(&ready.message), "the table and the condition say the same");
    format!("{} Ready={} {}", row[1], ready.status, ready.message).trim_end().to_owned()
}

#[test]
fn nodes_that_do_not_exist_are_named_until_they_come_or_are_not_wanted() {
    let both = json!({ "db-0": { "node-1": "ONLINE" }, "db-1": { "node-9": "ONLINE" } });
    let there = |names: &'static [&'static str]| move |node: &str| names.contains(&node);
    let missing = plan(&set(&both), there(&["node-1"])).unwrap();
    assert_eq!(why(&missing), "Degraded Ready=False node node-9 does not exist");
    assert_eq!(plan(&missing, there(&["node-1"])), None, "a fixpoint");
    let came = plan(&missing, there(&["node-1", "node-9"])).unwrap();
    assert_eq!(why(&came), "Ready Ready=True");
    let left = plan(&came, there(&[])).unwrap();
    assert_eq!(why(&left), "Degraded Ready=False nodes node-1, node-9 do not exist");
    // The set is changed: what it does not name any more is not told, before any controller looks.
    let mut changed = left;
    changed.spec.assignment = set(&json!({
        "db-0": { "node-1": "ONLINE", "node-7": "OFFLINE" }, "db-1": { "node-2": "ONLINE" },
    }))
    .spec
    .assignment;
    assert_eq!(why(&changed), "Degraded Ready=False node node-1 does not exist");
    changed.settle(None, Timestamp::UNIX_EPOCH);
    assert_eq!(plan(&changed, there(&["node-1", "node-2"])).unwrap().status.missing_nodes, [""; 0]);
    let serves_nothing = set(&json!({ "db-0": { "node-9": "OFFLINE" } }));
    assert_eq!(plan(&serves_nothing, there(&[])), None, "nobody looks for what serves nothing");
}

#[test]
fn many_missing_nodes_are_told_by_the_first_of_them() {
    let nodes: serde_json::Map<String, Value> =
        (0..300).map(|number| (format!("n-{number:03}"), "ONLINE".into())).collect();
    let many = set(&json!({ "db-0": nodes, "db-1": { "n-000": "ONLINE" } }));
    let missing = plan(&many, |_| false).unwrap();
    assert_eq!(missing.status.missing_nodes.len(), api::partition_set::MISSING_NODES_MAX);
    let told = why(&missing);
    assert!(
        told.ends_with("nodes n-000, n-001, n-002 and at least 97 more do not exist"),
        "{told}"
    );
}

#[test]
fn only_that_a_node_came_or_went_is_looked_at_in_the_sets_that_it_matters_to() {
    let assigned = json!({ "db-0": { "node-9": "ONLINE" }, "db-1": { "node-9": "ONLINE" } });
    let mut waits = set(&assigned);
    waits.status.missing_nodes = vec!["node-9".to_owned()];
    let mut serves = set(&assigned);
    serves.metadata.name = Some("serves".to_owned());
    let mut other = set(&json!({ "db-0": { "node-1": "ONLINE" } }));
    other.metadata.name = Some("other".to_owned());
    other.status.missing_nodes = vec!["node-1".to_owned()];
    let mut snapshot = Snapshot::default();
    for set in [waits, serves, other] {
        snapshot.insert(Any::PartitionSet(Arc::new(set)));
    }
    let node = Any::Node(Arc::new(Node::new("", "node-9", Default::default())));
    let names = |before: Option<&Any>, now: Option<&Any>| -> Vec<String> {
        Controller::keys(before, now, &snapshot).into_iter().map(|key| key.name).collect()
    };
    assert_eq!(names(None, Some(&node)), ["db"], "the others do not wait for it");
    assert_eq!(names(Some(&node), None), ["db", "serves"]);
    assert_eq!(names(Some(&node), Some(&node)), [""; 0], "a report of its agent");
}

#[tokio::test]
async fn a_set_is_at_rest_once_it_waits_for_no_node() {
    let mut waits = set(&json!({ "db-0": { "node-9": "ONLINE" } }));
    waits.status.missing_nodes = vec!["node-9".to_owned()];
    let set = Any::PartitionSet(Arc::new(waits.clone()));
    let node = Any::Node(Arc::new(Node::new("", "node-9", Default::default())));
    let key = waits.key();
    let (tools, asked) = crate::obedient::tools(vec![set.clone()], Timestamp::UNIX_EPOCH);
    assert_eq!(Controller::new(tools).reconcile(&key).await.unwrap(), Requeue::OnChange);
    assert_eq!(asked.groups(), 0);
    let (tools, asked) = crate::obedient::tools(vec![set, node.clone()], Timestamp::UNIX_EPOCH);
    assert_eq!(Controller::new(tools).reconcile(&key).await.unwrap(), Requeue::OnChange);
    assert_eq!(asked.groups(), 1, "it says so");
    waits.status.missing_nodes.clear();
    let objects = vec![Any::PartitionSet(Arc::new(waits)), node];
    let (tools, _) = crate::obedient::tools(objects, Timestamp::UNIX_EPOCH);
    assert_eq!(Controller::new(tools).reconcile(&key).await.unwrap(), Requeue::AtRest);
}
