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
mod new;
mod object;
mod owner;
mod record;
mod refusals;
mod task;
mod turns;

use api::completion::End;
use api::patch::Patch;
use api::resource_version::ResourceVersion;
use api::status::Refusal;
use api::task::transition::TaskChange;
use api::{KindId, ObjectKey, Timestamp};
use bytes::Bytes;
use serde_json::Value;
use store::{Guard, Key, Write};

use crate::access::Allowed;
use crate::{encoding, keys};

pub(crate) use commit::{Committed, Leader, WriteMode, Writer};
pub(crate) use delete::DeleteOptions;
pub(crate) use facts::{Current, Facts, text};
pub(crate) use fixed::check_labels;
pub(crate) use new::{New, NewTask};
pub(crate) use object::admit;
pub(crate) use refusals::{not_found, settled, unavailable, unknown};
pub(crate) use turns::Turns;

/// What somebody who may want it wants of the store. Not to be logged: it may hold a Secret.
#[derive(Clone)]
pub(crate) struct Intent {
    /// Who wants it, and was let in for it.
    pub(crate) by: Allowed,
    pub(crate) wish: Wish,
}

/// What is wanted of the store.
#[derive(Clone)]
pub(crate) enum Wish {
    /// Makes an object, admitted and stamped already.
    Create { kind: KindId, key: ObjectKey, object: New, repeatable: Repeatable },
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
    /// The uid of the object of this kind and key, if this intent creates it.
    pub(crate) fn makes(&self, kind: KindId, key: &ObjectKey) -> Option<&str> {
        match &self.wish {
            Wish::Create { kind: made, key: at, object: New::Document(object), .. } => {
                (*made == kind && at == key).then(|| text(object, "uid"))
            }
            Wish::Create { object: New::Task(_), .. }
            | Wish::Replace { .. }
            | Wish::Patch { .. }
            | Wish::Delete { .. }
            | Wish::Emptied { .. }
            | Wish::Remove { .. }
            | Wish::Task { .. }
            | Wish::Record { .. } => None,
        }
    }

    /// The key of the object that it is about.
    fn key(&self) -> Key {
        match &self.wish {
            Wish::Create { kind, key, .. }
            | Wish::Replace { kind, key, .. }
            | Wish::Patch { kind, key, .. }
            | Wish::Delete { kind, key, .. } => keys::object(*kind, key),
            Wish::Emptied { key, .. } => keys::object(KindId::Namespace, key),
            Wish::Remove { key, .. } | Wish::Task { key, .. } => keys::object(KindId::Task, key),
            Wish::Record { job, .. } => keys::object(KindId::Job, job),
        }
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

/// Decides one intent.
pub(crate) fn prepare(
    intent: &Intent,
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    match &intent.wish {
        Wish::Create { kind, key, object, repeatable } => {
            object::create((*kind, key), object, *repeatable, facts)
        }
        Wish::Replace { kind, key, object, part } => {
            object::replace((*kind, key), object.clone(), *part, facts, now)
        }
        Wish::Patch { kind, key, patch, part } => {
            object::patch((*kind, key), patch, *part, facts, now)
        }
        Wish::Delete { kind, key, options } => delete::delete((*kind, key), options, facts, now),
        Wish::Emptied { key, uid } => delete::emptied(key, uid, facts),
        Wish::Remove { key, uid } => delete::remove_task(key, uid, facts),
        Wish::Task { key, uid, attempt, change } => {
            task::change(key, uid.as_deref(), *attempt, change, facts, now)
        }
        Wish::Record { job, uid, run, ends } => record::record((job, uid), *run, ends, facts),
    }
}
