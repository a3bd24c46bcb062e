//! Who may have waited for a name that is free again: a job or a run that found it in use by an object of
//! another owner says so in its conditions (`NameTaken`), and goes on when that object is gone.

use api::conditions::{Condition, stalled};

/// The reason of those that wait.
const NAME_TAKEN: &str = "NameTaken";

/// The names of owners that may have wanted an object of this name: what they make is called `OWNER-...`.
/// The names of what they make are cut where they are too long (`names::bounded`); whoever waits for such
/// a name goes on with its next full look.
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
