//! Revisions that are being read for a while, for example by a backup: history is not compacted
//! beyond them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Revision;

/// Revisions that are held in this process. Another process does not know of them and may still
/// compact history beyond them.
#[derive(Debug, Clone, Default)]
pub struct Holds(
    /// Guards the map for one read or change.
    Arc<Mutex<BTreeMap<Revision, Held>>>,
);

/// The holders of a revision.
#[derive(Debug)]
struct Held {
    count: usize,
    /// When the last of them began.
    since: Instant,
}

/// Holds a revision until it is dropped.
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    revision: Revision,
}

impl Holds {
    /// Holds `revision`.
    pub fn hold(&self, revision: Revision) -> Hold {
        let mut held = self.lock();
        let held = held.entry(revision).or_insert(Held { count: 0, since: Instant::now() });
        held.count += 1;
        held.since = Instant::now();
        Hold { holds: self.clone(), revision }
    }

    /// The oldest held revision.
    pub fn oldest(&self) -> Option<Revision> {
        self.lock().keys().next().copied()
    }

    /// The oldest held revision among those that were held for less than `age`.
    pub fn oldest_within(&self, age: Duration) -> Option<Revision> {
        let is_young = |held: &Held| held.since.elapsed() < age;
        self.lock().iter().find(|(_, held)| is_young(held)).map(|(revision, _)| *revision)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Revision, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.lock();
        if let Some(of_revision) = held.get_mut(&self.revision) {
            of_revision.count -= 1;
            if of_revision.count == 0 {
                held.remove(&self.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_revision_is_held_until_the_last_lets_go_and_for_room_only_so_long() {
        const AGE: Duration = Duration::from_secs(60);
        let holds = Holds::default();
        assert_eq!(holds.oldest(), None);
        let first = holds.hold(Revision(3));
        let second = holds.hold(Revision(3));
        drop(first);
        assert_eq!(holds.oldest(), Some(Revision(3)), "the second one reads on");
        tokio::time::advance(AGE).await;
        let _third = holds.hold(Revision(5));
        assert_eq!(holds.oldest_within(AGE), Some(Revision(5)), "the second one takes too long");
        assert_eq!(holds.oldest(), Some(Revision(3)));
        drop(second);
        assert_eq!(holds.oldest(), Some(Revision(5)));
    }
}
