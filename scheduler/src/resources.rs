//! Gives resources numbers, so that amounts are short vectors and not maps by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::amounts::Amounts;

/// The number of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResourceId(pub(crate) usize);

/// The names of resources. There are few, and none is ever removed.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    ids: BTreeMap<Arc<str>, ResourceId>,
}

/// Amounts other than 0, by resource.
pub(crate) type Requests = Vec<(Arc<str>, ResourceId, u64)>;

impl Resources {
    /// The number of a resource; always the same for one name.
    pub(crate) fn id(&mut self, name: &str) -> (Arc<str>, ResourceId) {
        if let Some((name, id)) = self.ids.get_key_value(name) {
            return (Arc::clone(name), *id);
        }
        let (name, id) = (Arc::<str>::from(name), ResourceId(self.ids.len()));
        self.ids.insert(Arc::clone(&name), id);
        (name, id)
    }

    #[cfg(test)]
    pub(crate) fn find(&self, name: &str) -> Option<ResourceId> {
        self.ids.get(name).copied()
    }

    /// Amounts by number instead of by name, without zeros.
    pub(crate) fn requests(&mut self, amounts: &Amounts) -> Requests {
        let wanted = amounts.iter().filter(|(_, amount)| **amount > 0);
        wanted
            .map(|(name, amount)| {
                let (name, id) = self.id(name);
                (name, id, *amount)
            })
            .collect()
    }
}

/// Amounts of all resources by number; a missing one is 0.
///
/// A sum may exceed the largest amount. If it were capped there, subtracting one of its parts again
/// would leave too little.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Row(Vec<u128>);

impl Row {
    pub(crate) fn get(&self, id: ResourceId) -> u64 {
        self.0.get(id.0).copied().map_or(0, shown)
    }

    pub(crate) fn add(&mut self, id: ResourceId, amount: u64) {
        if self.0.len() <= id.0 {
            self.0.resize(id.0 + 1, 0);
        }
        self.0[id.0] = self.0[id.0].saturating_add(amount.into());
    }

    pub(crate) fn subtract(&mut self, id: ResourceId, amount: u64) {
        if let Some(old) = self.0.get_mut(id.0) {
            debug_assert!(*old >= amount.into(), "more is freed than was taken");
            *old = old.saturating_sub(amount.into());
        }
    }

    /// Amounts in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ResourceId, u64)> {
        self.0.iter().enumerate().map(|(id, amount)| (ResourceId(id), shown(*amount)))
    }
}

/// A sum, capped for comparison: no node has more than the largest amount.
fn shown(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_off_a_sum_leaves_the_rest_however_large_that_is() {
        let (mut row, id) = (Row::default(), ResourceId(0));
        for _ in 0..3 {
            row.add(id, u64::MAX);
        }
        row.subtract(id, u64::MAX);
        assert_eq!(row.get(id), u64::MAX);
        row.subtract(id, u64::MAX);
        assert_eq!(row.get(id), u64::MAX, "one is left");
        row.subtract(id, u64::MAX);
        assert_eq!(row.get(id), 0);
    }
}
