//! Small changes: `cancel`, `suspend`, `resume`, `evict`, `cordon`, `uncordon`.

use api::KindId;
use serde_json::{Value, json};

use super::show;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::target::{self, Target};

pub(super) async fn cancel(connection: &Connection, words: &[String]) -> Result<(), Failure> {
    let targets = target::several(words)?;
    only(&targets, &[KindId::Job, KindId::WorkflowRun], "cancelled")?;
    for target in targets {
        patch(connection, &target, json!({ "spec": { "cancel": true } }), "is being cancelled")
            .await?;
    }
    Ok(())
}

pub(super) async fn suspend(
    connection: &Connection,
    words: &[String],
    is_held: bool,
) -> Result<(), Failure> {
    let targets = target::several(words)?;
    let what = if is_held { "suspended" } else { "resumed" };
    only(&targets, &[KindId::Job, KindId::WorkflowRun, KindId::Workflow], what)?;
    for target in targets {
        patch(connection, &target, json!({ "spec": { "suspend": is_held } }), what).await?;
    }
    Ok(())
}

pub(super) async fn evict(connection: &Connection, task: &str) -> Result<(), Failure> {
    let target = target::one(task, Some(KindId::Task))?;
    only(std::slice::from_ref(&target), &[KindId::Task], "evicted")?;
    let object = connection.post_to(&target, "evict", &json!({ "reason": "Evict" })).await?;
    show::done(connection.format, &target, "is being evicted", object)
}

pub(super) async fn cordon(
    connection: &Connection,
    nodes: &[String],
    is_closed: bool,
) -> Result<(), Failure> {
    let what = if is_closed { "cordoned" } else { "uncordoned" };
    for node in nodes {
        let target = target::one(node, Some(KindId::Node))?;
        only(std::slice::from_ref(&target), &[KindId::Node], what)?;
        patch(connection, &target, json!({ "spec": { "unschedulable": is_closed } }), what).await?;
    }
    Ok(())
}

async fn patch(
    connection: &Connection,
    target: &Target,
    patch: Value,
    what: &str,
) -> Result<(), Failure> {
    let place = (target, connection.namespace.as_str());
    let object = connection.patch(place, &patch, "").await;
    let object = object.map_err(|error| connection.failure(&error))?;
    show::done(connection.format, target, what, object)
}

/// Refuses, before anything is sent, what this cannot be done to.
fn only(targets: &[Target], kinds: &[KindId], what: &str) -> Result<(), Failure> {
    let Some(other) = targets.iter().find(|target| !kinds.contains(&target.kind)) else {
        return Ok(());
    };
    let words: Vec<&str> = kinds.iter().map(|kind| kind.info().plural).collect();
    let message = format!("{other} cannot be {what}");
    Err(Failure::usage(message).hint(format!("this can be done to {}", words.join(", "))))
}
