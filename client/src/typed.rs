//! Calls on objects of one kind.

use std::fmt::Write as _;
use std::marker::PhantomData;

use api::Kind;
use api::kind::KindId;
use api::resource_version::ResourceVersion;
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Deserialize;

use crate::Client;
use crate::error::Error;
use crate::escape::escape;
use crate::watch::Watch;

/// Calls on objects of kind `K`, in one namespace or, if that is empty, in all.
#[derive(Debug, Clone)]
pub struct Api<K> {
    client: Client,
    namespace: String,
    kind: PhantomData<fn() -> K>,
}

/// What a list has to contain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// A label selector; empty for everything.
    pub labels: String,
    /// A field selector; empty for everything.
    pub fields: String,
    /// Most objects of a page.
    pub limit: Option<u32>,
    /// The `continue` token of the previous page.
    pub next: Option<String>,
}

/// A page of objects, and its point in the store's history.
#[derive(Debug, Clone, Deserialize)]
pub struct Listing<K> {
    /// The resourceVersion, and the token of the next page.
    pub metadata: ListMeta,
    /// The objects.
    #[serde(default = "Vec::new")]
    pub items: Vec<K>,
}

impl<K> Listing<K> {
    /// The resourceVersion of the list.
    pub fn version(&self) -> ResourceVersion {
        let text = self.metadata.resource_version.as_deref().unwrap_or_default();
        text.parse().unwrap_or_default()
    }
}

/// What happens to the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeletePropagation {
    /// They are deleted after it.
    #[default]
    Background,
    /// They are deleted before it.
    Foreground,
    /// They are kept.
    Orphan,
}

/// The path of a kind's objects, or of one object.
pub fn object_path(kind: KindId, namespace: &str, name: &str) -> String {
    let info = kind.info();
    let mut path = if info.group.is_empty() {
        format!("/api/{}", info.version)
    } else {
        format!("/apis/{}/{}", info.group, info.version)
    };
    // Writing to a String cannot fail.
    if kind.is_namespaced() && !namespace.is_empty() {
        let _infallible = write!(path, "/namespaces/{}", escape(namespace));
    }
    let _infallible = write!(path, "/{}", info.plural);
    if !name.is_empty() {
        let _infallible = write!(path, "/{}", escape(name));
    }
    path
}

impl ListOptions {
    /// The options as a query, without a leading `?`.
    pub fn query(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let pairs = [
            ("labelSelector", Some(&self.labels).filter(|text| !text.is_empty())),
            ("fieldSelector", Some(&self.fields).filter(|text| !text.is_empty())),
            ("limit", limit.as_ref()),
            ("continue", self.next.as_ref()),
        ];
        let set = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
        set.map(|(key, value)| format!("{key}={}", escape(value))).collect::<Vec<_>>().join("&")
    }
}

impl<K: Kind> Api<K> {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), kind: PhantomData }
    }

    fn path(&self, name: &str) -> String {
        object_path(K::ID, &self.namespace, name)
    }

    fn path_of(object: &K) -> String {
        object_path(K::ID, object.namespace(), "")
    }

    /// Reads one object.
    pub async fn get(&self, name: &str) -> Result<K, Error> {
        self.client.json(Method::GET, &self.path(name), None).await
    }

    /// Reads an object; nothing if it does not exist.
    pub async fn find(&self, name: &str) -> Result<Option<K>, Error> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a page of objects.
    pub async fn list(&self, options: &ListOptions) -> Result<Listing<K>, Error> {
        self.client.json(Method::GET, &format!("{}?{}", self.path(""), options.query()), None).await
    }

    /// Creates an object.
    pub async fn create(&self, object: &K) -> Result<K, Error> {
        self.send(Method::POST, &Self::path_of(object), object).await
    }

    /// Replaces an object. If it has a resourceVersion, that must be the current one.
    pub async fn replace(&self, object: &K) -> Result<K, Error> {
        let path = object_path(K::ID, object.namespace(), object.name());
        self.send(Method::PUT, &path, object).await
    }

    /// Replaces an object's status.
    pub async fn replace_status(&self, object: &K) -> Result<K, Error> {
        let path = object_path(K::ID, object.namespace(), object.name());
        self.send(Method::PUT, &format!("{path}/status"), object).await
    }

    /// Applies a JSON merge patch (RFC 7396).
    pub async fn merge_patch(&self, name: &str, patch: &serde_json::Value) -> Result<K, Error> {
        let body = serde_json::to_vec(patch).map_err(Error::malformed)?;
        let body = Some(("application/merge-patch+json", body));
        self.client.json(Method::PATCH, &self.path(name), body).await
    }

    /// Deletes an object.
    pub async fn delete(&self, name: &str, propagation: DeletePropagation) -> Result<(), Error> {
        let path = format!("{}?propagationPolicy={propagation:?}", self.path(name));
        self.client.bytes(Method::DELETE, &path, None).await.map(drop)
    }

    /// Follows objects from the resourceVersion `from` on. Without one, the watch begins with all
    /// existing objects as ADDED events.
    pub async fn watch(
        &self,
        options: &ListOptions,
        from: Option<ResourceVersion>,
    ) -> Result<Watch<K>, Error> {
        let from = from.map(|version| format!("&resourceVersion={version}")).unwrap_or_default();
        let query = format!("watch=true&allowWatchBookmarks=true{from}&{}", options.query());
        let response = self.client.stream(&format!("{}?{query}", self.path(""))).await?;
        Ok(Watch::new(response.into_body()))
    }

    async fn send(&self, method: Method, path: &str, object: &K) -> Result<K, Error> {
        let body = serde_json::to_vec(object).map_err(Error::malformed)?;
        self.client.json(method, path, Some(("application/json", body))).await
    }
}
