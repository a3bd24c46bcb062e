//! HTTP: from a request to an answer.

mod agents;
mod answer;
mod asks;
mod batch;
mod change;
mod cluster;
mod delete;
mod discovery;
mod exec;
mod leases;
mod log;
mod query;
mod read;
mod route;
mod stats;
mod table;
mod usage;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use api::batch::LEADER_HEADER;
use api::node::{CLUSTER_HEADER, PEER_HEADER};
use api::status::{Mistake, Refusal, Why};
use axum::body::Body;
use base::without_panic;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{Server, readiness};
use asks::Asks;
pub(crate) use log::LOGS_MAX;
use query::Query;
use route::Route;

/// Largest body of a request about one object: twice what the store takes, so that the answer says
/// by how much the object is too large.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest body of a batch: a thousand objects of a few KiB.
const BATCH_BYTES_MAX: usize = api::size::BATCH_BYTES_MAX;
/// A body of which nothing comes for so long is given up: its client is gone, or means no good.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A body is there after this long: the largest one, over a line of half a megabit a second.
const BODY_TIME_MAX: Duration = Duration::from_secs(300);

type Answer = Result<Response<Body>, Refusal>;

/// Answers a request. A panic in it is a bug that this request has met: it is answered, logged and
/// counted, and hurts no other one.
pub(crate) async fn serve(server: Arc<Server>, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let verb = request.method().clone();
    let route = Route::parse(request.uri().path());
    let kind = match &route {
        Some(Route::Objects { kind, .. }) => kind.info().plural,
        Some(Route::Batches) => "batches",
        Some(_) => "other",
        None => "unknown",
    };
    let allowed = not_from_a_page(&request).and_then(|()| meant_for(&server, &request));
    let answering = async {
        match (allowed, route) {
            (Err(refused), _) => Err(refused),
            (Ok(()), Some(route)) => {
                is_filled(&server, request.uri().path()).await?;
                dispatch(&server, route, request).await
            }
            (Ok(()), None) => Err(not_served(request.uri().path())),
        }
    };
    // What a request shares with others stands behind locks that are taken even if poisoned, and in
    // the store, where a write is all or nothing.
    let response = without_panic("request", answering).await;
    let response = response.unwrap_or_else(|_logged| Err(panicked()));
    let response = response.unwrap_or_else(|refused| answer::refused(&refused));
    server.metrics.answered(&verb, kind, response.status(), started.elapsed());
    response
}

/// A request for objects that comes while the cache is being filled waits for it, or is told why that
/// takes so long. Those that ask just that do not wait.
async fn is_filled(server: &Server, path: &str) -> Result<(), Refusal> {
    if !path.starts_with("/api") {
        return Ok(());
    }
    let filled = timeout(read::CATCH_UP_MAX, server.ready()).await;
    let why = match filled {
        Ok(()) => return Ok(()),
        Err(_elapsed) => server.health.not_ready(),
    };
    let why = why.unwrap_or_else(|| "not ready: the watch cache is still being filled".to_owned());
    Err(Refusal::new(Why::Unavailable, why.trim_end().to_owned()))
}

/// Whether a request is of those that agents, schedulers, controllers and other apiservers send, and
/// people's clients do not; or asks whether this process is well. There are connections that are kept
/// for these. (It is a matter of sharing out, not of trust: nobody is asked who they are yet.)
pub fn is_of_component<B>(request: &Request<B>) -> bool {
    let headers = [CLUSTER_HEADER, LEADER_HEADER, PEER_HEADER];
    if headers.into_iter().any(|name| request.headers().contains_key(name)) {
        return true;
    }
    match Route::parse(request.uri().path()) {
        Some(
            Route::Healthz
            | Route::Readyz
            | Route::Metrics
            | Route::Batches
            | Route::WatchMany
            | Route::Cluster
            | Route::NodeLeases
            | Route::RenewNodeLeases
            | Route::Connect { .. }
            | Route::Agent { .. },
        ) => true,
        // Leaders are elected over objects of this kind.
        Some(Route::Objects { kind, .. }) => kind == api::KindId::Lease,
        Some(
            Route::Version
            | Route::CoreVersions
            | Route::Groups
            | Route::Group(_)
            | Route::Resources { .. }
            | Route::ConfirmCluster
            | Route::Backup,
        )
        | None => false,
    }
}

fn panicked() -> Refusal {
    let message = "internal error: a bug, described in the log of the server. If the request was a \
                   change, check whether it was made";
    Refusal::new(Why::Internal, message)
}

/// Nobody is asked who they are yet, and any page in a browser of this machine can reach what listens
/// on loopback: what comes from a page is refused. (Browsers say so; nobody else sends the header.)
fn not_from_a_page(request: &Request<Body>) -> Result<(), Refusal> {
    if request.headers().contains_key(header::ORIGIN) {
        let message = "requests from browser pages are refused: the request has an Origin header";
        return Err(Refusal::new(Why::Forbidden, message));
    }
    Ok(())
}

/// Whether a request that names a cluster names this one.
fn meant_for(server: &Server, request: &Request<Body>) -> Result<(), Refusal> {
    let Some(named) = request.headers().get(CLUSTER_HEADER) else { return Ok(()) };
    let ours = server.identity.cluster.to_string();
    if named.as_bytes() == ours.as_bytes() {
        return Ok(());
    }
    let message = format!("this is cluster {ours}; the request is meant for another cluster");
    Err(Refusal::new(Why::Conflict, message))
}

fn not_served(path: &str) -> Refusal {
    let message = format!("unknown path {path}");
    Refusal::new(Why::NotFound, message)
}

async fn dispatch(server: &Arc<Server>, route: Route, request: Request<Body>) -> Answer {
    let method = request.method().clone();
    match (route, &method) {
        (Route::Healthz, &Method::GET) => Ok(answer::text(StatusCode::OK, "ok\n")),
        (Route::Readyz, &Method::GET) => Ok(readyz(server).await),
        (Route::Metrics, &Method::GET) => Ok(answer::text(StatusCode::OK, server.metrics_text())),
        (Route::Version, &Method::GET) => Ok(discovery::version()),
        (Route::CoreVersions, &Method::GET) => Ok(discovery::core_versions()),
        (Route::Groups, &Method::GET) => Ok(discovery::groups()),
        (Route::Group(group), &Method::GET) => discovery::group(&group),
        (Route::Resources { group, version }, &Method::GET) => {
            discovery::resources(&group, &version)
        }
        (Route::Batches, &Method::POST) => batch::batch(server, request).await,
        (Route::WatchMany, &Method::GET) => {
            watch::many(server, &Query::parse(request.uri(), Asks::WatchMany)?).await
        }
        (Route::Cluster, &Method::GET) => cluster::info(server).await,
        (Route::ConfirmCluster, &Method::POST) => cluster::confirm(server, request).await,
        (Route::Backup, &Method::GET) => cluster::backup(server).await,
        (Route::NodeLeases, &Method::POST) => leases::grant(server, request).await,
        (Route::RenewNodeLeases, &Method::POST) => leases::renew(server, request).await,
        (Route::Connect { node }, &Method::POST) => agents::connect(server, &node, request),
        (Route::Agent { node, rest }, &Method::GET | &Method::POST) => {
            agents::pass_on(server, &node, &rest, request).await
        }
        (Route::Objects { kind, namespace, name, subresource }, _) => {
            let place = Place { kind, namespace, name };
            objects(server, place, subresource.as_deref(), request).await
        }
        (_, method) => Err(not_allowed(method, "this path")),
    }
}

/// Where a request's object is, or where its objects are.
#[derive(Debug, Clone)]
struct Place {
    kind: api::KindId,
    /// Empty for cluster kinds, and for all namespaces.
    namespace: String,
    /// Nothing for all objects.
    name: Option<String>,
}

fn not_allowed(method: &Method, what: &str) -> Refusal {
    Refusal::new(
        Why::Mistaken(Mistake::Method),
        format!("method {method} is not allowed for {what}"),
    )
}

async fn objects(
    server: &Arc<Server>,
    place: Place,
    subresource: Option<&str>,
    request: Request<Body>,
) -> Answer {
    let method = request.method().clone();
    match (&place.name, subresource, method.as_str()) {
        (None, None, "GET") => {
            let query = Query::parse(request.uri(), Asks::List)?;
            if query.is_watch() {
                watch::objects(server, &place, &query, wants_table(&request)).await
            } else {
                read::list_in_time(server, &place, &query, wants_table(&request)).await
            }
        }
        (None, None, "POST") => change::create(server, &place, request).await,
        (Some(_), None | Some("status"), "GET") => {
            let query = Query::parse(request.uri(), Asks::Get)?;
            read::get(server, &place, &query, wants_table(&request)).await
        }
        (Some(_), None | Some("status"), "PUT") => {
            change::replace(server, &place, subresource, request).await
        }
        (Some(_), None | Some("status"), "PATCH") => {
            change::patch(server, &place, subresource, request).await
        }
        (Some(_), None, "DELETE") => delete::delete(server, &place, request).await,
        (Some(_), Some("evict"), "POST") => change::evict(server, &place, request).await,
        (Some(_), Some("binding"), "POST") => change::bind(server, &place, request).await,
        (Some(_), Some("log"), "GET") => {
            log::log(server, &place, &Query::parse(request.uri(), Asks::Log)?).await
        }
        (Some(_), Some("stats"), "GET") => stats::stats(server, &place).await,
        (Some(_), Some("exec"), "GET" | "POST") => exec::exec(server, &place, request).await,
        (Some(_), Some("record"), "GET") => read::record(server, &place).await,
        _ => Err(not_allowed(&method, place.kind.info().plural)),
    }
}

async fn readyz(server: &Server) -> Response<Body> {
    match readiness::of(server).await {
        None => answer::text(StatusCode::OK, "ok\n"),
        Some(why) => answer::text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// Whether the client would rather have a table, as kubectl asks for it.
fn wants_table(request: &Request<Body>) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| {
        accept.split(',').any(|form| form.contains("as=Table") && form.contains("v=v1"))
    })
}

/// Reads a body within its bounds of size and time.
async fn body(request: Request<Body>, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut body = Limited::new(request.into_body(), bytes_max);
    let ends_at = Instant::now() + BODY_TIME_MAX;
    let mut read = BytesMut::new();
    loop {
        let pause_ends_at = Instant::now() + BODY_PAUSE_MAX;
        let frame = match timeout_at(pause_ends_at.min(ends_at), body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => {
                let message =
                    format!("the body is too large (maximum {} MiB)", bytes_max / 1024 / 1024);
                return Err(Refusal::new(Why::TooLarge, message));
            }
            Ok(Some(Err(_))) => {
                return Err(query::bad("the connection broke before the whole body was received"));
            }
            Ok(None) => return Ok(read.freeze()),
            Err(_elapsed) => {
                let (pause, all) = (BODY_PAUSE_MAX.as_secs(), BODY_TIME_MAX.as_secs());
                return Err(query::bad(format!(
                    "timed out waiting for the body: pauses may last {pause} s, and the whole body {all} s"
                )));
            }
        };
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
    }
}

/// Reads a body as JSON. Bytes that no JSON parser should meet (too deep) are refused by its own
/// recursion limit of 128.
async fn json_body<T: serde::de::DeserializeOwned>(
    request: Request<Body>,
    bytes_max: usize,
) -> Result<T, Refusal> {
    let bytes = body(request, bytes_max).await?;
    api::json::read(&bytes).map_err(|why| query::bad(format!("cannot parse the body: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_components_are_told_from_those_of_clients() {
        let of = |path: &str, header: Option<&str>| {
            let request = Request::get(path);
            let request = match header {
                Some(name) => request.header(name, "x"),
                None => request,
            };
            is_of_component(&request.body(()).unwrap())
        };
        for path in [
            "/apis/heliox.dev/v1/nodes/n/connect?bootId=b",
            "/apis/heliox.dev/v1/nodeleases/renew",
            "/apis/heliox.dev/v1/watch?kinds=tasks",
            "/apis/heliox.dev/v1/batches",
            "/apis/coordination.k8s.io/v1/namespaces/heliox-system/leases/scheduler",
            "/readyz",
        ] {
            assert!(of(path, None), "{path}");
        }
        let job = "/apis/heliox.dev/v1/namespaces/a/jobs/b";
        assert!(!of(job, None));
        assert!(!of("/apis/heliox.dev/v1/jobs?watch=true", None));
        assert!(!of("/nowhere", None));
        assert!(of(job, Some(CLUSTER_HEADER)), "an agent names its cluster");
    }
}
