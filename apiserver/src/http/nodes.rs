//! Nodes: their leases, their turned-round connections, and logs through those.

use std::sync::Arc;

use api::node::{
    GrantRequest, GrantResponse, NodeLeaseSpec, RenewRequest, RenewResponse, TUNNEL_PROTOCOL,
};
use api::placement::NODE_LEASE_TTL;
use api::status::{Reason, failure};
use api::{Kind as _, NodeLease, Task, names};
use axum::body::Body;
use base::ErrorChain;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use store::{Change, Expectation, Group, LeaseId, Outcome, Write};
use tracing::{debug, info};

use super::query::{Query, bad};
use super::{Answer, BODY_BYTES_MAX, Place, answer, cluster, json_body, read};
use crate::write::unavailable;
use crate::{Server, encoding, keys};

/// Node leases that are renewed in one call at most.
const RENEWALS_MAX: usize = 10_000;

pub(super) async fn grant(server: &Arc<Server>, request: Request<Body>) -> Answer {
    let request: GrantRequest = json_body(request, BODY_BYTES_MAX).await?;
    if let Some(problem) = names::problem(&request.node) {
        return Err(bad(format!("node: {problem}")));
    }
    let key = keys::node_lease(&request.node);
    let before = server.store.get(&key).await.map_err(|error| unavailable(&error))?;
    let held = match &before {
        Some(record) => Some(lease_of(record)?),
        None => None,
    };
    if let Some(held) = held.as_ref().filter(|held| held.spec.agent != request.agent) {
        let message = format!(
            "node {:?} is held by another agent ({}); stop that one, or choose another name",
            request.node, held.spec.agent
        );
        return Err(Box::new(failure(Reason::Conflict, message)));
    }
    let ttl = NODE_LEASE_TTL.get();
    let lease = server.store.grant(ttl).await.map_err(|error| unavailable(&error))?;
    let expect =
        before.map_or(Expectation::Absent, |record| Expectation::Modified(record.modified));
    let object = new_lease(server, &request, lease);
    let change = Change::Put { value: encoding::encode(&object), lease: Some(lease) };
    let group = Group { guards: Vec::new(), writes: vec![Write { key, expect, change }] };
    let outcome = server.store.commit(vec![group]).await.pop();
    if !matches!(outcome, Some(Outcome::Done { .. })) {
        let _expires_by_itself = server.store.revoke(lease).await;
        let message = "the node's lease changed meanwhile; try again";
        return Err(Box::new(failure(Reason::Conflict, message)));
    }
    if let Some(held) = held {
        // Its key is under the new lease by now: this deletes nothing.
        let _expires_by_itself = server.store.revoke(LeaseId(held.spec.lease)).await;
    }
    info!(node = request.node, "node lease granted");
    let by = server.identity.cluster.clone();
    let response = GrantResponse {
        lease: lease.0,
        ttl_millis: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        cluster: by.id,
        epoch: by.epoch,
        restore: by.restore,
        unconfirmed: !cluster::is_confirmed(server).await?,
    };
    Ok(answer::json(StatusCode::CREATED, &response))
}

fn lease_of(record: &store::Record) -> Result<NodeLease, Box<Status>> {
    let unreadable = |why: String| Box::new(failure(Reason::InternalError, why));
    let json = encoding::json(&record.value).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))
}

fn new_lease(server: &Server, request: &GrantRequest, lease: LeaseId) -> serde_json::Value {
    let spec = NodeLeaseSpec {
        lease: lease.0,
        agent: request.agent.clone(),
        boot_id: request.boot_id.clone(),
        apiserver: String::new(),
    };
    let mut object = NodeLease::new("", &request.node, spec);
    object.metadata.uid = Some(server.rng.uuid());
    object.metadata.creation_timestamp = Some(api::Time(server.clock.now()));
    serde_json::to_value(&object).expect("a node lease has text keys and finite numbers")
}

pub(super) async fn renew(server: &Arc<Server>, request: Request<Body>) -> Answer {
    let request: RenewRequest = json_body(request, BODY_BYTES_MAX).await?;
    if request.leases.len() > RENEWALS_MAX {
        return Err(bad(format!("at most {RENEWALS_MAX} leases are renewed in a call")));
    }
    let leases = request.leases.into_iter().map(LeaseId).collect();
    let alive = server.store.renew(leases).await.map_err(|error| unavailable(&error))?;
    let unconfirmed = !cluster::is_confirmed(server).await?;
    Ok(answer::json(StatusCode::OK, &RenewResponse { alive, unconfirmed }))
}

/// Turns the connection round: from here on, this side asks and the agent answers.
pub(super) fn connect(server: &Arc<Server>, node: &str, mut request: Request<Body>) -> Answer {
    let wants = request.headers().get(header::UPGRADE).and_then(|word| word.to_str().ok());
    if wants != Some(TUNNEL_PROTOCOL) {
        return Err(bad(format!("ask for an upgrade to {TUNNEL_PROTOCOL}")));
    }
    let node = node.to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    let shared = Arc::clone(server);
    server.spawner.spawn("node connection", async move {
        match upgrade.await {
            Ok(upgraded) => shared.connections.serve(&node, upgraded).await,
            Err(error) => debug!(node, error = %ErrorChain(&error), "no connection came of it"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static(TUNNEL_PROTOCOL));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    Ok(response)
}

/// The log of a task's attempt, from the agent that runs or ran it.
pub(super) async fn log(server: &Arc<Server>, place: &Place, query: &Query) -> Answer {
    let entry = read::one(server, place).await?;
    let task: Task = serde_json::from_slice(&entry.wire)
        .map_err(|error| Box::new(failure(Reason::InternalError, error.to_string())))?;
    let attempt = query.attempt.unwrap_or_else(|| last_started(&task));
    let Some(node) = node_of(&task, attempt) else {
        let message = format!("attempt {attempt} of task {:?} has not started", task.name());
        return Err(Box::new(failure(Reason::NotFound, message)));
    };
    let tail = query.tail_lines.map(|lines| format!("&tailLines={lines}")).unwrap_or_default();
    let path = format!(
        "/logs/{}/{attempt}?follow={}&timestamps={}{tail}",
        task.uid(),
        query.is_follow(),
        query.timestamps == "true",
    );
    let agent = server.connections.of(node).ok_or_else(|| {
        let message =
            format!("the agent of node {node:?}, which has the log, is not connected; try again");
        Box::new(failure(Reason::ServiceUnavailable, message))
    })?;
    let ask =
        Request::get(path).body(Empty::<Bytes>::new()).map_err(|error| bad(error.to_string()))?;
    let response = agent.ask(ask).await.map_err(|error| {
        let message = format!("the agent of node {node:?} did not answer: {}", ErrorChain(&error));
        Box::new(failure(Reason::ServiceUnavailable, message))
    })?;
    Ok(response.map(|body| Body::new(body.map_err(axum::Error::new))))
}

/// The newest attempt that was bound to a node.
fn last_started(task: &Task) -> u32 {
    if task.node().is_some() {
        task.spec.attempt
    } else {
        task.status.attempts.last().map_or(task.spec.attempt, |past| past.attempt)
    }
}

fn node_of(task: &Task, attempt: u32) -> Option<&str> {
    if attempt == task.spec.attempt {
        return task.node();
    }
    let past = task.status.attempts.iter().find(|past| past.attempt == attempt)?;
    past.node_name.as_deref()
}
