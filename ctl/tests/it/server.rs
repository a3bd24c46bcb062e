//! A server that keeps objects as the apiserver does, for `hctl` as a process. Nobody works for what it
//! keeps: a test says itself, as a function of each object that is written, what becomes of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::watch;

/// What becomes of an object that was just written; what it adds has paths as keys.
pub(crate) type Becomes = fn(&mut Value) -> Vec<(String, Value)>;

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    revision: u64,
    /// What was deleted, as it was then.
    gone: Vec<(String, Value)>,
    /// Whether writes are made, and never answered.
    answers_no_write: bool,
    /// Paths that nobody may read.
    refused: Vec<String>,
    /// Method and path of every request that is no read.
    writes: Vec<String>,
    /// Paths of every read.
    reads: Vec<String>,
}

#[derive(Debug, Clone)]
struct Keeper {
    kept: Arc<Mutex<Kept>>,
    becomes: Becomes,
    changes: watch::Sender<()>,
    watches: watch::Sender<usize>,
}

/// The server, for as long as its test's runtime is there.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    changes: watch::Sender<()>,
    /// How many watches were opened so far.
    watches: watch::Sender<usize>,
}

/// How `hctl` ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Nothing becomes of any object.
pub(crate) fn nothing(_: &mut Value) -> Vec<(String, Value)> {
    Vec::new()
}

impl Server {
    /// One that listens.
    pub(crate) async fn start(becomes: Becomes) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let changes = watch::Sender::new(());
        let watches = watch::Sender::new(0);
        let keeper = Keeper {
            kept: Arc::clone(&kept),
            becomes,
            changes: changes.clone(),
            watches: watches.clone(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(keeper);
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        let _served = tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, kept, changes, watches }
    }

    /// Puts an object at a path, as if it had been there before.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut kept = self.kept.lock().unwrap();
        let object = kept.stamped(object);
        kept.objects.insert(path.to_owned(), object);
        self.changes.send_replace(());
    }

    /// The object at a path.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.kept.lock().unwrap().objects[path].clone()
    }

    /// Takes away the object at a path, as if it had never been there.
    pub(crate) fn forget(&self, path: &str) {
        self.kept.lock().unwrap().objects.remove(path);
    }

    /// Deletes the object at a path: watches tell of it.
    pub(crate) fn delete(&self, path: &str) {
        self.kept.lock().unwrap().delete(path);
        self.changes.send_replace(());
    }

    /// Makes what is written from now on, and never answers that.
    pub(crate) fn answer_no_write(&self) {
        self.kept.lock().unwrap().answers_no_write = true;
    }

    /// Refuses to tell what is at a path from now on.
    pub(crate) fn refuse(&self, path: &str) {
        self.kept.lock().unwrap().refused.push(path.to_owned());
    }

    /// Resolves once somebody has opened a watch: who waits has looked at what is there.
    pub(crate) async fn is_watched(&self) {
        self.watches.subscribe().wait_for(|count| *count > 0).await.unwrap();
    }

    /// The path of every read so far.
    pub(crate) fn reads(&self) -> Vec<String> {
        self.kept.lock().unwrap().reads.clone()
    }

    /// Every write so far: method and path.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.kept.lock().unwrap().writes.clone()
    }

    /// `hctl` with these words, to be run.
    pub(crate) fn hctl(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hctl"));
        command
            .env_remove("HELIOX_NAMESPACE")
            .env("HELIOX_SERVER", format!("http://{}", self.address));
        command.args(line.split(' ')).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs `hctl` with these words.
    pub(crate) async fn run(&self, line: &str) -> Said {
        said(self.hctl(line).output().await.unwrap())
    }
}

/// What a process printed, and its exit code.
pub(crate) fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().expect("no signal ended it");
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

impl Kept {
    fn delete(&mut self, path: &str) -> Option<Value> {
        let object = self.objects.remove(path)?;
        let object = self.stamped(object);
        self.gone.push((path.to_owned(), object.clone()));
        Some(object)
    }

    /// An object with what the server gives.
    fn stamped(&mut self, mut object: Value) -> Value {
        self.revision += 1;
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{}", self.revision).into();
            metadata["namespace"] = "default".into();
        }
        metadata["resourceVersion"] = self.revision.to_string().into();
        object
    }
}

async fn answer(State(keeper): State<Keeper>, method: Method, uri: Uri, body: Bytes) -> Response {
    let is_answered = method == Method::GET || !keeper.kept.lock().unwrap().answers_no_write;
    let answer = made(keeper, &method, &uri, &body);
    if is_answered { answer } else { std::future::pending().await }
}

fn made(keeper: Keeper, method: &Method, uri: &Uri, body: &[u8]) -> Response {
    let Keeper { kept, becomes, changes, watches } = keeper;
    let all = Arc::clone(&kept);
    let mut kept = kept.lock().unwrap();
    let (path, body) = (uri.path(), serde_json::from_slice(body).unwrap_or(Value::Null));
    if *method == Method::GET {
        kept.reads.push(path.to_owned());
        let query = uri.query().unwrap_or_default();
        return match query.contains("watch=") {
            true => {
                watches.send_modify(|count| *count += 1);
                watched(all, changes.subscribe(), path, query)
            }
            false => read(&kept, path, query),
        };
    }
    kept.writes.push(format!("{method} {path}"));
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    let at = if *method == Method::POST { format!("{path}/{name}") } else { path.to_owned() };
    let found = kept.objects.get(&at).cloned();
    let mut object = match (method, found) {
        (&Method::POST, None) => {
            let mut object = body;
            object["metadata"]["generation"] = 1.into();
            object
        }
        (&Method::POST, Some(_)) => return status(StatusCode::CONFLICT, "AlreadyExists"),
        (_, None) => return status(StatusCode::NOT_FOUND, "NotFound"),
        (&Method::DELETE, Some(_)) => {
            let object = kept.delete(&at);
            changes.send_replace(());
            return axum::Json(object).into_response();
        }
        (_, Some(mut object)) => {
            let before = object["spec"].clone();
            json_patch::merge(&mut object, &body);
            if object["spec"] != before {
                let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
                object["metadata"]["generation"] = (generation + 1).into();
            }
            object
        }
    };
    object = kept.stamped(object);
    kept.objects.insert(at.clone(), object.clone());
    // As if controllers were fast: the answer to the write does not show it.
    let mut later = object.clone();
    for (path, more) in becomes(&mut later) {
        let more = kept.stamped(more);
        kept.objects.insert(path, more);
    }
    if later != object {
        later = kept.stamped(later);
    }
    kept.objects.insert(at, later);
    changes.send_replace(());
    axum::Json(object).into_response()
}

fn read(kept: &Kept, path: &str, query: &str) -> Response {
    if kept.refused.iter().any(|refused| refused == path) {
        return status(StatusCode::FORBIDDEN, "Forbidden");
    }
    if let Some(object) = kept.objects.get(path) {
        return axum::Json(object).into_response();
    }
    let plural = path.rsplit('/').next().unwrap();
    // No agent is connected to this server.
    if plural == "log" {
        return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    if api::KindId::from_word(plural).is_none() {
        return status(StatusCode::NOT_FOUND, "NotFound");
    }
    let items: Vec<&Value> = selected(&kept.objects, path, query).collect();
    let rows: Vec<Value> = items
        .iter()
        .map(|object| json!({ "cells": [], "object": { "metadata": object["metadata"] } }))
        .collect();
    let metadata = json!({ "resourceVersion": kept.revision.to_string() });
    let list =
        json!({ "metadata": metadata, "items": items, "columnDefinitions": [], "rows": rows });
    axum::Json(list).into_response()
}

/// What a query selects of objects with their paths.
fn selected<'a>(
    objects: impl IntoIterator<Item = (&'a String, &'a Value)>,
    path: &str,
    query: &str,
) -> impl Iterator<Item = &'a Value> {
    let within = format!("{path}/");
    let named = part(query, "fieldSelector=metadata.name%3D");
    // Without a namespace those of all namespaces are meant.
    let (group, plural) = path.rsplit_once('/').unwrap();
    let (anywhere, ending) = (format!("{group}/namespaces/"), plural.to_owned());
    let is_within = move |path: &str| {
        let parent = path.rsplit_once('/').map_or(path, |(parent, _)| parent);
        path.starts_with(&within) || path.starts_with(&anywhere) && parent.ends_with(&ending)
    };
    let named = named.map(|name| format!("/{name}"));
    let items = objects.into_iter().filter(move |(path, _)| is_within(path));
    let items = items
        .filter(move |(path, _)| named.as_ref().is_none_or(|named| path.ends_with(named.as_str())));
    items.map(|(_, object)| object)
}

fn part<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|part| part.strip_prefix(key))
}

/// What is newer than the version of a query, and whatever comes then.
fn watched(
    all: Arc<Mutex<Kept>>,
    changes: watch::Receiver<()>,
    path: &str,
    query: &str,
) -> Response {
    let version = part(query, "resourceVersion=").unwrap_or_default().parse().unwrap_or_default();
    let (path, query) = (path.to_owned(), query.to_owned());
    let news = move |version: u64| {
        let kept = all.lock().unwrap();
        let of = |object: &Value| -> u64 {
            object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        };
        let gone = kept.gone.iter().map(|(path, object)| (path, object));
        let there = selected(&kept.objects, &path, &query).map(|object| ("MODIFIED", object));
        let gone = selected(gone, &path, &query).map(|object| ("DELETED", object));
        let mut news: Vec<_> = there.chain(gone).filter(|(_, it)| of(it) > version).collect();
        news.sort_by_key(|(_, object)| of(object));
        let event = |(kind, object)| format!("{}\n", json!({ "type": kind, "object": object }));
        (news.into_iter().map(event).collect::<String>(), kept.revision)
    };
    let lines = stream::unfold((version, changes), move |(version, mut changes)| {
        let news = news.clone();
        async move {
            loop {
                let (lines, seen) = news(version);
                if !lines.is_empty() {
                    return Some((Ok::<_, std::io::Error>(lines), (seen, changes)));
                }
                changes.changed().await.ok()?;
            }
        }
    });
    Body::from_stream(lines).into_response()
}

fn status(code: StatusCode, reason: &str) -> Response {
    let message = format!("the test's server says {reason}");
    let body =
        json!({ "kind": "Status", "code": code.as_u16(), "reason": reason, "message": message });
    (code, axum::Json(body)).into_response()
}
