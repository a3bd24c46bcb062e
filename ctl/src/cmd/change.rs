//! Small changes: `cancel`, `suspend`, `resume`, `evict`, `cordon`, `uncordon`.

use api::KindId;
use serde_json::{Value, json};

use super::each::Failures;
use super::show;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::target::{self, Target};

pub(super) async fn cancel(connection: &Connection, words: &[String]) -> Result<(), Failure> {
    let targets = target::several(words)?;
    only(&targets, &[KindId::Job, KindId::WorkflowRun], "cancelled")?;
    each(connection, &targets, &json!({ "spec": { "cancel": true } }), "is being cancelled").await
}

pub(super) async fn suspend(
    connection: &Connection,
    words: &[String],
    is_held: bool,
) -> Result<(), Failure> {
    let targets = target::several(words)?;
    let what = if is_held { "suspended" } else { "resumed" };
    only(&targets, &[KindId::Job, KindId::WorkflowRun, KindId::Workflow], what)?;
    each(connection, &targets, &json!({ "spec": { "suspend": is_held } }), what).await
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
    let targets: Vec<Target> = nodes
        .iter()
        .map(|node| target::one(node, Some(KindId::Node)))
        .collect::<Result<_, Failure>>()?;
    only(&targets, &[KindId::Node], what)?;
    each(connection, &targets, &json!({ "spec": { "unschedulable": is_closed } }), what).await
}

/// Makes the same change to each object.
async fn each(
    connection: &Connection,
    targets: &[Target],
    change: &Value,
    what: &str,
) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for target in targets {
        failures.add(patch(connection, target, change, what).await)?;
    }
    failures.end()
}

async fn patch(
    connection: &Connection,
    target: &Target,
    patch: &Value,
    what: &str,
) -> Result<(), Failure> {
    let place = (target, connection.namespace.as_str());
    let object = connection.patch(place, patch, "").await;
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
