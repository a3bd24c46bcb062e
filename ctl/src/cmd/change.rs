//! Small changes: `cancel`, `suspend`, `resume`, `evict`, `cordon`, `uncordon`.

use api::KindId;
use serde_json::{Value, json};

use super::each::Failures;
use super::starting::Starting;
use super::{show, silent};
use crate::connection::Connection;
use crate::failure::{Failure, is_outrun};
use crate::format::Format;
use crate::target::{self, Target};
use crate::verb::{self, Effect, Verb};
use crate::{silence, terminal};

/// How many times an object is read again that somebody else changes at the same time.
const TRIES_MAX: usize = 5;

/// Applies `verb` to each object in `words`.
pub(super) async fn change(
    connection: &Connection,
    verb: Verb,
    words: &[String],
) -> Result<(), Failure> {
    // The kind of a name without a kind, for verbs that have only one.
    let usual = match verb {
        Verb::Evict => Some(KindId::Task),
        Verb::Cordon | Verb::Uncordon => Some(KindId::Node),
        Verb::Pause | Verb::Unpause => Some(KindId::Service),
        Verb::Cancel | Verb::Suspend | Verb::Resume => None,
    };
    let targets = target::several_of(words, usual)?;
    verb::only(verb, &targets)?;
    let (mut failures, mut changed) = (Failures::default(), Vec::new());
    for target in &targets {
        let done = change_one(connection, verb, target).await;
        if done.is_ok() {
            changed.push(target.clone());
        }
        failures.add(done)?;
    }
    if verb.stops() && connection.format != Format::Json {
        let nodes = silent::nodes(connection).await;
        let tasks = silent::left_on(connection, &changed, &nodes).await;
        silence::told_of(&silence::stragglers(&tasks, &nodes))
            .iter()
            .for_each(|told| terminal::note(told));
    }
    failures.end()
}

/// The effect of a verb depends on the object's state, so the change is made to the version that
/// was read: a job that ends in between must not be reported as cancelled.
async fn change_one(connection: &Connection, verb: Verb, target: &Target) -> Result<(), Failure> {
    for try_number in 1..=TRIES_MAX {
        let object: Value = connection.get(target).await?;
        let what = match verb::effect(verb, target, &object) {
            Effect::Act(what) => what,
            Effect::Already(what) => return show::done(connection.format, target, what, object),
            Effect::Never(failure) => return Err(failure),
        };
        let Some(mut patch) = verb.patch() else {
            let object = connection.post_to(target, "evict", &json!({ "reason": "Evict" })).await?;
            return show::done(connection.format, target, what, object);
        };
        patch["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        let place = (target, connection.namespace.as_str());
        match connection.patch(place, &patch, "").await {
            Ok(object) => {
                let starts = starts(connection, (verb, target), &object).await;
                return show::done(connection.format, target, &format!("{what}{starts}"), object);
            }
            Err(error) if is_outrun(&error) && try_number < TRIES_MAX => (),
            Err(error) => return Err(connection.failure(&error)),
        }
    }
    Err(Failure::new(format!("{target} keeps changing")).hint("try again"))
}

/// The run that a resumed workflow starts, as text to append to the message; empty if there is none
/// or nobody would read it.
async fn starts(
    connection: &Connection,
    (verb, target): (Verb, &Target),
    object: &Value,
) -> String {
    let is_resumed = verb == Verb::Resume && target.kind == KindId::Workflow;
    if !is_resumed || !connection.format.is_table() {
        return String::new();
    }
    Starting::new().told(connection, object).await
}
