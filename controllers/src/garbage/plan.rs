//! Decides what goes because its owner has gone or is going.
//!
//! The same rules as Kubernetes' collector, for every kind alike: an object goes when the last of
//! its owners has gone; an owner that is deleted in the foreground waits for those dependents that
//! block it; one that is deleted as an orphan-maker waits until no dependent names it any more.
//!
//! # Invariants
//!
//! * Owners are compared by uid: an owner of the same name made later is another one.
//! * A task that holds a node is stopped first, and goes when it has let go of it.
//! * A foreground deletion reaches through every generation: a dependent that owns something itself
//!   is deleted in the foreground, too.
//! * Owners that wait for each other in a circle go all the same ([`circle`](super::circle)).
//! * A completion record belongs to its job for as long as that is there: no cascade counts it, and
//!   it goes after the job.
//! * Garbage collection never changes a decision: what a plan may still read is kept.

use api::batch::Propagation;
use api::object::Kind as _;
use api::task::StopReason;
use api::{CompletionChunk, Job, KindId, ObjectMeta, Task, TaskTemplate, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::circle::Link;
use crate::action::{Action, Group, ObjectRef, Patch};
use crate::job::plan::template_name;

/// An owner that is going or has gone, and what it owns.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The owner; nothing once it is gone.
    pub owner: Option<Object<'a>>,
    /// Its uid.
    pub uid: &'a str,
    /// What names it among its owners, as far as [`is_concerned`] says so, and as many of that as a plan
    /// asks something of.
    pub dependents: &'a [Dependent<'a>],
    /// How many objects that name it among their owners it waits for when it is deleted in the
    /// foreground.
    pub blocking: usize,
    /// Where the circle is cut in which the owner waits for itself, if it does.
    pub circle: Option<&'a Link<Object<'a>>>,
}

/// An object of any kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object<'a> {
    /// Its kind.
    pub kind: KindId,
    /// Its metadata.
    pub meta: &'a ObjectMeta,
}

/// What an owner owns.
#[derive(Debug, Clone, Copy)]
pub struct Dependent<'a> {
    /// It.
    pub object: Object<'a>,
    /// It as a task, which may have to be stopped first.
    pub task: Option<&'a Task>,
    /// Whether another of its owners is there and is not waiting for it to go.
    pub is_kept: bool,
    /// Whether it owns something itself.
    pub owns: bool,
}

/// Operations that a plan asks for at most; the next plan asks for the rest.
pub(super) const ROUND_OPS_MAX: usize = 1_000;

/// What becomes of an owner's dependents, and of the owner.
pub fn plan(view: &View<'_>) -> Vec<Group> {
    let Some(owner) = view.owner else {
        return groups(view.dependents.iter().filter_map(|dependent| after(dependent, view.uid)));
    };
    if owner.meta.deletion_timestamp.is_none() {
        return Vec::new();
    }
    match waits_for(&owner) {
        Some(Waits::ForNone) => {
            let mut named =
                view.dependents.iter().filter(|dependent| !is_record(dependent)).peekable();
            if named.peek().is_none() {
                return groups([without_finalizer(&owner, labels::FINALIZER_ORPHAN)]);
            }
            groups(named.map(|dependent| cut(dependent, view.uid)))
        }
        Some(Waits::ForBlocking) if view.blocking == 0 => {
            groups([without_finalizer(&owner, labels::FINALIZER_FOREGROUND)])
        }
        Some(Waits::ForBlocking) => {
            let blocking = view.dependents.iter().filter(|dependent| blocks(dependent, view.uid));
            let cut = view.circle.map(unblock);
            let before = blocking.filter_map(|dependent| before(dependent, view.uid));
            groups(cut.into_iter().chain(before))
        }
        None => Vec::new(),
    }
}

/// What an owner that is being deleted waits for before it goes.
enum Waits {
    /// That nothing names it as an owner any more: its dependents stay.
    ForNone,
    /// That those of its dependents are gone that block it.
    ForBlocking,
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

/// Whether dependents that are on their way out matter to an owner, too: it takes itself off them. Any
/// other owner asks nothing of those.
pub(super) fn wants_every_dependent(owner: Option<Object<'_>>) -> bool {
    owner.is_some_and(|owner| matches!(waits_for(&owner), Some(Waits::ForNone)))
}

/// Whether [`plan`] asks something of a dependent, so that of many objects only as many need be read
/// as a plan asks for.
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

/// A completion record has no owner references: there is nothing to cut.
fn is_record(dependent: &Dependent<'_>) -> bool {
    dependent.object.kind == KindId::CompletionChunk
}

/// Whether an owner that is deleted in the foreground waits for it.
pub(super) fn blocks(dependent: &Dependent<'_>, uid: &str) -> bool {
    let owners = dependent.object.meta.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
}

/// What is done with a dependent whose owner has gone.
fn after(dependent: &Dependent<'_>, uid: &str) -> Option<Action> {
    if dependent.is_kept {
        return Some(cut(dependent, uid));
    }
    removal(dependent, Propagation::Background)
}

/// What is done with a dependent whose owner waits for it to go.
fn before(dependent: &Dependent<'_>, uid: &str) -> Option<Action> {
    if dependent.is_kept {
        return Some(cut(dependent, uid));
    }
    let cascade = if dependent.owns { Propagation::Foreground } else { Propagation::Background };
    removal(dependent, cascade)
}

fn removal(dependent: &Dependent<'_>, propagation: Propagation) -> Option<Action> {
    let Dependent { object, task, .. } = dependent;
    match task {
        // Its own dependents go first.
        Some(task) if propagation != Propagation::Background && !task.is_deleting() => {
            Some(delete(object, propagation))
        }
        Some(task) => finish(task),
        None if object.meta.deletion_timestamp.is_some() => None,
        None => Some(delete(object, propagation)),
    }
}

/// The next step towards the end of a task that is not wanted and that no job takes care of.
pub fn finish(task: &Task) -> Option<Action> {
    if task.takes_resources_on().is_some() {
        // Once asked to stop, it ends by itself, or its node is lost: either is an event.
        let owner = task.controller();
        let message =
            owner.map(|it| format!("{} {} was deleted", KindId::word_of(&it.kind), it.name));
        let stop = || Action::evict(task, StopReason::Delete, message);
        return task.stop().is_none().then(stop);
    }
    // What it owns itself is waited for: its finalizer says so.
    let is_held = task.meta().finalizers.as_ref().is_some_and(|list| !list.is_empty());
    (!is_held).then(|| Action::remove(task))
}

fn delete(object: &Object<'_>, propagation: Propagation) -> Action {
    Action::Delete {
        kind: object.kind,
        object: ObjectRef::of_meta(object.meta),
        propagation,
        // Somebody may give it another owner meanwhile. A record has none to be given.
        version: (object.kind != KindId::CompletionChunk)
            .then(|| object.meta.resource_version.as_ref()?.parse().ok())
            .flatten(),
    }
}

/// Takes an owner off a dependent. A template that is left without one is marked: nobody but its
/// last task will say that it can go.
fn cut(dependent: &Dependent<'_>, uid: &str) -> Action {
    let Object { kind, meta } = dependent.object;
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let others: Vec<OwnerReference> =
        owners.iter().filter(|owner| owner.uid != uid).cloned().collect();
    let is_orphan = others.is_empty() && kind == KindId::TaskTemplate;
    let patch = Patch::owner_references(kind, meta, others);
    Action::Patch(if is_orphan { patch.and_annotation(labels::ORPHANED, "true") } else { patch })
}

/// Has an owner no longer wait for a dependent.
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

fn without_finalizer(owner: &Object<'_>, finalizer: &str) -> Action {
    let finalizers = owner.meta.finalizers.as_deref().unwrap_or_default();
    let others = finalizers.iter().filter(|name| *name != finalizer).cloned().collect();
    Action::Patch(Patch::finalizers(owner.kind, owner.meta, others))
}

/// Whether a template was left behind by its owner, and goes with the last task that runs it.
pub fn is_orphan(template: &TaskTemplate) -> bool {
    let meta = template.meta();
    let marked = meta.annotations.as_ref().is_some_and(|all| all.contains_key(labels::ORPHANED));
    marked && meta.owner_references.as_ref().is_none_or(Vec::is_empty)
}

/// Removes a template that was left behind by its owner, once no task runs it.
pub fn orphaned(template: &TaskTemplate, users: usize) -> Vec<Group> {
    if users > 0 || template.is_deleting() || !is_orphan(template) {
        return Vec::new();
    }
    let object = Object { kind: KindId::TaskTemplate, meta: template.meta() };
    groups([delete(&object, Propagation::Background)])
}

/// What of a job that lives may not be needed any longer.
pub(super) struct Outdated<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its templates.
    pub templates: &'a [&'a TaskTemplate],
    /// Its record.
    pub chunks: &'a [&'a CompletionChunk],
    /// Whether any task runs a template.
    pub is_used: &'a dyn Fn(&TaskTemplate) -> bool,
    /// Whether the job has tasks of a run.
    pub has_tasks_of: &'a dyn Fn(u32) -> bool,
}

/// What a job that lives needs no longer: templates that no task runs, and the records of runs that
/// no task is of; and whether there is more that will not be needed once tasks are gone.
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
