//! Stores equal values of many entries only once.
//! The cache holds several versions of each object, and a job has thousands of tasks with equal
//! labels, phases, nodes and templates. A map of labels takes half a kilobyte however little is in
//! it, so copies of it would take more memory than the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// The values of the fields by which objects of a kind can be selected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Fields(Box<[(&'static str, Box<str>)]>);

impl Fields {
    /// The value of a field; `None` if the kind does not have it.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, value)| &**value)
    }
}

impl FromIterator<(&'static str, String)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'static str, String)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

/// The shared values.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    labels: Pool<Labels>,
    fields: Pool<Fields>,
}

impl Sharing {
    pub(super) fn labels(&mut self, labels: Labels) -> Arc<Labels> {
        self.labels.share(labels)
    }

    pub(super) fn fields(&mut self, fields: Fields) -> Arc<Fields> {
        self.fields.share(fields)
    }
}

/// A pool smaller than this is not searched for unused values.
const SWEPT_FROM: usize = 1024;

/// The shared values of one type. Values that nobody else uses are dropped before the pool grows to
/// twice the number in use.
#[derive(Debug)]
struct Pool<T> {
    held: BTreeSet<Arc<T>>,
    swept_from: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { held: BTreeSet::new(), swept_from: SWEPT_FROM }
    }
}

impl<T: Ord> Pool<T> {
    fn share(&mut self, value: T) -> Arc<T> {
        if let Some(held) = self.held.get(&value) {
            return Arc::clone(held);
        }
        if self.held.len() >= self.swept_from {
            self.held.retain(|held| Arc::strong_count(held) > 1);
            self.swept_from = SWEPT_FROM.max(self.held.len() * 2);
        }
        let value = Arc::new(value);
        self.held.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_held_once_and_not_longer_than_they_are_used() {
        let mut pool = Pool::default();
        let kept: Vec<Arc<usize>> = (0..10).map(|number| pool.share(number)).collect();
        for number in 0..100 * SWEPT_FROM {
            pool.share(number);
            assert!(pool.held.len() <= SWEPT_FROM);
        }
        assert!(kept.iter().all(|value| Arc::ptr_eq(value, &pool.share(**value))));
        // The pool grows with the number of values in use.
        let used: Vec<Arc<usize>> = (0..3 * SWEPT_FROM).map(|number| pool.share(number)).collect();
        assert!(used.iter().all(|value| Arc::ptr_eq(value, &pool.share(**value))));
        assert!(pool.held.len() <= 2 * used.len());
    }

    #[test]
    fn fields_are_found_by_name() {
        let fields = [("status.phase", "Running".to_owned()), ("spec.nodeName", String::new())];
        let fields: Fields = fields.into_iter().collect();
        assert_eq!(
            ["status.phase", "spec.nodeName", "x"].map(|it| fields.get(it)),
            [Some("Running"), Some(""), None]
        );
    }
}
