//! Shapes by number: classes of different jobs often have the same requirements.

use std::sync::Arc;

use crate::class::{Shape, ShapeId};
use crate::shared::Shared;

/// All shapes.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Shared<Arc<Shape>, ()>);

impl Shapes {
    /// The number of a shape, with one more class.
    pub(crate) fn acquire(&mut self, shape: Shape) -> (Arc<Shape>, ShapeId) {
        let id = self.0.acquire(&Arc::new(shape));
        (Arc::clone(self.0.key(id)), ShapeId(id))
    }

    /// Removes one class. Returns whether it was the last.
    pub(crate) fn release(&mut self, id: ShapeId) -> bool {
        self.0.release(id.0)
    }

    /// Whether several classes have this shape.
    pub(crate) fn is_shared(&self, id: ShapeId) -> bool {
        self.0.users(id.0) > 1
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
