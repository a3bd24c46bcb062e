//! Gives keys small numbers while they are in use.

use std::collections::BTreeMap;

use crate::slab::Slab;

/// A number and a value for each key in use. After the last user of a key is gone, its number may
/// be reused.
#[derive(Debug)]
pub(crate) struct Shared<K, V> {
    slots: Slab<Slot<K, V>>,
    ids: BTreeMap<K, u32>,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    users: u32,
    value: V,
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self { slots: Slab::default(), ids: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V: Default> Shared<K, V> {
    /// The number of a key, with one more user.
    pub(crate) fn acquire(&mut self, key: &K) -> u32 {
        if let Some(id) = self.ids.get(key) {
            self.slots.at_mut(*id).users += 1;
            return *id;
        }
        let slot = Slot { key: key.clone(), users: 1, value: V::default() };
        let id = self.slots.insert(slot);
        self.ids.insert(key.clone(), id);
        id
    }

    /// Removes one user. Returns whether it was the last.
    pub(crate) fn release(&mut self, id: u32) -> bool {
        let slot = self.slots.at_mut(id);
        slot.users -= 1;
        if slot.users > 0 {
            return false;
        }
        self.ids.remove(&self.slots.at(id).key);
        self.slots.remove(id);
        true
    }

    /// The key of a number in use.
    pub(crate) fn key(&self, id: u32) -> &K {
        &self.slots.at(id).key
    }

    /// How many users a number has.
    pub(crate) fn users(&self, id: u32) -> u32 {
        self.slots.at(id).users
    }

    /// The value of a number in use.
    pub(crate) fn at(&self, id: u32) -> &V {
        &self.slots.at(id).value
    }

    /// The value of a number in use, mutable.
    pub(crate) fn at_mut(&mut self, id: u32) -> &mut V {
        &mut self.slots.at_mut(id).value
    }

    /// All keys in use.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &K, &V)> {
        self.slots.iter().map(|(id, slot)| (id, &slot.key, &slot.value))
    }

    /// Number of keys in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}
