//! Reads one object, or a list of objects.

use std::sync::Arc;
use std::time::Duration;

use api::completion::End;
use api::list::Continue;
use api::resource_version::ResourceVersion;
use api::status::{Refusal, Why};
use api::{CompletionChunk, KindId};
use axum::body::Body;
use axum::response::Response;
use futures_util::stream;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::Serialize;
use store::Revision;
use tokio::time::timeout;

use super::extract::{Answer, AsTable, Call, ObjectPath};
use super::page::Page;
use super::query::{Query, bad};
use super::{answer, table};
use crate::cache::{Cut, Entry, Part, Selection};
use crate::write::{not_found, unavailable};
use crate::{Server, keys, kinds};

/// The maximum number of objects in a page, if no limit is requested.
const PAGE_MAX: usize = 100_000;
/// About how many bytes of a list are copied at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// How long a read waits for the cache to show what the store contains.
pub(super) const CATCH_UP_MAX: Duration = Duration::from_secs(30);

/// Waits until the cache shows the current state of the store, so that the read is as new as one
/// from the store.
pub(super) async fn current(server: &Server) -> Result<(), Refusal> {
    let revision = server.store.revision().await.map_err(|error| unavailable(&error))?;
    reached(server, revision).await
}

/// Waits until the cache shows `revision`. It is usually milliseconds behind. If it cannot follow
/// the store, the client should try another apiserver and not wait for ever.
async fn reached(server: &Server, revision: Revision) -> Result<(), Refusal> {
    timeout(CATCH_UP_MAX, server.cache.reached(revision)).await.map_err(|_elapsed| {
        let seconds = CATCH_UP_MAX.as_secs();
        let message = format!(
            "this apiserver has been behind the store for {seconds} s; its log says why. Try \
             again, or use another apiserver"
        );
        Refusal::new(Why::Unavailable, message)
    })
}

/// Whether a version is newer than everything in the store, so that it cannot come from this store.
pub(super) async fn is_ahead(server: &Server, at: ResourceVersion) -> Result<bool, Refusal> {
    let at = Revision(at.revision());
    if at <= server.cache.revision() {
        return Ok(false);
    }
    let current = server.store.revision().await.map_err(|error| unavailable(&error))?;
    Ok(at > current)
}

/// The refusal that Kubernetes uses: clients then read the current state.
fn too_large(asked: ResourceVersion, current: Revision) -> Refusal {
    let current = ResourceVersion::after(current.0);
    let message = format!("Too large resource version: {asked}, current: {current}");
    let cause = StatusCause {
        reason: Some("ResourceVersionTooLarge".to_owned()),
        message: Some("Too large resource version".to_owned()),
        field: None,
    };
    Refusal::new(Why::Late, message).with_cause(cause).retry_after(1)
}

/// The current state of an object, which is never older than the version in the query.
pub(super) async fn get(
    call: Call,
    place: ObjectPath,
    query: Query,
    AsTable(as_table): AsTable,
) -> Answer {
    let server = &*call.server;
    if let Some(version) = query.version()?
        && is_ahead(server, version).await?
    {
        return Err(too_large(version, server.cache.revision()).into());
    }
    let entry = one(server, &place).await?;
    if as_table {
        let objects = [table::Listed::of(&entry)];
        let table = table::table(server, place.kind, &objects, (None, query.include_object));
        return Ok(answer::json(StatusCode::OK, &table));
    }
    Ok(answer::raw(StatusCode::OK, kinds::shown(place.kind, &entry.wire)))
}

/// The current state of the object that a path stands for.
pub(super) async fn one(server: &Server, place: &ObjectPath) -> Result<Arc<Entry>, Refusal> {
    current(server).await?;
    let key = keys::object(place.kind, &place.key());
    server.cache.get(&key).ok_or_else(|| not_found(place.kind, place.name()))
}

/// The selectors in a query, for objects of `kind`.
pub(super) fn selection(query: &Query, kind: KindId) -> Result<Selection, Refusal> {
    let selection = Selection { labels: query.labels()?, fields: query.fields()? };
    match selection.fields.problem(kind) {
        Some(problem) => Err(bad(format!("fieldSelector: {problem}"))),
        None => Ok(selection),
    }
}

/// A list, unless it takes longer than the client's time limit.
pub(super) async fn list_in_time(
    server: &Server,
    place: &ObjectPath,
    query: &Query,
    as_table: bool,
) -> Result<Response, Refusal> {
    let list = list(server, place, query, as_table);
    let Some(seconds) = query.timeout_seconds else { return list.await };
    timeout(Duration::from_secs(seconds), list).await.unwrap_or_else(|_elapsed| {
        let message = format!("timed out: the list took longer than timeoutSeconds ({seconds})");
        Err(Refusal::new(Why::Late, message))
    })
}

async fn list(
    server: &Server,
    place: &ObjectPath,
    query: &Query,
    as_table: bool,
) -> Result<Response, Refusal> {
    let selection = selection(query, place.kind)?;
    let version = query.version()?;
    if let Some(version) = version
        && is_ahead(server, version).await?
    {
        return Err(too_large(version, server.cache.revision()));
    }
    if let Some(next) = &query.next
        && is_ahead(server, ResourceVersion::after(next.revision())).await?
    {
        // A list from another history. Its pages do not match the current data.
        let message = "the store was replaced since this list began; list again";
        return Err(Refusal::new(Why::Expired, message));
    }
    match version {
        Some(version) if query.resource_version_match == "NotOlderThan" => {
            reached(server, Revision(version.revision())).await?;
        }
        _ => current(server).await?,
    }
    let prefix = keys::prefix(place.kind, &place.namespace);
    let after = query.next.as_ref().map(Continue::after);
    let limit = query.limit.filter(|limit| *limit > 0).unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let (part, shown) = server.cache.part((&prefix, after), limit, &selection);
    let Part { entries, more, remaining } = part;
    // Every page has the version of the first one. A watch from that version returns all later
    // changes, whichever page the objects are on.
    let revision = query.next.as_ref().map_or(shown, |next| Revision(next.revision()));
    let more = entries.last().filter(|_| more).map(|last| {
        let after = keys::object(place.kind, &last.key).to_string();
        Continue::new(revision.0, after).to_string()
    });
    let page = Page { revision, more, remaining };
    if as_table {
        let objects: Vec<_> = entries.iter().map(|entry| table::Listed::of(entry)).collect();
        let table = table::table(server, place.kind, &objects, (Some(&page), query.include_object));
        return Ok(answer::json(StatusCode::OK, &table));
    }
    Ok(answer::raw(StatusCode::OK, list_body(place.kind, entries, &page)))
}

/// The JSON of a list, composed from the JSON of the objects. A long list is copied piece by piece
/// as it is read, so that a hundred thousand objects of a megabyte are not all copied for one
/// request.
fn list_body(kind: KindId, entries: Vec<Arc<Entry>>, page: &Page) -> Body {
    let head = format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{},"items":["#,
        kind.info().kind,
        kind.api_version(),
        page.metadata()
    );
    let mut left = entries.into_iter();
    let first = piece(head.into_bytes(), &mut left);
    if left.len() == 0 {
        return Body::from(first);
    }
    let rest = std::iter::from_fn(move || {
        let more = left.len() > 0;
        more.then(|| piece(vec![b','], &mut left))
    });
    let pieces = std::iter::once(first).chain(rest);
    Body::from_stream(stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)))
}

/// Adds the next objects of a list, and its end after the last one.
fn piece(mut json: Vec<u8>, left: &mut std::vec::IntoIter<Arc<Entry>>) -> Vec<u8> {
    let begins_at = json.len();
    while json.len() < PIECE_BYTES
        && let Some(entry) = left.next()
    {
        if json.len() > begins_at {
            json.push(b',');
        }
        json.extend_from_slice(&kinds::shown(entry.kind, &entry.wire));
    }
    if left.len() == 0 {
        json.extend_from_slice(b"]}");
    }
    json
}

/// The current completion record of a job.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordAnswer {
    run: u32,
    succeeded: usize,
    failed: usize,
    cancelled: usize,
    /// The first thousand indexes that have failed.
    failed_indexes: Vec<u32>,
}

/// How many failed indexes an answer lists.
const FAILED_INDEXES_MAX: usize = 1000;

pub(super) async fn record(call: Call, place: ObjectPath) -> Answer {
    let server = &*call.server;
    let entry = one(server, &place).await?;
    let job: api::Job = serde_json::from_slice(&entry.wire)
        .map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
    let uid = api::Kind::uid(&job);
    let Cut { entries, .. } =
        server.cache.cut(&[keys::prefix(KindId::CompletionChunk, uid)], |_| true);
    let chunks = entries
        .iter()
        .filter_map(|entry| serde_json::from_slice::<CompletionChunk>(&entry.wire).ok())
        .filter(|chunk| chunk.spec.run == job.status.run);
    let ends: Vec<(u32, End)> = chunks.flat_map(|chunk| chunk.ends().collect::<Vec<_>>()).collect();
    let count = |wanted: End| ends.iter().filter(|(_, end)| *end == wanted).count();
    let mut failed_indexes: Vec<u32> =
        ends.iter().filter(|(_, end)| *end == End::Failed).map(|(index, _)| *index).collect();
    failed_indexes.sort_unstable();
    failed_indexes.truncate(FAILED_INDEXES_MAX);
    let answer = RecordAnswer {
        run: job.status.run,
        succeeded: count(End::Succeeded),
        failed: count(End::Failed),
        cancelled: count(End::Cancelled),
        failed_indexes,
    };
    Ok(answer::json(StatusCode::OK, &answer))
}
