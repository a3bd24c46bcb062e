//! Watches: all changes, in order, and resumable after any event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::kind::KindId;
use api::resource_version::ResourceVersion;
use api::selector::FieldSelector;
use api::status::{Refusal, Why};
use api::verb::Verb;
use api::watch::INITIAL_EVENTS_END;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use super::extract::{Answer, Call, ObjectPath};
use super::query::{IncludeObject, Query, bad};
use super::{answer, read, table};
use crate::access::{Ask, What};
use crate::cache::{Entry, News, PastEvent, Scope, Selection, Subscription, TooOld};
use crate::{Server, kinds};

/// A watch sends something at least this often: a bookmark if nothing changes.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(5);
/// The bookmarks of many watches are spread over this time before the end of the period.
const BOOKMARK_SPREAD: Duration = Duration::from_secs(1);
/// The number of parts that this time is divided into.
const BOOKMARK_SLOTS: u32 = 64;
/// The size of a line without its object.
const LINE_BYTES: usize = 64;
/// About how many bytes are prepared at a time. A slow client, or a watch that starts with all
/// objects, takes no more memory than this for its copy.
const FRAME_BYTES: usize = 256 * 1024;
/// How many events are looked at in one step. Each may have to be made from differences, while changes of
/// the cache wait.
const EVENTS_AT_ONCE: usize = 100;
/// A watch ends after this time at the latest; clients resume it.
const DURATION_MAX: Duration = Duration::from_secs(3600);

pub(super) async fn objects(
    server: &Arc<Server>,
    place: &ObjectPath,
    query: &Query,
    as_table: bool,
) -> Result<Response, Refusal> {
    let mut selection = read::selection(query, place.kind)?;
    if let Some(name) = &place.name {
        selection.fields = format!("metadata.name={name}").parse().map_err(|_| bad("name"))?;
    }
    let scope =
        Scope { selections: vec![(place.kind, selection)], namespace: place.namespace.clone() };
    let form = if as_table { Form::Table } else { Form::Shown };
    start(server, (scope, form), query).await
}

/// Watches several kinds at once, in revision order.
pub(super) async fn many(call: Call, query: Query) -> Answer {
    let scope = Scope { selections: selections(&call, &query)?, namespace: String::new() };
    Ok(start(&call.server, (scope, Form::Wire), &query).await?)
}

/// The selection for each kind in a query, if its requester is allowed to watch it.
fn selections(call: &Call, query: &Query) -> Result<Vec<(KindId, Selection)>, Refusal> {
    let mut selections: Vec<(KindId, Selection)> = Vec::new();
    // Invalid selectors are refused, whichever kinds have the fields.
    let (_labels, fields) = (query.labels()?, query.fields()?);
    // A field value that is impossible in every kind with the field is refused, as in a watch of
    // one kind.
    let (mut impossible, mut possible) = (None, false);
    for plural in query.kinds.split(',').filter(|word| !word.is_empty()) {
        let kind = KindId::ALL.into_iter().find(|kind| kind.info().plural == plural);
        let Some(kind) = kind else {
            let shown: String = plural.chars().take(100).collect();
            return Err(bad(format!("kinds: unknown kind {shown:?}")));
        };
        // A repeated kind is the same kind: its objects are sent once.
        if selections.iter().any(|(there, _)| *there == kind) {
            continue;
        }
        let (subresource, name) = (None, None);
        let what = What::Objects { kind, subresource, namespace: "", name };
        call.enter(Ask { verb: Verb::Watch, what })?;
        // A field selector applies to the kinds that have the field.
        let concerns = fields.unknown_field(kind).is_none();
        let fields = if concerns { fields.clone() } else { FieldSelector::default() };
        match fields.impossible_value(kind) {
            Some(problem) => drop(impossible.get_or_insert(problem)),
            None => possible |= concerns,
        }
        selections.push((kind, Selection { labels: query.labels()?, fields }));
    }
    if let Some(problem) = impossible.filter(|_| !possible) {
        return Err(bad(format!("fieldSelector: {problem}")));
    }
    if selections.is_empty() {
        return Err(bad("kinds: name at least one kind"));
    }
    Ok(selections)
}

/// How a watch shows objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In their wire form. Our own components, which watch several kinds at once, derive the rest
    /// themselves.
    Wire,
    /// With all derived fields, for users and other clients.
    Shown,
    /// As rows of tables.
    Table,
}

/// A watch in progress.
struct Session {
    server: Arc<Server>,
    scope: Scope,
    form: Form,
    subscription: Subscription,
    /// Everything up to this version has been sent.
    sent: ResourceVersion,
    /// What has to be sent next.
    lines: VecDeque<Line>,
    /// Whether a mark follows the lines, which says that these were all initial objects.
    marks_end: bool,
    bookmarks: bool,
    include: IncludeObject,
    /// When something was last sent to the client.
    said_at: Instant,
    ends_at: Instant,
    ended: bool,
}

/// One event to be sent.
struct Line {
    what: &'static str,
    kind: KindId,
    key: Arc<ObjectKey>,
    wire: Bytes,
}

async fn start(
    server: &Arc<Server>,
    (scope, form): (Scope, Form),
    query: &Query,
) -> Result<Response, Refusal> {
    let from = query.version()?;
    if from.is_none() {
        read::current(server).await?;
    }
    let wanted = query.timeout_seconds.map_or(DURATION_MAX, Duration::from_secs);
    let mut session = Session {
        server: Arc::clone(server),
        // Before anything is read, so that events that come meanwhile are announced.
        subscription: server.cache.listen(scope.topics()),
        scope,
        form,
        sent: from.unwrap_or_default(),
        lines: VecDeque::new(),
        marks_end: false,
        bookmarks: query.allow_watch_bookmarks,
        include: query.include_object,
        said_at: Instant::now(),
        ends_at: Instant::now() + wanted.min(DURATION_MAX),
        ended: false,
    };
    if from.is_none() || query.send_initial_events {
        session.send_all(query.send_initial_events);
    } else if let Err(too_old) = server.cache.can_resume(session.sent) {
        return Err(expired(too_old));
    } else if read::is_ahead(server, session.sent).await? {
        // The client has this version from another store, which has been replaced.
        let message =
            "the requested resourceVersion is in the future: the store was replaced; list again";
        return Err(Refusal::new(Why::Expired, message));
    }
    server.metrics.watch_started();
    let counted = CountedSession(session);
    let frames = stream::unfold(counted, |mut counted| async move {
        let frame = counted.0.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), counted))
    });
    Ok(answer::raw(StatusCode::OK, Body::from_stream(frames)))
}

/// Counts open watches, however a watch ends.
struct CountedSession(Session);

impl Drop for CountedSession {
    fn drop(&mut self) {
        self.0.server.metrics.watch_ended();
    }
}

/// How an event changes the selected objects.
fn line(scope: &Scope, past: PastEvent<'_>) -> Option<Line> {
    let event = past.event;
    let before = event.before().is_some_and(|object| scope.selects(object));
    let now = event.now().is_some_and(|object| scope.selects(object));
    let what = match (before, now) {
        (false, false) => return None,
        (false, true) => "ADDED",
        (true, true) => "MODIFIED",
        // For a deleted object, the last state is sent. For one that is no longer selected, the
        // current one.
        (true, false) => "DELETED",
    };
    Some(Line { what, kind: event.kind, key: Arc::clone(&event.key), wire: past.wire() })
}

/// The maximum time without a line, which differs between watches. Otherwise watches that were
/// woken by the same event would also send their bookmarks at the same time.
fn silence_max(number: u64) -> Duration {
    let slot = u32::try_from(number % u64::from(BOOKMARK_SLOTS)).unwrap_or_default();
    BOOKMARK_PERIOD - BOOKMARK_SPREAD * slot / BOOKMARK_SLOTS
}

fn expired(too_old: TooOld) -> Refusal {
    let message = format!("too old resource version; the oldest available is {}", too_old.oldest);
    Refusal::new(Why::Expired, message)
}

impl Session {
    /// Sends all objects, as if they had just been created.
    fn send_all(&mut self, mark_end: bool) {
        let scope = &self.scope;
        let selects = |entry: &Entry| scope.selects(entry.selectable());
        let cut = self.server.cache.cut(&scope.prefixes(), selects);
        let added = |entry: Arc<Entry>| Line {
            what: "ADDED",
            kind: entry.kind,
            key: Arc::clone(&entry.key),
            wire: entry.wire.clone(),
        };
        self.lines = cut.entries.into_iter().map(added).collect();
        self.sent = ResourceVersion::after(cut.revision.0);
        self.marks_end = mark_end;
    }

    /// The next bytes to send; `None` if everything has been sent.
    fn frame(&mut self) -> Option<Bytes> {
        let bytes = self.lines.iter().map(|line| line.wire.len() + LINE_BYTES);
        let mut frame =
            Vec::with_capacity(bytes.take(EVENTS_AT_ONCE).sum::<usize>().min(FRAME_BYTES));
        while frame.len() < FRAME_BYTES
            && let Some(line) = self.lines.pop_front()
        {
            self.line(&mut frame, &line);
        }
        if self.lines.is_empty() && std::mem::take(&mut self.marks_end) {
            self.bookmark(&mut frame, true);
        }
        (!frame.is_empty()).then(|| frame.into())
    }

    fn line(&self, frame: &mut Vec<u8>, Line { what, kind, key, wire }: &Line) {
        frame.extend_from_slice(br#"{"type":""#);
        frame.extend_from_slice(what.as_bytes());
        frame.extend_from_slice(br#"","object":"#);
        match self.form {
            Form::Wire => frame.extend_from_slice(wire),
            Form::Shown => frame.extend_from_slice(&kinds::shown(*kind, wire)),
            Form::Table => {
                let objects = [table::Listed { key, wire }];
                let table = table::table(&self.server, *kind, &objects, (None, self.include));
                serde_json::to_writer(&mut *frame, &table)
                    .expect("our answers have text keys and finite numbers");
            }
        }
        frame.extend_from_slice(b"}\n");
    }

    /// The next bytes of the watch; `None` when it ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frame() {
                self.said_at = Instant::now();
                return Some(frame);
            }
            if self.ended || Instant::now() >= self.ends_at {
                return None;
            }
            let scope = &self.scope;
            match self.subscription.news((self.sent, EVENTS_AT_ONCE), |past| line(scope, past)) {
                Err(too_old) => {
                    self.ended = true;
                    let line = json!({ "type": "ERROR", "object": expired(too_old).to_status() });
                    return Some(format!("{line}\n").into());
                }
                Ok(News { news, reached, is_all }) => {
                    self.sent = reached;
                    self.lines.extend(news);
                    if is_all
                        && self.lines.is_empty()
                        && let Some(bookmark) = self.wait().await
                    {
                        return Some(bookmark);
                    }
                }
            }
        }
    }

    /// Waits for events. If none concern this watch for a while, returns a bookmark.
    async fn wait(&mut self) -> Option<Bytes> {
        let bookmark_at = self.said_at + silence_max(self.subscription.number());
        if Instant::now() < bookmark_at {
            let until = bookmark_at.min(self.ends_at);
            // Whether there are events or the time is over, check again.
            let _news = tokio::time::timeout_at(until, self.subscription.woken()).await;
            return None;
        }
        self.said_at = Instant::now();
        self.bookmarks.then(|| {
            let mut frame = Vec::new();
            self.bookmark(&mut frame, false);
            frame.into()
        })
    }

    /// Adds a bookmark. Other clients decode its object like any other, so it has the kind of the
    /// watch. Only our own components watch several kinds.
    fn bookmark(&self, frame: &mut Vec<u8>, ends_initial: bool) {
        let notes = if ends_initial { json!({ INITIAL_EVENTS_END: "true" }) } else { json!({}) };
        let metadata = json!({ "resourceVersion": self.sent, "annotations": notes });
        let mut object = json!({ "metadata": metadata });
        if self.form == Form::Table {
            object["apiVersion"] = "meta.k8s.io/v1".into();
            object["kind"] = "Table".into();
            object["columnDefinitions"] = json!([]);
            object["rows"] = json!([]);
        } else if let [(kind, _)] = self.scope.selections.as_slice() {
            object["apiVersion"] = kind.api_version().into();
            object["kind"] = kind.info().kind.into();
        }
        let line = json!({ "type": "BOOKMARK", "object": object });
        frame.extend_from_slice(format!("{line}\n").as_bytes());
    }
}
