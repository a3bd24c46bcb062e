//! What every object has: a kind, metadata, a spec and a status.

use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::kind::KindId;
use crate::schema::generate;
use crate::violation::Violation;

/// For `skip_serializing_if`: fields that have their default value are left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Largest number of a run or an attempt that a client may write. Heliox counts on from there, and
/// the numbers above leave it enough room never to overflow.
pub const NUMBER_MAX: u32 = u32::MAX - 1_000_000;

/// The violation of a number at `path` that is too large to count on from.
pub(crate) fn number_problem(path: &str, number: u32) -> Option<Violation> {
    (number > NUMBER_MAX).then(|| {
        let why = format!("{number} is too large (maximum {NUMBER_MAX})");
        Violation::new(path, why)
    })
}

/// The namespace of an object whose manifest names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// An object of any kind, Heliox's or Kubernetes'.
pub trait Kind:
    Serialize + DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static
{
    /// Which kind.
    const ID: KindId;

    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Its metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// The JSON Schema of the whole object, generated from its types. [`crate::schema::of`] caches
    /// it.
    fn schema() -> Value;

    /// `metadata.name`; empty before one is given.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
    /// `metadata.namespace`; empty for cluster kinds.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }
    /// `metadata.uid`; empty until the apiserver has assigned one.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
    /// `metadata.generation`, which counts the changes of what the spec means.
    fn generation(&self) -> i64 {
        self.meta().generation.unwrap_or_default()
    }
    /// `metadata.resourceVersion`; empty for an object that was not read from the API.
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }
    /// `metadata.creationTimestamp`.
    fn created(&self) -> Option<Timestamp> {
        self.meta().creation_timestamp.as_ref().map(|time| time.0)
    }
    /// Whether it is being deleted: `metadata.deletionTimestamp` is set.
    fn is_deleting(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
    /// That it is being deleted and what that waits for, as a line.
    fn why_deleting(&self) -> String {
        let annotations = self.meta().annotations.as_ref();
        match annotations.and_then(|all| all.get(crate::labels::DELETION_WAITS_FOR)) {
            Some(why) => format!("being deleted: {why}"),
            None => "being deleted".to_owned(),
        }
    }
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(key).map(String::as_str)
    }
    /// The owner that is marked as the controller of this object.
    fn controller(&self) -> Option<&OwnerReference> {
        self.meta().owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
    }
    /// Namespace and name.
    fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace().to_owned(), name: self.name().to_owned() }
    }
    /// A reference by which another object names this one as its controller.
    fn as_controller(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::ID.api_version(),
            kind: Self::ID.info().kind.to_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// A namespace (empty for cluster kinds) and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The namespace; empty for cluster kinds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// A key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What defines a kind of Heliox's own: its spec and its status.
pub trait Definition: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// Which kind.
    const ID: KindId;
    /// The desired state, which users write.
    type Spec: Serialize + DeserializeOwned + Clone + Debug + PartialEq + JsonSchema + Send + Sync;
    /// The observed state, which Heliox writes.
    type Status: Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + PartialEq
        + Default
        + JsonSchema
        + Send
        + Sync;
}

/// An object of one of our kinds.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<D: Definition> {
    /// Name, namespace, labels, owners and the like.
    pub metadata: ObjectMeta,
    /// The desired state.
    pub spec: D::Spec,
    /// The observed state.
    pub status: D::Status,
}

impl<D: Definition> Object<D> {
    /// A new object, which has not been stored.
    pub fn new(namespace: &str, name: &str, spec: D::Spec) -> Self {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            ..ObjectMeta::default()
        };
        Self { metadata, spec, status: D::Status::default() }
    }

    /// Adds labels.
    #[must_use]
    pub fn with_labels<K: Into<String>, V: Into<String>>(
        mut self,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let map = self.metadata.labels.get_or_insert_with(BTreeMap::new);
        map.extend(labels.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// Names the object that controls this one.
    #[must_use]
    pub fn with_controller(mut self, owner: OwnerReference) -> Self {
        self.metadata.owner_references = Some(vec![owner]);
        self
    }
}

impl<D: Definition> Kind for Object<D> {
    const ID: KindId = D::ID;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn schema() -> Value {
        generate::ours::<D::Spec, D::Status>()
    }
}

impl<D: Definition> Serialize for Object<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Object", 5)?;
        object.serialize_field("apiVersion", &D::ID.api_version())?;
        object.serialize_field("kind", D::ID.info().kind)?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        if self.status == D::Status::default() {
            object.skip_field("status")?;
        } else {
            object.serialize_field("status", &self.status)?;
        }
        object.end()
    }
}

impl<'de, D: Definition> Deserialize<'de> for Object<D> {
    fn deserialize<De: Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", bound = "")]
        struct Wire<D: Definition> {
            api_version: Option<String>,
            kind: Option<String>,
            #[serde(default)]
            metadata: ObjectMeta,
            spec: D::Spec,
            #[serde(default)]
            status: Option<D::Status>,
        }
        let wire = Wire::<D>::deserialize(deserializer)?;
        if wire.kind.as_deref().is_some_and(|kind| kind != D::ID.info().kind) {
            return Err(De::Error::custom(format_args!("expected kind {}", D::ID)));
        }
        if wire.api_version.is_some_and(|version| version != D::ID.api_version()) {
            return Err(De::Error::custom(format_args!(
                "expected apiVersion {}",
                D::ID.api_version()
            )));
        }
        Ok(Self {
            metadata: wire.metadata,
            spec: wire.spec,
            status: wire.status.unwrap_or_default(),
        })
    }
}
