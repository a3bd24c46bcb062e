//! The calls that commands make, of any kind, with failures that say the next step.

use api::KindId;
use api::duration::Duration;
use base::Clock;
use client::{
    Client, Dial, ExecReceiver, ExecSender, ListOptions, Servers, http_transport, object_path,
};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
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

/// Which watches of one command wait for the server to come back. One command may hold several,
/// which all break when the server goes: people want to hear of that once.
#[derive(Debug, Clone, Default)]
struct Outage(watch::Sender<Missing>);

#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    /// How many watches are broken.
    watches: usize,
    /// Since when none of them is any more; nothing where none was yet.
    back: Option<Instant>,
}

impl Outage {
    /// One more watch broke; whether it is the first.
    fn begins(&self) -> bool {
        self.0.send_modify(|missing| missing.watches += 1);
        self.0.borrow().watches == 1
    }

    /// One watch is back, or nobody follows it any more; whether it was the last that was missing.
    fn ends(&self) -> bool {
        self.0.send_modify(|missing| {
            missing.watches = missing.watches.saturating_sub(1);
            if missing.watches == 0 {
                missing.back = Some(Instant::now());
            }
        });
        !self.is_on()
    }

    fn is_on(&self) -> bool {
        self.0.borrow().watches > 0
    }

    /// Resolves once no watch has been missing for so long.
    async fn is_over_for(&self, lasting: std::time::Duration) {
        let mut news = self.0.subscribe();
        loop {
            let Missing { watches, back } = *news.borrow_and_update();
            let over = async {
                match back.filter(|_| watches == 0) {
                    Some(back) => tokio::time::sleep_until(back + lasting).await,
                    None if watches == 0 => (),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = news.changed() => (),
                () = over => return,
            }
        }
    }
}

/// A watch's part in an outage: says that the server is lost and that it is back, once for all
/// watches of the command. It is not missed any more when nobody follows it any more.
#[derive(Debug)]
pub struct Link {
    outage: Outage,
    server: String,
    is_broken: bool,
}

impl Link {
    /// The watch broke.
    pub fn broken(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_broken, true) && self.outage.begins() {
            terminal::note(&format!("lost {}: {why}; trying again", self.server));
        }
    }

    /// The server has answered it.
    pub fn back(&mut self) {
        if std::mem::take(&mut self.is_broken) && self.outage.ends() {
            terminal::note(&format!("{} is back", self.server));
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.is_broken {
            // Whether the server is back is for those to tell who still ask it.
            let _is_last = self.outage.ends();
        }
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

    /// What a watch tells of the connection by.
    pub fn link(&self) -> Link {
        Link { outage: self.outage.clone(), server: self.server.clone(), is_broken: false }
    }

    /// Whether it was told that the connection broke, and not yet that it is back.
    pub fn is_lost(&self) -> bool {
        self.outage.is_on()
    }

    /// Resolves once the server has not been lost for so long.
    pub async fn has_been_back_for(&self, lasting: std::time::Duration) {
        self.outage.is_over_for(lasting).await;
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

    /// Asks for an object's deletion; with a uid of this very object, not of a later one of its name.
    /// What it was last, or is until it is gone.
    ///
    /// # Errors
    /// Not found, or no answer.
    pub async fn delete(
        &self,
        path: &str,
        propagation: &str,
        uid: Option<&str>,
    ) -> Result<Value, Failure> {
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation,
        });
        if let Some(uid) = uid {
            options["preconditions"] = json!({ "uid": uid });
        }
        self.call(Method::DELETE, path, Some(("application/json", &options))).await
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

    /// An object that the server has answered, as its kind.
    ///
    /// # Errors
    /// It is not one as this version knows them.
    pub fn typed<A: DeserializeOwned>(&self, item: Value) -> Result<A, Failure> {
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
pub fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.map(|timeout| Instant::now() + timeout.get())
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

    #[test]
    fn a_watch_that_nobody_follows_any_more_is_not_waited_for() {
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let (mut one, mut other) = (connection.link(), connection.link());
        for link in [&mut one, &mut other] {
            link.broken("refused");
            link.broken("refused");
        }
        drop(one);
        assert!(connection.is_lost(), "the other one is broken");
        other.back();
        other.back();
        assert!(!connection.is_lost());
        other.broken("refused");
        assert!(connection.is_lost(), "another one");
        drop(other);
        assert!(!connection.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_over_when_the_server_has_been_back_for_a_while() {
        let second = std::time::Duration::from_secs(1);
        let outage = Outage::default();
        outage.is_over_for(second).await;
        outage.begins();
        let began = Instant::now();
        let events = async {
            for is_back in [true, false, true] {
                tokio::time::sleep(second / 2).await;
                if is_back {
                    outage.ends()
                } else {
                    outage.begins()
                };
            }
        };
        tokio::join!(events, outage.is_over_for(second));
        assert_eq!(began.elapsed(), second / 2 * 5);
    }
}
