//! Finds the owners that may be waiting for a name that has become free. A job or a run that finds
//! its name in use by another owner's object says so in a condition (`NameTaken`), and goes on when
//! that object is gone.

use api::conditions::{Condition, stalled};

/// The reason of the condition of those that wait.
const NAME_TAKEN: &str = "NameTaken";

/// The names of owners that may want an object with this name: the objects of an owner are called
/// `OWNER-...`. Names that are too long are cut (`names::bounded`); an owner that waits for such a
/// name goes on with its next periodic look.
pub(crate) fn wanted_by(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('-').map(|(at, _)| &name[..at])
}

/// Whether an object with these conditions waits for a name.
pub(crate) fn waits_for_a_name(conditions: &[Condition]) -> bool {
    stalled(conditions).is_some_and(|it| it.reason == NAME_TAKEN)
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
