//! The calls that commands make, of any kind, with failures that say the next step.

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

use crate::args::Format;
use crate::failure::Failure;
use crate::outage::{Link, Outage, next_wait};
use crate::table::{Table, TableMeta};
use crate::target::Target;
use crate::terminal;

/// The longest wait between tries of a server that is away.
const RETRY_MAX: Duration = Duration::from_secs(3);
/// An answer that takes longer is said to be missing, and still waited for.
const ANSWER_DUE: Duration = Duration::from_secs(10);
/// What the requests of a command may take, however short the time that is given: what is certain now
/// needs no waiting.
pub const LOOK_MIN: Duration = Duration::from_secs(3);
/// How long a server may take to accept a connection, where it is only asked for whether it does.
const ACCEPT_DUE: Duration = Duration::from_millis(500);
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
    /// The same, where commands have to name it to find what this one finds.
    pub named_namespace: Option<String>,
    /// Whether the command line names the namespace: manifests may name no other then.
    pub is_namespace_typed: bool,
    /// How objects are shown.
    pub format: Format,
    /// Tells ages.
    pub clock: Clock,
    outage: Outage,
    /// When the time of the whole command is up; never where no limit is given.
    until: Option<Instant>,
    /// When no answer is waited for any more.
    answers_until: Option<Instant>,
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
    metadata: TableMeta,
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

    /// The same connection, for a command that may take so long from now on, whichever of its requests
    /// is not answered.
    #[must_use]
    pub fn for_at_most(self, timeout: Option<api::duration::Duration>) -> Self {
        let now = Instant::now();
        let until = timeout.map(|timeout| now + timeout.get());
        Self { until, answers_until: until.map(|until| until.max(now + LOOK_MIN)), ..self }
    }

    /// When the time of the whole command is up; never where no limit is given.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The same connection, whose requests have no limit but their own: for those who keep the
    /// command's themselves.
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

    /// What a watch tells of the connection by.
    pub fn link(&self) -> Link {
        self.outage.link()
    }

    /// What is known of the server being lost.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Reads, again and again while the server is away: what a command waits for is not over since the
    /// server restarts. One that never answered may be the wrong one, and is not waited for.
    ///
    /// # Errors
    /// A refusal; or no answer from a server that has not answered yet.
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

    /// What a request comes to before the command's time is up. Notes that the server has answered, also
    /// where it refused.
    async fn in_time<A>(
        &self,
        method: &Method,
        asking: impl Future<Output = Result<A, client::Error>>,
    ) -> Result<A, client::Error> {
        let answer = match self.answers_until {
            None => asking.await,
            // Nothing is begun that nobody waits for.
            Some(until) if until <= Instant::now() => Err(client::Error::silent(false)),
            Some(until) => match tokio::time::timeout_at(until, asking).await {
                Ok(answer) => answer,
                Err(_elapsed) if !self.accepts().await => Err(not_accepted(method)),
                Err(_elapsed) => Err(client::Error::silent(*method != Method::GET)),
            },
        };
        let answered = match &answer {
            Ok(_) => true,
            // What may pass is said of a server that is away, by whoever stands before it.
            Err(error) => {
                error.refusal().is_some_and(|it| Failure::of_refusal(it).may_pass.is_none())
            }
        };
        if answered {
            self.outage.answered();
        }
        answer
    }

    /// Whether something accepts connections where the server should be.
    pub async fn accepts(&self) -> bool {
        let dialled = tokio::time::timeout(ACCEPT_DUE, (self.dial)()).await;
        dialled.is_ok_and(|stream| stream.is_ok())
    }

    /// What a call's error means for the command.
    pub fn failure(&self, error: &client::Error) -> Failure {
        let failure = Failure::of_call(error, &self.server);
        let is_late = self.answers_until.is_some_and(|until| until <= Instant::now());
        if is_late && failure.may_pass.is_some() { failure.too_late() } else { failure }
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
        let asking = self.client.json(method.clone(), path, body);
        self.in_time(&method, asking).await.map_err(|error| self.failure(&error))
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
        self.list_some(query, |_| true).await
    }

    /// The same of those objects alone that are wanted: the others take no memory beyond their page.
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

    /// Reads the first of the objects that a query selects: a page of them.
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

    /// An object that the server has answered, as its kind.
    ///
    /// # Errors
    /// It is not one as this version knows them.
    pub fn typed<A: DeserializeOwned>(&self, item: Value) -> Result<A, Failure> {
        serde_json::from_value(item).map_err(|error| {
            Failure::new(format!("the answer of {} is not understood: {error}", self.server))
                .hint("check that both are of the same version with hctl version")
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
        let asking = self.tables.json(Method::GET, path, None);
        self.in_time(&Method::GET, asking).await.map_err(|error| self.failure(&error))
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

/// No connection is accepted. An earlier one may have carried a write there.
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
        // It may be the wrong one.
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
        // Since it was asked, not since that was found too long.
        assert_eq!(slow.await.unwrap(), Some((11, "it does not answer".to_owned())));
        assert!(!connection.outage().is_on());
    }
}
