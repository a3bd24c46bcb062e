//! Shares parsed tasks between the watches of a process, so that each task is parsed and held once.
//! In a `heliox server`, the scheduler and the controllers watch the same tasks, and each receives
//! them as bytes. The second one to receive a version of a task finds what the first one has
//! parsed.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use api::resource_version::ResourceVersion;
use api::{Kind as _, KindId, ObjectKey, Task};

use crate::any::Any;

/// Below this many entries, nobody searches for entries whose tasks are no longer used.
const SWEPT_FROM: usize = 1024;

/// The newest version of each task that is in use in this process. Clones share the same tasks.
/// All users must read from the same cluster, since a version then identifies one state of a task.
#[derive(Debug, Clone, Default)]
pub struct Parsed(
    /// Guards the tasks. Locked for one look-up.
    Arc<Mutex<Tasks>>,
);

#[derive(Debug, Default)]
struct Tasks {
    /// By the hash of the key, which is shorter than the key. If two tasks have the same hash, only
    /// one of them is shared.
    by_hash: BTreeMap<u64, Weak<Task>>,
    /// The number of entries after the last sweep.
    kept: usize,
}

fn hash_of(key: &ObjectKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl Parsed {
    /// Parses the object of `kind` at `key`, as of `version`.
    pub(crate) fn object(
        &self,
        (kind, key, version): (KindId, &ObjectKey, ResourceVersion),
        json: &[u8],
    ) -> Result<Any, serde_json::Error> {
        // Other kinds have few objects, or are watched only once.
        if kind != KindId::Task {
            return Any::parse(kind, json);
        }
        let hash = hash_of(key);
        if let Some(held) = self.tasks().held(hash)
            && held.key() == *key
            && held.resource_version() == version.to_string()
        {
            return Ok(Any::Task(held));
        }
        let parsed = Any::parse(kind, json)?;
        if let Any::Task(task) = &parsed {
            self.tasks().hold(hash, task);
        }
        Ok(parsed)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    fn held(&self, hash: u64) -> Option<Arc<Task>> {
        self.by_hash.get(&hash)?.upgrade()
    }

    fn hold(&mut self, hash: u64, task: &Arc<Task>) {
        if self.by_hash.len() >= SWEPT_FROM.max(self.kept * 2) {
            self.by_hash.retain(|_, task| task.strong_count() > 0);
            self.kept = self.by_hash.len();
        }
        self.by_hash.insert(hash, Arc::downgrade(task));
    }
}

#[cfg(test)]
mod tests {
    use api::task::TaskSpec;

    use super::*;

    fn task(name: &str, version: u64) -> (ObjectKey, ResourceVersion, Vec<u8>) {
        let mut task = Task::new("default", name, TaskSpec::default());
        let version = ResourceVersion::of_event(version, 0);
        task.metadata.resource_version = Some(version.to_string());
        (task.key(), version, serde_json::to_vec(&task).unwrap())
    }

    fn read(
        parsed: &Parsed,
        (key, version, json): &(ObjectKey, ResourceVersion, Vec<u8>),
    ) -> Arc<Task> {
        let parsed = parsed.object((KindId::Task, key, *version), json).unwrap();
        let Any::Task(task) = parsed else { panic!("{parsed:?}") };
        task
    }

    #[test]
    fn one_version_of_a_task_is_held_once() {
        let parsed = Parsed::default();
        let first = read(&parsed, &task("a", 1));
        assert!(Arc::ptr_eq(&first, &read(&parsed.clone(), &task("a", 1))));
        assert_eq!(read(&parsed, &task("b", 1)).name(), "b");
        // A newer version is parsed separately, as is an older one for a watch that lags behind.
        let second = read(&parsed, &task("a", 2));
        assert_eq!(second.resource_version(), task("a", 2).1.to_string());
        assert_eq!(read(&parsed, &task("a", 1)), first);
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let parsed = Parsed::default();
        let held: Vec<Arc<Task>> =
            (0..10).map(|number| read(&parsed, &task(&format!("held-{number}"), 1))).collect();
        for number in 0..10 * SWEPT_FROM {
            read(&parsed, &task(&format!("passing-{number}"), 1));
        }
        assert!(parsed.tasks().by_hash.len() <= SWEPT_FROM);
        for task in &held {
            assert!(parsed.tasks().held(hash_of(&task.key())).is_some());
        }
    }
}
