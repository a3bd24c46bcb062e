//! A part of a list: what one page shows, and whether more follows.

use std::sync::Arc;

use super::{Entry, Selection};

/// Some objects of a list, and what is known of the rest.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Whether more that is selected follows.
    pub(crate) more: bool,
    /// How many follow. Nothing where a selector would have to look at all of them to know: as in
    /// Kubernetes, such a list does not say.
    pub(crate) remaining: Option<usize>,
}

impl Part {
    /// The first `limit` of `left` that are selected. Of what follows, no more is looked at than it
    /// takes to find one that is selected, too.
    pub(super) fn of<'a>(
        mut left: impl ExactSizeIterator<Item = &'a Arc<Entry>>,
        limit: usize,
        selection: &Selection,
    ) -> Self {
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some(entry) = left.next()
        {
            if selection.selects(entry) {
                entries.push(Arc::clone(entry));
            }
        }
        if selection.is_everything() {
            let remaining = left.len();
            return Self { entries, more: remaining > 0, remaining: Some(remaining) };
        }
        let more = left.any(|entry| selection.selects(entry));
        Self { entries, more, remaining: None }
    }
}
