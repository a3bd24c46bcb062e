//! Watches: what changes, in order, whole, and resumable after any event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

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

use super::extract::{Answer, Call, Place};
use super::query::{IncludeObject, Query, bad};
use super::{answer, read, table};
use crate::access::{Ask, What};
use crate::cache::{Entry, Event, NextEvents, Scope, Selection, Subscription, TooOld};
use crate::{Server, kinds};

/// A watch says something at least this often: where nothing changes, a bookmark.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(5);
/// The bookmarks of many watches are spread over this time before the period's end.
const BOOKMARK_SPREAD: Duration = Duration::from_secs(1);
/// In how many parts.
const BOOKMARK_SLOTS: u32 = 64;
/// What a line has beside its object.
const LINE_BYTES: usize = 64;
/// Bytes that are made ready at a time, about: a client that reads slowly, or a watch that begins with
/// all there is, takes no more memory than that for its copy.
const FRAME_BYTES: usize = 256 * 1024;
/// Events that are looked at in one go.
const EVENTS_AT_ONCE: usize = 1000;
/// A watch ends after this long at the latest; clients resume.
const DURATION_MAX: Duration = Duration::from_secs(3600);

pub(super) async fn objects(
    server: &Arc<Server>,
    place: &Place,
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

/// One watch over several kinds: one cut in revision order.
pub(super) async fn many(call: Call, query: Query) -> Answer {
    let scope = Scope { selections: selections(&call, &query)?, namespace: String::new() };
    Ok(start(&call.server, (scope, Form::Wire), &query).await?)
}

/// What is watched of each of the kinds that a query names, if its sender may watch them.
fn selections(call: &Call, query: &Query) -> Result<Vec<(KindId, Selection)>, Refusal> {
    let mut selections: Vec<(KindId, Selection)> = Vec::new();
    // What is no selector at all is refused, whichever kinds have its fields.
    let (_labels, fields) = (query.labels()?, query.fields()?);
    // What no kind that has the field can ever be is refused, as in a watch of that kind alone.
    let (mut impossible, mut possible) = (None, false);
    for plural in query.kinds.split(',').filter(|word| !word.is_empty()) {
        let kind = KindId::ALL.into_iter().find(|kind| kind.info().plural == plural);
        let Some(kind) = kind else {
            let shown: String = plural.chars().take(100).collect();
            return Err(bad(format!("kinds: unknown kind {shown:?}")));
        };
        // A kind that is named again is the same kind: its objects are sent once.
        if selections.iter().any(|(there, _)| *there == kind) {
            continue;
        }
        let (subresource, name) = (None, None);
        let what = What::Objects { kind, subresource, namespace: "", name };
        call.enter(Ask { verb: Verb::Watch, what })?;
        // A field selector concerns the kinds that have the field.
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
    /// As they are on the wire: our own components, which watch several kinds at once, derive by
    /// themselves what follows from that.
    Wire,
    /// With all that follows from them, as people and other clients see them.
    Shown,
    /// As rows of tables.
    Table,
}

/// One watch on its way.
struct Session {
    server: Arc<Server>,
    scope: Scope,
    form: Form,
    subscription: Subscription,
    /// Everything up to here was sent.
    sent: ResourceVersion,
    /// What is to be sent next.
    lines: VecDeque<Line>,
    /// Whether a mark is to follow the lines: that was all there is.
    marks_end: bool,
    bookmarks: bool,
    include: IncludeObject,
    /// When the client was told anything last.
    said_at: Instant,
    ends_at: Instant,
    ended: bool,
}

/// One event to be sent.
struct Line {
    what: &'static str,
    entry: Arc<Entry>,
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
        // Before anything is read: what comes meanwhile is announced.
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
        // Of another history: what it was read from is gone.
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

/// Keeps the count of open watches, however the watch ends.
struct CountedSession(Session);

impl Drop for CountedSession {
    fn drop(&mut self) {
        self.0.server.metrics.watch_ended();
    }
}

/// What an event changes of a selection.
fn line(scope: &Scope, event: &Event) -> Option<Line> {
    let before = event.before.as_ref().filter(|entry| scope.selects(entry));
    let now = event.now.as_ref().filter(|entry| scope.selects(entry));
    let (what, entry, wire) = match (before, now) {
        (None, None) => return None,
        (None, Some(now)) => ("ADDED", now, &now.wire),
        (Some(_), Some(now)) => ("MODIFIED", now, &now.wire),
        (Some(before), None) => {
            // Deleted: send the last state. No longer selected: send the current one.
            let wire = event.last.as_ref().or(event.now.as_ref().map(|now| &now.wire));
            ("DELETED", before, wire.unwrap_or(&before.wire))
        }
    };
    Some(Line { what, entry: Arc::clone(entry), wire: wire.clone() })
}

/// How long a watch says nothing at most. Not the same for all: whom one event has woken together
/// would otherwise all send their bookmarks together, too.
fn silence_max(number: u64) -> Duration {
    let slot = u32::try_from(number % u64::from(BOOKMARK_SLOTS)).unwrap_or_default();
    BOOKMARK_PERIOD - BOOKMARK_SPREAD * slot / BOOKMARK_SLOTS
}

fn expired(too_old: TooOld) -> Refusal {
    let message = format!("too old resource version; the oldest available is {}", too_old.oldest);
    Refusal::new(Why::Expired, message)
}

impl Session {
    /// Sends all there is, as if it had just been made.
    fn send_all(&mut self, mark_end: bool) {
        let scope = &self.scope;
        let cut = self.server.cache.cut(&scope.prefixes(), |entry| scope.selects(entry));
        let added = |entry: Arc<Entry>| Line { what: "ADDED", wire: entry.wire.clone(), entry };
        self.lines = cut.entries.into_iter().map(added).collect();
        self.sent = ResourceVersion::after(cut.revision.0);
        self.marks_end = mark_end;
    }

    /// The next bytes of what is to be sent; nothing where all was.
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

    fn line(&self, frame: &mut Vec<u8>, Line { what, entry, wire }: &Line) {
        frame.extend_from_slice(br#"{"type":""#);
        frame.extend_from_slice(what.as_bytes());
        frame.extend_from_slice(br#"","object":"#);
        match self.form {
            Form::Wire => frame.extend_from_slice(wire),
            Form::Shown => frame.extend_from_slice(&kinds::shown(entry.kind, wire)),
            Form::Table => {
                let entries = std::slice::from_ref(entry);
                let table = table::table(&self.server, entry.kind, entries, (None, self.include));
                serde_json::to_writer(&mut *frame, &table)
                    .expect("our answers have text keys and finite numbers");
            }
        }
        frame.extend_from_slice(b"}\n");
    }

    /// The next bytes of the watch; nothing when it ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frame() {
                self.said_at = Instant::now();
                return Some(frame);
            }
            if self.ended || Instant::now() >= self.ends_at {
                return None;
            }
            match self.subscription.news(self.sent, EVENTS_AT_ONCE) {
                Err(too_old) => {
                    self.ended = true;
                    let line = json!({ "type": "ERROR", "object": expired(too_old).to_status() });
                    return Some(format!("{line}\n").into());
                }
                Ok(NextEvents { events, reached, is_all }) => {
                    self.sent = reached;
                    self.lines.extend(events.iter().filter_map(|event| line(&self.scope, event)));
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

    /// Waits for news; where none concern this watch for a while, says up to where all was sent.
    async fn wait(&mut self) -> Option<Bytes> {
        let bookmark_at = self.said_at + silence_max(self.subscription.number());
        if Instant::now() < bookmark_at {
            let until = bookmark_at.min(self.ends_at);
            // NextEvents or the time: either way it is looked again.
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

    /// Says up to where all was sent. Clients of others decode the object as they decode any other, so
    /// it says of which kind the watch is. A watch of several kinds is of our own components alone.
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
