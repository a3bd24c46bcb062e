//! Shapes by number: classes of different jobs often want the same of a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::class::{Shape, ShapeId};
use crate::slab::Slab;

/// A shape, and how many classes have it.
#[derive(Debug)]
struct ShapeState {
    shape: Arc<Shape>,
    classes: u32,
}

/// All shapes.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    slots: Slab<ShapeState>,
    ids: BTreeMap<Arc<Shape>, ShapeId>,
}

impl Shapes {
    /// The number of a shape, for one class more.
    pub(crate) fn acquire(&mut self, shape: Shape) -> (Arc<Shape>, ShapeId) {
        if let Some((shape, id)) = self.ids.get_key_value(&shape) {
            self.slots.at_mut(id.0).classes += 1;
            return (Arc::clone(shape), *id);
        }
        let shape = Arc::new(shape);
        let id = ShapeId(self.slots.insert(ShapeState { shape: Arc::clone(&shape), classes: 1 }));
        self.ids.insert(Arc::clone(&shape), id);
        (shape, id)
    }

    /// One class less. Whether it was the last.
    pub(crate) fn release(&mut self, id: ShapeId) -> bool {
        let state = self.slots.at_mut(id.0);
        state.classes -= 1;
        if state.classes > 0 {
            return false;
        }
        self.ids.remove(&self.slots.at(id.0).shape);
        self.slots.remove(id.0);
        true
    }

    /// Whether several classes have a shape.
    pub(crate) fn is_shared(&self, id: ShapeId) -> bool {
        self.slots.at(id.0).classes > 1
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}
