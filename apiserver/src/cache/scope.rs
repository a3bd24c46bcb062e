//! What a reader of the cache asks for: kinds, a namespace and selectors.

use api::KindId;
use api::selector::{FieldSelector, LabelSelector};
use store::Key;

use super::Selectable;
use super::audience::{Among, NODE_FIELD, Topic};
use crate::keys;

/// The selectors that apply to a kind.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    /// Whether it selects this object.
    pub(crate) fn selects(&self, object: Selectable<'_>) -> bool {
        self.labels.matches(Some(object.labels))
            && self.fields.matches(|field| match field {
                "metadata.name" => Some(&*object.key.name),
                "metadata.namespace" => Some(&*object.key.namespace),
                field => object.fields.get(field),
            })
    }

    /// Whether it selects every object of the kind.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }
}

/// The objects that a watch covers.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) selections: Vec<(KindId, Selection)>,
    /// Empty for all namespaces.
    pub(crate) namespace: String,
}

impl Scope {
    /// Whether it covers this object.
    pub(crate) fn selects(&self, object: Selectable<'_>) -> bool {
        let within = self.namespace.is_empty() || object.key.namespace == self.namespace;
        within
            && self
                .selections
                .iter()
                .any(|(kind, selection)| *kind == object.kind && selection.selects(object))
    }

    /// The prefixes of the keys of all its objects.
    pub(crate) fn prefixes(&self) -> Vec<Key> {
        let kinds = self.selections.iter().map(|(kind, _)| *kind);
        kinds.map(|kind| keys::prefix(kind, &self.namespace)).collect()
    }

    /// The topics to listen to: one for each kind, as narrow as possible while still covering
    /// everything selected.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let topic = |(kind, selection): &(KindId, Selection)| {
            let demanded = |field| selection.fields.demanded(field).map(str::to_owned);
            let namespace = Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty());
            let among = demanded("metadata.name")
                .map(Among::Name)
                .or_else(|| demanded(NODE_FIELD).map(Among::Node))
                .or_else(|| {
                    namespace.or_else(|| demanded("metadata.namespace")).map(Among::Namespace)
                })
                .unwrap_or(Among::All);
            Topic { kind: *kind, among }
        };
        self.selections.iter().map(topic).collect()
    }
}
