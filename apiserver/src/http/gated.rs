//! What happens before every handler: the request is checked to be meant for this server, its path
//! and parameters are read, and it passes the gate.
//!
//! # Invariants
//!
//! * Every handler is behind a [`Gated`]: it is called with what [`enter`] has stored in the
//!   request, and [`enter`] stores nothing for a requester that was not let in.

use std::sync::Arc;

use api::status::{Mistake, Refusal, Why};
use api::verb::{Subresource, Verb};
use axum::extract::{FromRequestParts as _, RawPathParams, Request};
use axum::handler::Handler;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::timeout;

use super::asks::Asks;
use super::extract::{Entered, ObjectPath, Refused, not_served};
use super::paths::{Fixed, Target};
use super::query::Query;
use super::read;
use crate::Server;
use crate::access::{Ask, What};
use crate::on_behalf;
use crate::requester::Requester;

/// What a route does, according to the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) verb: Verb,
    pub(super) target: Target,
}

/// A handler behind the checks.
#[derive(Clone)]
pub(super) struct Gated<H> {
    pub(super) endpoint: Endpoint,
    pub(super) handler: H,
}

impl<H, T> Handler<(Endpoint, T), Arc<Server>> for Gated<H>
where
    H: Handler<T, Arc<Server>>,
    T: 'static,
{
    type Future = BoxFuture<'static, Response>;

    fn call(self, request: Request, server: Arc<Server>) -> Self::Future {
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match enter(&server, self.endpoint, &mut parts).await {
                Ok(entered) => {
                    parts.extensions.insert(entered);
                    self.handler.call(Request::from_parts(parts, body), server).await
                }
                Err(refusal) => Refused(refusal).into_response(),
            }
        })
    }
}

/// Lets a request in, and reads its path and parameters.
async fn enter(server: &Server, endpoint: Endpoint, parts: &mut Parts) -> Result<Entered, Refusal> {
    is_meant(server, &parts.headers)?;
    if endpoint.needs_cache() {
        is_filled(server).await?;
    }
    let place = place(endpoint.target, parts).await?;
    let asks = endpoint.asks();
    // The query says whether a request for all objects lists or watches them.
    let (verb, read) = match endpoint.verb {
        Verb::List | Verb::Watch => {
            let query = Query::parse(&parts.uri, Asks::List)?;
            (if query.is_watch() { Verb::Watch } else { Verb::List }, Some(query))
        }
        verb @ (Verb::Create | Verb::Delete | Verb::Get | Verb::Patch | Verb::Update) => {
            (verb, None)
        }
    };
    if !endpoint.target.verbs().contains(&verb) {
        return Err(not_allowed(&parts.method, endpoint.target));
    }
    let what = what(endpoint.target, place.as_ref());
    // A request without a requester is anonymous.
    let requester = parts.extensions.get().cloned().unwrap_or_else(Requester::anonymous);
    let mut allowed = server.gate.enter(&requester, Ask { verb, what })?;
    let is_for_agent = endpoint.target == Target::Fixed(Fixed::Agent);
    // Another apiserver may ask for an agent; whether the person may is asked beside that.
    if let Some(person) = on_behalf::of_request(server, &requester, is_for_agent, &parts.headers)? {
        allowed = server.gate.enter(&person.requester, person.ask())?;
    }
    let query = match (read, asks) {
        (Some(query), _) => query,
        (None, Some(asks)) => Query::parse(&parts.uri, asks)?,
        (None, None) => Query::default(),
    };
    Ok(Entered { allowed, place, query })
}

fn what(target: Target, place: Option<&ObjectPath>) -> What<'_> {
    match target {
        Target::Objects { kind, subresource } => {
            let namespace = place.map_or("", |place| place.namespace.as_str());
            let name = place.and_then(|place| place.name.as_deref());
            What::Objects { kind, subresource, namespace, name }
        }
        Target::Fixed(fixed) => What::Path(fixed.word()),
    }
}

/// The object or objects that a path stands for; `None` for a path that is not of objects.
async fn place(target: Target, parts: &mut Parts) -> Result<Option<ObjectPath>, Refusal> {
    let (kind, subresource) = match target {
        Target::Objects { kind, subresource } => (kind, subresource),
        Target::Fixed(_) => return Ok(None),
    };
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let parameters = parameters.map_err(|_not_text| not_served(parts.uri.path()))?;
    let mut place = ObjectPath { kind, subresource, namespace: String::new(), name: None };
    for (parameter, value) in &parameters {
        match parameter {
            "namespace" => value.clone_into(&mut place.namespace),
            _ => place.name = Some(value.to_owned()),
        }
    }
    if may_be(&place) { Ok(Some(place)) } else { Err(not_served(parts.uri.path())) }
}

/// Whether the names are possible, by the rule of Kubernetes for names of all kinds. (The rule for
/// names of a certain kind is checked when an object is created. Objects that were created under
/// older rules have to be found here.) Invalid escapes are left in the path.
fn may_be(place: &ObjectPath) -> bool {
    let may_be = |name: &str| !matches!(name, "." | "..") && !name.contains(['/', '%']);
    match &place.name {
        Some(name) => may_be(name) && may_be(&place.namespace),
        None => !place.namespace.contains('%'),
    }
}

/// Whether a request is meant for this server: see [`not_from_a_page`] and [`meant_for`]. This is
/// checked for all requests, even those without a handler.
fn is_meant(server: &Server, headers: &HeaderMap) -> Result<(), Refusal> {
    not_from_a_page(headers)?;
    meant_for(server, headers)
}

/// Refuses requests from web pages. There is no authentication yet, and any page in a browser on
/// this machine can reach the loopback address. (Browsers mark such requests with a header that
/// nobody else sends.)
fn not_from_a_page(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        let message = "requests from browser pages are refused: the request has an Origin header";
        return Err(Refusal::new(Why::Forbidden, message));
    }
    Ok(())
}

/// Whether a request that names a cluster names this one.
fn meant_for(server: &Server, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(named) = headers.get(api::node::CLUSTER_HEADER) else { return Ok(()) };
    let ours = server.identity.cluster.to_string();
    if named.as_bytes() == ours.as_bytes() {
        return Ok(());
    }
    let message = format!("this is cluster {ours}; the request is meant for another cluster");
    Err(Refusal::new(Why::Conflict, message))
}

/// Waits while the cache is being filled, for requests for objects, and refuses them with the
/// reason if that takes too long. Requests that ask about the filling itself do not wait.
async fn is_filled(server: &Server) -> Result<(), Refusal> {
    let filled = timeout(read::CATCH_UP_MAX, server.ready()).await;
    let why = match filled {
        Ok(()) => return Ok(()),
        Err(_elapsed) => server.health.not_ready(),
    };
    let why = why.unwrap_or_else(|| "not ready: the watch cache is still being filled".to_owned());
    Err(Refusal::new(Why::Unavailable, why.trim_end().to_owned()))
}

/// The answer to a request for a path that is not served.
pub(super) fn unknown_path(server: &Server, request: &Request) -> Response {
    let refusal = is_meant(server, request.headers())
        .err()
        .unwrap_or_else(|| not_served(request.uri().path()));
    Refused(refusal).into_response()
}

/// The answer to a request with a method other than `allowed`, which the target has.
pub(super) fn other_method(
    server: &Server,
    (target, allowed): (Target, HeaderValue),
    request: &Request,
) -> Response {
    if let Err(refusal) = is_meant(server, request.headers()) {
        return Refused(refusal).into_response();
    }
    let mut response = Refused(not_allowed(request.method(), target)).into_response();
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

fn not_allowed(method: &Method, target: Target) -> Refusal {
    let message = format!("method {method} is not allowed for {}", target.name());
    Refusal::new(Why::Mistaken(Mistake::Method), message)
}

impl Endpoint {
    fn needs_cache(self) -> bool {
        match self.target {
            Target::Objects { .. } => true,
            Target::Fixed(fixed) => fixed.needs_cache(),
        }
    }

    /// Which parameters its requests accept; `None` if none are read.
    fn asks(self) -> Option<Asks> {
        let subresource = match self.target {
            Target::Objects { subresource, .. } => subresource,
            Target::Fixed(Fixed::WatchMany) => return Some(Asks::WatchMany),
            Target::Fixed(Fixed::Connect) => return Some(Asks::Connect),
            Target::Fixed(_) => return None,
        };
        match subresource {
            None | Some(Subresource::Status | Subresource::Scale) => Some(match self.verb {
                Verb::Get => Asks::Get,
                Verb::List | Verb::Watch => Asks::List,
                Verb::Create => Asks::Create,
                Verb::Update => Asks::Replace,
                Verb::Patch => Asks::Patch,
                Verb::Delete => Asks::Delete,
            }),
            Some(Subresource::Binding | Subresource::Evict | Subresource::Rollout) => {
                Some(Asks::Post)
            }
            Some(Subresource::Log) => Some(Asks::Log),
            Some(Subresource::Exec) => Some(Asks::Exec),
            Some(Subresource::Record | Subresource::Stats) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::world::World;
    use super::*;
    use crate::access::Gate;

    #[tokio::test(start_paused = true)]
    async fn a_path_with_what_no_name_can_be_is_served_nowhere() {
        let world = World::new(Gate::Open).await;
        let jobs = "/apis/heliox.dev/v1/namespaces/default/jobs";
        let other = "/apis/heliox.dev/v1/namespaces";
        for (path, is_served) in [
            (format!("{jobs}/a%2D1"), true),
            (format!("{jobs}/UPPER"), true),
            (format!("{jobs}/a%2Fb"), false),
            (format!("{jobs}/%2e%2E"), false),
            (format!("{jobs}/%zz"), false),
            (format!("{jobs}/%ff"), false),
            (format!("{other}/a%2Fb/jobs/c"), false),
            (format!("{other}/%zz/jobs"), false),
        ] {
            let refusal = world.refusal(&Method::GET, &path, &Value::Null).await.unwrap();
            assert_eq!(refusal.why, Why::NotFound, "{path}: {refusal}");
            assert_eq!(
                !refusal.message.starts_with("unknown path"),
                is_served,
                "{path}: {refusal}"
            );
        }
    }
}
