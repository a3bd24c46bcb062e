//! Sends requests to the agent of a node, over the connection that the agent opened to this
//! apiserver, or through the apiserver that has it.
//! The path at another apiserver is `/apis/heliox.dev/v1/nodes/{node}/agent/...`, followed by the
//! path for the agent. It is answered only from connections of that apiserver itself, so a request
//! is forwarded at most once, whatever the node lease says.

use std::sync::Arc;

use api::kind::{GROUP, VERSION};
use api::node::{REQUESTER_HEADER, TUNNEL_PROTOCOL};
use api::status::{Refusal, Why};
use api::{KindId, NodeLease, ObjectKey};
use axum::body::Body;
use base::ErrorChain;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tracing::{debug, warn};

use super::extract::{Answer, Call, InPath};
use super::leases;
use super::query::{Query, bad};
use crate::connections::{Agent, ConnectionId};
use crate::on_behalf::{self, OnBehalf};
use crate::{Server, keys};

/// The maximum length of an agent's reason for a refusal.
const REASON_BYTES_MAX: usize = 4 * 1024;

/// Reverses a connection: from now on, this side sends requests and the agent answers.
pub(super) async fn connect(
    call: Call,
    InPath(node): InPath<String>,
    query: Query,
    mut request: Request<Body>,
) -> Answer {
    let wants = request.headers().get(header::UPGRADE).and_then(|word| word.to_str().ok());
    if wants != Some(TUNNEL_PROTOCOL) {
        return Err(bad(format!("ask for an upgrade to {TUNNEL_PROTOCOL}")).into());
    }
    let Query { boot_id, connection: number, .. } = query;
    if boot_id.len() > leases::NAME_BYTES_MAX {
        let bytes = leases::NAME_BYTES_MAX;
        return Err(bad(format!("bootId: at most {bytes} bytes are allowed")).into());
    }
    let id = ConnectionId { boot_id, number };
    let upgrade = hyper::upgrade::on(&mut request);
    let shared = Arc::clone(&call.server);
    call.server.spawner.spawn("node connection", async move {
        match upgrade.await {
            Ok(upgraded) => shared.connections.serve(&node, id, upgraded).await,
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

/// Sends a request to the agent of a node, wherever it is connected. Another apiserver is told for
/// whom, so that its gate judges the same requester. If the agent refuses it, this
/// is an error; if another apiserver does, its answer is returned as it is.
pub(super) async fn ask(
    server: &Server,
    on_behalf: &OnBehalf,
    node: &str,
    mut request: Request<Body>,
    path: &str,
) -> Result<Response<Body>, Refusal> {
    let no_path = |_| bad(format!("invalid path {path:?} for node {node:?}"));
    *request.uri_mut() = path.parse().map_err(no_path)?;
    let lease = lease_of(server, node);
    if let Some(agent) = connected(server, node, lease.as_ref()) {
        return ask_here(node, agent, request).await;
    }
    let unavailable = |why: String| Refusal::new(Why::Unavailable, why);
    let Some(lease) = lease else {
        return Err(unavailable(format!(
            "node {node:?} is not connected: its agent is not running, or cannot reach an apiserver"
        )));
    };
    let other = lease.spec.apiserver;
    let Some(peers) = server.peers.as_ref().filter(|ours| !other.is_empty() && other != ours.url())
    else {
        return Err(not_connected(server, node));
    };
    let uri = format!("/apis/{GROUP}/{VERSION}/nodes/{node}/agent{path}").parse();
    *request.uri_mut() = uri.map_err(no_path)?;
    request.headers_mut().insert(REQUESTER_HEADER, on_behalf.header()?);
    let cluster = server.identity.cluster.to_string();
    let asked = peers.ask(&other, &cluster, request).await;
    asked.map_err(|error| {
        let error = ErrorChain(&error);
        unavailable(format!(
            "the apiserver at {other}, which holds the connection of node {node:?}, did not answer \
             ({error}); an agent whose apiserver is gone reconnects to another one within seconds"
        ))
    })
}

/// Forwards a request of another apiserver to an agent that is connected here.
pub(super) async fn pass_on(
    call: Call,
    InPath((node, rest)): InPath<(String, String)>,
    request: Request<Body>,
) -> Answer {
    let (server, node) = (&*call.server, node.as_str());
    if !on_behalf::is_peer(server, call.requester()) {
        return Err(bad("this path is reserved for other apiservers").into());
    }
    let lease = lease_of(server, node);
    let agent = connected(server, node, lease.as_ref());
    let agent = agent.ok_or_else(|| not_connected(server, node))?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("/{rest}{query}").parse();
    // A new request: the headers and the version of the incoming one belong to its own connection.
    let method = request.method().clone();
    let mut question = Request::new(request.into_body());
    *question.method_mut() = method;
    *question.uri_mut() = uri.map_err(|_| bad("invalid agent path"))?;
    Ok(ask_here(node, agent, question).await?)
}

async fn ask_here(
    node: &str,
    agent: Agent,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let response = agent.ask(request).await.map_err(|error| {
        let message = format!("the agent of node {node:?} did not answer: {}", ErrorChain(&error));
        Refusal::new(Why::Unavailable, message)
    })?;
    if response.status().is_success() {
        return Ok(response.map(Body::new));
    }
    Err(refused(node, response).await)
}

/// An agent refuses with a line of text.
async fn refused(node: &str, response: Response<Incoming>) -> Refusal {
    let code = response.status().as_u16();
    let text = Limited::new(response.into_body(), REASON_BYTES_MAX).collect().await;
    let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = format!("node {node:?}: {}", text.trim());
    match Refusal::of_line(code, &line) {
        Some(refusal) => refusal,
        // No agent of ours gives such an answer, so its meaning is unknown.
        None => Refusal::new(Why::Unavailable, line),
    }
}

/// The connection of the agent that has the node lease, if it is here. Another agent with the same
/// name does not run the tasks of the node.
fn connected(server: &Server, node: &str, lease: Option<&NodeLease>) -> Option<Agent> {
    server.connections.of(node, lease.map(|lease| lease.spec.boot_id.as_str()))
}

fn not_connected(server: &Server, node: &str) -> Refusal {
    let message = match server.connections.count(node) {
        0 => format!(
            "the agent of node {node:?} is not connected to any apiserver at the moment; try again"
        ),
        _ => format!(
            "the agent that holds the lease of node {node:?} is not connected to any apiserver, \
             but another agent of the same name is: stop that one, or give it another name"
        ),
    };
    Refusal::new(Why::Unavailable, message)
}

/// The lease of a node, according to the cache.
fn lease_of(server: &Server, node: &str) -> Option<NodeLease> {
    let key = keys::object(KindId::NodeLease, &ObjectKey::new("", node));
    match serde_json::from_slice(&server.cache.get(&key)?.wire) {
        Ok(lease) => Some(lease),
        Err(error) => {
            // The node is then treated like one that was never heard of.
            warn!(node, %error, "a node lease cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests;
