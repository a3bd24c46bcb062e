//! Calls that commands make for objects of any kind. Their failures say what to do next.

use std::time::Duration;

use api::KindId;
use base::Clock;
use client::{
    Client, Dial, ExecReceiver, ExecSender, ListOptions, Servers, http_transport, object_path,
};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::failure::Failure;
use crate::format::Format;
use crate::outage::{Link, Outage, next_wait};
use crate::table::{Table, TableMeta};
use crate::target::Target;
use crate::terminal;

/// Longest wait between two tries while the server is away.
const RETRY_MAX: Duration = Duration::from_secs(3);
/// After this time a missing answer is reported; it is still waited for.
const ANSWER_DUE: Duration = Duration::from_secs(10);
/// Least time for a command's requests, however short its time limit is: what is certain already
/// needs no waiting, only an answer.
pub const LOOK_MIN: Duration = Duration::from_secs(3);
/// How long a server may take to accept a connection when only that is checked.
const ACCEPT_DUE: Duration = Duration::from_millis(500);
/// Objects in a page.
const PAGE_OBJECTS: u32 = 500;
/// The Accept header for tables.
const TABLE: HeaderValue =
    HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");

/// The server, and the global options of the command line.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    tables: Client,
    dial: Dial,
    /// URL of the server.
    pub server: String,
    /// The default namespace.
    pub namespace: String,
    /// The same if suggested commands have to name it.
    pub named_namespace: Option<String>,
    /// Whether the namespace is from the command line: then manifests may not name another one.
    pub is_namespace_typed: bool,
    /// The output format.
    pub format: Format,
    /// The clock for ages.
    pub clock: Clock,
    outage: Outage,
    /// When the time limit of the command is over; `None` without a limit.
    until: Option<Instant>,
    /// When waiting for answers ends.
    answers_until: Option<Instant>,
}

/// A query for objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The kind.
    pub kind: KindId,
    /// The namespace; empty for all.
    pub namespace: String,
    /// Selectors and paging.
    pub options: ListOptions,
}

impl Query {
    /// The path with its query.
    pub fn path(&self) -> String {
        format!("{}?{}", object_path(self.kind, &self.namespace, ""), self.options.query())
    }
}

/// A page of objects.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    metadata: TableMeta,
    items: Vec<Value>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection to `server`. Nothing is sent yet.
    ///
    /// # Errors
    /// `server` is not a valid URL.
    pub fn new(server: &str, namespace: &str, format: Format) -> Result<Self, Failure> {
        let servers = Servers::parse(server, 0)?;
        let transport = http_transport(&servers);
        let for_tables = transport.clone().map_request(|mut request: http::Request<_>| {
            request.headers_mut().insert(header::ACCEPT, TABLE);
            request
        });
        Ok(Self {
            client: Client::new(transport).with_warnings_to(terminal::warning),
            tables: Client::new(client::transport(for_tables)),
            dial: client::dial_tcp(&servers),
            server: server.to_owned(),
            namespace: namespace.to_owned(),
            named_namespace: None,
            is_namespace_typed: false,
            format,
            clock: Clock::system(),
            outage: Outage::new(server),
            until: None,
            answers_until: None,
        })
    }

    /// The same connection with a time limit for the whole command, whichever request takes long.
    #[must_use]
    pub fn for_at_most(self, timeout: Option<api::duration::Duration>) -> Self {
        let now = Instant::now();
        let until = timeout.map(|timeout| now + timeout.get());
        Self { until, answers_until: until.map(|until| until.max(now + LOOK_MIN)), ..self }
    }

    /// When the time limit of the command is over; `None` without a limit.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The same connection without the limit, for callers that apply it themselves.
    #[must_use]
    pub fn without_limit(&self) -> Self {
        Self { until: None, answers_until: None, ..self.clone() }
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

    /// By which watches report the state of the connection.
    pub fn link(&self) -> Link {
        self.outage.link()
    }

    /// What is known of a loss of the server.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Reads, and repeats that while the server is away: a command that waits for something must
    /// survive a restart of the server. A server that has never answered may be the wrong one, so
    /// that is not repeated.
    ///
    /// # Errors
    /// A refusal, or no answer from a server that has not answered before.
    pub async fn insist<A, F: Future<Output = Result<A, Failure>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<A, Failure> {
        let (mut link, mut wait) = (self.link(), None);
        loop {
            let (read, asked) = (read(), Instant::now());
            tokio::pin!(read);
            let answer = match tokio::time::timeout(ANSWER_DUE, &mut read).await {
                Ok(answer) => answer,
                Err(_elapsed) => {
                    link.broken_since(asked, "it does not answer");
                    read.await
                }
            };
            match answer {
                Err(Failure { may_pass: Some(why), is_last, .. })
                    if self.outage.has_answered() || !is_last =>
                {
                    link.broken(&why);
                    let pause = next_wait(wait, RETRY_MAX);
                    tokio::time::sleep(pause).await;
                    wait = Some(pause);
                }
                answer => return answer,
            }
        }
    }

    /// The result of a request within the command's time limit. Notes that the server has answered,
    /// even with a refusal.
    async fn in_time<A>(
        &self,
        method: &Method,
        asking: impl Future<Output = Result<A, client::Error>>,
    ) -> Result<A, client::Error> {
        let answer = match self.answers_until {
            None => asking.await,
            // Do not begin a request that nobody would wait for.
            Some(until) if until <= Instant::now() => Err(client::Error::silent(false)),
            Some(until) => match tokio::time::timeout_at(until, asking).await {
                Ok(answer) => answer,
                Err(_elapsed) if !self.accepts().await => Err(not_accepted(method)),
                Err(_elapsed) => Err(client::Error::silent(*method != Method::GET)),
            },
        };
        let answered = match &answer {
            Ok(_) => true,
            // A refusal that may pass can come from a proxy before a server that is away.
            Err(error) => {
                error.refusal().is_some_and(|it| Failure::of_refusal(it).may_pass.is_none())
            }
        };
        if answered {
            self.outage.answered();
        }
        answer
    }

    /// Whether the server's address accepts connections.
    pub async fn accepts(&self) -> bool {
        let dialled = tokio::time::timeout(ACCEPT_DUE, (self.dial)()).await;
        dialled.is_ok_and(|stream| stream.is_ok())
    }

    /// The command's failure for an error of a call.
    pub fn failure(&self, error: &client::Error) -> Failure {
        let failure = Failure::of_call(error, &self.server);
        let is_late = self.answers_until.is_some_and(|until| until <= Instant::now());
        if is_late && failure.may_pass.is_some() { failure.too_late() } else { failure }
    }

    /// Objects of a kind in the command's namespace that match the selectors.
    pub fn query(&self, kind: KindId, labels: String, fields: String) -> Query {
        let namespace = if kind.is_namespaced() { self.namespace.clone() } else { String::new() };
        let options = ListOptions { labels, fields, ..ListOptions::default() };
        Query { kind, namespace, options }
    }

    /// The path of an object.
    pub fn path(&self, target: &Target) -> String {
        object_path(target.kind, &self.namespace, &target.name)
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<A, Failure> {
        let body = body.map(|(form, body)| (form, body.to_string().into_bytes()));
        let asking = self.client.json(method.clone(), path, body);
        self.in_time(&method, asking).await.map_err(|error| self.failure(&error))
    }

    /// Reads one object.
    ///
    /// # Errors
    /// It does not exist, or there was no answer.
    pub async fn get<A: DeserializeOwned>(&self, target: &Target) -> Result<A, Failure> {
        self.call(Method::GET, &self.path(target), None).await
    }

    /// Reads one object; nothing if it does not exist.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn find<A: DeserializeOwned>(&self, target: &Target) -> Result<Option<A>, Failure> {
        let path = self.path(target);
        match self.in_time(&Method::GET, self.client.json(Method::GET, &path, None)).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Reads any path of the server.
    ///
    /// # Errors
    /// There was no answer, or a refusal.
    pub async fn read(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Sends a request to any path of the server, with a JSON document if one is given.
    ///
    /// # Errors
    /// There was no answer, or a refusal.
    pub async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<A, Failure> {
        self.call(method, path, body.map(|body| ("application/json", body))).await
    }

    /// Creates an object.
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
        let body = Some(("application/json", object.to_string().into_bytes()));
        self.in_time(&Method::POST, self.client.json(Method::POST, &path, body)).await
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
        let body = Some(("application/merge-patch+json", body));
        self.in_time(&Method::PATCH, self.client.json(Method::PATCH, &path, body)).await
    }

    /// Deletes an object; if a uid is given, only the object with that uid. Returns the object in
    /// its last state, or in its state while it is being deleted.
    ///
    /// # Errors
    /// It does not exist, or there was no answer.
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

    /// Sends a document to a subresource of an object.
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

    /// Changes a subresource of an object by a merge patch.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn patch_part(
        &self,
        target: &Target,
        part: &str,
        patch: &Value,
    ) -> Result<Value, Failure> {
        let path = format!("{}/{part}", self.path(target));
        self.call(Method::PATCH, &path, Some(("application/merge-patch+json", patch))).await
    }

    /// Reads all objects of a query page by page, and their resourceVersion.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn list<A: DeserializeOwned>(
        &self,
        query: &Query,
    ) -> Result<(Vec<A>, String), Failure> {
        self.list_some(query, |_| true).await
    }

    /// The same, keeping only some objects: the others take no memory beyond their page.
    ///
    /// # Errors
    /// As [`Connection::list`].
    pub async fn list_some<A: DeserializeOwned>(
        &self,
        query: &Query,
        is_wanted: impl Fn(&A) -> bool,
    ) -> Result<(Vec<A>, String), Failure> {
        let (mut query, mut items, mut version) = (query.clone(), Vec::new(), String::new());
        query.options.limit = Some(PAGE_OBJECTS);
        loop {
            let (more, metadata) = self.page(&query).await?;
            items.extend(more.into_iter().filter(|item| is_wanted(item)));
            if version.is_empty() {
                version = metadata.resource_version;
            }
            query.options.next = metadata.next.filter(|next| !next.is_empty());
            if query.options.next.is_none() {
                return Ok((items, version));
            }
        }
    }

    /// Reads the first page of a query.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn first_page<A: DeserializeOwned>(&self, query: &Query) -> Result<Vec<A>, Failure> {
        let mut query = query.clone();
        query.options.limit = Some(PAGE_OBJECTS);
        Ok(self.page(&query).await?.0)
    }

    async fn page<A: DeserializeOwned>(
        &self,
        query: &Query,
    ) -> Result<(Vec<A>, TableMeta), Failure> {
        let page: Page = self.call(Method::GET, &query.path(), None).await?;
        let items: Result<Vec<A>, Failure> =
            page.items.into_iter().map(|item| self.typed(item)).collect();
        Ok((items?, page.metadata))
    }

    /// Types an object from the server.
    ///
    /// # Errors
    /// It is not valid for this version.
    pub fn typed<A: DeserializeOwned>(&self, item: Value) -> Result<A, Failure> {
        serde_json::from_value(item).map_err(|error| {
            Failure::new(format!("the answer of {} is not understood: {error}", self.server))
                .hint("check that both are of the same version with hctl version")
        })
    }

    /// Reads a page of a query as a table. Sets `query.options.next` for the next page.
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
    /// It does not exist, or there was no answer.
    pub async fn named_table(&self, target: &Target) -> Result<Table, Failure> {
        self.table(&self.path(target)).await
    }

    async fn table(&self, path: &str) -> Result<Table, Failure> {
        let asking = self.tables.json(Method::GET, path, None);
        self.in_time(&Method::GET, asking).await.map_err(|error| self.failure(&error))
    }

    /// Runs a command beside a task; `query` contains the command.
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

/// No connection is accepted. If it was a write, an earlier connection may have carried it.
fn not_accepted(method: &Method) -> client::Error {
    let why = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    match *method {
        Method::GET => client::Error::Unavailable(why),
        _ => client::Error::Unknown(why),
    }
}

/// The path of the server's version.
pub const VERSION_PATH: &str = "/version";

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::failure::Code;

    fn away() -> Failure {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        Failure::of_call(&client::Error::Unavailable(refused.into()), "http://h:1")
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_has_answered_is_asked_until_it_is_back() {
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let insist = async |answers: Vec<Result<u8, Failure>>| {
            let answers = RefCell::new(answers);
            let answer = connection.insist(async || answers.borrow_mut().remove(0)).await;
            (answer.map_err(|failure| failure.code), answers.into_inner().len())
        };
        // It may be the wrong server.
        assert_eq!(insist(vec![Err(away()), Ok(1)]).await, (Err(Code::Error), 1));
        connection.outage().answered();
        assert_eq!(insist(vec![Err(away()), Err(away()), Ok(1)]).await, (Ok(1), 0));
        let refused = Failure::new("no").code(Code::Forbidden);
        assert_eq!(insist(vec![Err(away()), Err(refused)]).await, (Err(Code::Forbidden), 0));
        assert!(!connection.outage().is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_an_outage() {
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        connection.outage().answered();
        let slow = connection.insist(async || {
            tokio::time::sleep(ANSWER_DUE + Duration::from_secs(1)).await;
            Ok::<_, Failure>(connection.outage().lost().map(|lost| (lost.for_secs, lost.why)))
        });
        // Counted from when it was requested, not from when it was first reported.
        assert_eq!(slow.await.unwrap(), Some((11, "it does not answer".to_owned())));
        assert!(!connection.outage().is_on());
    }
}
