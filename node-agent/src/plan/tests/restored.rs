//! What a node does for a store that was restored.

use api::task::restore::restored;

use super::*;
use crate::plan::tell_anew;

impl World {
    /// Resets the store to `backup`.
    fn restore(&mut self, backup: &BTreeMap<Identity, Task>) {
        let now = Timestamp::UNIX_EPOCH;
        self.tasks.clear();
        for (identity, task) in backup {
            let task = restored(task, now);
            // A task with another attempt number now has another container, and no node.
            if task.spec.attempt == identity.attempt() {
                self.tasks.insert(identity.clone(), task);
            }
        }
        for (identity, now) in tell_anew(&self.ledger, "boot") {
            match now {
                Some(attempt) => self.ledger.put(attempt),
                None => self.ledger.remove(&identity),
            }
        }
    }

    /// Four tasks run here, and were heard to.
    fn of_four(&mut self) {
        self.capacity = Amounts::from([("cpu".to_owned(), 2_000)]);
        (0..4).for_each(|index| self.bind(index));
        self.write_down();
        (0..4).for_each(|index| self.runs(index));
        self.write_down();
    }
}

#[test]
fn what_the_backup_knows_runs_on_and_what_came_after_it_is_stopped() {
    let mut world = world();
    world.of_four();
    world.hear();
    let mut backup = world.tasks.clone();
    // Of these two the backup knows nothing, or only that one was bound.
    backup.remove(&id(2));
    let bound = backup.get_mut(&id(3)).unwrap();
    bound.status = api::task::TaskStatus::default();
    world.restore(&backup);
    world.check(expect![[r#"
        t-2: stopping [20002]
        t-3: stopping [20003]
        SIGTERM t-2
        SIGTERM t-3
        leftover 2
        leftover 3
        wake at 5000
    "#]]);
    let said: Vec<&str> = world.ledger.to_say().map(|(it, _)| it.identity.task()).collect();
    assert_eq!(said, ["t-0", "t-1"], "what runs is said, and nothing of what nobody wants");
}

#[test]
fn what_ended_after_the_backup_is_said_again_as_far_as_anything_tells() {
    let mut world = world();
    world.of_four();
    world.hear();
    let backup = world.tasks.clone();
    (0..3).for_each(|index| world.exits(index, 0, None));
    world.write_down();
    world.hear();
    // One container is gone by now, another attempt is forgotten, and one end was not acknowledged
    // yet.
    world.containers.remove(&id(0));
    world.containers.remove(&id(1));
    world.ledger.remove(&id(1));
    world.exits(3, 7, None);
    world.write_down();
    world.restore(&backup);
    world.check(expect![[r#"
        t-0: ended [], reports Failed Restored
        t-1: ended [], reports Failed Restored
        t-2: ended [20002], reports Succeeded 0
    "#]]);
    let last = world.ledger.get(&id(3)).map(show_attempt);
    assert_eq!(last.as_deref(), Some("ended [20003], reports Failed 7"));
    world.check(expect![""]);
}
