//! A slab: values in a vector, each found by its index, which is reused after removal.

/// Values by number. A value keeps its number until it is removed.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds a value and returns its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = Some(value);
            return id;
        }
        let id = u32::try_from(self.slots.len()).expect("memory ends before four billion values");
        self.slots.push(Some(value));
        id
    }

    /// The value of a number, if there is one.
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// The value of a number in use.
    pub(crate) fn at(&self, id: u32) -> &T {
        self.slots[id as usize].as_ref().expect("a number in use has its value")
    }

    /// The value of a number in use, to change.
    pub(crate) fn at_mut(&mut self, id: u32) -> &mut T {
        self.slots[id as usize].as_mut().expect("a number in use has its value")
    }

    /// Removes a value. Its number may be reused.
    pub(crate) fn remove(&mut self, id: u32) {
        let value = self.slots[id as usize].take();
        debug_assert!(value.is_some(), "removed twice");
        self.free.push(id);
    }

    /// All values by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.slots).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
