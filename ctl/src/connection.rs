//! The calls that commands make, of any kind, with failures that say the next step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::KindId;
use api::duration::Duration;
use base::Clock;
use client::{
    Client, Dial, ExecReceiver, ExecSender, ListOptions, Servers, http_transport, object_path,
};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::args::Format;
use crate::failure::Failure;
use crate::table::Table;
use crate::target::Target;
use crate::terminal;

/// Objects in a page.
const PAGE_OBJECTS: u32 = 500;
/// How tables are asked for.
const TABLE: HeaderValue =
    HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");

/// The server, and what the command line says of every command.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    tables: Client,
    dial: Dial,
    /// Where the server is.
    pub server: String,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// How objects are shown.
    pub format: Format,
    /// Tells ages.
    pub clock: Clock,
    outage: Outage,
}

/// How many watches of one command wait for the server to come back. One command may hold several,
/// which all break when the server goes: people want to hear of that once.
#[derive(Debug, Clone, Default)]
struct Outage(Arc<AtomicUsize>);

impl Outage {
    /// One more watch broke; whether it is the first.
    fn begins(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// One watch is back; whether it was the last that was missing.
    fn ends(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// What is asked of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The kind.
    pub kind: KindId,
    /// The namespace; all of them where it is empty.
    pub namespace: String,
    /// What is selected.
    pub options: ListOptions,
}

impl Query {
    /// The path, and what selects.
    pub fn path(&self) -> String {
        format!("{}?{}", object_path(self.kind, &self.namespace, ""), self.options.query())
    }
}

/// A page of objects.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    metadata: crate::table::TableMeta,
    items: Vec<Value>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection to `server`; nothing is sent yet.
    ///
    /// # Errors
    /// When `server` is no URL of one.
    pub fn new(server: &str, namespace: &str, format: Format) -> Result<Self, Failure> {
        let servers = Servers::parse(server, 0)?;
        let transport = http_transport(&servers);
        let for_tables = transport.clone().map_request(|mut request: http::Request<_>| {
            request.headers_mut().insert(header::ACCEPT, TABLE);
            request
        });
        Ok(Self {
            client: Client::new(transport),
            tables: Client::new(client::transport(for_tables)),
            dial: client::dial_tcp(&servers),
            server: server.to_owned(),
            namespace: namespace.to_owned(),
            format,
            clock: Clock::system(),
            outage: Outage::default(),
        })
    }

    /// The same connection with another namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The client for objects.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The client for tables.
    pub fn tables(&self) -> &Client {
        &self.tables
    }

    /// Tells that the connection broke; once, however many watches that ends.
    pub fn tell_broken(&self, why: &str) {
        if self.outage.begins() {
            terminal::note(&format!("lost {}: {why}; trying again", self.server));
        }
    }

    /// Tells that it is back, once all watches are.
    pub fn tell_back(&self) {
        if self.outage.ends() {
            terminal::note(&format!("{} is back", self.server));
        }
    }

    /// Whether it was told that the connection broke, and not yet that it is back.
    pub fn is_lost(&self) -> bool {
        self.outage.is_on()
    }

    /// What a call's error means for the command.
    pub fn failure(&self, error: &client::Error) -> Failure {
        Failure::of_call(error, &self.server)
    }

    /// Objects of a kind in the command's namespace that are selected.
    pub fn query(&self, kind: KindId, labels: String, fields: String) -> Query {
        let namespace = if kind.is_namespaced() { self.namespace.clone() } else { String::new() };
        let options = ListOptions { labels, fields, ..ListOptions::default() };
        Query { kind, namespace, options }
    }

    fn path(&self, target: &Target) -> String {
        object_path(target.kind, &self.namespace, &target.name)
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<A, Failure> {
        let body = body.map(|(form, body)| (form, body.to_string().into_bytes()));
        self.client.json(method, path, body).await.map_err(|error| self.failure(&error))
    }

    /// Reads one object.
    ///
    /// # Errors
    /// Not found, or no answer.
    pub async fn get<A: DeserializeOwned>(&self, target: &Target) -> Result<A, Failure> {
        self.call(Method::GET, &self.path(target), None).await
    }

    /// Reads one object, or nothing where it is not there.
    ///
    /// # Errors
    /// No answer.
    pub async fn find<A: DeserializeOwned>(&self, target: &Target) -> Result<Option<A>, Failure> {
        match self.client.json(Method::GET, &self.path(target), None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Reads any path of the server.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn read(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Asks any path of the server, with a JSON document where one is named.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<A, Failure> {
        self.call(method, path, body.map(|body| ("application/json", body))).await
    }

    /// Makes an object.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn create(
        &self,
        (kind, namespace): (KindId, &str),
        object: &Value,
        query: &str,
    ) -> Result<Value, client::Error> {
        let path = format!("{}{query}", object_path(kind, namespace, ""));
        let body = object.to_string().into_bytes();
        self.client.json(Method::POST, &path, Some(("application/json", body))).await
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn patch(
        &self,
        (target, namespace): (&Target, &str),
        patch: &Value,
        query: &str,
    ) -> Result<Value, client::Error> {
        let path = format!("{}{query}", object_path(target.kind, namespace, &target.name));
        let body = patch.to_string().into_bytes();
        self.client.json(Method::PATCH, &path, Some(("application/merge-patch+json", body))).await
    }

    /// Asks for an object's deletion. What it was last, or is until it is gone.
    ///
    /// # Errors
    /// Not found, or no answer.
    pub async fn delete(&self, path: &str, propagation: &str) -> Result<Value, Failure> {
        let path = format!("{path}?propagationPolicy={propagation}");
        self.call(Method::DELETE, &path, None).await
    }

    /// Sends something to a part of an object.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn post_to(
        &self,
        target: &Target,
        part: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let path = format!("{}/{part}", self.path(target));
        self.call(Method::POST, &path, Some(("application/json", body))).await
    }

    /// Reads all objects that a query selects, and the point that they show, page by page.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn list<A: DeserializeOwned>(
        &self,
        query: &Query,
    ) -> Result<(Vec<A>, String), Failure> {
        let (mut query, mut items, mut version) = (query.clone(), Vec::new(), String::new());
        query.options.limit = Some(PAGE_OBJECTS);
        loop {
            let page: Page = self.call(Method::GET, &query.path(), None).await?;
            for item in page.items {
                items.push(self.typed(item)?);
            }
            if version.is_empty() {
                version = page.metadata.resource_version;
            }
            query.options.next = page.metadata.next.filter(|next| !next.is_empty());
            if query.options.next.is_none() {
                return Ok((items, version));
            }
        }
    }

    fn typed<A: DeserializeOwned>(&self, item: Value) -> Result<A, Failure> {
        serde_json::from_value(item).map_err(|error| {
            Failure::new(format!("the answer of {} is not understood: {error}", self.server))
                .hint("is it of this version? hctl version tells")
        })
    }

    /// Reads a page of a query as a table. The next begins at `query.options.next`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn table_page(&self, query: &mut Query) -> Result<Table, Failure> {
        query.options.limit = Some(PAGE_OBJECTS);
        let table: Table = self.table(&query.path()).await?;
        query.options.next = table.metadata.next.clone().filter(|next| !next.is_empty());
        Ok(table)
    }

    /// Reads one object as a table.
    ///
    /// # Errors
    /// Not found, or no answer.
    pub async fn named_table(&self, target: &Target) -> Result<Table, Failure> {
        self.table(&self.path(target)).await
    }

    async fn table(&self, path: &str) -> Result<Table, Failure> {
        let read = self.tables.json(Method::GET, path, None).await;
        read.map_err(|error| self.failure(&error))
    }

    /// Runs a command beside a task; `query` names it.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn exec(
        &self,
        task: &Target,
        query: &str,
    ) -> Result<(ExecSender, ExecReceiver), Failure> {
        let path = format!("{}/exec?{query}", self.path(task));
        client::open_exec(&self.dial, &path).await.map_err(|error| self.failure(&error))
    }

    /// The path of a task's log.
    pub fn log_path(&self, task: &str, query: &str) -> String {
        format!("{}/log?{query}", self.path(&Target::new(KindId::Task, task)))
    }
}

/// When to stop waiting; never where no limit is given.
pub fn deadline(timeout: Option<Duration>) -> Option<tokio::time::Instant> {
    timeout.map(|timeout| tokio::time::Instant::now() + timeout.get())
}

/// The path of the server's version.
pub const VERSION_PATH: &str = "/version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_whatever_breaks_by_it() {
        let outage = Outage::default();
        assert_eq!([outage.begins(), outage.begins(), outage.is_on()], [true, false, true]);
        assert_eq!([outage.ends(), outage.ends(), outage.is_on()], [false, true, false]);
        assert!(outage.begins(), "another one");
    }
}
