//! Names that belong to other owners, and who waits for one that has become free. A job, a service or
//! a run that finds its name in use by another owner's object says so in a condition (`NameTaken`),
//! and goes on when that object is gone.

use api::conditions::{Condition, stalled};
use api::{Kind, ObjectKey};
use runtime::Table;

/// The reason of the condition of those that wait.
const NAME_TAKEN: &str = "NameTaken";

/// The names of owners that may want an object with this name: the objects of an owner are called
/// `OWNER-...`. Names that are too long are cut (`names::bounded`); an owner that waits for such a
/// name goes on with its next periodic look.
fn wanted_by(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('-').map(|(at, _)| &name[..at])
}

/// Whether an object with these conditions waits for a name.
pub(crate) fn waits_for_a_name(conditions: &[Condition]) -> bool {
    stalled(conditions).is_some_and(|it| it.reason == NAME_TAKEN)
}

/// The owners that wait for the name of an object that is gone.
pub(crate) fn waiting_for<K: Kind>(
    gone: &ObjectKey,
    owners: &Table<K>,
    conditions: impl Fn(&K) -> &[Condition],
) -> Vec<ObjectKey> {
    let owner = |name| owners.get(&ObjectKey::new(&*gone.namespace, name));
    let found = wanted_by(&gone.name).filter_map(owner);
    let waiting = found.filter(|owner| waits_for_a_name(conditions(owner)));
    waiting.map(|owner| owner.key()).collect()
}

/// Those of `names` that objects with another owner, or with none, have.
pub(crate) fn taken_by_others<K: Kind>(
    names: Vec<&str>,
    there: &Table<K>,
    owner: &impl Kind,
) -> Vec<String> {
    let is_anothers = |name: &&str| {
        let object = there.get(&ObjectKey::new(owner.namespace(), *name));
        let uid = object.map(|object| object.controller().map(|owner| owner.uid.as_str()));
        uid.is_some_and(|uid| uid != Some(owner.uid()))
    };
    names.into_iter().filter(is_anothers).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_owner_makes_is_named_after_it() {
        assert_eq!(wanted_by("nt-1-a").collect::<Vec<_>>(), ["nt", "nt-1"]);
        assert_eq!(wanted_by("a").count(), 0);
    }
}
