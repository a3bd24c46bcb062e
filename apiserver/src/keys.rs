//! The layout of keys in the store, which is private to the apiserver.
//! `/heliox/v1/<plural>/<namespace or _>/<name>` for objects, and beside them `done/<job
//! uid>/<run>/<chunk>` for completion records, `nodelease/<node>`, `leader/<component>` and
//! `meta/...`.

use api::completion::chunk_name;
use api::{KindId, ObjectKey};
use store::Key;

/// The prefix of all keys.
pub(crate) const PREFIX: &str = "/heliox/v1/";
/// The id of the cluster.
pub(crate) const CLUSTER: &str = "/heliox/v1/meta/cluster";
/// The epoch of the store, which changes with each restore.
pub(crate) const EPOCH: &str = "/heliox/v1/meta/epoch";

/// The restore that began this epoch of the store.
pub(crate) const RESTORED: &str = "/heliox/v1/meta/restored";
/// A restore in progress: while this is there, nobody may use the store.
pub(crate) const RESTORING: &str = "/heliox/v1/meta/restoring";
/// The epoch that an operator has confirmed.
pub(crate) const CONFIRMED: &str = "/heliox/v1/meta/confirmed";

/// Whether the value at `key` (without [`PREFIX`]) belongs in a backup. What concerns only this
/// epoch of the store and the processes that use it does not.
pub(crate) fn is_backed_up(key: &str) -> bool {
    let passing = ["meta/", "nodelease/", "leader/", "leases/heliox-system/"];
    !passing.iter().any(|start| key.starts_with(start))
}

/// The key of an object.
pub(crate) fn object(kind: KindId, key: &ObjectKey) -> Key {
    let plural = kind.info().plural;
    if kind == KindId::NodeLease {
        return format!("{PREFIX}{plural}/{}", key.name).into();
    }
    if kind == KindId::CompletionChunk {
        return format!("{PREFIX}{plural}/{}/{}", key.namespace, key.name.replace('.', "/")).into();
    }
    let namespace = if key.namespace.is_empty() { "_" } else { &key.namespace };
    format!("{PREFIX}{plural}/{namespace}/{}", key.name).into()
}

/// The namespace and name of the object at a key.
pub(crate) fn object_key(kind: KindId, key: &Key) -> Option<ObjectKey> {
    let mut parts = key.strip_prefix(PREFIX)?.split('/').skip(1);
    let first = parts.next()?;
    if kind == KindId::NodeLease {
        return Some(ObjectKey::new("", first));
    }
    if kind == KindId::CompletionChunk {
        let (run, chunk) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        return Some(ObjectKey::new(first, chunk_name(run, chunk)));
    }
    Some(ObjectKey::new(if first == "_" { "" } else { first }, parts.next()?))
}

/// The key of a chunk of a completion record.
pub(crate) fn chunk(job_uid: &str, run: u32, chunk: u32) -> Key {
    object(KindId::CompletionChunk, &ObjectKey::new(job_uid, chunk_name(run, chunk)))
}

/// The key that guards the writes of a leader.
pub(crate) fn leader(component: &str) -> Key {
    format!("{PREFIX}leader/{component}").into()
}

/// The key of a node's lease.
pub(crate) fn node_lease(node: &str) -> Key {
    object(KindId::NodeLease, &ObjectKey::new("", node))
}

/// The prefix of the keys of a kind, or of a kind in one namespace.
pub(crate) fn prefix(kind: KindId, namespace: &str) -> Key {
    let plural = kind.info().plural;
    if namespace.is_empty() {
        format!("{PREFIX}{plural}/").into()
    } else {
        format!("{PREFIX}{plural}/{namespace}/").into()
    }
}

/// The kind of the object at `key`, if it is an object's key.
pub(crate) fn kind_of(key: &str) -> Option<KindId> {
    let plural = key.strip_prefix(PREFIX)?.split('/').next()?;
    KindId::ALL.into_iter().find(|kind| kind.info().plural == plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_design() {
        let key = |kind, namespace, name| object(kind, &ObjectKey::new(namespace, name));
        assert_eq!(&*key(KindId::Job, "default", "a"), "/heliox/v1/jobs/default/a");
        assert_eq!(&*key(KindId::Node, "", "n1"), "/heliox/v1/nodes/_/n1");
        assert_eq!(&*node_lease("n1"), "/heliox/v1/nodelease/n1");
        assert_eq!(&*chunk("u-1", 2, 3), "/heliox/v1/done/u-1/2/3");
        for kind in KindId::ALL {
            assert_eq!(kind_of(&key(kind, "x", "y")), Some(kind));
        }
        assert_eq!(kind_of(CLUSTER), None);
        assert_eq!(kind_of(&leader("scheduler")), None);
    }
}
