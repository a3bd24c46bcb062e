//! Granting and renewing node leases.

use api::node::{
    GrantRequest, GrantResponse, NodeLeaseSpec, RenewRequest, RenewResponse, TAKE_OVER_AFTER,
};
use api::placement::NODE_LEASE_TTL;
use api::status::{Refusal, Why};
use api::{KindId, Node, NodeLease, ObjectKey, names};
use http::StatusCode;
use serde::Deserialize as _;
use serde_json::Value;
use store::{Change, Expectation, Group, LeaseId, Write};
use tracing::info;

use super::extract::{Answer, Call, Json};
use super::query::bad;
use super::{answer, cluster};
use crate::write::{settled, unavailable};
use crate::{Server, carried, encoding, keys};

/// The maximum length of the names of an agent and of its starts, since they are stored with the
/// lease.
pub(super) const NAME_BYTES_MAX: usize = 253;

pub(super) async fn grant(call: Call, Json(request): Json<GrantRequest>) -> Answer {
    let server = &*call.server;
    if let Some(problem) = names::problem(&request.node) {
        return Err(bad(format!("node: {problem}")).into());
    }
    for (field, text) in [("agent", &request.agent), ("bootId", &request.boot_id)] {
        if text.len() > NAME_BYTES_MAX {
            let bytes = text.len();
            let why = format!("{field}: too long: {bytes} bytes (maximum {NAME_BYTES_MAX})");
            return Err(bad(why).into());
        }
    }
    let key = keys::node_lease(&request.node);
    let before = server.store.get(&key).await.map_err(|error| unavailable(&error))?;
    let held = before.as_ref().map(Held::of).transpose()?;
    if let Some(Held { lease: held, .. }) =
        held.as_ref().filter(|held| held.lease.spec.agent != request.agent)
    {
        let message = format!(
            "node {:?} is held by another agent ({}); stop that agent, or choose another name with --name",
            request.node, held.spec.agent
        );
        return Err(Refusal::new(Why::Conflict, message).into());
    }
    if held.is_none() {
        is_free(server, &request).await?;
    }
    let ttl = NODE_LEASE_TTL.get();
    let lease = server.store.grant(ttl).await.map_err(|error| unavailable(&error))?;
    let expect =
        before.map_or(Expectation::Absent, |record| Expectation::Modified(record.modified));
    let object = granted(server, &request, lease, held.as_ref());
    let change = Change::Put { value: encoding::encode(&object), lease: Some(lease) };
    let group = Group { guards: Vec::new(), writes: vec![Write { key, expect, change }] };
    let outcome = server.store.commit(vec![group]).await.pop();
    let changed = || {
        let message = "the lease of the node was changed at the same time; try again";
        Refusal::new(Why::Contended, message)
    };
    if let Err(refusal) = settled(outcome, changed) {
        let _expires_by_itself = server.store.revoke(lease).await;
        return Err(refusal.into());
    }
    if let Some(Held { lease: held, .. }) = held {
        // The key is attached to the new lease by now, so this deletes nothing.
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

/// Refuses another installation under the name of a node whose agent was heard a moment ago.
async fn is_free(server: &Server, request: &GrantRequest) -> Result<(), Refusal> {
    let key = keys::object(KindId::Node, &ObjectKey::new("", &*request.node));
    let Some(stored) = server.store.get(&key).await.map_err(|error| unavailable(&error))? else {
        return Ok(());
    };
    // A node that this version cannot read keeps no agent away.
    let node = encoding::json(&stored.value)
        .ok()
        .and_then(|json| serde_json::from_slice::<Node>(json).ok());
    let may = node.is_none_or(|it| it.may_be_taken_over_by(&request.agent, server.clock.now()));
    if may {
        return Ok(());
    }
    let message = format!(
        "node {0:?} is that of another agent, which has not been silent for {TAKE_OVER_AFTER}; choose \
         another name with --name, or wait, or free the name with hctl delete node {0}",
        request.node
    );
    Err(Refusal::new(Why::Conflict, message))
}

/// The node lease that the store holds.
struct Held {
    lease: NodeLease,
    /// What is stored of it: a newer version may have added fields that the type lacks.
    document: Value,
}

impl Held {
    fn of(record: &store::Record) -> Result<Self, Refusal> {
        let unreadable = |why: String| Refusal::new(Why::Internal, why);
        let json = encoding::json(&record.value).map_err(|error| unreadable(error.to_string()))?;
        let document: Value =
            serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        let lease =
            NodeLease::deserialize(&document).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { lease, document })
    }
}

/// The document of a node lease that is granted, perhaps anew.
fn granted(server: &Server, request: &GrantRequest, lease: LeaseId, held: Option<&Held>) -> Value {
    // A connection may outlive a lease, but not the process of the agent. The apiserver with a
    // connection that is missing from the lease will notice, and add it.
    let connected = held.filter(|held| held.lease.spec.boot_id == request.boot_id);
    let (apiserver, connection) = connected
        .map(|held| (held.lease.spec.apiserver.clone(), held.lease.spec.connection))
        .unwrap_or_default();
    let spec = NodeLeaseSpec {
        lease: lease.0,
        agent: request.agent.clone(),
        boot_id: request.boot_id.clone(),
        apiserver,
        connection,
    };
    let mut object = NodeLease::new("", &request.node, spec);
    object.metadata.uid = Some(server.rng.uuid());
    object.metadata.creation_timestamp = Some(api::Time(server.clock.now()));
    match held {
        Some(held) => carried::over(held.document.clone(), &held.lease, &object),
        None => serde_json::to_value(&object).expect("a node lease has text keys only"),
    }
}

pub(super) async fn renew(call: Call, Json(request): Json<RenewRequest>) -> Answer {
    let server = &*call.server;
    if let Some(problem) = names::problem(&request.node) {
        return Err(bad(format!("node: {problem}")).into());
    }
    let lease = LeaseId(request.lease);
    let alive = if holds(server, &request.node, lease).await? {
        let renewed = server.store.renew(vec![lease]).await.map_err(|error| unavailable(&error))?;
        renewed == [true]
    } else {
        false
    };
    let unconfirmed = !cluster::is_confirmed(server).await?;
    let key = keys::object(KindId::Node, &ObjectKey::new("", &*request.node));
    // The cache may be behind. If the agent then registers again, this changes nothing.
    let unregistered = server.cache.get(&key).is_none();
    Ok(answer::json(StatusCode::OK, &RenewResponse { alive, unconfirmed, unregistered }))
}

/// Whether this is the lease of the node. The cache may be behind, so the store is read before the
/// answer is no.
async fn holds(server: &Server, node: &str, lease: LeaseId) -> Result<bool, Refusal> {
    let key = keys::node_lease(node);
    let shown = server.cache.get(&key);
    let shown = shown.and_then(|entry| serde_json::from_slice::<NodeLease>(&entry.wire).ok());
    if shown.is_some_and(|shown| shown.spec.lease == lease.0) {
        return Ok(true);
    }
    let there = server.store.get(&key).await.map_err(|error| unavailable(&error))?;
    Ok(match &there {
        Some(record) => Held::of(record)?.lease.spec.lease == lease.0,
        None => false,
    })
}
