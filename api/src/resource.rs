//! What the apiserver asks of every kind beyond its shape: rules, selectable fields, table rows.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::kind::{KindId, WithType};
use crate::object::Kind;
use crate::verb::Subresource;
use crate::violation::Violation;

/// A kind as the apiserver serves it.
pub trait Resource: Kind {
    /// Everything that is wrong with the object by itself. Shape and unknown fields were checked
    /// against the schema before it was typed.
    fn validate(&self) -> Vec<Violation>;

    /// Everything that is wrong with changing `old` into this. [`Resource::validate`] is asked, too.
    fn validate_update(&self, _old: &Self) -> Vec<Violation> {
        Vec::new()
    }

    /// Takes out of the spec what was said of something that this change puts an end to, and puts back
    /// what only grows; whether there was anything. Asked once nothing is wrong with the change.
    fn let_go(&mut self, _old: &Self) -> bool {
        false
    }

    /// How many bytes Heliox may add to the object later, at most: an object that leaves no room for
    /// them is refused, since its status could never be written.
    fn added_bytes(&self) -> usize {
        if Self::ID.info().subresources.contains(&Subresource::Status) {
            crate::size::ADDED_BYTES
        } else {
            crate::size::ADDED_METADATA_BYTES
        }
    }

    /// Says the same in the words in which it is kept, once nothing is wrong with it.
    fn normalize(&mut self) {}

    /// Leaves out of a spec what is the default and writes the rest in one way: two specs mean the same if
    /// they are equal then ([`crate::meaning`]). Of a document, since parts of a workflow have parameters
    /// in them and cannot be typed.
    fn simplify(_spec: &mut Map<String, Value>) {}

    /// Whether [`Resource::settle`] does anything.
    const SETTLES: bool = false;

    /// Writes into the status what follows from the rest of the object, for kinds of which nothing but
    /// a write of the object itself changes that: the apiserver asks for it with every write. `before`
    /// is what the object replaces, so that a condition tells since when it is so.
    fn settle(&mut self, _before: Option<&Self>, _now: Timestamp) {}

    /// Adds to a stored object what clients see as well: what follows from the rest of it and is not
    /// stored, and what an earlier version did not store. Whether there was anything.
    fn show(&mut self) -> bool {
        false
    }

    /// Fields that clients see and that are never stored: what a client sends back of them says nothing.
    const SHOWN: &'static [&'static str] = &[];

    /// The values of the fields that selectors may name beside `metadata.name` and
    /// `metadata.namespace`: exactly those that the table of kinds lists for it
    /// ([`crate::kind::Info::fields`]).
    fn fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The columns of its table, names first, why last.
    fn columns() -> &'static [Column];

    /// Its cells, one for each column.
    fn row(&self, now: Timestamp) -> Vec<String>;
}

/// The columns of the table of a kind.
pub fn columns_of(kind: KindId) -> &'static [Column] {
    kind.with_type(Columns)
}

struct Columns;

impl WithType for Columns {
    type Output = &'static [Column];

    fn of<K: Resource>(self) -> Self::Output {
        K::columns()
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// Whether it is shown only with `-o wide` (kubectl's priority 1).
    pub wide: bool,
}

/// A column that is always shown.
pub const fn column(name: &'static str) -> Column {
    Column { name, wide: false }
}

/// A column that is shown with `-o wide`.
pub const fn wide(name: &'static str) -> Column {
    Column { name, wide: true }
}
