//! Decides what goes because its owner has gone or is going.
//!
//! # Invariants
//!
//! * Owners are compared by uid: an owner of the same name made later is another one.
//! * A task that holds a node is stopped first, and goes when it has let go of it.
//! * An owner that waits for its dependents goes after them; one that leaves them behind goes after
//!   they are cut loose.
//! * Garbage collection never changes a decision: what a plan may still read is kept.

use std::collections::BTreeSet;

use api::batch::{Group, Op};
use api::core::Event;
use api::object::Kind as _;
use api::task::StopReason;
use api::task::transition::TaskChange;
use api::{
    CompletionChunk, Job, KindId, ObjectKey, ObjectMeta, Task, TaskTemplate, Timestamp, labels,
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::job::plan::template_name;

/// An owner, and what it owns.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The owner; nothing once it is gone.
    pub owner: Option<Object<'a>>,
    /// Its uid.
    pub uid: &'a str,
    /// What names it as its controller.
    pub dependents: &'a [Dependent<'a>],
}

/// An object of any kind.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// Its kind.
    pub kind: KindId,
    /// Its metadata.
    pub meta: &'a ObjectMeta,
}

/// What an owner owns.
#[derive(Debug, Clone, Copy)]
pub enum Dependent<'a> {
    /// A task: it may have to be stopped first.
    Task(&'a Task),
    /// Anything else.
    Other(Object<'a>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Writes, each group all or nothing and independent of the others.
    pub groups: Vec<Group>,
    /// Changes of metadata, which batches do not make.
    pub patches: Vec<Patch>,
}

/// A merge patch of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// Its kind.
    pub kind: KindId,
    /// Where it is.
    pub key: ObjectKey,
    /// The patch; it names the uid and resourceVersion that it was decided on.
    pub body: Value,
}

/// Operations that a plan asks for at most.
const ROUND_OPS_MAX: usize = 1_000;

/// What of an owner's dependents goes.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(owner) = view.owner else {
        plan.groups = removals(view.dependents);
        return plan;
    };
    if owner.meta.deletion_timestamp.is_none() {
        return plan;
    }
    let finalizers = owner.meta.finalizers.as_deref().unwrap_or_default();
    let has = |finalizer: &str| finalizers.iter().any(|name| name == finalizer);
    if has(labels::FINALIZER_ORPHAN) {
        plan.patches = view.dependents.iter().map(|dependent| cut(dependent, view.uid)).collect();
        plan.patches.truncate(ROUND_OPS_MAX);
        if view.dependents.is_empty() {
            plan.patches.push(without_finalizer(&owner, labels::FINALIZER_ORPHAN));
        }
    } else if has(labels::FINALIZER_FOREGROUND) {
        plan.groups = removals(view.dependents);
        if view.dependents.is_empty() {
            plan.patches.push(without_finalizer(&owner, labels::FINALIZER_FOREGROUND));
        }
    }
    plan
}

fn removals(dependents: &[Dependent<'_>]) -> Vec<Group> {
    dependents.iter().filter_map(removal).take(ROUND_OPS_MAX).map(Group::from).collect()
}

fn removal(dependent: &Dependent<'_>) -> Option<Op> {
    match dependent {
        Dependent::Task(task) if task.takes_resources_on().is_none() => Some(Op::remove(task)),
        Dependent::Task(task) if task.stop().is_none() => {
            Some(Op::task(task, TaskChange::Evict { reason: StopReason::Delete }))
        }
        // It is being stopped, or its node is lost and may come back.
        Dependent::Task(_) => None,
        Dependent::Other(object) if object.meta.deletion_timestamp.is_some() => None,
        Dependent::Other(object) => Some(Op::Delete {
            kind: object.kind.info().plural.to_owned(),
            key: key_of(object.meta),
            uid: object.meta.uid.clone().unwrap_or_default(),
        }),
    }
}

fn key_of(meta: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn patch(kind: KindId, meta: &ObjectMeta, change: (&str, Value)) -> Patch {
    let mut metadata = json!({ "uid": meta.uid, "resourceVersion": meta.resource_version });
    metadata[change.0] = change.1;
    Patch { kind, key: key_of(meta), body: json!({ "metadata": metadata }) }
}

fn cut(dependent: &Dependent<'_>, uid: &str) -> Patch {
    let (kind, meta) = match dependent {
        Dependent::Task(task) => (KindId::Task, task.meta()),
        Dependent::Other(object) => (object.kind, object.meta),
    };
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let others: Vec<_> = owners.iter().filter(|owner| owner.uid != uid).collect();
    patch(kind, meta, ("ownerReferences", json!(others)))
}

fn without_finalizer(owner: &Object<'_>, finalizer: &str) -> Patch {
    let finalizers = owner.meta.finalizers.as_deref().unwrap_or_default();
    let others: Vec<_> = finalizers.iter().filter(|name| *name != finalizer).collect();
    patch(owner.kind, owner.meta, ("finalizers", json!(others)))
}

/// What a job that lives needs no longer: templates that no task runs, and the records of runs that
/// no task is of.
pub fn outdated(
    job: &Job,
    tasks: &[&Task],
    templates: &[&TaskTemplate],
    chunks: &[&CompletionChunk],
) -> Vec<Group> {
    if job.is_deleting() {
        return Vec::new();
    }
    let current = template_name(job);
    let used: BTreeSet<&str> = tasks.iter().map(|task| task.spec.template.as_str()).collect();
    let runs: BTreeSet<u32> = tasks.iter().map(|task| task.spec.run).collect();
    let templates = templates
        .iter()
        .filter(|template| template.name() != current && !used.contains(template.name()))
        .map(|template| Op::delete(*template));
    let chunks = chunks
        .iter()
        .filter(|chunk| chunk.spec.run < job.status.run && !runs.contains(&chunk.spec.run))
        .map(|chunk| Op::delete(*chunk));
    templates.chain(chunks).take(ROUND_OPS_MAX).map(Group::from).collect()
}

/// How long events stay.
pub const EVENT_TTL: SignedDuration = SignedDuration::from_hours(1);

/// Events that have been there for long enough, and when the next ones have.
pub fn old_events(events: &[&Event], now: Timestamp) -> (Vec<Group>, Option<Timestamp>) {
    let until = |event: &Event| {
        let seen = event.last_timestamp.as_ref().or(event.metadata.creation_timestamp.as_ref());
        seen.map(|time| time.0).unwrap_or_default().saturating_add(EVENT_TTL).unwrap_or(now)
    };
    let (old, young): (Vec<&Event>, Vec<&Event>) =
        events.iter().copied().partition(|event| until(event) <= now);
    let groups: Vec<Group> =
        old.iter().take(ROUND_OPS_MAX).map(|event| Op::delete(*event).into()).collect();
    let first_of_young = young.iter().map(|event| until(event)).min();
    let next = if old.len() > groups.len() { Some(now) } else { first_of_young };
    (groups, next)
}
