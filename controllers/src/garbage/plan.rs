//! Decides what is removed because its owner is gone or is being deleted.
//! The rules are those of the garbage collector of Kubernetes, and the same for every kind. An
//! object is removed when the last of its owners is gone. An owner that is deleted in the
//! foreground waits for the dependents that block it. One that is deleted with orphaning waits
//! until no dependent refers to it any more.
//!
//! # Invariants
//!
//! * Owners are compared by uid: a later owner of the same name is a different one.
//! * A task that holds a node is stopped first, and is removed once it has released the node.
//! * A foreground deletion applies to every generation: a dependent that itself owns something is
//!   deleted in the foreground, too.
//! * Owners that wait for each other in a circle are removed all the same
//!   ([`circle`](super::circle)).
//! * A completion record belongs to its job for as long as the job exists: no cascade includes it,
//!   and it is removed after the job.
//! * What a foreground deletion waits for is written on the owner, and only when it changes.
//! * Garbage collection never changes a decision: what a plan may still read is kept.

use api::batch::Propagation;
use api::object::Kind as _;
use api::task::StopReason;
use api::{CompletionChunk, Job, KindId, ObjectMeta, Task, TaskTemplate, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::circle::Link;
use crate::action::{Action, Group, ObjectRef, Patch};
use crate::job::plan::template_name;
use crate::remaining::Remaining;

/// An owner that is gone or being deleted, and its dependents.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The owner; `None` once it is gone.
    pub owner: Option<Object<'a>>,
    /// Its uid.
    pub uid: &'a str,
    /// Those of its dependents for which [`is_concerned`] holds, but only as many as a plan can
    /// change.
    pub dependents: &'a [Dependent<'a>],
    /// How many dependents have to be gone before it can be deleted in the foreground.
    pub blocking: usize,
    /// Where to cut the circle in which the owner waits for itself, if it does.
    pub circle: Option<&'a Link<Object<'a>>>,
    /// What a foreground deletion waits for, where it may be written now.
    pub remaining: Option<&'a Remaining>,
}

/// An object of any kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object<'a> {
    /// Its kind.
    pub kind: KindId,
    /// Its metadata.
    pub meta: &'a ObjectMeta,
}

/// A dependent of an owner.
#[derive(Debug, Clone, Copy)]
pub struct Dependent<'a> {
    /// The object.
    pub object: Object<'a>,
    /// The object as a task, which may have to be stopped first.
    pub task: Option<&'a Task>,
    /// Whether another of its owners exists and is not waiting for it to be removed.
    pub is_kept: bool,
    /// Whether it owns something itself.
    pub owns: bool,
}

/// The maximum number of operations in a plan; the next plan asks for the rest.
pub(super) const ROUND_OPS_MAX: usize = 1_000;

/// Decides what happens to the dependents of an owner, and to the owner.
pub fn plan(view: &View<'_>) -> Vec<Group> {
    // Without its owner, each dependent is removed, unless another owner keeps it.
    let Some(owner) = view.owner else {
        return groups(view.dependents.iter().filter_map(|dependent| after(dependent, view.uid)));
    };
    // Dependents of an owner that stays are none of the collector's business.
    if owner.meta.deletion_timestamp.is_none() {
        return Vec::new();
    }
    match waits_for(&owner) {
        Some(Waits::ForNone) => {
            let mut named =
                view.dependents.iter().filter(|dependent| !is_record(dependent)).peekable();
            // The owner may go only now: if it went earlier, the dependents that still name it
            // would be removed although they were to stay.
            if named.peek().is_none() {
                return groups([without_finalizer(&owner, labels::FINALIZER_ORPHAN)]);
            }
            groups(named.map(|dependent| cut(dependent, view.uid)))
        }
        // Every blocking dependent is gone, so the owner no longer has to wait.
        Some(Waits::ForBlocking) if view.blocking == 0 => {
            groups([without_finalizer(&owner, labels::FINALIZER_FOREGROUND)])
        }
        Some(Waits::ForBlocking) => {
            let blocking = view.dependents.iter().filter(|dependent| blocks(dependent, view.uid));
            // In a circle, each member waits for the next one: without this cut, none would ever
            // go.
            let cut = view.circle.map(unblock);
            let before = blocking.filter_map(|dependent| before(dependent, view.uid));
            let told = view.remaining.and_then(|remaining| told(&owner, remaining));
            groups(cut.into_iter().chain(before).chain(told))
        }
        // Deleted in the background: its dependents follow once it is gone.
        None => Vec::new(),
    }
}

/// What an owner that is being deleted waits for.
enum Waits {
    /// For no object to refer to it as an owner: its dependents stay.
    ForNone,
    /// For the dependents that block it to be gone.
    ForBlocking,
}

/// Whether an owner waits for the dependents that block it.
pub(super) fn is_foreground(owner: &Object<'_>) -> bool {
    matches!(waits_for(owner), Some(Waits::ForBlocking))
}

fn waits_for(owner: &Object<'_>) -> Option<Waits> {
    owner.meta.deletion_timestamp.as_ref()?;
    let finalizers = owner.meta.finalizers.as_deref().unwrap_or_default();
    let has = |finalizer: &str| finalizers.iter().any(|name| name == finalizer);
    if has(labels::FINALIZER_ORPHAN) {
        return Some(Waits::ForNone);
    }
    has(labels::FINALIZER_FOREGROUND).then_some(Waits::ForBlocking)
}

/// Whether even dependents that are about to go away matter to an owner, because it removes its
/// references from them. All other owners have nothing to do with those.
pub(super) fn wants_every_dependent(owner: Option<Object<'_>>) -> bool {
    owner.is_some_and(|owner| matches!(waits_for(&owner), Some(Waits::ForNone)))
}

/// Whether [`plan`] may change a dependent. If there are many, this allows to read only as many as
/// a plan can change.
pub(super) fn is_concerned(
    owner: Option<Object<'_>>,
    uid: &str,
    dependent: &Dependent<'_>,
) -> bool {
    let Some(owner) = owner else { return after(dependent, uid).is_some() };
    match waits_for(&owner) {
        Some(Waits::ForNone) => !is_record(dependent),
        Some(Waits::ForBlocking) => blocks(dependent, uid) && before(dependent, uid).is_some(),
        None => false,
    }
}

fn groups(actions: impl IntoIterator<Item = Action>) -> Vec<Group> {
    actions.into_iter().take(ROUND_OPS_MAX).map(Group::from).collect()
}

/// A completion record has no owner references that could be removed.
fn is_record(dependent: &Dependent<'_>) -> bool {
    dependent.object.kind == KindId::CompletionChunk
}

/// Whether an owner that is deleted in the foreground waits for it.
pub(super) fn blocks(dependent: &Dependent<'_>, uid: &str) -> bool {
    let owners = dependent.object.meta.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
}

/// What to do with a dependent whose owner is gone.
fn after(dependent: &Dependent<'_>, uid: &str) -> Option<Action> {
    // Another owner still needs it, so only the reference is removed.
    if dependent.is_kept {
        return Some(cut(dependent, uid));
    }
    removal(dependent, Propagation::Background)
}

/// What to do with a dependent whose owner waits for it to be gone.
fn before(dependent: &Dependent<'_>, uid: &str) -> Option<Action> {
    // Another owner still needs it. Removing the reference also lets this owner go on.
    if dependent.is_kept {
        return Some(cut(dependent, uid));
    }
    let cascade = if dependent.owns { Propagation::Foreground } else { Propagation::Background };
    removal(dependent, cascade)
}

fn removal(dependent: &Dependent<'_>, propagation: Propagation) -> Option<Action> {
    let Dependent { object, task, .. } = dependent;
    match task {
        // Its own dependents have to go first.
        Some(task) if propagation != Propagation::Background && !task.is_deleting() => {
            Some(delete(object, propagation))
        }
        Some(task) => finish(task),
        // Its finalizers are being worked on. Deleting it again would change nothing, at every
        // plan.
        None if object.meta.deletion_timestamp.is_some() => None,
        None => Some(delete(object, propagation)),
    }
}

/// The next step to remove a task that is no longer wanted and that no job takes care of.
pub fn finish(task: &Task) -> Option<Action> {
    if task.takes_resources_on().is_some() {
        // Once it was asked to stop, it ends, or its node is declared lost. Either is an event.
        let owner = task.controller();
        let message =
            owner.map(|it| format!("{} {} was deleted", KindId::word_of(&it.kind), it.name));
        let stop = || Action::evict(task, StopReason::Delete, message);
        return task.stop().is_none().then(stop);
    }
    // If it waits for its own dependents, it has a finalizer.
    let is_held = task.meta().finalizers.as_ref().is_some_and(|list| !list.is_empty());
    (!is_held).then(|| Action::remove(task))
}

fn delete(object: &Object<'_>, propagation: Propagation) -> Action {
    Action::Delete {
        kind: object.kind,
        object: ObjectRef::of_meta(object.meta),
        propagation,
        // It may get another owner meanwhile. A record cannot.
        version: (object.kind != KindId::CompletionChunk)
            .then(|| object.meta.resource_version.as_ref()?.parse().ok())
            .flatten(),
    }
}

/// Removes a reference to an owner from a dependent. A template that loses its last owner is
/// marked, since only its last task will show that it can be removed.
fn cut(dependent: &Dependent<'_>, uid: &str) -> Action {
    let Object { kind, meta } = dependent.object;
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let others: Vec<OwnerReference> =
        owners.iter().filter(|owner| owner.uid != uid).cloned().collect();
    let is_orphan = others.is_empty() && kind == KindId::TaskTemplate;
    let patch = Patch::owner_references(kind, meta, others);
    Action::Patch(if is_orphan { patch.and_annotation(labels::ORPHANED, "true") } else { patch })
}

/// Makes an owner no longer wait for a dependent.
fn unblock(link: &Link<Object<'_>>) -> Action {
    let Object { kind, meta } = link.dependent;
    let owners = meta.owner_references.iter().flatten().cloned();
    let owners = owners.map(|mut owner| {
        if owner.uid == link.owner {
            owner.block_owner_deletion = Some(false);
        }
        owner
    });
    Action::Patch(Patch::owner_references(kind, meta, owners.collect()))
}

/// Says on the owner what its deletion waits for, unless that is said already.
fn told(owner: &Object<'_>, remaining: &Remaining) -> Option<Action> {
    let said = owner.meta.annotations.as_ref().and_then(|all| all.get(labels::DELETION_WAITS_FOR));
    let line = remaining.line();
    let is_new = !line.is_empty() && said != Some(&line);
    is_new.then(|| Action::Patch(Patch::deletion_waits_for(owner.kind, owner.meta, line)))
}

fn without_finalizer(owner: &Object<'_>, finalizer: &str) -> Action {
    let finalizers = owner.meta.finalizers.as_deref().unwrap_or_default();
    let others = finalizers.iter().filter(|name| *name != finalizer).cloned().collect();
    Action::Patch(Patch::finalizers(owner.kind, owner.meta, others))
}

/// Whether a template has lost its owner, and has to be removed with the last task that uses it.
pub fn is_orphan(template: &TaskTemplate) -> bool {
    let meta = template.meta();
    let marked = meta.annotations.as_ref().is_some_and(|all| all.contains_key(labels::ORPHANED));
    marked && meta.owner_references.as_ref().is_none_or(Vec::is_empty)
}

/// Removes a template that has lost its owner, once no task uses it.
pub fn orphaned(template: &TaskTemplate, users: usize) -> Vec<Group> {
    // Tasks need the template to start again, so it stays as long as any task uses it.
    if users > 0 || template.is_deleting() || !is_orphan(template) {
        return Vec::new();
    }
    let object = Object { kind: KindId::TaskTemplate, meta: template.meta() };
    groups([delete(&object, Propagation::Background)])
}

/// The parts of an existing job that may no longer be needed.
pub(super) struct Outdated<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its templates.
    pub templates: &'a [&'a TaskTemplate],
    /// Its completion record.
    pub chunks: &'a [&'a CompletionChunk],
    /// Whether any task uses a template.
    pub is_used: &'a dyn Fn(&TaskTemplate) -> bool,
    /// Whether the job has tasks of a run.
    pub has_tasks_of: &'a dyn Fn(u32) -> bool,
}

/// Removes what an existing job no longer needs: templates that no task uses, and the records of
/// runs without tasks. Also returns whether more can be removed once tasks are gone.
pub(super) fn outdated(view: &Outdated<'_>) -> (Vec<Group>, bool) {
    let job = view.job;
    if job.is_deleting() {
        return (Vec::new(), false);
    }
    let current = template_name(job);
    let (used, unused): (Vec<&TaskTemplate>, Vec<&TaskTemplate>) = view
        .templates
        .iter()
        .filter(|template| template.name() != current)
        .partition(|template| (view.is_used)(template));
    let (read, unread): (Vec<&CompletionChunk>, Vec<&CompletionChunk>) = view
        .chunks
        .iter()
        .filter(|chunk| chunk.spec.run < job.status.run)
        .partition(|chunk| (view.has_tasks_of)(chunk.spec.run));
    let (templates, chunks) =
        (unused.into_iter().map(Action::delete), unread.into_iter().map(Action::delete));
    (groups(templates.chain(chunks)), !used.is_empty() || !read.is_empty())
}
