//! Batches, which Heliox's own components send.

mod tasks;

use std::collections::BTreeMap;

use api::batch::{
    BATCH_OPS_MAX, Batch, BatchResponse, GROUP_OPS_MAX, Group, GroupResult, Op, kind_of,
    owner_without_uid,
};
use api::patch::Patch;
use api::resource_version::ResourceVersion;
use api::status::{Mistake, Refusal, Why};
use api::task::transition::TaskChange;
use api::verb::{Subresource, Verb};
use api::{KindId, ObjectKey};
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::answer;
use super::change::{Statuses, admitted, new_object};
use super::extract::{Answer, Call, LedBy, Whole};
use super::query::bad;
use crate::Server;
use crate::access::Ask;
use crate::write::{DeleteOptions, Intent, New, Part, Repeatable, Wish, WriteMode, unknown};

/// The maximum size of a batch: a thousand objects of a few KiB.
const BYTES_MAX: usize = api::size::BATCH_BYTES_MAX;

pub(super) async fn batch(
    call: Call,
    LedBy(leader): LedBy,
    Whole(body): Whole<BYTES_MAX>,
) -> Answer {
    let batch: Batch = api::json::read(&body).map_err(|why| unreadable(&body, &why))?;
    drop(body);
    let counts = batch.groups.iter().map(Group::count);
    let ops = counts.fold(0, usize::saturating_add);
    if batch.groups.len() > BATCH_OPS_MAX {
        let groups = batch.groups.len();
        return Err(bad(format!("too many groups: {groups} (maximum {BATCH_OPS_MAX})")).into());
    }
    if ops > BATCH_OPS_MAX {
        return Err(bad(format!("too many operations: {ops} (maximum {BATCH_OPS_MAX})")).into());
    }
    let mut results: Vec<Option<GroupResult>> = Vec::new();
    let mut groups = Vec::new();
    for group in batch.groups {
        match intents(&call, group) {
            Ok(intents) => {
                groups.push(intents);
                results.push(None);
            }
            Err(refusal) => results.push(Some(refusal.into())),
        }
    }
    let mut seen = ResourceVersion::default();
    let outcomes = call.server.writer.groups(&groups, leader.as_ref(), WriteMode::Real).await;
    let mut outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Ok(committed) => {
            seen = seen.max(committed.seen);
            GroupResult::Done
        }
        Err(refusal) => refusal.into(),
    });
    let results = results
        .into_iter()
        .map(|known| known.or_else(|| outcomes.next()).unwrap_or_else(|| unknown().into()))
        .collect();
    let response = BatchResponse { resource_version: seen, results };
    Ok(answer::json(StatusCode::OK, &response))
}

/// Why a body is not a batch. A component of a newer version has to know if that is because of an
/// operation that this version does not have: it then sends other ones.
fn unreadable(body: &[u8], why: &str) -> Refusal {
    #[derive(Deserialize)]
    struct Groups {
        groups: Vec<Ops>,
    }
    #[derive(Deserialize)]
    struct Ops {
        ops: Vec<BTreeMap<String, IgnoredAny>>,
    }
    let groups = serde_json::from_slice::<Groups>(body).map_or_else(|_| Vec::new(), |it| it.groups);
    let mut words = groups.iter().flat_map(|group| &group.ops).flat_map(BTreeMap::keys);
    let mistake = match words.any(|word| !Op::WORDS.contains(&word.as_str())) {
        true => Mistake::Operation,
        false => Mistake::Request,
    };
    Refusal::new(Why::Mistaken(mistake), format!("cannot parse the body: {why}"))
}

/// The intents of a group, or why it can never succeed.
fn intents(call: &Call, group: Group) -> Result<Vec<Intent>, Refusal> {
    let count = group.count();
    if count > GROUP_OPS_MAX {
        let message = format!("too many operations in a group: {count} (maximum {GROUP_OPS_MAX})");
        return Err(Refusal::new(Why::TooLarge, message));
    }
    let mut intents = Vec::with_capacity(count);
    for mut op in group.ops {
        name_owner(&mut op, &intents);
        intents.extend(intents_of(call, op)?);
    }
    Ok(intents)
}

/// Fills in the uid of an object's controller, if the same group creates the controller.
fn name_owner(op: &mut Op, before: &[Intent]) {
    let (Op::Create { object } | Op::CreateTasks { task: object, .. }) = op else { return };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let Some(owner) = owner_without_uid(object) else { return };
    let word = |field: &str| owner[field].as_str().unwrap_or_default();
    let Some(kind) = KindId::from_manifest(word("apiVersion"), word("kind")) else { return };
    let key = ObjectKey::new(namespace, word("name"));
    if let Some(uid) = before.iter().find_map(|intent| intent.makes(kind, &key)) {
        owner["uid"] = uid.into();
    }
}

/// The intents of an operation. The requester needs permission for each operation, and for each task of
/// an operation that creates several.
fn intents_of(call: &Call, op: Op) -> Result<Vec<Intent>, Refusal> {
    let asked = asked(&op)?;
    let enter = |(verb, of, key): &Asked| call.enter(Ask::of(*verb, *of, key));
    let allowed = asked.iter().map(enter).collect::<Result<Vec<_>, _>>()?;
    let wishes = wishes(&call.server, op, asked)?;
    Ok(allowed.into_iter().zip(wishes).map(|(by, wish)| Intent { by, wish }).collect())
}

/// What an operation does, and to which object.
pub(super) type Asked = (Verb, (KindId, Option<Subresource>), ObjectKey);

/// What an operation does, in terms of single requests.
pub(super) fn asked(op: &Op) -> Result<Vec<Asked>, Refusal> {
    let named = |verb, kind, key: &ObjectKey| (verb, (kind, None), key.clone());
    let one = match op {
        Op::Create { object } => {
            let (kind, key) = identify(object)?;
            (Verb::Create, (kind, None), key)
        }
        Op::CreateWithStatus { object } => {
            let (kind, key) = identify(object)?;
            let status = (Verb::Update, (kind, Some(Subresource::Status)), key.clone());
            return Ok(vec![(Verb::Create, (kind, None), key), status]);
        }
        Op::CreateTasks { task, indexes } => return tasks::asked(task, indexes),
        Op::Replace { object } => {
            let (kind, key) = identify(object)?;
            (Verb::Update, (kind, None), key)
        }
        Op::Status { object } => {
            let (kind, key) = identify(object)?;
            (Verb::Update, (kind, Some(Subresource::Status)), key)
        }
        Op::Delete { kind, key, .. } => named(Verb::Delete, known(kind)?, key),
        Op::Patch { kind, key, .. } => named(Verb::Patch, known(kind)?, key),
        Op::Emptied { key, .. } => named(Verb::Delete, KindId::Namespace, key),
        Op::Remove { key, .. } => named(Verb::Delete, KindId::Task, key),
        Op::Task { key, change, .. } => {
            let (verb, subresource) = asked_of_task(change);
            (verb, (KindId::Task, subresource), key.clone())
        }
        Op::Record { job, .. } => {
            (Verb::Update, (KindId::Job, Some(Subresource::Record)), job.clone())
        }
    };
    Ok(vec![one])
}

/// Each part of a task has its own writer, and so its own verb.
fn asked_of_task(change: &TaskChange) -> (Verb, Option<Subresource>) {
    match change {
        TaskChange::Bind { .. } => (Verb::Create, Some(Subresource::Binding)),
        TaskChange::Evict { .. } => (Verb::Create, Some(Subresource::Evict)),
        TaskChange::Report(_) | TaskChange::Refuse { .. } => {
            (Verb::Update, Some(Subresource::Status))
        }
        TaskChange::Unschedulable { .. }
        | TaskChange::Lose
        | TaskChange::LoseNode { .. }
        | TaskChange::Recover
        | TaskChange::Replaceable
        | TaskChange::Retry(_)
        | TaskChange::Rerun(_)
        | TaskChange::Amend(_)
        | TaskChange::Record => (Verb::Update, None),
    }
}

fn known(plural: &str) -> Result<KindId, Refusal> {
    kind_of(plural).ok_or_else(|| bad(format!("unknown kind {plural:?}")))
}

/// What an operation writes to each of its objects.
fn wishes(server: &Server, op: Op, asked: Vec<Asked>) -> Result<Vec<Wish>, Refusal> {
    let place = asked.first().map(|(_, (kind, _), key)| (*kind, key.clone()));
    let Some((kind, key)) = place else { return Ok(Vec::new()) };
    let one = match op {
        Op::CreateTasks { task, indexes } => return tasks::wishes(server, task, &indexes, asked),
        Op::CreateWithStatus { object } => {
            let has_status = kind.info().has(Subresource::Status);
            if kind == KindId::Task || !has_status {
                return Err(bad(format!("{} are not made with a status", kind.info().plural)));
            }
            let object = admitted(server, (kind, &key.namespace), object, Statuses::Kept)?;
            let (object, repeatable) = (New::Document(object), Repeatable::BySameController);
            Wish::Create { kind, key, object, repeatable }
        }
        Op::Create { object } => {
            new_object(server, (kind, &key.namespace), object, Repeatable::BySameController)?
        }
        Op::Replace { object } => {
            is_as_read(&object)?;
            Wish::Replace { kind, key, object, part: Part::Spec }
        }
        Op::Status { object } => {
            if kind == KindId::Task {
                return Err(bad(
                    "the status of a task can only be changed by the agent of its node",
                ));
            }
            is_as_read(&object)?;
            Wish::Replace { kind, key, object, part: Part::Status }
        }
        Op::Delete { uid, propagation, version, .. } => {
            let options =
                DeleteOptions { propagation, uid: Some(uid), version, grace_seconds: None };
            Wish::Delete { kind, key, options }
        }
        Op::Patch { patch, .. } => {
            if kind.info().internal {
                return Err(bad(format!("unknown kind {:?}", kind.info().plural)));
            }
            is_as_read(&patch)?;
            Wish::Patch { kind, key, patch: Patch::Merge(patch), part: Part::Spec }
        }
        Op::Emptied { uid, .. } => Wish::Emptied { key, uid },
        Op::Remove { uid, .. } => Wish::Remove { key, uid },
        Op::Task { uid, attempt, change, .. } => {
            Wish::Task { key, uid: Some(uid), attempt: Some(attempt), change }
        }
        Op::Record { uid, run, ends, .. } => Wish::Record { job: key, uid, run, ends },
    };
    Ok(vec![one])
}

/// Checks that a document contains the uid and resourceVersion of the object that it replaces.
/// Components decide based on what they have read. One without those values would overwrite
/// blindly: it has a bug, or it is a user's request, which should use PUT or PATCH.
fn is_as_read(document: &Value) -> Result<(), Refusal> {
    for field in ["uid", "resourceVersion"] {
        if document["metadata"][field].as_str().is_none_or(str::is_empty) {
            return Err(bad(format!(
                "metadata.{field} is missing: a batch must name the version of the object that it was decided on"
            )));
        }
    }
    Ok(())
}

/// The kind, namespace and name in an object.
fn identify(object: &Value) -> Result<(KindId, ObjectKey), Refusal> {
    let word = |field: &str| object[field].as_str().unwrap_or_default();
    let kind = KindId::from_manifest(word("apiVersion"), word("kind"))
        .filter(|kind| !kind.info().internal)
        .ok_or_else(|| bad(format!("unknown kind {} {}", word("apiVersion"), word("kind"))))?;
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let key = ObjectKey::new(part("namespace"), part("name"));
    if api::names::problem(&key.name).is_some() || key.namespace.is_empty() == kind.is_namespaced()
    {
        return Err(bad(format!("{kind} {key}: invalid name or namespace")));
    }
    Ok((kind, key))
}
