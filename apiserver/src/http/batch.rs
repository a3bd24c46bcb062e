//! Batches of Heliox's own components.

use std::sync::Arc;

use api::batch::{BATCH_OPS_MAX, Batch, BatchResponse, GROUP_OPS_MAX, GroupResult, Op, kind_of};
use api::patch::Patch;
use api::resource_version::ResourceVersion;
use api::status::{Refusal, Why};
use api::{KindId, ObjectKey};
use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::Value;

use super::change::{leader, new_object};
use super::query::bad;
use super::{Answer, BATCH_BYTES_MAX, answer, json_body};
use crate::Server;
use crate::write::{DeleteOptions, Intent, Part, Repeatable, Run, unknown};

pub(super) async fn batch(server: &Arc<Server>, request: Request<Body>) -> Answer {
    let leader = leader(request.headers())?;
    let batch: Batch = json_body(request, BATCH_BYTES_MAX).await?;
    let ops: usize = batch.groups.iter().map(|group| group.ops.len()).sum();
    if batch.groups.len() > BATCH_OPS_MAX {
        let groups = batch.groups.len();
        return Err(bad(format!("too many groups: {groups} (maximum {BATCH_OPS_MAX})")));
    }
    if ops > BATCH_OPS_MAX {
        return Err(bad(format!("too many operations: {ops} (maximum {BATCH_OPS_MAX})")));
    }
    let mut results: Vec<Option<GroupResult>> = Vec::new();
    let mut groups = Vec::new();
    for group in batch.groups {
        match intents(server, group.ops) {
            Ok(intents) => {
                groups.push(intents);
                results.push(None);
            }
            Err(refusal) => results.push(Some(refusal.into())),
        }
    }
    let mut seen = ResourceVersion::default();
    let outcomes = server.writer.groups(&groups, leader.as_ref(), Run::Real).await;
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

/// The intents of a group, or why it can never happen.
fn intents(server: &Server, ops: Vec<Op>) -> Result<Vec<Intent>, Refusal> {
    if ops.len() > GROUP_OPS_MAX {
        let count = ops.len();
        let message = format!("too many operations in a group: {count} (maximum {GROUP_OPS_MAX})");
        return Err(Refusal::new(Why::TooLarge, message));
    }
    ops.into_iter().map(|op| intent(server, op)).collect()
}

fn intent(server: &Server, op: Op) -> Result<Intent, Refusal> {
    match op {
        Op::Create { object } => {
            let (kind, key) = identify(&object)?;
            let place = (kind, key.namespace.as_str());
            new_object(server, place, object, Repeatable::BySameController)
        }
        Op::Replace { object } => {
            let (kind, key) = identify(&object)?;
            is_as_read(&object)?;
            Ok(Intent::Replace { kind, key, object, part: Part::Spec })
        }
        Op::Status { object } => {
            let (kind, key) = identify(&object)?;
            if kind == KindId::Task {
                return Err(bad(
                    "the status of a task can only be changed by the agent of its node",
                ));
            }
            is_as_read(&object)?;
            Ok(Intent::Replace { kind, key, object, part: Part::Status })
        }
        Op::Delete { kind, key, uid, propagation, version } => {
            let kind = kind_of(&kind).ok_or_else(|| bad(format!("unknown kind {kind:?}")))?;
            let options =
                DeleteOptions { propagation, uid: Some(uid), version, grace_seconds: None };
            Ok(Intent::Delete { kind, key, options })
        }
        Op::Patch { kind, key, patch } => {
            let kind = kind_of(&kind)
                .filter(|kind| !kind.info().internal)
                .ok_or_else(|| bad(format!("unknown kind {kind:?}")))?;
            is_as_read(&patch)?;
            Ok(Intent::Patch { kind, key, patch: Patch::Merge(patch), part: Part::Spec })
        }
        Op::Emptied { key, uid } => Ok(Intent::Emptied { key, uid }),
        Op::Remove { key, uid } => Ok(Intent::Remove { key, uid }),
        Op::Task { key, uid, attempt, change } => {
            Ok(Intent::Task { key, uid: Some(uid), attempt: Some(attempt), change })
        }
        Op::Record { job, uid, run, ends } => Ok(Intent::Record { job, uid, run, ends }),
    }
}

/// Whether a document names the object that it takes the place of, and its state. Our components
/// decide on what they have read, so that one that does not say what that was would write blindly: a
/// bug of its own, or a person's request that has its own form (PUT, PATCH).
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

/// The kind and place that an object says it has.
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
