//! Decides what remains to be removed from a namespace that is being deleted.
//!
//! # Invariants
//!
//! * Nothing is created in a namespace once it is marked for deletion (the apiserver ensures this),
//!   so a namespace that is seen empty after the mark stays empty.
//! * Objects with an owner in the namespace are removed together with the owner: the garbage
//!   collector stops tasks gracefully and applies foreground deletions to every generation.
//! * Objects that own each other in a circle do not keep a namespace alive.
//! * What the deletion waits for is in the conditions, which are written only when they change, and
//!   only when nothing is left to ask for.

use api::batch::Propagation;
use api::core::{CONTENT_REMAINING, FINALIZERS_REMAINING, Namespace, NamespaceCondition};
use api::object::Kind as _;
use api::{KindId, ObjectMeta, Time, Timestamp};

use crate::action::{Action, Group, ObjectRef};
use crate::remaining::{Left, Remaining, foreign_finalizers};

/// Everything that the decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The objects in it.
    pub held: &'a [Left<'a>],
    /// Whether it may be written now what the deletion waits for.
    pub tells: bool,
    /// The time.
    pub now: Timestamp,
}

/// The maximum number of operations in a plan; the next plan asks for the rest.
const ROUND_OPS_MAX: usize = 1_000;

/// Decides the next steps to remove the namespace, and to say what that waits for.
pub fn plan(view: &View<'_>) -> Vec<Group> {
    // Only a user can decide that a namespace goes.
    if !view.namespace.is_deleting() {
        return Vec::new();
    }
    let mut groups = removals(view);
    // What it waits for while there is more to ask for is not known yet.
    if groups.is_empty() && view.tells {
        groups.extend(told(view).map(|next| Action::status(next).into()));
    }
    groups
}

fn removals(view: &View<'_>) -> Vec<Group> {
    let namespace = view.namespace;
    if view.held.is_empty() {
        // A foreground deletion waits for what the namespace owns elsewhere.
        let is_held = namespace.metadata.finalizers.as_ref().is_some_and(|list| !list.is_empty());
        let emptied = Action::Emptied { namespace: ObjectRef::of(namespace) };
        return (!is_held).then(|| emptied.into()).into_iter().collect();
    }
    let stays = |held: &&Left<'_>| held.meta.deletion_timestamp.is_none();
    // Objects with an owner here are left to the garbage collector, which stops their tasks first.
    // If there are only such objects and none of them is going away, they own each other in a
    // circle: then all are deleted, since otherwise the namespace would never become empty.
    let roots: Vec<&Left<'_>> =
        view.held.iter().filter(stays).filter(|held| !has_owner_here(held.meta)).collect();
    let all_stay = view.held.iter().all(|held| stays(&held));
    let going = if roots.is_empty() && all_stay { view.held.iter().collect() } else { roots };
    going.into_iter().take(ROUND_OPS_MAX).map(|held| delete(held).into()).collect()
}

/// Whether it is removed without our help once another object of the namespace is gone.
fn has_owner_here(meta: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().any(|owner| {
        KindId::from_manifest(&owner.api_version, &owner.kind).is_some_and(KindId::is_namespaced)
    })
}

/// The namespace with conditions that say what its deletion waits for; `None` if they do already.
fn told(view: &View<'_>) -> Option<Namespace> {
    let remaining = Remaining::of(view.held.iter().copied(), 0);
    let own = foreign_finalizers(&view.namespace.metadata);
    let own = own.map(|finalizer| format!("finalizer {finalizer} of the namespace"));
    let of_objects = Some(remaining.finalizers).filter(|text| !text.is_empty());
    let finalizers: Vec<String> = of_objects.into_iter().chain(own).collect();
    let mut next = view.namespace.clone();
    let status = next.status.get_or_insert_default();
    // It is added on the way out, and never stored.
    status.phase = None;
    let before = status.conditions.take().unwrap_or_default();
    let now = |kind: &str, reasons: [&str; 2], message: String| {
        let is_so = !message.is_empty();
        let word = if is_so { "True" } else { "False" };
        let same = before.iter().find(|it| it.type_ == kind && it.status == word);
        NamespaceCondition {
            type_: kind.to_owned(),
            status: word.to_owned(),
            reason: Some(reasons[usize::from(!is_so)].to_owned()),
            message: Some(if is_so { message } else { "nothing remains".to_owned() }),
            last_transition_time: same
                .and_then(|it| it.last_transition_time.clone())
                .or(Some(Time(view.now))),
        }
    };
    let conditions = vec![
        now(CONTENT_REMAINING, ["SomeResourcesRemain", "ContentRemoved"], remaining.content),
        now(
            FINALIZERS_REMAINING,
            ["SomeFinalizersRemain", "ContentHasNoFinalizers"],
            finalizers.join("; "),
        ),
    ];
    status.conditions = Some(conditions.clone());
    (before != conditions).then_some(next)
}

fn delete(held: &Left<'_>) -> Action {
    Action::Delete {
        kind: held.kind,
        object: ObjectRef::of_meta(held.meta),
        propagation: Propagation::Background,
        version: None,
    }
}
