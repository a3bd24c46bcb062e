//! Discovery: the groups, versions and kinds that are served.

use api::kind::{KindId, Scope};
use api::status::{Refusal, Why};
use api::verb::{Subresource, requested, verbs};
use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer;
use super::extract::{Answer, InPath};
use super::paths::served;

fn group_names() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        served().map(|kind| kind.info().group).filter(|group| !group.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn group_json(group: &str) -> Value {
    let version = json!({ "groupVersion": format!("{group}/v1"), "version": "v1" });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

pub(super) fn version() -> Response<Body> {
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = version.split('.');
    let (major, minor) = (parts.next(), parts.next());
    let body = json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{version}"),
        // Kubernetes clients parse these fields, and fail if one is missing.
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        "product": "heliox",
    });
    answer::json(StatusCode::OK, &body)
}

pub(super) fn core_versions() -> Response<Body> {
    let body =
        json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] });
    answer::json(StatusCode::OK, &body)
}

pub(super) fn groups() -> Response<Body> {
    let groups: Vec<Value> = group_names().into_iter().map(group_json).collect();
    let body = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups });
    answer::json(StatusCode::OK, &body)
}

pub(super) async fn group(InPath(name): InPath<String>) -> Answer {
    if !group_names().contains(&name.as_str()) {
        return Err(Refusal::new(Why::NotFound, format!("unknown API group {name:?}")).into());
    }
    let mut body = group_json(&name);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Ok(answer::json(StatusCode::OK, &body))
}

fn words(kind: KindId, subresource: Option<Subresource>) -> Vec<&'static str> {
    verbs(kind, subresource).requests.iter().map(|verb| verb.word()).collect()
}

pub(super) async fn core_resources(InPath(version): InPath<String>) -> Answer {
    of_version("", &version)
}

pub(super) async fn resources(InPath((group, version)): InPath<(String, String)>) -> Answer {
    of_version(&group, &version)
}

fn of_version(group: &str, version: &str) -> Answer {
    let kinds: Vec<KindId> = served()
        .filter(|kind| kind.info().group == group && kind.info().version == version)
        .collect();
    if kinds.is_empty() {
        let message = format!("unknown version {version:?} of API group {group:?}");
        return Err(Refusal::new(Why::NotFound, message).into());
    }
    let mut resources = Vec::new();
    for kind in kinds {
        let info = kind.info();
        let namespaced = info.scope == Scope::Namespaced;
        // The kinds that `kubectl get all` shows.
        let categories: &[&str] = if info.in_all { &["all"] } else { &[] };
        resources.push(json!({
            "name": info.plural, "singularName": info.singular, "namespaced": namespaced,
            "kind": info.kind, "verbs": words(kind, None), "shortNames": info.short,
            "categories": categories,
        }));
        for subresource in requested(kind) {
            resources.push(json!({
                "name": format!("{}/{}", info.plural, subresource.word()), "singularName": "",
                "namespaced": namespaced, "kind": info.kind,
                "verbs": words(kind, Some(subresource)),
            }));
        }
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let body = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources,
    });
    Ok(answer::json(StatusCode::OK, &body))
}
