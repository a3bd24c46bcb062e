//! Reads the nodes of tasks of which something is missing.

use std::collections::BTreeMap;

use api::{Kind as _, KindId, Node, Task};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::silence;
use crate::target::Target;

/// Nodes in the state in which they were first read: many tasks may be on one of them.
pub(super) struct Nodes<'a> {
    connection: &'a Connection,
    known: BTreeMap<String, Option<Node>>,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, known: BTreeMap::new() }
    }

    /// A node; nothing if it was deleted.
    async fn node(&mut self, name: &str) -> Result<Option<&Node>, Failure> {
        if !self.known.contains_key(name) {
            let found = self.connection.find(&Target::new(KindId::Node, name)).await?;
            self.known.insert(name.to_owned(), found);
        }
        Ok(self.known.get(name).and_then(Option::as_ref))
    }

    /// Why the log of an attempt cannot be read, if the cause is its node.
    pub(super) async fn no_log(&mut self, task: &Task, attempt: u32) -> Option<Failure> {
        let name = silence::node_of(task, attempt)?;
        let now = self.connection.clock.now();
        // If the node cannot be read, the first failure says more.
        let node = self.node(name).await.ok()?;
        silence::no_log(task, attempt, (name, node), now)
    }

    /// Why the log of an attempt could not be read.
    pub(super) async fn explained(
        &mut self,
        task: &Task,
        attempt: u32,
        error: &client::Error,
    ) -> Failure {
        let failure = self.connection.failure(error);
        if failure.is_last || failure.may_pass.is_none() {
            return failure;
        }
        // The task may have been replaced in the meantime.
        let target = Target::new(KindId::Task, task.name());
        let newer = self.connection.find::<Task>(&target).await.ok().flatten();
        let newer = newer.filter(|newer| newer.uid() == task.uid());
        let task = newer.as_ref().unwrap_or(task);
        if let Some(why) = self.no_log(task, attempt).await {
            return why;
        }
        match silence::node_of(task, attempt) {
            Some(node) if error.refusal().is_some() => silence::may_be_lost(failure, node),
            Some(_) | None => failure,
        }
    }
}

/// The silent nodes. If they cannot be read, that is no failure of a command that only mentions
/// them.
pub(super) async fn nodes(connection: &Connection) -> Vec<Node> {
    let fields = "status.phase!=Ready,status.phase!=Cordoned,status.phase!=Draining";
    let query = connection.query(KindId::Node, String::new(), fields.to_owned());
    let mut nodes = match connection.list::<Node>(&query).await {
        Ok((nodes, _)) => nodes,
        Err(_unknown) => Vec::new(),
    };
    nodes.retain(Node::is_silent);
    nodes
}

/// The tasks of objects in a namespace of which something may still be running on these silent
/// nodes.
pub(super) async fn left_on(
    connection: &Connection,
    targets: &[Target],
    nodes: &[Node],
) -> Vec<Task> {
    if nodes.is_empty() || targets.is_empty() {
        return Vec::new();
    }
    let (labels, fields) = match targets {
        [one] => one.task_selectors().unwrap_or_default(),
        _ => Default::default(),
    };
    let query = connection.query(KindId::Task, labels, fields);
    let is_left = |task: &Task| {
        silence::belongs_to(task, targets) && !silence::stragglers([task], nodes).is_empty()
    };
    match connection.list_some(&query, is_left).await {
        Ok((tasks, _)) => tasks,
        Err(_unknown) => Vec::new(),
    }
}
