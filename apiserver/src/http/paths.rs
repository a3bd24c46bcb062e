//! The paths that exist. Those of objects are derived from the table of kinds, and all others are
//! listed here.
//! Routing, the gate and the metrics use the same tables: this one for paths that are not of
//! objects, and [`api::verb`] for what can be done with objects.

use api::KindId;
use api::batch::LEADER_HEADER;
use api::node::{CLUSTER_HEADER, PEER_HEADER};
use api::verb::{Subresource, Verb, verbs};
use http::Request;

/// A path that is not of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fixed {
    Healthz,
    Livez,
    Readyz,
    Metrics,
    Version,
    /// The versions of the core group.
    CoreVersions,
    /// All groups.
    Groups,
    Group,
    /// The kinds of a version of the core group.
    CoreResources,
    /// The kinds of a version of another group.
    Resources,
    Batches,
    WatchMany,
    /// The identity of the cluster.
    Cluster,
    ConfirmCluster,
    Backup,
    NodeLeases,
    RenewNodeLeases,
    /// The agent of a node reverses its connection.
    Connect,
    /// Another apiserver sends a request to the agent of a node.
    Agent,
}

/// What a route is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Objects of a kind, or a subresource.
    Objects {
        kind: KindId,
        subresource: Option<Subresource>,
    },
    Fixed(Fixed),
}

impl Fixed {
    /// All of them.
    pub(super) const ALL: [Fixed; 19] = [
        Fixed::Healthz,
        Fixed::Livez,
        Fixed::Readyz,
        Fixed::Metrics,
        Fixed::Version,
        Fixed::CoreVersions,
        Fixed::Groups,
        Fixed::Group,
        Fixed::CoreResources,
        Fixed::Resources,
        Fixed::Batches,
        Fixed::WatchMany,
        Fixed::Cluster,
        Fixed::ConfirmCluster,
        Fixed::Backup,
        Fixed::NodeLeases,
        Fixed::RenewNodeLeases,
        Fixed::Connect,
        Fixed::Agent,
    ];

    /// The path, as a pattern for the router.
    pub(super) fn pattern(self) -> &'static str {
        match self {
            Fixed::Healthz => "/healthz",
            Fixed::Livez => "/livez",
            Fixed::Readyz => "/readyz",
            Fixed::Metrics => "/metrics",
            Fixed::Version => "/version",
            Fixed::CoreVersions => "/api",
            Fixed::Groups => "/apis",
            Fixed::Group => "/apis/{group}",
            Fixed::CoreResources => "/api/{version}",
            Fixed::Resources => "/apis/{group}/{version}",
            Fixed::Batches => "/apis/heliox.dev/v1/batches",
            Fixed::WatchMany => "/apis/heliox.dev/v1/watch",
            Fixed::Cluster => "/apis/heliox.dev/v1/cluster",
            Fixed::ConfirmCluster => "/apis/heliox.dev/v1/cluster/confirm",
            Fixed::Backup => "/apis/heliox.dev/v1/backup",
            Fixed::NodeLeases => "/apis/heliox.dev/v1/nodeleases",
            Fixed::RenewNodeLeases => "/apis/heliox.dev/v1/nodeleases/renew",
            Fixed::Connect => "/apis/heliox.dev/v1/nodes/{node}/connect",
            Fixed::Agent => "/apis/heliox.dev/v1/nodes/{node}/agent/{*rest}",
        }
    }

    /// The verbs that it supports.
    pub(super) fn verbs(self) -> &'static [Verb] {
        match self {
            Fixed::Healthz
            | Fixed::Livez
            | Fixed::Readyz
            | Fixed::Metrics
            | Fixed::Version
            | Fixed::CoreVersions
            | Fixed::Groups
            | Fixed::Group
            | Fixed::CoreResources
            | Fixed::Resources
            | Fixed::WatchMany
            | Fixed::Cluster
            | Fixed::Backup => &[Verb::Get],
            Fixed::Batches
            | Fixed::ConfirmCluster
            | Fixed::NodeLeases
            | Fixed::RenewNodeLeases
            | Fixed::Connect => &[Verb::Create],
            Fixed::Agent => &[Verb::Create, Verb::Get],
        }
    }

    /// Its name for the gate.
    pub(super) fn word(self) -> &'static str {
        match self {
            Fixed::Healthz | Fixed::Livez => "healthz",
            Fixed::Readyz => "readyz",
            Fixed::Metrics => "metrics",
            Fixed::Version => "version",
            Fixed::CoreVersions
            | Fixed::Groups
            | Fixed::Group
            | Fixed::CoreResources
            | Fixed::Resources => "discovery",
            Fixed::Batches => "batches",
            Fixed::WatchMany => "watch",
            Fixed::Cluster => "cluster",
            Fixed::ConfirmCluster => "cluster/confirm",
            Fixed::Backup => "backup",
            Fixed::NodeLeases => "nodeleases",
            Fixed::RenewNodeLeases => "nodeleases/renew",
            Fixed::Connect => "nodes/connect",
            Fixed::Agent => "nodes/agent",
        }
    }

    /// Whether it is used by agents, schedulers, controllers and other apiservers, and not by
    /// users' clients, or shows whether this process works.
    fn is_of_components(self) -> bool {
        match self {
            Fixed::Healthz
            | Fixed::Livez
            | Fixed::Readyz
            | Fixed::Metrics
            | Fixed::Batches
            | Fixed::WatchMany
            | Fixed::Cluster
            | Fixed::NodeLeases
            | Fixed::RenewNodeLeases
            | Fixed::Connect
            | Fixed::Agent => true,
            Fixed::Version
            | Fixed::CoreVersions
            | Fixed::Groups
            | Fixed::Group
            | Fixed::CoreResources
            | Fixed::Resources
            | Fixed::ConfirmCluster
            | Fixed::Backup => false,
        }
    }

    /// Whether the answer depends on the content of the store, so that a request waits until the
    /// cache is filled. Discovery waits, too, because clients continue with objects.
    pub(super) fn needs_cache(self) -> bool {
        match self {
            Fixed::Healthz | Fixed::Livez | Fixed::Readyz | Fixed::Metrics | Fixed::Version => {
                false
            }
            Fixed::CoreVersions
            | Fixed::Groups
            | Fixed::Group
            | Fixed::CoreResources
            | Fixed::Resources
            | Fixed::Batches
            | Fixed::WatchMany
            | Fixed::Cluster
            | Fixed::ConfirmCluster
            | Fixed::Backup
            | Fixed::NodeLeases
            | Fixed::RenewNodeLeases
            | Fixed::Connect
            | Fixed::Agent => true,
        }
    }
}

impl Target {
    /// The verbs that it supports.
    pub(super) fn verbs(self) -> &'static [Verb] {
        match self {
            Target::Objects { kind, subresource } => verbs(kind, subresource).requests,
            Target::Fixed(fixed) => fixed.verbs(),
        }
    }

    /// Its name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Target::Objects { kind, .. } => kind.info().plural,
            Target::Fixed(Fixed::Batches) => "batches",
            Target::Fixed(_) => "other",
        }
    }

    /// Its name in answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Target::Objects { kind, .. } => kind.info().plural,
            Target::Fixed(_) => "this path",
        }
    }
}

/// The kinds whose objects have paths.
pub(super) fn served() -> impl Iterator<Item = KindId> {
    KindId::ALL.into_iter().filter(|kind| !kind.info().internal)
}

/// The paths of the objects of a kind, as patterns for the router.
#[derive(Debug)]
pub(super) struct ObjectPaths {
    /// All of them: in all namespaces and in one, or in the cluster.
    pub(super) all: Vec<String>,
    /// One object. The names of subresources follow after this.
    pub(super) one: String,
}

impl ObjectPaths {
    /// A namespaced object is found only in its namespace, and a cluster-wide one in none.
    pub(super) fn of(kind: KindId) -> Self {
        let info = kind.info();
        let version = match info.group {
            "" => format!("/api/{}", info.version),
            group => format!("/apis/{group}/{}", info.version),
        };
        let everywhere = format!("{version}/{}", info.plural);
        if !kind.is_namespaced() {
            let one = format!("{everywhere}/{{name}}");
            return Self { all: vec![everywhere], one };
        }
        let here = format!("{version}/namespaces/{{namespace}}/{}", info.plural);
        let one = format!("{here}/{{name}}");
        Self { all: vec![everywhere, here], one }
    }
}

/// Whether a request is of the type that agents, schedulers, controllers and other apiservers send,
/// and not users' clients, or asks whether this process works. Some connections are reserved for
/// these. (This only divides the connections fairly and grants no trust, since there is no
/// authentication yet.)
pub fn is_of_component<B>(request: &Request<B>) -> bool {
    let headers = [CLUSTER_HEADER, LEADER_HEADER, PEER_HEADER];
    if headers.into_iter().any(|name| request.headers().contains_key(name)) {
        return true;
    }
    let path = request.uri().path();
    let of_components = Fixed::ALL.into_iter().filter(|fixed| fixed.is_of_components());
    let mut patterns = of_components.map(Fixed::pattern);
    patterns.any(|pattern| fits(pattern, path)) || is_of_leases(path)
}

/// Whether a path is of Leases, which leader election uses.
fn is_of_leases(path: &str) -> bool {
    let info = KindId::Lease.info();
    let mut parts = path.split('/').skip(2);
    parts.next() == Some(info.group) && parts.any(|part| part == info.plural)
}

/// Whether a path matches a pattern. The router cannot be used for this, because a connection gets
/// its slot before the router sees the request.
fn fits(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        let Some(part) = parts.next() else { return false };
        if wanted.starts_with("{*") {
            return true;
        }
        if !wanted.starts_with('{') && wanted != part {
            return false;
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_stands_in_the_list_once() {
        for (index, fixed) in Fixed::ALL.into_iter().enumerate() {
            assert_eq!(fixed as usize, index, "{fixed:?}");
            assert!(fits(fixed.pattern(), fixed.pattern()), "{fixed:?}");
        }
    }

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
            "/apis/heliox.dev/v1/nodes/n/agent/logs/u/1",
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
        assert!(!of("/apis/heliox.dev/v1/nodes/n", None));
        assert!(!of("/apis/heliox.dev/v1/nodes/n/connect/x", None));
        assert!(!of("/nowhere", None));
        assert!(of(job, Some(CLUSTER_HEADER)), "an agent names its cluster");
    }
}
