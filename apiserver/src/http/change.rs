//! Requests that change one object.

use std::time::Duration;

use api::object::Kind as _;
use api::partition_set::missing_words;
use api::patch::{Patch, PatchError, PatchForm};
use api::status::{Mistake, Refusal, Why};
use api::task::StopReason;
use api::task::transition::TaskChange;
use api::verb::Subresource;
use api::{KindId, ObjectKey, PartitionSet, Violation, names};
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::extract::{
    Answer, BODY_BYTES_MAX, Call, Json, LedBy, Object, ObjectPath, Refused, Whole,
};
use super::query::{Query, bad};
use super::{answer, read};
use crate::write::{Committed, New, Part, Repeatable, Wish, admit, check_labels, text};
use crate::{Server, keys, kinds};

/// How long an answer waits for the cache in order to include warnings. The object has been written
/// by then, and clients do not wait for ever.
const WARNING_WAIT: Duration = Duration::from_secs(1);

/// Turns a new object into the wish to create it.
pub(super) fn new_object(
    server: &Server,
    (kind, namespace): (KindId, &str),
    object: Value,
    repeatable: Repeatable,
) -> Result<Wish, Refusal> {
    let object = admitted(server, (kind, namespace), object, Statuses::Dropped)?;
    let key = ObjectKey::new(namespace, text(&object, "name"));
    Ok(Wish::Create { kind, key, object: New::Document(object), repeatable })
}

/// Admits a new object, and gives it a name and the fields that only the apiserver sets.
pub(super) fn admitted(
    server: &Server,
    (kind, namespace): (KindId, &str),
    mut object: Value,
    statuses: Statuses,
) -> Result<Value, Refusal> {
    place_object(server, (kind, namespace), &mut object)?;
    let name = text(&object, "name").to_owned();
    let object = admit(kind, object).map_err(|violations| refused(kind, &name, &violations))?;
    Ok(stamp(server, kind, object, statuses))
}

/// What happens to the status in a request that creates an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statuses {
    /// It is ignored, since only controllers write statuses, later.
    Dropped,
    /// It is stored, because a controller creates the object.
    Kept,
}

pub(super) fn refused(kind: KindId, name: &str, violations: &[Violation]) -> Refusal {
    Refusal::invalid(kind, name, violations)
}

/// Sets the namespace and name of the object, if the request has them.
fn place_object(
    server: &Server,
    (kind, namespace): (KindId, &str),
    object: &mut Value,
) -> Result<(), Refusal> {
    let Some(fields) = object.as_object_mut() else {
        return Err(bad("the body must be a JSON object"));
    };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let Some(metadata) = metadata.as_object_mut() else {
        let violation = Violation::new("metadata", "expected an object");
        return Err(refused(kind, "", &[violation]));
    };
    match metadata.get("namespace").and_then(Value::as_str) {
        Some(other) if other != namespace => {
            let message = format!(
                "metadata.namespace {other:?} does not match the namespace of the request, {namespace:?}"
            );
            return Err(bad(message));
        }
        Some(_) => (),
        None if namespace.is_empty() => (),
        None => drop(metadata.insert("namespace".to_owned(), namespace.into())),
    }
    let unnamed = metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty);
    if unnamed && let Some(prefix) = metadata.get("generateName").and_then(Value::as_str) {
        let suffix: String = server.rng.uuid().chars().take(8).collect();
        let kept: String = prefix.chars().take(names::NAME_CHARS_MAX - suffix.len()).collect();
        metadata.insert("name".to_owned(), format!("{kept}{suffix}").into());
    }
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    match names::problem(name) {
        Some(problem) => Err(refused(kind, name, &[Violation::new("metadata.name", problem)])),
        None => Ok(()),
    }
}

/// Metadata that only the apiserver gives.
fn stamp(server: &Server, kind: KindId, mut object: Value, statuses: Statuses) -> Value {
    let fields = object.as_object_mut();
    let has_status = kind.info().has(Subresource::Status);
    if has_status && statuses == Statuses::Dropped {
        fields.map(|fields| fields.shift_remove("status"));
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in
            ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"]
        {
            metadata.shift_remove(field);
        }
        metadata.insert("uid".to_owned(), server.rng.uuid().into());
        metadata.insert("creationTimestamp".to_owned(), json!(api::Time(server.clock.now())));
        metadata.insert("generation".to_owned(), 1.into());
    }
    match kinds::strategy(kind).settle {
        Some(settle) => settle(object, None, server.clock.now()),
        None => object,
    }
}

/// The answer with the object of a single request.
pub(super) fn answered(code: StatusCode, committed: Committed) -> Response {
    match committed.answers.into_iter().next().flatten() {
        Some(answer) => {
            let json = answer.wire();
            answer::raw(code, kinds::shown(answer.kind, &json.into()))
        }
        None => answer::json(code, &success()),
    }
}

/// The same, with warnings about the accepted object. Warnings are optional: if the cache is behind
/// for longer than [`WARNING_WAIT`], there are none.
async fn answered_with_warnings(
    server: &Server,
    code: StatusCode,
    committed: Committed,
) -> Response {
    let made = committed.answers.iter().flatten().next();
    let set = made.filter(|answer| answer.kind == KindId::PartitionSet).map(|it| it.wire());
    let warning = match set {
        Some(set) if is_current(server).await => missing_nodes(server, &set),
        Some(_) | None => None,
    };
    let mut answer = answered(code, committed);
    if let Some(warning) = warning {
        answer.headers_mut().insert(header::WARNING, warning);
    }
    answer
}

/// Whether the cache shows the current state of the store, or will soon.
async fn is_current(server: &Server) -> bool {
    let current = tokio::time::timeout(WARNING_WAIT, read::current(server)).await;
    current.is_ok_and(|current| current.is_ok())
}

/// A warning that a partition set names nodes that do not exist.
fn missing_nodes(server: &Server, set: &[u8]) -> Option<HeaderValue> {
    let set: PartitionSet = serde_json::from_slice(set).ok()?;
    let key = |node: &str| keys::object(KindId::Node, &ObjectKey::new("", node));
    let missing = set.nodes_that_are_not(|node| server.cache.get(&key(node)).is_some());
    let words = missing_words(&missing)?;
    let text = format!(
        "299 - \"partition set {}: {words}; tasks beside their partitions wait until they join\"",
        set.name()
    );
    HeaderValue::from_str(&text).ok()
}

fn success() -> Status {
    Status { status: Some("Success".to_owned()), ..Status::default() }
}

pub(super) async fn create(
    call: Call,
    place: ObjectPath,
    query: Query,
    LedBy(leader): LedBy,
    Object(object): Object,
) -> Answer {
    if place.kind.is_namespaced() && place.namespace.is_empty() {
        let message =
            format!("{} are namespaced: name a namespace in the path", place.kind.info().plural);
        return Err(bad(message).into());
    }
    let server = &call.server;
    check_labels(place.kind, &object)?;
    let wish = new_object(server, (place.kind, &place.namespace), object, Repeatable::No)?;
    let intent = call.intent(wish);
    let committed = server.writer.one(intent, leader.as_ref(), query.write_mode()?).await?;
    Ok(answered_with_warnings(server, StatusCode::CREATED, committed).await)
}

/// The part of the object that a request to this path may write. The status of a task is written only
/// by agents, in batches.
fn written(place: &ObjectPath) -> Result<Part, Refusal> {
    if place.subresource != Some(Subresource::Status) {
        return Ok(Part::Spec);
    }
    if place.kind == KindId::Task {
        let message = "the status of a task can only be changed by the agent of its node";
        return Err(Refusal::new(Why::Forbidden, message));
    }
    Ok(Part::Status)
}

/// Replaces the spec of an object, or its status if the path ends with `/status`.
pub(super) async fn replace(
    call: Call,
    place: ObjectPath,
    query: Query,
    LedBy(leader): LedBy,
    Object(object): Object,
) -> Answer {
    let part = written(&place)?;
    let intent = call.intent(Wish::Replace { kind: place.kind, key: place.key(), object, part });
    let committed = call.server.writer.one(intent, leader.as_ref(), query.write_mode()?).await?;
    Ok(answered_with_warnings(&call.server, StatusCode::OK, committed).await)
}

/// Patches the spec of an object, or its status if the path ends with `/status`.
pub(super) async fn patch(
    call: Call,
    place: ObjectPath,
    query: Query,
    LedBy(leader): LedBy,
    SentPatch(patch): SentPatch,
) -> Answer {
    if query.force {
        let message = "force applies to server-side apply only, which is not supported yet";
        return Err(bad(message).into());
    }
    let part = written(&place)?;
    let intent = call.intent(Wish::Patch { kind: place.kind, key: place.key(), patch, part });
    let committed = call.server.writer.one(intent, leader.as_ref(), query.write_mode()?).await?;
    Ok(answered_with_warnings(&call.server, StatusCode::OK, committed).await)
}

/// A patch in the body, in the format given by its content type.
#[derive(Debug)]
pub(super) struct SentPatch(pub(super) Patch);

impl<S: Sync> FromRequest<S> for SentPatch {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let sent = request.headers().get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok());
        let sent = sent.unwrap_or_default();
        let Some(form) = PatchForm::of_content_type(sent) else {
            let known = PatchForm::ALL.map(PatchForm::content_type).join(" or ");
            let message = format!("unsupported content type {sent:?} for a patch; send {known}");
            return Err(Refusal::new(Why::Mistaken(Mistake::MediaType), message).into());
        };
        let Whole(bytes) = Whole::<BODY_BYTES_MAX>::from_request(request, state).await?;
        let patch = Patch::parse(form, &bytes).map_err(|error| {
            let why = match error {
                PatchError::TooLarge(_) => Why::TooLarge,
                PatchError::Malformed(_) | PatchError::Inapplicable(_) => {
                    Why::Mistaken(Mistake::Request)
                }
            };
            Refusal::new(why, error.to_string())
        })?;
        Ok(Self(patch))
    }
}

/// The body of an `evict` request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Eviction {
    reason: StopReason,
    /// The attempt to evict; `None` for the current one.
    #[serde(default)]
    attempt: Option<u32>,
}

pub(super) async fn evict(
    call: Call,
    place: ObjectPath,
    query: Query,
    LedBy(leader): LedBy,
    Json(eviction): Json<Eviction>,
) -> Answer {
    let change = TaskChange::evict(eviction.reason);
    let intent =
        call.intent(Wish::Task { key: place.key(), uid: None, attempt: eviction.attempt, change });
    let committed = call.server.writer.one(intent, leader.as_ref(), query.write_mode()?).await?;
    Ok(answered(StatusCode::CREATED, committed))
}

/// The body of a `binding` request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BindingRequest {
    node: String,
    #[serde(default)]
    attempt: Option<u32>,
}

pub(super) async fn bind(
    call: Call,
    place: ObjectPath,
    query: Query,
    LedBy(leader): LedBy,
    Json(binding): Json<BindingRequest>,
) -> Answer {
    let change = TaskChange::Bind { node: binding.node };
    let intent =
        call.intent(Wish::Task { key: place.key(), uid: None, attempt: binding.attempt, change });
    let committed = call.server.writer.one(intent, leader.as_ref(), query.write_mode()?).await?;
    Ok(answered(StatusCode::CREATED, committed))
}
