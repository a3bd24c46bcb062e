//! An object of any kind, typed and shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Kind, KindId, ObjectKey, ObjectMeta};

macro_rules! any {
    ($($kind:ident, $field:ident: $type:ty;)+) => {
        /// An object of any kind.
        #[derive(Debug, Clone)]
        #[expect(missing_docs, reason = "each variant is the kind it is named after")]
        pub enum Any { $($kind(Arc<$type>),)+ }

        impl Any {
            /// Parses an object of `kind`.
            pub fn parse(kind: KindId, json: &[u8]) -> Result<Self, serde_json::Error> {
                match kind {
                    $(KindId::$kind => {
                        let mut object: $type = serde_json::from_slice(json)?;
                        shrink(&mut object);
                        Ok(Any::$kind(Arc::new(object)))
                    })+
                }
            }

            /// The kind of the object.
            pub fn kind(&self) -> KindId {
                match self { $(Any::$kind(_) => KindId::$kind,)+ }
            }

            /// The metadata of the object.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Any::$kind(object) => object.meta(),)+ }
            }

            /// The namespace and name of the object.
            pub fn key(&self) -> ObjectKey {
                match self { $(Any::$kind(object) => object.key(),)+ }
            }
        }
    };
}

api::every_kind!(any);

impl Any {
    /// Those of its owners that are of a kind, in its own namespace.
    pub fn owners(&self, kind: KindId) -> impl Iterator<Item = ObjectKey> {
        let meta = self.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let owners = meta.owner_references.iter().flatten();
        let owners = owners.filter(move |owner| owner.kind == kind.info().kind);
        owners.map(move |owner| ObjectKey::new(namespace, &*owner.name))
    }
}

/// The maximum size of the labels of a task that are not held.
pub const UNHELD_LABELS_BYTES_MAX: usize = 1024;

/// Drops what no component needs, since every task is held in memory.
/// A task's labels take as much as all its text: a map has room for eleven at least. Components go
/// by its owner, so the labels of a task with an owner are not held. Large ones are, since the size
/// of a task is estimated when it is written again.
/// Lists give back unused capacity. After parsing, a list of one owner has capacity for four.
fn shrink<K: Kind>(object: &mut K) {
    let is_owned_task = K::ID == KindId::Task && object.controller().is_some();
    let meta = object.meta_mut();
    let size = |labels: &BTreeMap<String, String>| {
        labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
    };
    if is_owned_task && meta.labels.as_ref().is_some_and(|it| size(it) <= UNHELD_LABELS_BYTES_MAX) {
        meta.labels = None;
    }
    meta.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    meta.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
}

#[cfg(test)]
mod tests {
    use api::job::JobSpec;
    use api::task::TaskSpec;
    use api::{Job, Task};

    use super::*;

    fn parsed<K: Kind>(object: K) -> Any {
        Any::parse(K::ID, &serde_json::to_vec(&object).unwrap()).unwrap()
    }

    #[test]
    fn labels_of_a_task_are_held_where_something_depends_on_them() {
        let job = Job::new("default", "j", JobSpec::default()).with_labels([("a", "b")]);
        let orphan = Task::new("default", "t", TaskSpec::default()).with_labels([("a", "b")]);
        let owned = orphan.clone().with_controller(job.as_controller());
        assert_eq!(parsed(owned.clone()).meta().labels, None);
        // A job finds what an earlier job of its name left behind by its labels.
        assert_eq!(parsed(orphan.clone()).meta(), &orphan.metadata);
        assert_eq!(parsed(job.clone()).meta(), &job.metadata);
        // How much a transaction writes is estimated with them.
        let large = owned.with_labels([("l", "x".repeat(UNHELD_LABELS_BYTES_MAX))]);
        assert_eq!(parsed(large.clone()).meta(), &large.metadata);
    }
}
