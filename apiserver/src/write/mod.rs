//! Every change of an object: decided as a pure function of what is there, then tried with guards.
//!
//! # Invariants
//!
//! * A decision names what it looked at: each write expects the revision it was decided on, each
//!   fact about another object is a guard.
//! * What is there is first taken from the cache, which may be behind. A write decided on it is
//!   safe, since the store refuses it; a *refusal* is only given after the store itself was read; and
//!   that there is *nothing to do* (a patch that changes nothing, what is deleted already, a dry run)
//!   only once the store has said that all that was looked at is still so.
//! * What of an object never changes is checked in one place, `fixed.rs`, for every form of write.
//! * When only something else in a record has changed, the decision is taken anew here: preconditions
//!   are facts, not revisions.

mod commit;
mod delete;
mod facts;
mod fixed;
mod object;
mod record;
mod task;
mod turns;

use api::batch::GroupResult;
use api::completion::End;
use api::patch::Patch;
use api::resource_version::ResourceVersion;
use api::status::{Reason, failure, failure_of};
use api::task::transition::TaskChange;
use api::{KindId, ObjectKey, Timestamp};
use base::ErrorChain;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::Value;
use store::{Guard, Key, Write};

use crate::{encoding, keys};

pub(crate) use commit::{Committed, Leader, Run, Writer};
pub(crate) use delete::DeleteOptions;
pub(crate) use facts::{Current, Facts, text};
pub(crate) use object::admit;
pub(crate) use turns::Turns;

const TOO_BUSY: &str = "the object is being changed by others too often; try again";

/// What is wanted of the store. Not to be logged: it may hold a Secret.
#[derive(Clone)]
pub(crate) enum Intent {
    /// Makes an object, admitted and stamped already.
    Create { kind: KindId, key: ObjectKey, object: Value, repeatable: Repeatable },
    /// Replaces spec and metadata, or the status.
    Replace { kind: KindId, key: ObjectKey, object: Value, part: Part },
    /// Changes a part of the document.
    Patch { kind: KindId, key: ObjectKey, patch: Patch, part: Part },
    /// Deletes, as far as owners, finalizers and running tasks allow.
    Delete { kind: KindId, key: ObjectKey, options: DeleteOptions },
    /// Removes a namespace that is being deleted and holds nothing.
    Emptied { key: ObjectKey, uid: String },
    /// Removes a task's object.
    Remove { key: ObjectKey, uid: String },
    /// Changes one part of a task.
    Task { key: ObjectKey, uid: Option<String>, attempt: Option<u32>, change: TaskChange },
    /// Records ends of a job's tasks.
    Record { job: ObjectKey, uid: String, run: u32, ends: Vec<(u32, End)> },
}

impl Intent {
    /// The key of the object that it is about.
    fn key(&self) -> Key {
        match self {
            Intent::Create { kind, key, .. }
            | Intent::Replace { kind, key, .. }
            | Intent::Patch { kind, key, .. }
            | Intent::Delete { kind, key, .. } => keys::object(*kind, key),
            Intent::Emptied { key, .. } => keys::object(KindId::Namespace, key),
            Intent::Remove { key, .. } | Intent::Task { key, .. } => {
                keys::object(KindId::Task, key)
            }
            Intent::Record { job, .. } => keys::object(KindId::Job, job),
        }
    }

    /// Whether an agent says it, which says it again until that was heard.
    fn is_of_agent(&self) -> bool {
        let Intent::Task { change, .. } = self else { return false };
        matches!(change, TaskChange::Report(_) | TaskChange::Refuse { .. })
    }
}

/// Whether making what is there already is "done" for the same controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeatable {
    /// A person's create: what is there is a conflict.
    No,
    /// A component's: it may not have heard the answer to its first try.
    BySameController,
}

/// The part of an object that a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Spec and metadata.
    Spec,
    /// The status.
    Status,
}

/// A decision: guards, writes, and what to answer.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) guards: Vec<Guard>,
    pub(crate) writes: Vec<Write>,
    /// The object as it will be (or was, if it goes), and the write that makes it so; nothing to be
    /// written where it is like that already.
    pub(crate) answer: Option<Answer>,
    /// Where nothing is written since it is so already: the point at which that came about.
    pub(crate) seen: ResourceVersion,
}

/// What a write answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) kind: KindId,
    pub(crate) key: Key,
    /// The stored form.
    pub(crate) object: Document,
    /// The point at which it was last changed, where this write leaves it as it is.
    pub(crate) version: ResourceVersion,
}

/// An object that is answered: most of those who write do not read it.
#[derive(Clone)]
pub(crate) enum Document {
    /// As it is stored now.
    Stored(Bytes),
    /// As it was.
    AsItWas(Current),
}

/// Without the object: it may be a Secret.
impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Document::Stored(stored) => write!(f, "Stored(<{} bytes>)", stored.len()),
            Document::AsItWas(current) => f.debug_tuple("AsItWas").field(current).finish(),
        }
    }
}

impl Document {
    /// Its stored form.
    fn stored(&self) -> Bytes {
        match self {
            Document::Stored(stored) => stored.clone(),
            Document::AsItWas(current) => encoding::encode(&current.object()),
        }
    }
}

/// Why nothing was written: one variant for each thing that the writer does next.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// The facts are against it, or the request makes no sense.
    Status(Box<Status>),
    /// It may have happened, or may still.
    Unknown,
    /// Others changed the object at every try, so that nothing was decided: to be tried again.
    Busy,
    /// The writer does not lead any more.
    Deposed,
}

impl Refusal {
    /// A refusal about one object.
    pub(crate) fn of(reason: Reason, kind: KindId, name: &str, message: impl Into<String>) -> Self {
        Refusal::Status(Box::new(failure_of(reason, kind, name, message)))
    }

    /// The object is not there.
    pub(crate) fn not_found(kind: KindId, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.info().plural);
        Self::of(Reason::NotFound, kind, name, message)
    }

    /// The object changed meanwhile.
    pub(crate) fn conflict(kind: KindId, name: &str, why: impl std::fmt::Display) -> Self {
        Self::of(Reason::Conflict, kind, name, format!("{kind} {name:?} cannot be changed: {why}"))
    }

    /// What was meant is gone, and another object is there under its name.
    pub(crate) fn other_uid(kind: KindId, name: &str) -> Self {
        Self::conflict(kind, name, "another object has its name now (the uid differs)")
    }

    /// As a status for a single request.
    pub(crate) fn into_status(self) -> Status {
        match self {
            Refusal::Status(status) => *status,
            Refusal::Unknown => {
                failure(Reason::Timeout, "the store did not answer; the change may have been made")
            }
            Refusal::Busy => failure(Reason::Conflict, TOO_BUSY),
            Refusal::Deposed => failure(Reason::Conflict, "another process is the leader now"),
        }
    }

    /// As a result of a group in a batch.
    pub(crate) fn into_result(self, group: &[Intent]) -> GroupResult {
        let nothing_decided = |message: String| {
            // A controller decides anew after a refusal. An agent takes one for heard: a task whose
            // end was refused only for now would run for ever.
            if group.iter().any(Intent::is_of_agent) {
                GroupResult::Unknown {}
            } else {
                GroupResult::Refused { message }
            }
        };
        match self {
            Refusal::Status(status) => {
                let message = status.message.unwrap_or_default();
                match status.code {
                    // What cannot be read now may be readable later: that is no reason to give up.
                    Some(500) => nothing_decided(message),
                    // 403: a namespace that is being deleted takes nothing new, and what wanted it
                    // to is about to go, too. 429: there are too many events.
                    Some(403 | 404 | 409 | 429) => GroupResult::Refused { message },
                    Some(503) => GroupResult::Unknown {},
                    _ => GroupResult::Invalid { message },
                }
            }
            Refusal::Unknown => GroupResult::Unknown {},
            Refusal::Busy => nothing_decided(TOO_BUSY.to_owned()),
            Refusal::Deposed => GroupResult::Deposed {},
        }
    }
}

/// The store cannot be read at the moment.
pub(crate) fn unavailable(error: &store::ReadError) -> Box<Status> {
    Box::new(failure(Reason::ServiceUnavailable, ErrorChain(error).to_string()))
}

/// Decides one intent.
pub(crate) fn prepare(
    intent: &Intent,
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    match intent {
        Intent::Create { kind, key, object, repeatable } => {
            object::create((*kind, key), object, *repeatable, facts)
        }
        Intent::Replace { kind, key, object, part } => {
            object::replace((*kind, key), object.clone(), *part, facts, now)
        }
        Intent::Patch { kind, key, patch, part } => {
            object::patch((*kind, key), patch, *part, facts, now)
        }
        Intent::Delete { kind, key, options } => delete::delete((*kind, key), options, facts, now),
        Intent::Emptied { key, uid } => delete::emptied(key, uid, facts),
        Intent::Remove { key, uid } => delete::remove_task(key, uid, facts),
        Intent::Task { key, uid, attempt, change } => {
            task::change(key, uid.as_deref(), *attempt, change, facts, now)
        }
        Intent::Record { job, uid, run, ends } => record::record((job, uid), *run, ends, facts),
    }
}

#[cfg(test)]
mod tests {
    use api::task::transition::Report;

    use super::*;

    #[test]
    fn an_agent_says_again_what_was_not_decided_since_the_object_is_too_busy() {
        let of = |change: TaskChange| {
            let key = ObjectKey::new("default", "t");
            [Intent::Task { key, uid: None, attempt: None, change }]
        };
        let report: Report = serde_json::from_value(serde_json::json!({
            "binding": 1, "bootId": "b", "state": "Succeeded",
        }))
        .unwrap();
        let said = Refusal::Busy.into_result(&of(TaskChange::Report(Box::new(report))));
        assert_eq!(said, GroupResult::Unknown {});
        let lost = Refusal::Busy.into_result(&of(TaskChange::Lose));
        assert_eq!(lost, GroupResult::Refused { message: TOO_BUSY.to_owned() });
        assert_eq!(Refusal::Busy.into_status().code, Some(409), "a person reads why");
    }
}
