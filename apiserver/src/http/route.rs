//! What a path means.

use api::KindId;
use api::kind::{GROUP, VERSION};
use api::query::percent_decoded;
use api::verb::{Subresource, Verb, verbs};

use crate::access::What;

/// What a path means. Names are still as they were sent, percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Healthz,
    Readyz,
    Metrics,
    Version,
    /// `/api`: core's versions.
    CoreVersions,
    /// `/apis`: every group.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`: the kinds of a version.
    Resources {
        group: String,
        version: String,
    },
    /// Objects of a kind, one of them, or a part of one.
    Objects {
        kind: KindId,
        namespace: String,
        name: Option<String>,
        subresource: Option<Subresource>,
    },
    Batches,
    WatchMany,
    /// Which cluster this is.
    Cluster,
    ConfirmCluster,
    Backup,
    NodeLeases,
    RenewNodeLeases,
    /// A node's agent turns its connection round.
    Connect {
        node: String,
    },
    /// Another apiserver asks a node's agent.
    Agent {
        node: String,
        /// The path for the agent, without the slash before it.
        rest: String,
    },
}

impl Route {
    /// What `path` means; nothing for a path that is served nowhere.
    pub(crate) fn parse(path: &str) -> Option<Route> {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(percent_decoded)
            .collect::<Option<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["healthz" | "livez"] => Some(Route::Healthz),
            ["readyz"] => Some(Route::Readyz),
            ["metrics"] => Some(Route::Metrics),
            ["version"] => Some(Route::Version),
            ["api"] => Some(Route::CoreVersions),
            ["apis"] => Some(Route::Groups),
            ["apis", group] => Some(Route::Group((*group).to_owned())),
            ["api", version] => {
                Some(Route::Resources { group: String::new(), version: (*version).to_owned() })
            }
            ["apis", group, version] => Some(Route::Resources {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
            }),
            ["api", version, rest @ ..] => objects("", version, rest),
            ["apis", group, version, rest @ ..] => {
                special(group, version, rest).or_else(|| objects(group, version, rest))
            }
            _ => None,
        }
    }
}

impl Route {
    /// What may be done to it, by a request of its own: see [`api::verb`] for objects.
    pub(crate) fn verbs(&self) -> &'static [Verb] {
        match self {
            Route::Objects { kind, subresource, .. } => verbs(*kind, *subresource).requests,
            Route::Healthz
            | Route::Readyz
            | Route::Metrics
            | Route::Version
            | Route::CoreVersions
            | Route::Groups
            | Route::Group(_)
            | Route::Resources { .. }
            | Route::WatchMany
            | Route::Cluster
            | Route::Backup => &[Verb::Get],
            Route::Batches
            | Route::ConfirmCluster
            | Route::NodeLeases
            | Route::RenewNodeLeases
            | Route::Connect { .. } => &[Verb::Create],
            Route::Agent { .. } => &[Verb::Create, Verb::Get],
        }
    }

    /// To what something is done.
    pub(crate) fn what(&self) -> What<'_> {
        What::Path(match self {
            Route::Objects { kind, subresource, namespace, name } => {
                let (kind, subresource, name) = (*kind, *subresource, name.as_deref());
                return What::Objects { kind, subresource, namespace, name };
            }
            Route::Healthz => "healthz",
            Route::Readyz => "readyz",
            Route::Metrics => "metrics",
            Route::Version => "version",
            Route::CoreVersions | Route::Groups | Route::Group(_) | Route::Resources { .. } => {
                "discovery"
            }
            Route::Batches => "batches",
            Route::WatchMany => "watch",
            Route::Cluster => "cluster",
            Route::ConfirmCluster => "cluster/confirm",
            Route::Backup => "backup",
            Route::NodeLeases => "nodeleases",
            Route::RenewNodeLeases => "nodeleases/renew",
            Route::Connect { .. } => "nodes/connect",
            Route::Agent { .. } => "nodes/agent",
        })
    }
}

fn special(group: &str, version: &str, rest: &[&str]) -> Option<Route> {
    if group != GROUP || version != VERSION {
        return None;
    }
    match rest {
        ["batches"] => Some(Route::Batches),
        ["watch"] => Some(Route::WatchMany),
        ["cluster"] => Some(Route::Cluster),
        ["cluster", "confirm"] => Some(Route::ConfirmCluster),
        ["backup"] => Some(Route::Backup),
        ["nodeleases"] => Some(Route::NodeLeases),
        ["nodeleases", "renew"] => Some(Route::RenewNodeLeases),
        ["nodes", node, "agent", rest @ ..] => {
            Some(Route::Agent { node: (*node).to_owned(), rest: rest.join("/") })
        }
        ["nodes", node, "connect"] => Some(Route::Connect { node: (*node).to_owned() }),
        _ => None,
    }
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Option<Route> {
    // A namespace is an object, and the place of others.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() && *rest != ["status"] => {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return None,
    };
    let kind = KindId::from_path(group, version, plural)?;
    let info = kind.info();
    let subresource = match subresource {
        Some(word) => Some(Subresource::of_word(word).filter(|it| info.subresources.contains(it))?),
        None => None,
    };
    // A namespaced object is found in its namespace only, and a cluster's in none.
    let placed = if kind.is_namespaced() {
        !namespace.is_empty() || name.is_none()
    } else {
        namespace.is_empty()
    };
    (placed && !info.internal).then(|| Route::Objects {
        kind,
        namespace: namespace.to_owned(),
        name: name.map(str::to_owned),
        subresource,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> String {
        match Route::parse(path) {
            Some(Route::Objects { kind, namespace, name, subresource }) => {
                format!("{kind} {namespace:?} {name:?} {subresource:?}")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn paths_mean_what_kubernetes_means_by_them() {
        assert_eq!(
            route("/apis/heliox.dev/v1/namespaces/a/tasks/b/log"),
            r#"Task "a" Some("b") Some(Log)"#
        );
        assert_eq!(route("/apis/heliox.dev/v1/jobs"), r#"Job "" None None"#);
        assert_eq!(route("/api/v1/namespaces/a"), r#"Namespace "" Some("a") None"#);
        assert_eq!(route("/api/v1/namespaces/a/events"), r#"Event "a" None None"#);
        assert_eq!(route("/apis/heliox.dev/v1/nodes/n%2D1"), r#"Node "" Some("n-1") None"#);
        for nowhere in [
            "/apis/heliox.dev/v1/jobs/b",
            "/apis/heliox.dev/v1/namespaces/a/nodes",
            "/apis/heliox.dev/v1/namespaces/a/jobs/b/log",
            "/apis/heliox.dev/v1/nodelease",
            "/api/v2/namespaces",
            "/api/v1/namespaces/%zz",
            "/",
        ] {
            assert_eq!(route(nowhere), "None", "{nowhere}");
        }
    }
}
