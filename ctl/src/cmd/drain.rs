//! `hctl drain`: asks that all tasks leave nodes, and waits until they have.

use api::node::{Drain, DrainState};
use api::{KindId, Node};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::each::Failures;
use super::show;
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::live::{self, LiveEvent};
use crate::target::{self, Target};
use crate::{node_args, terminal};

pub(super) async fn drain(connection: &Connection, args: node_args::Drain) -> Result<(), Failure> {
    let targets = target::several_of(&args.nodes, Some(KindId::Node))?;
    if let Some(other) = targets.iter().find(|target| target.kind != KindId::Node) {
        let failure = Failure::usage(format!("{other} cannot be drained"));
        return Err(failure.hint("hctl drain takes nodes"));
    }
    let deadline = args.timeout.and_then(|it| connection.clock.now().checked_add(it.signed()).ok());
    let by = std::env::var("USER").ok().filter(|by| !by.is_empty());
    let request = Drain { deadline, force: args.force, by };
    let mut failures = Failures::default();
    let mut asked = Vec::new();
    for target in &targets {
        match ask(connection, target, &request).await {
            Ok(object) if args.no_wait => {
                failures.add(show::done(connection.format, target, "is being drained", object))?;
            }
            Ok(_) => asked.push(target),
            Err(failure) => failures.add(Err(failure))?,
        }
    }
    // All nodes at once: a drain goes on whether or not somebody waits for it.
    let ends = asked.iter().map(|target| ended(connection, target, &request));
    for (target, end) in asked.iter().zip(join_all(ends).await) {
        failures.add(match end {
            Ok((what, object)) => show::done(connection.format, target, &what, object),
            Err(failure) => Err(failure),
        })?;
    }
    failures.end()
}

/// Asks for the drain. One that goes on already without a deadline is left as it is, if nothing else
/// is asked for.
async fn ask(connection: &Connection, target: &Target, wanted: &Drain) -> Result<Value, Failure> {
    let drain = json!({
        "deadline": wanted.deadline, "force": wanted.force.then_some(true), "by": wanted.by,
    });
    let patch = json!({ "spec": { "unschedulable": true, "drain": drain } });
    let place = (target, connection.namespace.as_str());
    connection.patch(place, &patch, "").await.map_err(|error| connection.failure(&error))
}

/// Waits for the end of a drain, and tells what changes until then. Returns what has come of it.
async fn ended(
    connection: &Connection,
    target: &Target,
    wanted: &Drain,
) -> Result<(String, Value), Failure> {
    let named = format!("metadata.name={}", target.name);
    let query = connection.query(KindId::Node, String::new(), named);
    let mut news = live::news(connection, query);
    let mut told = String::new();
    while let Some(event) = news.next().await {
        let object = match event? {
            LiveEvent::There(object) => object,
            LiveEvent::Gone(_) => {
                let failure = Failure::new(format!("{target} was deleted while it was drained"));
                return Err(failure.code(Code::NotFound));
            }
        };
        let node: Node = connection.typed(object.clone())?;
        match stand(&node, wanted) {
            Stand::Open(line) if line != told && connection.format.is_table() => {
                terminal::note(&format!("{target}: {line}"));
                told = line;
            }
            Stand::Open(_) => (),
            Stand::Drained(what) => return Ok((what, object)),
            Stand::Failed(code, why) => {
                let failure = Failure::new(format!("{target}: {why}")).code(code);
                return Err(failure.hint(format!("see what is left with hctl describe {target}")));
            }
        }
    }
    std::future::pending().await
}

/// How a drain that somebody waits for stands.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    /// It goes on.
    Open(String),
    /// All tasks have left.
    Drained(String),
    /// It has ended otherwise.
    Failed(Code, String),
}

fn stand(node: &Node, wanted: &Drain) -> Stand {
    if node.spec.drain.as_ref() != Some(wanted) {
        let why = match node.spec.drain {
            Some(_) => "somebody has asked for another drain",
            None => "the drain was ended by hctl uncordon",
        };
        return Stand::Failed(Code::Conflict, why.to_owned());
    }
    let Some(drain) = node.drain() else { return Stand::Open("the drain begins".to_owned()) };
    let waits = drain.waits_for.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
    match drain.state {
        DrainState::Progressing => {
            let moved = drain.total.saturating_sub(drain.remaining);
            Stand::Open(format!("{moved} of {} moved{waits}", drain.total))
        }
        DrainState::Complete => match drain.total {
            0 => Stand::Drained("drained: no task had to leave".to_owned()),
            1 => Stand::Drained("drained: its task has left".to_owned()),
            all => Stand::Drained(format!("drained: all {all} tasks have left")),
        },
        DrainState::GaveUp => {
            let (left, all) = (drain.remaining, drain.total);
            let why = format!("the drain gave up: {left} of {all} tasks have not left{waits}");
            Stand::Failed(Code::Timeout, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Timestamp;
    use api::node::{DrainStatus, NodeSpec};

    use super::*;

    #[test]
    fn whoever_waits_is_told_how_the_drain_stands_and_ends() {
        let wanted = Drain { by: Some("ops".to_owned()), ..Drain::default() };
        let spec =
            NodeSpec { unschedulable: true, drain: Some(wanted.clone()), ..NodeSpec::default() };
        let mut node = Node::new("", "n", spec);
        assert_eq!(stand(&node, &wanted), Stand::Open("the drain begins".to_owned()));
        let status = DrainStatus {
            request: wanted.clone(),
            state: DrainState::Progressing,
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
            total: 3,
            remaining: 1,
            waits_for: Some("1 task is being stopped".to_owned()),
        };
        node.status.drain = Some(status.clone());
        let open = "2 of 3 moved; 1 task is being stopped".to_owned();
        assert_eq!(stand(&node, &wanted), Stand::Open(open));
        node.status.drain = Some(DrainStatus { state: DrainState::GaveUp, ..status.clone() });
        let why = "the drain gave up: 1 of 3 tasks have not left; 1 task is being stopped";
        assert_eq!(stand(&node, &wanted), Stand::Failed(Code::Timeout, why.to_owned()));
        node.status.drain = Some(DrainStatus { state: DrainState::Complete, ..status });
        let all = "drained: all 3 tasks have left".to_owned();
        assert_eq!(stand(&node, &wanted), Stand::Drained(all));
        let other =
            Stand::Failed(Code::Conflict, "somebody has asked for another drain".to_owned());
        assert_eq!(stand(&node, &Drain::default()), other);
        node.spec.drain = None;
        let ended = "the drain was ended by hctl uncordon".to_owned();
        assert_eq!(stand(&node, &wanted), Stand::Failed(Code::Conflict, ended));
    }
}
