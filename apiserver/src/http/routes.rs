//! Which handler answers which request. Paths and methods are derived from the tables of kinds,
//! verbs and other paths.

use std::sync::Arc;

use api::KindId;
use api::verb::{Subresource, Verb, requested};
use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, any};
use http::{HeaderValue, StatusCode};

use super::extract::{Answer, AsTable, Call, ObjectPath};
use super::gated::{self, Endpoint, Gated};
use super::paths::{Fixed, ObjectPaths, Target, served};
use super::query::Query;
use super::{
    agents, answer, batch, change, cluster, delete, discovery, exec, layers, leases, log, read,
    rollout, scale, stats, watch,
};
use crate::{Server, readiness};

/// The name in metrics for requests that match no route.
const UNKNOWN: &str = "unknown";

/// All routes.
pub(super) fn routes(server: &Arc<Server>) -> Router {
    let mut router = Router::new();
    for fixed in Fixed::ALL {
        let methods = Methods::of(Target::Fixed(fixed));
        router = router.route(fixed.pattern(), of_fixed(methods, fixed).finish(server));
    }
    for kind in served() {
        router = with_objects(router, server, kind);
    }
    let unknown = any(async |State(server): State<Arc<Server>>, request: Request| {
        gated::unknown_path(&server, &request)
    });
    let unknown = layers::around_path(unknown, server, UNKNOWN);
    router.fallback_service(unknown.with_state(Arc::clone(server))).with_state(Arc::clone(server))
}

/// Adds the paths of a kind's objects.
fn with_objects(
    mut router: Router<Arc<Server>>,
    server: &Arc<Server>,
    kind: KindId,
) -> Router<Arc<Server>> {
    let paths = ObjectPaths::of(kind);
    let of = |subresource, is_meant: fn(Verb) -> bool| {
        let target = Target::Objects { kind, subresource };
        let verbs = target.verbs().iter().copied().filter(|verb| is_meant(*verb));
        let methods = Methods::of(target);
        verbs.fold(methods, |methods, verb| of_objects(methods, subresource, verb)).finish(server)
    };
    for path in paths.all {
        router = router.route(&path, of(None, is_of_all));
    }
    router = router.route(&paths.one, of(None, |verb| !is_of_all(verb)));
    for part in requested(kind) {
        let path = format!("{}/{}", paths.one, part.word());
        router = router.route(&path, of(Some(part), |_| true));
    }
    router
}

/// Whether the path for a verb is that of all objects. An object is created by a request to the
/// path of the list.
fn is_of_all(verb: Verb) -> bool {
    match verb {
        Verb::Create | Verb::List | Verb::Watch => true,
        Verb::Delete | Verb::Get | Verb::Patch | Verb::Update => false,
    }
}

/// The methods of one path.
struct Methods {
    target: Target,
    router: MethodRouter<Arc<Server>>,
    allowed: Vec<&'static str>,
}

impl Methods {
    fn of(target: Target) -> Self {
        Self { target, router: MethodRouter::new(), allowed: Vec::new() }
    }

    /// Adds a handler for a verb.
    fn on<H: Handler<T, Arc<Server>>, T: 'static>(mut self, verb: Verb, handler: H) -> Self {
        let (filter, word) = match verb {
            Verb::Get | Verb::List | Verb::Watch => (MethodFilter::GET, "GET"),
            Verb::Create => (MethodFilter::POST, "POST"),
            Verb::Update => (MethodFilter::PUT, "PUT"),
            Verb::Patch => (MethodFilter::PATCH, "PATCH"),
            Verb::Delete => (MethodFilter::DELETE, "DELETE"),
        };
        let endpoint = Endpoint { verb, target: self.target };
        let mut method = MethodRouter::new().on(filter, Gated { endpoint, handler });
        if verb == Verb::List {
            method = layers::compressed(method);
        }
        self.router = self.router.merge(method);
        self.allowed.push(word);
        self
    }

    /// Adds a handler for every verb that the table of paths has for it.
    fn each<H: Handler<T, Arc<Server>>, T: 'static>(self, handler: H) -> Self {
        let verbs = self.target.verbs();
        verbs.iter().fold(self, |methods, verb| methods.on(*verb, handler.clone()))
    }

    /// The finished route. HEAD is refused like any other method that is not in the tables. The
    /// expensive part of a GET is its body, and nobody would read it.
    fn finish(mut self, server: &Arc<Server>) -> MethodRouter<Arc<Server>> {
        self.allowed.sort_unstable();
        let allowed = HeaderValue::try_from(self.allowed.join(", ")).expect("methods are words");
        let target = self.target;
        let other = async move |State(server): State<Arc<Server>>, request: Request| {
            gated::other_method(&server, (target, allowed), &request)
        };
        let methods = self.router.head(other.clone()).fallback(other);
        layers::around_path(methods, server, target.label())
    }
}

fn of_fixed(methods: Methods, fixed: Fixed) -> Methods {
    match fixed {
        Fixed::Healthz | Fixed::Livez => {
            methods.each(async || answer::text(StatusCode::OK, "ok\n"))
        }
        Fixed::Readyz => methods.each(readyz),
        Fixed::Metrics => methods.each(async |State(server): State<Arc<Server>>| {
            answer::text(StatusCode::OK, server.metrics_text())
        }),
        Fixed::Version => methods.each(async || discovery::version()),
        Fixed::CoreVersions => methods.each(async || discovery::core_versions()),
        Fixed::Groups => methods.each(async || discovery::groups()),
        Fixed::Group => methods.each(discovery::group),
        Fixed::CoreResources => methods.each(discovery::core_resources),
        Fixed::Resources => methods.each(discovery::resources),
        Fixed::Batches => methods.each(batch::batch),
        Fixed::WatchMany => methods.each(watch::many),
        Fixed::Cluster => methods.each(cluster::info),
        Fixed::ConfirmCluster => methods.each(cluster::confirm),
        Fixed::Backup => methods.each(cluster::backup),
        Fixed::NodeLeases => methods.each(leases::grant),
        Fixed::RenewNodeLeases => methods.each(leases::renew),
        Fixed::Connect => methods.each(agents::connect),
        Fixed::Agent => methods.each(agents::pass_on),
    }
}

fn of_objects(methods: Methods, subresource: Option<Subresource>, verb: Verb) -> Methods {
    match (subresource, verb) {
        (None, Verb::List) => methods.on(verb, list_or_watch),
        // It has the same path and method as List; the query decides between the two.
        (None, Verb::Watch) => methods,
        (None, Verb::Create) => methods.on(verb, change::create),
        (None | Some(Subresource::Status), Verb::Get) => methods.on(verb, read::get),
        (None | Some(Subresource::Status), Verb::Update) => methods.on(verb, change::replace),
        (None | Some(Subresource::Status), Verb::Patch) => methods.on(verb, change::patch),
        (None, Verb::Delete) => methods.on(verb, delete::delete),
        (Some(Subresource::Scale), Verb::Get) => methods.on(verb, scale::get),
        (Some(Subresource::Scale), Verb::Update) => methods.on(verb, scale::replace),
        (Some(Subresource::Scale), Verb::Patch) => methods.on(verb, scale::patch),
        (Some(Subresource::Rollout), Verb::Create) => methods.on(verb, rollout::ask),
        (Some(Subresource::Evict), Verb::Create) => methods.on(verb, change::evict),
        (Some(Subresource::Binding), Verb::Create) => methods.on(verb, change::bind),
        (Some(Subresource::Log), Verb::Get) => methods.on(verb, log::log),
        (Some(Subresource::Stats), Verb::Get) => methods.on(verb, stats::stats),
        (Some(Subresource::Exec), Verb::Create | Verb::Get) => methods.on(verb, exec::exec),
        (Some(Subresource::Record), Verb::Get) => methods.on(verb, read::record),
        // A test checks that everything in the table of verbs is served.
        (_, _) => methods,
    }
}

/// Lists or watches objects.
async fn list_or_watch(
    call: Call,
    place: ObjectPath,
    query: Query,
    AsTable(as_table): AsTable,
) -> Answer {
    let server = &call.server;
    if query.is_watch() {
        return Ok(watch::objects(server, &place, &query, as_table).await?);
    }
    let mut list = read::list_in_time(server, &place, &query, as_table).await?;
    list.extensions_mut().insert(layers::Compressible);
    Ok(list)
}

async fn readyz(State(server): State<Arc<Server>>) -> Answer {
    Ok(match readiness::of(&server).await {
        None => answer::text(StatusCode::OK, "ok\n"),
        Some(why) => answer::text(StatusCode::SERVICE_UNAVAILABLE, why),
    })
}
