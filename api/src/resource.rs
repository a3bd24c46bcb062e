//! What the apiserver needs to know of each kind besides its shape: rules, selectable fields, table
//! rows.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::object::Kind;
use crate::scale::Scale;
use crate::subresource::Subresource;
use crate::violation::Violation;

/// A kind as the apiserver serves it.
pub trait Resource: Kind {
    /// All violations of the object by itself. Its shape and unknown fields were checked against
    /// the schema before it was typed.
    fn validate(&self) -> Vec<Violation>;

    /// All violations of changing `old` into this object. [`Resource::validate`] is called as well.
    fn validate_update(&self, _old: &Self) -> Vec<Violation> {
        Vec::new()
    }

    /// Resets fields of the spec that must not carry over this change. For example, `spec.cancel`
    /// is reset by a change that begins a new run, and `spec.reruns` never goes back. Returns
    /// whether anything was changed. Called only for changes that have no violation.
    fn let_go(&mut self, _old: &Self) -> bool {
        false
    }

    /// Most bytes that Heliox may add to the object later. An object that leaves no room for them
    /// is refused, because its status could never be stored.
    fn added_bytes(&self) -> usize {
        if Self::ID.info().has(Subresource::Status) {
            crate::size::ADDED_BYTES
        } else {
            crate::size::ADDED_METADATA_BYTES
        }
    }

    /// Rewrites the object in the form in which it is stored. Called only for objects that have no
    /// violation.
    fn normalize(&mut self) {}

    /// Brings a spec into its canonical form, without defaults: two specs mean the same if they are
    /// then equal ([`crate::meaning`]). It works on a document, because parts of a workflow contain
    /// parameters and cannot be typed.
    fn simplify(_spec: &mut Map<String, Value>) {}

    /// Whether [`Resource::settle`] does anything for this kind.
    const SETTLES: bool = false;

    /// Computes the status from the rest of the object, for kinds whose status depends on nothing
    /// else. The apiserver calls it with every write. `before` is the object that is replaced; it
    /// supplies the transition times of conditions that stay the same.
    fn settle(&mut self, _before: Option<&Self>, _now: Timestamp) {}

    /// Adds what clients see and the store does not hold: fields that are computed, and fields that
    /// an earlier version did not store. Returns whether anything was added.
    fn show(&mut self) -> bool {
        false
    }

    /// JSON pointers of fields that clients see and that are never stored. What a client sends in
    /// them is ignored.
    const SHOWN: &'static [&'static str] = &[];

    /// The values of the fields that field selectors may name besides `metadata.name` and
    /// `metadata.namespace`. They must be exactly the fields in the table of kinds
    /// ([`crate::kind::Info::fields`]).
    fn fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// How many tasks it asks for and has, for kinds with the subresource `scale`.
    ///
    /// # Errors
    /// A number does not say how many tasks it has; the reason.
    fn scale(&self) -> Result<Scale, &'static str> {
        Err("its number of tasks cannot be changed")
    }

    /// The columns of its table. Names come first, the reason for the phase last.
    fn columns() -> &'static [Column];

    /// The cells of the object's row, one for each column.
    fn row(&self, now: Timestamp) -> Vec<String>;
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
