//! The properties of each kind ([`Resource`]), as functions that work on JSON documents.

use api::every_kind::WithType;
use api::resource::{Column, Resource};
use api::resource_version::ResourceVersion;
use api::table::NOTHING;
use api::verb::Subresource;
use api::{KindId, ObjectKey, ObjectMeta, Task, Timestamp, Violation};
use bytes::Bytes;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cache::{Fields, Labels};
use crate::{carried, encoding};

/// About how many bytes are added to an object on the way out.
const ADDED_BYTES: usize = 128;

/// The admitted document, or everything that is wrong with it.
type Admitted<T> = Result<T, Vec<Violation>>;

/// Writes derived fields into a document, given the document that it replaces and the time.
type Settle = fn(Value, Option<&Value>, Timestamp) -> Value;

/// How the apiserver handles documents of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strategy {
    /// Checks a document against the schema and the rules of the kind, and returns its normal form.
    pub(crate) admit: fn(Value) -> Result<Value, Vec<Violation>>,
    /// Returns the normal form of a document, without checking the rules.
    pub(crate) normal: fn(Value) -> Result<Value, Vec<Violation>>,
    /// Checks a changed document (in normal form) against the old one. Returns a new document if
    /// part of the change has to be taken back.
    pub(crate) admit_update: fn(&Value, &Value) -> Admitted<Option<Value>>,
    /// Writes the derived fields of the status, given the object that is replaced. `None` for kinds
    /// without such fields.
    pub(crate) settle: Option<Settle>,
    /// Turns a stored object into its JSON as clients see it, with the fields that selectors may
    /// name.
    pub(crate) to_wire: fn(&[u8], ResourceVersion) -> Result<Wire, encoding::Unreadable>,
    /// The fields that are added on the way out, as JSON pointers.
    pub(crate) shown: &'static [&'static str],
    /// The columns of the table.
    pub(crate) columns: fn() -> &'static [Column],
    /// The cells of an object, given its JSON as clients see it.
    pub(crate) row: fn(&[u8], Timestamp) -> Vec<String>,
}

/// An object as clients see it, and the values that it can be selected by.
pub(crate) struct Wire {
    /// Its JSON.
    pub(crate) json: Vec<u8>,
    /// `metadata.uid`.
    pub(crate) uid: String,
    /// Whether its deletion has been requested.
    pub(crate) is_deleting: bool,
    /// Whether it has fields that this version does not know.
    pub(crate) has_more: bool,
    /// Its labels.
    pub(crate) labels: Labels,
    /// The values of the kind's [`api::kind::Info::fields`].
    pub(crate) fields: Fields,
}

impl Wire {
    /// Converts a stored object and, if this version cannot read it, says why. An unreadable object
    /// is shown as it is stored, or else by its name alone. If it were left out, clients would take
    /// it for deleted, stop its work and delete what it owns. A component that cannot read it
    /// reports that and waits.
    pub(crate) fn of(
        kind: KindId,
        key: &ObjectKey,
        stored: &[u8],
        version: ResourceVersion,
    ) -> (Self, Option<encoding::Unreadable>) {
        let json = encoding::json(stored);
        let wire = json.clone().and_then(|json| (strategy(kind).to_wire)(json, version));
        match wire {
            Ok(wire) => (wire, None),
            Err(why) => {
                // The reason may quote the content of the object.
                let why = if kind == KindId::Secret {
                    encoding::Unreadable("it is not a Secret".to_owned())
                } else {
                    why
                };
                let as_stored = json.ok().and_then(|json| Self::as_stored(kind, json, version));
                (as_stored.unwrap_or_else(|| Self::named(kind, key, version)), Some(why))
            }
        }
    }

    /// Shows a document as it is, if it has metadata.
    fn as_stored(kind: KindId, json: &[u8], version: ResourceVersion) -> Option<Self> {
        let document: Value = serde_json::from_slice(json).ok()?;
        let meta = ObjectMeta::deserialize(&document["metadata"]).ok()?;
        let field = |field: &&'static str| {
            let way = format!("/{}", field.replace('.', "/"));
            Some((*field, document.pointer(&way)?.as_str()?.to_owned()))
        };
        let fields = kind.info().fields.iter().filter_map(field).collect();
        Some(described(&meta, fields, (encoding::with_version(json, version), true)))
    }

    /// Shows only the object's kind, namespace and name.
    fn named(kind: KindId, key: &ObjectKey, version: ResourceVersion) -> Self {
        let mut metadata = json!({ "name": key.name, "resourceVersion": version.to_string() });
        if kind.is_namespaced() {
            metadata["namespace"] = key.namespace.as_str().into();
        }
        let (api_version, kind) = (kind.api_version(), kind.info().kind);
        let json = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
        described(&ObjectMeta::default(), Fields::default(), (json.to_string().into_bytes(), true))
    }
}

/// The functions for documents of `kind`.
pub(crate) fn strategy(kind: KindId) -> Strategy {
    kind.with_type(Generic)
}

/// Makes the functions for a kind from its type.
struct Generic;

impl WithType for Generic {
    type Output = Strategy;

    fn of<K: Resource>(self) -> Strategy {
        Strategy {
            admit: admit::<K>,
            normal: normal::<K>,
            admit_update: admit_update::<K>,
            settle: K::SETTLES.then_some(settle::<K>),
            to_wire: to_wire::<K>,
            shown: K::SHOWN,
            columns: K::columns,
            row: row::<K>,
        }
    }
}

fn admit<K: Resource>(mut document: Value) -> Result<Value, Vec<Violation>> {
    let status = document.as_object_mut().and_then(|fields| fields.shift_remove("status"));
    let status = status.filter(|status| !status.is_null() && K::ID.info().has(Subresource::Status));
    let of_status =
        status.as_ref().map(|status| api::schema::check_status(K::ID, status)).unwrap_or_default();
    // Everything is reported at once: an error in the one must not hide an error in the other.
    let mut object: K = match api::schema::parse_object(document) {
        Ok(object) if of_status.is_empty() => object,
        Ok(_) => return Err(of_status),
        Err(found) => return Err([found, of_status].concat()),
    };
    object.normalize();
    let admitted = to_value(&object);
    match status {
        Some(status) => with_status::<K>(admitted, status),
        None => Ok(admitted),
    }
}

/// Combines an object and its status, in normal form.
fn with_status<K: Resource>(mut object: Value, status: Value) -> Result<Value, Vec<Violation>> {
    object["status"] = status;
    typed::<K>(&object).map(|object| to_value(&object))
}

fn normal<K: Resource>(document: Value) -> Result<Value, Vec<Violation>> {
    let mut object: K = typed(&document)?;
    object.normalize();
    Ok(to_value(&object))
}

fn admit_update<K: Resource>(new: &Value, old: &Value) -> Admitted<Option<Value>> {
    let (mut new, old): (K, K) = (typed(new)?, typed(old)?);
    let violations = new.validate_update(&old);
    if !violations.is_empty() {
        return Err(violations);
    }
    Ok(new.let_go(&old).then(|| to_value(&new)))
}

fn settle<K: Resource>(document: Value, before: Option<&Value>, now: Timestamp) -> Value {
    let Ok(mut object) = typed::<K>(&document) else { return document };
    let (known, before) = (to_value(&object), before.and_then(|before| typed::<K>(before).ok()));
    object.settle(before.as_ref(), now);
    carried::over(document, &known, &to_value(&object))
}

fn typed<K: Resource>(document: &Value) -> Result<K, Vec<Violation>> {
    K::deserialize(document).map_err(|error| vec![Violation::new("", error.to_string())])
}

fn to_value<K: Resource>(object: &K) -> Value {
    serde_json::to_value(object).expect("our kinds have text keys and finite numbers")
}

/// A stored object as clients see it.
fn to_wire<K: Resource>(
    json: &[u8],
    version: ResourceVersion,
) -> Result<Wire, encoding::Unreadable> {
    let unreadable = |error: serde_json::Error| encoding::Unreadable(error.to_string());
    let (mut object, has_more) = read::<K>(json)?;
    let before = has_more.then(|| to_value(&object));
    if !object.show() {
        return Ok(wire(&object, (encoding::with_version(json, version), has_more)));
    }
    object.meta_mut().resource_version = Some(version.to_string());
    let mut shown = Vec::with_capacity(json.len() + ADDED_BYTES);
    match before {
        None => serde_json::to_writer(&mut shown, &object).map_err(unreadable)?,
        Some(before) => {
            let stored = serde_json::from_slice(json).map_err(unreadable)?;
            let changed = carried::over(stored, &before, &to_value(&object));
            serde_json::to_writer(&mut shown, &changed).map_err(unreadable)?;
        }
    }
    Ok(wire(&object, (shown, has_more)))
}

/// Removes the fields that are added on the way out, and which a client may send back.
pub(crate) fn strip_wire(kind: KindId, object: &mut Value) {
    for way in ["/metadata/resourceVersion"].iter().chain(strategy(kind).shown) {
        if let Some((parent_way, field)) = way.rsplit_once('/')
            && let Some(parent) = object.pointer_mut(parent_way).and_then(Value::as_object_mut)
        {
            let was_there = parent.shift_remove(field).is_some();
            // A status without anything else is left out, as everywhere.
            if was_there && parent.is_empty() && parent_way == "/status" {
                object.as_object_mut().and_then(|fields| fields.shift_remove("status"));
            }
        }
    }
}

/// An object as it is shown to a client that asks for it by kind. A task gets its conditions here:
/// they are kept neither in the store nor in the cache, and no component reads them.
pub(crate) fn shown(kind: KindId, wire: &Bytes) -> Bytes {
    if kind != KindId::Task {
        return wire.clone();
    }
    // The JSON of a task has a phase, and ends with its status.
    let (Ok((task, _)), Some(open)) = (read::<Task>(wire), wire.strip_suffix(b"}}")) else {
        return wire.clone();
    };
    let Ok(conditions) = serde_json::to_vec(&task.conditions()) else {
        return wire.clone();
    };
    [open, br#","conditions":"#, &conditions, b"}}"].concat().into()
}

/// Reads a stored object, and whether it has fields that this version does not know.
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<(T, bool), encoding::Unreadable> {
    carried::read(json).map_err(|error| encoding::Unreadable(error.to_string()))
}

fn wire<K: Resource>(object: &K, shown: (Vec<u8>, bool)) -> Wire {
    described(object.meta(), object.fields().into_iter().collect(), shown)
}

fn described(meta: &ObjectMeta, fields: Fields, (json, has_more): (Vec<u8>, bool)) -> Wire {
    Wire {
        json,
        uid: meta.uid.clone().unwrap_or_default(),
        is_deleting: meta.deletion_timestamp.is_some(),
        has_more,
        labels: meta.labels.clone().unwrap_or_default(),
        fields,
    }
}

fn row<K: Resource>(json: &[u8], now: Timestamp) -> Vec<String> {
    match serde_json::from_slice::<K>(json) {
        Ok(object) => object.row(now),
        Err(error) => unreadable_row(K::columns(), json, &error.to_string()),
    }
}

/// The cells of an object that this version cannot read: its name, and the reason.
fn unreadable_row(columns: &[Column], json: &[u8], why: &str) -> Vec<String> {
    let document: Value = serde_json::from_slice(json).unwrap_or_default();
    let cell = |column: &Column| match column.name {
        "NAME" => document["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        "WHY" => format!("this version cannot read it: {why}"),
        _ => NOTHING.to_owned(),
    };
    columns.iter().map(cell).collect()
}
