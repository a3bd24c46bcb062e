//! Finds owners that wait for each other in a circle.
//! An owner that is deleted in the foreground waits for its dependents. If A is owned by B and B by
//! A (or an object by itself), each waits for the other for ever. As in Kubernetes, one of them
//! then stops blocking the deletion of its owner.

use std::collections::BTreeSet;

use api::{ObjectMeta, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// What is needed to know about an object here.
pub trait Owned: Clone {
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
}

impl Owned for runtime::Any {
    fn meta(&self) -> &ObjectMeta {
        self.meta()
    }
}

/// The link of a circle where it is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link<T> {
    /// The dependent that its owner waits for.
    pub dependent: T,
    /// The uid of that owner.
    pub owner: String,
}

/// Whether an object waits until its dependents are gone.
pub fn waits_for_dependents(meta: &ObjectMeta) -> bool {
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    meta.deletion_timestamp.is_some()
        && finalizers.iter().any(|name| name == labels::FINALIZER_FOREGROUND)
}

/// Finds the link at which to cut the circle that `object` is in, if it is in one.
/// Whichever member of a circle is given, the result is the same link: the owner of the member that
/// was deleted first no longer waits for that member, which therefore goes last. So whoever deleted
/// it and sees it gone knows that the others are gone, too. `find` looks up an owner by its
/// reference in an object.
pub fn cut<T: Owned>(
    object: &T,
    find: impl Fn(&T, &OwnerReference) -> Option<T>,
) -> Option<Link<T>> {
    let circle = circle(object, find)?;
    let first = (0..circle.len()).min_by_key(|place| {
        let meta = circle[*place].meta();
        let deleted_at = meta.deletion_timestamp.as_ref().map(|time| time.0);
        (deleted_at, meta.uid.clone())
    })?;
    // The owner of each member is the next one, and the owner of the last is the first.
    let owner = &circle[(first + 1) % circle.len()];
    Some(Link { dependent: circle[first].clone(), owner: uid(owner).to_owned() })
}

/// A path from `object` to itself, in which each object is followed by an owner that waits for it.
/// This searches from dependents to owners: an object has few owners, but may have a million
/// dependents.
fn circle<T: Owned>(object: &T, find: impl Fn(&T, &OwnerReference) -> Option<T>) -> Option<Vec<T>> {
    if !waits_for_dependents(object.meta()) {
        return None;
    }
    let waiting_owners = |of: &T| -> Vec<T> {
        let references = of.meta().owner_references.iter().flatten();
        let blocked = references.filter(|owner| owner.block_owner_deletion == Some(true));
        let found = blocked.filter_map(|owner| find(of, owner));
        found.filter(|owner| waits_for_dependents(owner.meta())).collect()
    };
    // Each object on the path, with its owners that have not been tried yet.
    let mut way = vec![(object.clone(), waiting_owners(object))];
    let mut seen = BTreeSet::from([uid(object).to_owned()]);
    while let Some((_, untried)) = way.last_mut() {
        let Some(owner) = untried.pop() else {
            way.pop();
            continue;
        };
        if uid(&owner) == uid(object) {
            return Some(way.into_iter().map(|(step, _)| step).collect());
        }
        if seen.insert(uid(&owner).to_owned()) {
            let owners = waiting_owners(&owner);
            way.push((owner, owners));
        }
    }
    None
}

fn uid<T: Owned>(object: &T) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use api::core::ConfigMap;
    use api::{Time, Timestamp};

    use super::*;

    impl Owned for ConfigMap {
        fn meta(&self) -> &ObjectMeta {
            &self.metadata
        }
    }

    /// Objects, one for each line: a name, the second in which it was deleted in the foreground,
    /// and its owners; those in brackets do not wait for it.
    fn world(lines: &[&str]) -> Vec<ConfigMap> {
        let reference = |word: &str| OwnerReference {
            uid: word.trim_matches(['(', ')']).to_owned(),
            block_owner_deletion: Some(!word.starts_with('(')),
            ..OwnerReference::default()
        };
        let object = |line: &&str| {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            let deleted: Option<i64> = words.next().unwrap().parse().ok();
            let metadata = ObjectMeta {
                uid: Some(name.to_owned()),
                deletion_timestamp: deleted.map(|at| Time(Timestamp::from_second(at).unwrap())),
                finalizers: deleted.map(|_| vec![labels::FINALIZER_FOREGROUND.to_owned()]),
                owner_references: Some(words.map(reference).collect()),
                ..ObjectMeta::default()
            };
            ConfigMap { metadata, ..ConfigMap::default() }
        };
        lines.iter().map(object).collect()
    }

    /// Where the circle of each object is cut.
    fn cuts(lines: &[&str]) -> Vec<Option<(String, String)>> {
        let world = world(lines);
        let find = |_: &ConfigMap, owner: &OwnerReference| {
            world.iter().find(|it| it.metadata.uid.as_ref() == Some(&owner.uid)).cloned()
        };
        let link = |object| {
            let link = cut(object, find)?;
            Some((uid(&link.dependent).to_owned(), link.owner))
        };
        world.iter().map(link).collect()
    }

    fn at(dependent: &str, owner: &str) -> Option<(String, String)> {
        Some((dependent.to_owned(), owner.to_owned()))
    }

    #[test]
    fn all_members_of_a_circle_see_the_same_cut_at_the_one_that_was_deleted_first() {
        assert_eq!(cuts(&["a 1 a"]), [at("a", "a")]);
        assert_eq!(cuts(&["a 1 b", "b 2 a"]), [at("a", "b"), at("a", "b")]);
        let three = ["a 2 c", "b 1 a", "c 3 b"];
        assert_eq!(cuts(&three), [at("b", "a"), at("b", "a"), at("b", "a")]);
        // Deleted at the same time: the uid decides, not which one is looked at.
        assert_eq!(cuts(&["a 1 b", "b 1 a"]), [at("a", "b"), at("a", "b")]);
        // There is also a path that leads nowhere.
        assert_eq!(cuts(&["a 1 b x", "b 2 a", "x 1"])[0], at("a", "b"));
    }

    #[test]
    fn what_does_not_wait_for_itself_is_in_no_circle() {
        assert_eq!(cuts(&["a 1 b", "b -", "c 1 c2", "c2 1"]), [None, None, None, None]);
        assert_eq!(cuts(&["a 1 (b)", "b 2 a"]), [None, None], "it was cut");
        assert_eq!(cuts(&["a 1 gone"]), [None]);
        // Below a circle, but not in it: the circle is cut when one of its members is looked at.
        assert_eq!(cuts(&["low 1 a", "a 1 b", "b 2 a"])[0], None);
    }
}
