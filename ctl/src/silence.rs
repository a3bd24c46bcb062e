//! What a silent node hides: logs that cannot be read, and processes that may still be running on
//! it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::node::Leftover;
use api::table::span;
use api::task::TaskPhase;
use api::{Kind as _, KindId, Node, Task, Timestamp};

use crate::failure::{Code, Failure};
use crate::target::Target;

/// Most tasks of one node that are named; of more, the number is printed.
const NAMED_MAX: usize = 5;

/// The node of an attempt.
pub fn node_of(task: &Task, attempt: u32) -> Option<&str> {
    if attempt == task.spec.attempt {
        return task.node();
    }
    let past = task.status.attempts.iter().find(|past| past.attempt == attempt);
    past.and_then(|past| past.node_name.as_deref())
}

/// Whether an attempt was lost with its node, as far as its task shows. The node may be back by
/// now.
pub fn is_lost(task: &Task, attempt: u32) -> bool {
    if attempt == task.spec.attempt {
        return task.phase() == TaskPhase::Lost;
    }
    let mut past = task.status.attempts.iter();
    past.any(|past| past.attempt == attempt && past.phase == TaskPhase::Lost)
}

/// How long a node has been silent, as text; nothing if it is not.
pub fn silence(node: &Node, now: Timestamp) -> Option<String> {
    // An earlier version stored only when the node was declared lost.
    let since = node.status.silent_since.or(node.status.lost)?;
    Some(format!("{} has been silent for {}", node.name(), span(since, now)))
}

/// Why the log of an attempt cannot be read if its node is the cause, and what to look at instead.
/// `node` is the current state of that node, `None` if it was deleted.
pub fn no_log(
    task: &Task,
    attempt: u32,
    node: (&str, Option<&Node>),
    now: Timestamp,
) -> Option<Failure> {
    let why = match node {
        (_, Some(node)) => {
            format!("{}; it can be read once the node is back", silence(node, now)?)
        }
        (name, None) => format!("its node {name} was removed from the cluster"),
    };
    let of = format!("{} attempt {attempt}", task.name());
    let failure = Failure::new(format!("the log of {of} cannot be read: {why}"));
    Some(failure.hint(instead(task, attempt, now)))
}

/// What is running in place of an attempt that cannot be reached, and the command that shows it.
pub fn instead(task: &Task, attempt: u32, now: Timestamp) -> String {
    let (name, current, phase) = (task.name(), task.spec.attempt, task.phase());
    let describe = format!("hctl describe task/{name}");
    if attempt < current {
        let why = task.why(now);
        let why = if why.is_empty() { why } else { format!(": {why}") };
        return match (phase, task.node()) {
            (TaskPhase::Running | TaskPhase::Stopping, Some(node)) => {
                format!("attempt {current} runs on {node} instead: hctl logs {name}")
            }
            (
                TaskPhase::Succeeded
                | TaskPhase::Failed
                | TaskPhase::TimedOut
                | TaskPhase::Cancelled,
                Some(node),
            ) => format!("attempt {current} ran on {node} instead ({phase}): hctl logs {name}"),
            (
                TaskPhase::Pending
                | TaskPhase::Bound
                | TaskPhase::Starting
                | TaskPhase::Running
                | TaskPhase::Stopping
                | TaskPhase::Succeeded
                | TaskPhase::Failed
                | TaskPhase::TimedOut
                | TaskPhase::Cancelled
                | TaskPhase::Lost,
                _,
            ) => format!("attempt {current} takes its place, and is {phase}{why}: {describe}"),
        };
    }
    match task.loss().filter(|_| task.stop().is_none()) {
        Some(loss) if loss.replaceable => {
            format!("attempt {} will run on another node: {describe} shows where", attempt + 1)
        }
        Some(loss) if loss.waits => format!(
            "the task waits for its node; hctl evict {name} runs it on another one ({describe})"
        ),
        Some(_) => format!(
            "the task is run on another node if its own does not come back soon: {describe} shows where"
        ),
        None => format!("see what becomes of the task with {describe}"),
    }
}

/// Why the connection to a command in an attempt of a task broke.
pub fn cut(task: &Task, attempt: u32, node: &Node, now: Timestamp) -> Option<Failure> {
    let silence = silence(node, now)?;
    let message = format!("the connection was lost: {silence}; the command may still run there");
    Some(Failure::new(message).hint(instead(task, attempt, now)))
}

/// An attempt that may still be running on a silent node, where nobody can stop it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Straggler {
    /// The node.
    pub node: String,
    /// The namespace and name of the task.
    pub task: (String, String),
    /// Number of the attempt.
    pub attempt: u32,
    /// Whether it is the task's current attempt.
    pub is_current: bool,
}

/// The attempts that may still be running on these silent nodes, by node and task. A replaced
/// attempt is among them: it runs until its node learns of that.
pub fn stragglers<'a>(tasks: impl IntoIterator<Item = &'a Task>, nodes: &[Node]) -> Vec<Straggler> {
    let silent: BTreeMap<&str, &Node> =
        nodes.iter().filter(|node| node.is_silent()).map(|node| (node.name(), node)).collect();
    let mut found = Vec::new();
    for task in tasks {
        let current = task.node().filter(|_| !task.has_ended());
        let current = current.map(|node| (task.spec.attempt, node));
        let current = current.filter(|(_, node)| silent.contains_key(node));
        let lost = task.status.attempts.iter().filter(|past| past.phase == TaskPhase::Lost);
        let past = lost.filter_map(|past| {
            let node = silent.get(past.node_name.as_deref()?)?;
            goes_on(task, past.attempt, node).then_some((past.attempt, node.name()))
        });
        found.extend(past.chain(current).map(|(attempt, node)| Straggler {
            node: node.to_owned(),
            task: (task.namespace().to_owned(), task.name().to_owned()),
            attempt,
            is_current: attempt == task.spec.attempt,
        }));
    }
    found.sort();
    found
}

/// Whether a replaced attempt may still be running on its silent node: the node last reported that
/// it is stopping it, or was not heard from since the next attempt began. A node that was heard
/// from later knows that it has to stop the attempt.
fn goes_on(task: &Task, attempt: u32, node: &Node) -> bool {
    let is_it = |it: &Leftover| (it.uid.as_str(), it.attempt) == (task.uid(), attempt);
    let mut later = task.status.attempts.iter().filter(|past| past.attempt > attempt);
    let replaced = match later.next() {
        Some(next) => next.started_at,
        None => task.binding().map(|binding| binding.at),
    };
    let silent_since = node.status.silent_since.or(node.status.lost);
    let was_heard_since =
        replaced.zip(silent_since).is_some_and(|(replaced, silent)| replaced < silent);
    node.status.leftovers.iter().any(is_it) || !was_heard_since
}

/// Whether a task is one of `targets` or belongs to one of them.
pub fn belongs_to(task: &Task, targets: &[Target]) -> bool {
    let is_of = |target: &Target| match target.kind.info().task_label {
        Some(label) => task.label(label) == Some(&target.name),
        None if target.kind == KindId::Task => task.name() == target.name,
        None if target.kind == KindId::Namespace => task.namespace() == target.name,
        // The stragglers of a node were selected by the node already.
        None => target.kind == KindId::Node,
    };
    targets.iter().any(is_of)
}

/// The messages for a user who stops or deletes tasks that may still be running on silent nodes: a
/// line for each task, or for each node if there are many.
pub fn told_of(stragglers: &[Straggler]) -> Vec<String> {
    let mut by_node: BTreeMap<&str, Vec<&Straggler>> = BTreeMap::new();
    for straggler in stragglers {
        by_node.entry(&straggler.node).or_default().push(straggler);
    }
    let of_node = |(node, all): (&str, Vec<&Straggler>)| -> Vec<String> {
        let ends = |it: &str| format!("on {node}, which is silent; {it} when the node is back");
        if all.len() > NAMED_MAX {
            let count = all.len();
            return vec![format!("{count} tasks may still run {}", ends("they are stopped"))];
        }
        let one = |it: &&Straggler| {
            let attempt =
                if it.is_current { String::new() } else { format!(" attempt {}", it.attempt) };
            let task = Target::new(KindId::Task, &*it.task.1);
            format!("{task}{attempt} may still run {}", ends("it is stopped"))
        };
        all.iter().map(one).collect()
    };
    by_node.into_iter().flat_map(of_node).collect()
}

/// The message for a user who deletes a silent node.
pub fn told_of_deleted(node: &str, stragglers: &[Straggler]) -> Option<String> {
    let here = stragglers.iter().filter(|it| it.node == node).map(|it| &it.task);
    let here: BTreeSet<&(String, String)> = here.collect();
    let (them, tasks) = match here.len() {
        0 => return None,
        count if count > NAMED_MAX => ("them", format!("{count} tasks")),
        count => {
            let names: Vec<String> = here.iter().map(|(_, name)| format!("task/{name}")).collect();
            (if count == 1 { "it" } else { "them" }, names.join(", "))
        }
    };
    Some(format!(
        "{tasks} may still run on the host of {node}, which is silent: if its agent comes back, it stops \
         {them}; if it never will, make sure that the host is off"
    ))
}

/// Adds that a node did not answer, although nobody has noticed yet that it is silent.
pub fn may_be_lost(failure: Failure, node: &str) -> Failure {
    let hint = format!("see whether the node is heard with hctl describe node/{node}");
    Failure { code: Code::Error, ..failure }.hint(hint)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T12:00:00Z".parse().unwrap()
    }

    fn node(name: &str, silent_since: Option<&str>) -> Node {
        let mut node = json!({
            "metadata": { "name": name }, "spec": {},
            "status": { "readySince": "2026-01-01T00:00:00Z" },
        });
        if let Some(since) = silent_since {
            node["status"]["silentSince"] = since.into();
            node["status"]["lost"] = "2026-01-02T11:59:30Z".into();
        }
        serde_json::from_value(node).unwrap()
    }

    fn lost_node() -> Node {
        node("node-b", Some("2026-01-02T11:59:21Z"))
    }

    /// A task in this attempt on this node, with these attempts before.
    fn task(attempt: u32, on: &str, loss: Value, past: Value) -> Task {
        let at = if attempt == 1 { "2026-01-02T11:58:00Z" } else { "2026-01-02T11:59:31Z" };
        let mut task = json!({
            "metadata": { "name": "a-0", "namespace": "default" },
            "spec": { "template": "a", "index": 0, "count": 1, "run": 1, "attempt": attempt },
            "status": { "loss": loss, "attempts": past },
        });
        if !on.is_empty() {
            task["spec"]["binding"] =
                json!({ "node": on, "attempt": attempt, "number": attempt, "at": at });
            task["status"]["attempt"] = attempt.into();
            task["status"]["binding"] = attempt.into();
            task["status"]["state"] = "Running".into();
            task["status"]["startedAt"] = at.into();
        }
        serde_json::from_value(task).unwrap()
    }

    fn past(phase: &str, on: &str) -> Value {
        json!([{ "attempt": 1, "run": 1, "phase": phase, "nodeName": on,
                 "startedAt": "2026-01-02T11:58:00Z" }])
    }

    fn loss(replaceable: bool, waits: bool) -> Value {
        json!({ "attempt": 1, "since": "2026-01-02T11:59:21Z", "replaceable": replaceable,
                "waits": waits })
    }

    #[test]
    fn the_log_of_a_lost_attempt_says_which_node_is_silent_and_what_runs_instead() {
        let told = |task: &Task, node: Option<&Node>| {
            let name = node_of(task, 1).unwrap().to_owned();
            no_log(task, 1, (&name, node), now())
                .map(|it| format!("{}; {}", it.message, it.hint.unwrap()))
        };
        let silent = "the log of a-0 attempt 1 cannot be read: node-b has been silent for 39s; it \
                      can be read once the node is back";
        let lost = lost_node();
        let replaced = task(2, "node-a", Value::Null, past("Lost", "node-b"));
        assert_eq!(
            told(&replaced, Some(&lost)),
            Some(format!("{silent}; attempt 2 runs on node-a instead: hctl logs a-0"))
        );
        let pending = task(2, "", Value::Null, past("Lost", "node-b"));
        assert_eq!(
            told(&pending, Some(&lost)),
            Some(format!(
                "{silent}; attempt 2 takes its place, and is Pending: attempt 1: node node-b was lost: \
                 hctl describe task/a-0"
            ))
        );
        let about_to = task(1, "node-b", loss(true, false), json!([]));
        assert!(is_lost(&about_to, 1));
        assert_eq!(
            told(&about_to, Some(&lost)),
            Some(format!(
                "{silent}; attempt 2 will run on another node: hctl describe task/a-0 shows where"
            ))
        );
        let soon = task(1, "node-b", loss(false, false), json!([]));
        assert_eq!(
            told(&soon, Some(&lost)),
            Some(format!(
                "{silent}; the task is run on another node if its own does not come back soon: hctl \
                 describe task/a-0 shows where"
            ))
        );
        let waits = task(1, "node-b", loss(false, true), json!([]));
        assert_eq!(
            told(&waits, Some(&lost)),
            Some(format!(
                "{silent}; the task waits for its node; hctl evict a-0 runs it on another one (hctl \
                 describe task/a-0)"
            ))
        );
        assert_eq!(told(&waits, Some(&node("node-b", None))), None, "the node is back");
        assert_eq!(
            told(&replaced, None),
            Some(
                "the log of a-0 attempt 1 cannot be read: its node node-b was removed from the cluster; \
                 attempt 2 runs on node-a instead: hctl logs a-0"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_command_that_is_cut_off_names_the_silent_node() {
        let replaced = task(2, "node-a", Value::Null, past("Lost", "node-b"));
        let failure = cut(&replaced, 1, &lost_node(), now()).unwrap();
        assert_eq!(
            failure.message,
            "the connection was lost: node-b has been silent for 39s; the command may still run there"
        );
        assert_eq!(failure.hint.unwrap(), "attempt 2 runs on node-a instead: hctl logs a-0");
        assert!(cut(&replaced, 1, &node("node-b", None), now()).is_none());
    }

    #[test]
    fn what_may_still_run_on_silent_nodes_is_what_was_bound_there_and_has_not_ended() {
        let nodes = [node("node-a", None), lost_node()];
        let found = |task: Task| {
            let found = stragglers([&task], &nodes);
            found.iter().map(|it| (it.attempt, it.is_current)).collect::<Vec<_>>()
        };
        assert_eq!(found(task(1, "node-b", loss(true, false), json!([]))), [(1, true)]);
        assert_eq!(found(task(1, "node-b", Value::Null, json!([]))), [(1, true)], "not lost yet");
        let replaced = || task(2, "node-a", Value::Null, past("Lost", "node-b"));
        assert_eq!(found(replaced()), [(1, false)]);
        assert_eq!(found(task(2, "node-a", Value::Null, past("Failed", "node-b"))), []);
        assert_eq!(found(task(2, "node-b", Value::Null, past("Lost", "node-a"))), [(2, true)]);
        let mut before = replaced();
        let bound = before.spec.binding.as_mut().unwrap();
        bound.at = "2026-01-02T11:59:00Z".parse().unwrap();
        assert_eq!(found(before.clone()), [], "the node was heard since then, and has stopped it");
        let mut busy = lost_node();
        before.metadata.uid = Some("u".to_owned());
        let leftover = json!({ "uid": "u", "attempt": 1 });
        busy.status.leftovers = vec![serde_json::from_value(leftover).unwrap()];
        assert_eq!(stragglers([&before], &[busy]).len(), 1, "it said that it still stops it");
        let mut ended = task(1, "node-b", Value::Null, json!([]));
        ended.status.state = Some(api::task::ReportState::Succeeded);
        assert_eq!(found(ended), []);
        assert_eq!(
            told_of(&stragglers([&replaced()], &nodes)),
            [
                "task/a-0 attempt 1 may still run on node-b, which is silent; it is stopped when the node \
              is back"
            ]
        );
        assert_eq!(
            told_of_deleted("node-b", &stragglers([&replaced()], &nodes)).unwrap(),
            "task/a-0 may still run on the host of node-b, which is silent: if its agent comes back, it \
             stops it; if it never will, make sure that the host is off"
        );
        assert_eq!(told_of_deleted("node-a", &stragglers([&replaced()], &nodes)), None);
    }

    #[test]
    fn of_many_tasks_that_may_still_run_their_number_is_told() {
        let nodes = [lost_node()];
        let tasks: Vec<Task> = (0..=NAMED_MAX)
            .map(|index| {
                let mut task = task(1, "node-b", loss(true, false), json!([]));
                task.metadata.name = Some(format!("a-{index}"));
                task
            })
            .collect();
        assert_eq!(
            told_of(&stragglers(&tasks, &nodes)),
            [
                "6 tasks may still run on node-b, which is silent; they are stopped when the node is back"
            ]
        );
        assert_eq!(told_of(&stragglers(&tasks[..2], &nodes)).len(), 2);
        let deleted = told_of_deleted("node-b", &stragglers(&tasks, &nodes)).unwrap();
        assert!(deleted.starts_with("6 tasks may still run on the host of node-b"), "{deleted}");
    }
}
