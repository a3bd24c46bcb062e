//! The subresource `scale`: how many tasks an object asks for, in the form that `kubectl scale` and
//! autoscalers read and write (`autoscaling/v1`).

use serde_json::{Value, json};

use crate::object::Kind;

/// Its `apiVersion`.
pub const API_VERSION: &str = "autoscaling/v1";
/// Its `kind`.
pub const KIND: &str = "Scale";

/// How many tasks an object asks for and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// The field of the spec that says how many there should be.
    pub field: &'static str,
    /// How many there should be.
    pub wanted: u32,
    /// How many there are.
    pub there: u32,
    /// Selects them by their labels.
    pub selector: String,
}

impl Scale {
    /// The document for an object of which this is the scale.
    pub fn document(&self, object: &impl Kind) -> Value {
        json!({
            "kind": KIND,
            "apiVersion": API_VERSION,
            "metadata": {
                "name": object.name(),
                "namespace": object.namespace(),
                "uid": object.uid(),
                "resourceVersion": object.resource_version(),
                "creationTimestamp": object.meta().creation_timestamp,
            },
            "spec": { "replicas": self.wanted },
            "status": { "replicas": self.there, "selector": self.selector },
        })
    }
}
