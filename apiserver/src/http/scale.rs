//! The subresource `scale`: how many tasks a service or a job asks for, read and changed without the
//! rest of it.

use api::Violation;
use api::every_kind::WithType;
use api::patch::{Patch, PatchForm};
use api::resource::Resource;
use api::scale::{self, Scale};
use api::status::{Refusal, Why};
use http::StatusCode;
use serde_json::{Value, json};

use super::answer;
use super::change::SentPatch;
use super::extract::{Answer, Call, LedBy, Object, ObjectPath};
use super::query::{Query, bad};
use super::read;
use crate::Server;
use crate::write::{Part, Wish};

/// Reads the scale of an object.
pub(super) async fn get(call: Call, place: ObjectPath) -> Answer {
    let (_, document) = current(&call.server, &place).await?;
    Ok(answer::json(StatusCode::OK, &document))
}

/// Replaces the scale of an object.
pub(super) async fn replace(
    call: Call,
    place: ObjectPath,
    query: Query,
    led_by: LedBy,
    Object(sent): Object,
) -> Answer {
    let (scale, _) = current(&call.server, &place).await?;
    write(&call, &place, (&query, led_by), (&scale, &sent)).await
}

/// Patches the scale of an object.
pub(super) async fn patch(
    call: Call,
    place: ObjectPath,
    query: Query,
    led_by: LedBy,
    SentPatch(patch): SentPatch,
) -> Answer {
    let (scale, mut document) = current(&call.server, &place).await?;
    let read = document["metadata"]["resourceVersion"].clone();
    let of = |why: Why, message: String| Refusal::new(why, message).about(place.kind, place.name());
    patch.apply(&mut document).map_err(|error| of(Why::Invalid, error.to_string()))?;
    // A patch that names the state that it is meant for named this one. One that names none must not be
    // refused because the status has been written since.
    if let Some(metadata) = document["metadata"].as_object_mut()
        && metadata.get("resourceVersion") == Some(&read)
    {
        metadata.shift_remove("resourceVersion");
    }
    write(&call, &place, (&query, led_by), (&scale, &document)).await
}

/// The scale of the object as it is now, and the document for it.
async fn current(server: &Server, place: &ObjectPath) -> Result<(Scale, Value), Refusal> {
    let entry = read::one(server, place).await?;
    place.kind.with_type(Read { json: &entry.wire, place })
}

/// Sets the number of tasks. Only that field is written, so that nothing else of the object is
/// overwritten; if the document names a uid or a resourceVersion, they have to be the object's.
async fn write(
    call: &Call,
    place: &ObjectPath,
    (query, LedBy(leader)): (&Query, LedBy),
    (scale, sent): (&Scale, &Value),
) -> Answer {
    let replicas = replicas(place, sent)?;
    let mut patch = json!({ "spec": { scale.field: replicas } });
    for field in ["uid", "resourceVersion"] {
        if let Some(held) = sent["metadata"][field].as_str().filter(|held| !held.is_empty()) {
            patch["metadata"][field] = held.into();
        }
    }
    let patch = Patch::parse(PatchForm::Merge, patch.to_string().as_bytes())
        .map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
    let (kind, key) = (place.kind, place.key());
    let intent = call.intent(Wish::Patch { kind, key, patch, part: Part::Spec });
    let mode = query.write_mode()?;
    let committed = call.server.writer.one(intent, leader.as_ref(), mode).await?;
    let answer = committed.answers.into_iter().next().flatten();
    let wire = answer.map(|answer| answer.wire()).unwrap_or_default();
    let (_, document) = kind.with_type(Read { json: &wire, place })?;
    Ok(answer::json(StatusCode::OK, &document))
}

/// The number of tasks that a document asks for. Anything that is no Scale of this object is refused,
/// and so is one without a number, which in Kubernetes asks for no tasks at all: the whole object,
/// sent to this path by mistake, would stop them.
fn replicas(place: &ObjectPath, sent: &Value) -> Result<u32, Refusal> {
    for (pointer, wanted) in [
        ("/apiVersion", scale::API_VERSION),
        ("/kind", scale::KIND),
        ("/metadata/namespace", place.namespace.as_str()),
        ("/metadata/name", place.name()),
    ] {
        let said = sent.pointer(pointer).filter(|said| !said.is_null() && *said != "");
        if said.is_some_and(|said| said != wanted) {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            return Err(bad(format!("{field} must be {wanted:?} in the scale of this object")));
        }
    }
    let wanted = sent["spec"].get("replicas").unwrap_or(&Value::Null);
    let number = wanted.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| {
        let why = format!("{wanted} is not a whole number of tasks");
        Refusal::invalid(place.kind, place.name(), &[Violation::new("spec.replicas", why)])
    })
}

/// Reads the scale of an object of any kind.
struct Read<'a> {
    json: &'a [u8],
    place: &'a ObjectPath,
}

impl WithType for Read<'_> {
    type Output = Result<(Scale, Value), Refusal>;

    fn of<K: Resource>(self) -> Self::Output {
        let kind = self.place.kind;
        let object: K = serde_json::from_slice(self.json).map_err(|error| {
            let message = format!("the stored object cannot be read: {error}");
            Refusal::new(Why::Internal, message).about(kind, self.place.name())
        })?;
        let scale = object.scale().map_err(|why| {
            let violation = Violation::new("spec", why);
            Refusal::invalid(kind, object.name(), &[violation])
        })?;
        let document = scale.document(&object);
        Ok((scale, document))
    }
}
