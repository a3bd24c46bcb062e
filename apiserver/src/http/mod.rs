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
#[cfg(test)]
mod gate_tests;
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
use api::verb::{Subresource, Verb};
use axum::body::Body;
use base::without_panic;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::access::{Allowed, Ask, What};
use crate::requester::Requester;
use crate::write::{Intent, Wish};
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

/// A request that was let in: what a handler is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) server: &'a Arc<Server>,
    allowed: &'a Allowed,
}

impl Call<'_> {
    /// What this request wants of the store.
    pub(super) fn intent(self, wish: Wish) -> Intent {
        Intent { by: self.allowed.clone(), wish }
    }

    /// Whether who was let in with this request may do something else as well, which is part of it: each
    /// operation of a batch is a request of its own.
    pub(super) fn enter(self, ask: Ask<'_>) -> Result<Allowed, Refusal> {
        self.server.gate.enter(self.allowed.requester(), ask)
    }
}

/// Answers a request. A panic in it is a bug that this request has met: it is answered, logged and
/// counted, and hurts no other one.
pub(crate) async fn serve(
    server: Arc<Server>,
    requester: &Requester,
    request: Request<Body>,
) -> Response<Body> {
    let started = Instant::now();
    let requester = requester.of_request(request.headers());
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
                dispatch(&server, &requester, route, request).await
            }
            (Ok(()), None) => Err(not_served(request.uri().path())),
        }
    };
    // What a request shares with others stands behind locks that are taken even if poisoned, and in
    // the store, where a write is all or nothing.
    let response = without_panic("request", answering).await;
    let response = response.unwrap_or_else(|_logged| Err(panicked()));
    let response = response.unwrap_or_else(|refused| {
        tell(&requester, (&verb, kind), refused.why);
        answer::refused(&refused)
    });
    server.metrics.answered(&verb, kind, response.status(), started.elapsed());
    response
}

/// Logs who was refused. Without the message, which may tell what an object holds.
fn tell(requester: &Requester, (method, kind): (&Method, &str), why: Why) {
    if why == Why::Internal {
        warn!(%requester, %method, kind, ?why, "a request failed");
    } else {
        debug!(%requester, %method, kind, ?why, "a request was refused");
    }
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

/// What a request asks for; refused where the table of verbs has no such thing.
fn asked<'a>(route: &'a Route, request: &Request<Body>) -> Result<Ask<'a>, Refusal> {
    let method = request.method();
    let what = route.what();
    let (is_one, name) = match what {
        What::Objects { kind, subresource, name, .. } => {
            (name.is_some() && subresource.is_none(), kind.info().plural)
        }
        What::Path(_) => (false, "this path"),
    };
    let is_all = matches!(what, What::Objects { name: None, .. });
    let verb = match *method {
        Method::GET if is_all => {
            let query = Query::parse(request.uri(), Asks::List)?;
            Some(if query.is_watch() { Verb::Watch } else { Verb::List })
        }
        Method::GET => Some(Verb::Get),
        // It is made among the others, not in its own place.
        Method::POST if is_one => None,
        Method::POST => Some(Verb::Create),
        Method::PUT if !is_all => Some(Verb::Update),
        Method::PATCH if !is_all => Some(Verb::Patch),
        Method::DELETE if !is_all => Some(Verb::Delete),
        _ => None,
    };
    match verb.filter(|verb| route.verbs().contains(verb)) {
        Some(verb) => Ok(Ask { verb, what }),
        None => Err(not_allowed(method, name)),
    }
}

async fn dispatch(
    server: &Arc<Server>,
    requester: &Requester,
    route: Route,
    request: Request<Body>,
) -> Answer {
    let ask = asked(&route, &request)?;
    let verb = ask.verb;
    let allowed = server.gate.enter(requester, ask)?;
    let call = Call { server, allowed: &allowed };
    match route {
        Route::Healthz => Ok(answer::text(StatusCode::OK, "ok\n")),
        Route::Readyz => Ok(readyz(server).await),
        Route::Metrics => Ok(answer::text(StatusCode::OK, server.metrics_text())),
        Route::Version => Ok(discovery::version()),
        Route::CoreVersions => Ok(discovery::core_versions()),
        Route::Groups => Ok(discovery::groups()),
        Route::Group(group) => discovery::group(&group),
        Route::Resources { group, version } => discovery::resources(&group, &version),
        Route::Batches => batch::batch(call, request).await,
        Route::WatchMany => watch::many(call, &Query::parse(request.uri(), Asks::WatchMany)?).await,
        Route::Cluster => cluster::info(call).await,
        Route::ConfirmCluster => cluster::confirm(call, request).await,
        Route::Backup => cluster::backup(call).await,
        Route::NodeLeases => leases::grant(call, request).await,
        Route::RenewNodeLeases => leases::renew(call, request).await,
        Route::Connect { node } => agents::connect(call, &node, request),
        Route::Agent { node, rest } => agents::pass_on(call, &node, &rest, request).await,
        Route::Objects { kind, namespace, name, subresource } => {
            let place = Place { kind, namespace, name };
            objects(call, &place, (subresource, verb), request).await
        }
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
    call: Call<'_>,
    place: &Place,
    (subresource, verb): (Option<Subresource>, Verb),
    request: Request<Body>,
) -> Answer {
    match (subresource, verb) {
        (None, Verb::Watch) => {
            watch::objects(
                call,
                place,
                &Query::parse(request.uri(), Asks::List)?,
                wants_table(&request),
            )
            .await
        }
        (None, Verb::List) => {
            read::list_in_time(
                call,
                place,
                &Query::parse(request.uri(), Asks::List)?,
                wants_table(&request),
            )
            .await
        }
        (None, Verb::Create) => change::create(call, place, request).await,
        (None | Some(Subresource::Status), Verb::Get) => {
            read::get(call, place, &Query::parse(request.uri(), Asks::Get)?, wants_table(&request))
                .await
        }
        (None | Some(Subresource::Status), Verb::Update) => {
            change::replace(call, place, subresource, request).await
        }
        (None | Some(Subresource::Status), Verb::Patch) => {
            change::patch(call, place, subresource, request).await
        }
        (None, Verb::Delete) => delete::delete(call, place, request).await,
        (Some(Subresource::Evict), Verb::Create) => change::evict(call, place, request).await,
        (Some(Subresource::Binding), Verb::Create) => change::bind(call, place, request).await,
        (Some(Subresource::Log), Verb::Get) => {
            log::log(call, place, &Query::parse(request.uri(), Asks::Log)?).await
        }
        (Some(Subresource::Stats), Verb::Get) => stats::stats(call, place).await,
        (Some(Subresource::Exec), Verb::Create | Verb::Get) => {
            exec::exec(call, place, request).await
        }
        (Some(Subresource::Record), Verb::Get) => read::record(call, place).await,
        // What is in the table of verbs is served, as a test sees.
        (_, _) => Err(not_allowed(request.method(), place.kind.info().plural)),
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
