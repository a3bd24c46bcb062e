//! One page of a list, and whether more follows.

use std::sync::Arc;

use super::{Entry, Selection};

/// Some objects of a list, and what is known about the rest.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Whether more selected objects follow.
    pub(crate) more: bool,
    /// How many follow. `None` if there is a selector, since counting would take a look at every
    /// object. Kubernetes leaves it out in this case, too.
    pub(crate) remaining: Option<usize>,
}

impl Part {
    /// Takes the first `limit` selected objects from `left`. After those, it looks only as far as
    /// the next selected object.
    pub(super) fn of<'a>(
        mut left: impl ExactSizeIterator<Item = &'a Arc<Entry>>,
        limit: usize,
        selection: &Selection,
    ) -> Self {
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some(entry) = left.next()
        {
            if selection.selects(entry.selectable()) {
                entries.push(Arc::clone(entry));
            }
        }
        if selection.is_everything() {
            let remaining = left.len();
            return Self { entries, more: remaining > 0, remaining: Some(remaining) };
        }
        let more = left.any(|entry| selection.selects(entry.selectable()));
        Self { entries, more, remaining: None }
    }
}
