//! `hctl label` and `hctl taint`: change labels of objects and taints of nodes.

use api::KindId;
use serde_json::Value;

use super::each::Failures;
use super::show;
use crate::connection::Connection;
use crate::failure::{Failure, is_outrun};
use crate::marks::{self, Outcome};
use crate::node_args;
use crate::target::{self, Target};

/// How many times an object is read again that somebody else changes at the same time.
const TRIES_MAX: usize = 5;

pub(super) async fn label(connection: &Connection, args: node_args::Label) -> Result<(), Failure> {
    let (objects, changes) = marks::parted(&args.words);
    let targets = target::several(objects)?;
    let changes = marks::label_changes(changes)?;
    let outcome = |object: &Value| marks::label(object, &changes, args.overwrite);
    each(connection, &targets, ("labelled", "has these labels already"), outcome).await
}

pub(super) async fn taint(connection: &Connection, args: node_args::Taint) -> Result<(), Failure> {
    let (objects, changes) = marks::parted(&args.words);
    let targets = target::several_of(objects, Some(KindId::Node))?;
    if let Some(other) = targets.iter().find(|target| target.kind != KindId::Node) {
        let failure = Failure::usage(format!("{other} cannot be tainted"));
        return Err(failure.hint("hctl taint takes nodes"));
    }
    let changes = marks::taint_changes(changes)?;
    let outcome = |node: &Value| marks::taint(node, &changes, args.overwrite);
    each(connection, &targets, ("taints changed", "has its taints so already"), outcome).await
}

/// Changes each object, and says what was done or was so already.
async fn each(
    connection: &Connection,
    targets: &[Target],
    (done, already): (&str, &str),
    outcome: impl Fn(&Value) -> Result<Outcome, Failure>,
) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for target in targets {
        let changed = change(connection, target, &outcome).await;
        failures.add(match changed {
            Ok((true, object)) => show::done(connection.format, target, done, object),
            Ok((false, object)) => show::done(connection.format, target, already, object),
            Err(failure) => Err(failure),
        })?;
    }
    failures.end()
}

/// Changes one object, in the version that the outcome was decided on. Returns whether anything had
/// to be changed, and the object.
async fn change(
    connection: &Connection,
    target: &Target,
    outcome: impl Fn(&Value) -> Result<Outcome, Failure>,
) -> Result<(bool, Value), Failure> {
    for try_number in 1..=TRIES_MAX {
        let object: Value = connection.get(target).await?;
        let of_target = |failure: Failure| {
            let message = format!("{target}: {}", failure.message);
            Failure { message, ..failure }
        };
        let mut patch = match outcome(&object).map_err(of_target)? {
            Outcome::Change(patch) => patch,
            Outcome::Already => return Ok((false, object)),
        };
        patch["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        let place = (target, connection.namespace.as_str());
        match connection.patch(place, &patch, "").await {
            Ok(object) => return Ok((true, object)),
            Err(error) if is_outrun(&error) && try_number < TRIES_MAX => (),
            Err(error) => return Err(connection.failure(&error)),
        }
    }
    Err(Failure::new(format!("{target} keeps changing")).hint("try again"))
}
