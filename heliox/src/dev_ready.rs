//! When `heliox dev` prints that it is ready: once its nodes accept tasks, so that the user's next
//! command works.

use std::time::Duration;

use api::Node;
use api::node::NodePhase;
use api::object::Kind as _;
use client::{Client, ListOptions};
use tokio::time::{Instant, sleep};

/// How often the nodes are checked.
const LOOK: Duration = Duration::from_millis(20);
/// After this time the user is told what is missing.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// Waits until all of these nodes exist and accept tasks. If that takes long, `say` is called once
/// with what is missing: an engine may hang, or a restored cluster may be unconfirmed.
pub(crate) async fn nodes_are_ready(client: &Client, names: &[String], say: impl FnOnce(&str)) {
    let late = Instant::now() + SAY_AFTER;
    let mut say = Some(say);
    loop {
        let why = match client.api::<Node>("").list(&ListOptions::default()).await {
            Ok(nodes) => match missing(names, &nodes.items) {
                None => return,
                Some(why) => why,
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() >= late
            && let Some(say) = say.take()
        {
            say(&why);
        }
        sleep(LOOK).await;
    }
}

/// Which nodes do not accept tasks yet, and why; nothing if all do. A node that a user has cordoned
/// is as the user wants it.
fn missing(names: &[String], nodes: &[Node]) -> Option<String> {
    let state = |name: &String| match nodes.iter().find(|node| node.name() == name) {
        None => Some(format!("{name} is not registered")),
        Some(node) => match (node.phase(), &node.status.problem) {
            (NodePhase::Ready | NodePhase::Cordoned | NodePhase::Draining, _) => None,
            (phase, Some(problem)) => Some(format!("{name} is {phase} ({problem})")),
            (phase, None) => Some(format!("{name} is {phase}")),
        },
    };
    let missing: Vec<String> = names.iter().filter_map(state).collect();
    match missing.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        [first, more @ ..] => Some(format!("{first}, and {} more", more.len())),
    }
}

#[cfg(test)]
mod tests {
    use api::Timestamp;
    use api::node::NodeSpec;

    use super::*;

    #[test]
    fn each_node_is_to_take_work_unless_a_person_said_otherwise() {
        let names: Vec<String> = (1..=3).map(|number| format!("node-{number}")).collect();
        let mut nodes: Vec<Node> =
            names.iter().map(|name| Node::new("", name, NodeSpec::default())).collect();
        let is_said = |nodes: &[Node], why: Option<&str>| {
            assert_eq!(missing(&names, nodes).as_deref(), why);
        };
        is_said(&[], Some("node-1 is not registered, and 2 more"));
        is_said(&nodes, Some("node-1 is NotReady, and 2 more"));
        for node in &mut nodes {
            node.status.ready_since = Some(Timestamp::UNIX_EPOCH);
        }
        is_said(&nodes, None);
        nodes[0].spec.unschedulable = true;
        is_said(&nodes, None);
        nodes[1].status.problem = Some("its disk is full".to_owned());
        is_said(&nodes, Some("node-2 is NotReady (its disk is full)"));
        is_said(&nodes[..1], Some("node-2 is not registered, and 1 more"));
    }
}
