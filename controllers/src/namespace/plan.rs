//! Decides what remains to be removed from a namespace that is being deleted.
//!
//! # Invariants
//!
//! * Nothing is created in a namespace once it is marked for deletion (the apiserver ensures this),
//!   so a namespace that is seen empty after the mark stays empty.
//! * Objects with an owner in the namespace are removed together with the owner: the garbage
//!   collector stops tasks gracefully and applies foreground deletions to every generation.
//! * Objects that own each other in a circle do not keep a namespace alive.

use api::batch::Propagation;
use api::core::Namespace;
use api::object::Kind as _;
use api::{KindId, ObjectMeta};

use crate::action::{Action, Group, ObjectRef};

/// Everything that the decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The objects in it.
    pub held: &'a [Held<'a>],
}

/// An object in the namespace.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Its kind.
    pub kind: KindId,
    /// Its metadata.
    pub meta: &'a ObjectMeta,
}

/// The maximum number of operations in a plan; the next plan asks for the rest.
const ROUND_OPS_MAX: usize = 1_000;

/// Decides the next steps to remove the namespace.
pub fn plan(view: &View<'_>) -> Vec<Group> {
    let namespace = view.namespace;
    // Only a user can decide that a namespace goes.
    if !namespace.is_deleting() {
        return Vec::new();
    }
    if view.held.is_empty() {
        // A foreground deletion waits for what the namespace owns elsewhere.
        let is_held = namespace.metadata.finalizers.as_ref().is_some_and(|list| !list.is_empty());
        let emptied = Action::Emptied { namespace: ObjectRef::of(namespace) };
        return (!is_held).then(|| emptied.into()).into_iter().collect();
    }
    let stays = |held: &&Held<'_>| held.meta.deletion_timestamp.is_none();
    // Objects with an owner here are left to the garbage collector, which stops their tasks first.
    // If there are only such objects and none of them is going away, they own each other in a
    // circle: then all are deleted, since otherwise the namespace would never become empty.
    let roots: Vec<&Held<'_>> =
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

fn delete(held: &Held<'_>) -> Action {
    Action::Delete {
        kind: held.kind,
        object: ObjectRef::of_meta(held.meta),
        propagation: Propagation::Background,
        version: None,
    }
}
