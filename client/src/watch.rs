//! Watches of one kind, or of several kinds in one common order of revisions.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::marker::PhantomData;

use api::kind::{GROUP, KindId, VERSION};
use api::resource_version::ResourceVersion;
use api::watch::{INITIAL_EVENTS_END, WatchEventType};
use api::{Kind, ObjectKey};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Client;
use crate::error::Error;
use crate::lines::Lines;
use crate::transport::Body;

/// An event whose object has not been parsed.
#[derive(Debug, Deserialize)]
pub struct RawEvent<'a> {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: WatchEventType,
    /// The object.
    #[serde(borrow)]
    pub object: &'a RawValue,
}

/// Follows objects of one kind.
#[derive(Debug)]
pub struct Watch<K> {
    lines: Lines,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Watch<K> {
    pub(crate) fn new(body: Body) -> Self {
        Self { lines: Lines::new(body), kind: PhantomData }
    }

    /// The next event; nothing after the server has ended the watch. Bookmarks are skipped.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<(WatchEventType, K)>, Error> {
        while let Some(line) = self.lines.next().await? {
            let event: RawEvent<'_> = serde_json::from_slice(&line).map_err(Error::malformed)?;
            match event.kind {
                WatchEventType::Bookmark => (),
                WatchEventType::Error => return Err(Error::of_event(event.object.get())),
                WatchEventType::Added | WatchEventType::Modified | WatchEventType::Deleted => {
                    let object =
                        serde_json::from_str(event.object.get()).map_err(Error::malformed)?;
                    return Ok(Some((event.kind, object)));
                }
            }
        }
        Ok(None)
    }
}

/// An event of an object of any kind.
#[derive(Debug, Clone)]
pub enum AnyEvent {
    /// An object was added or changed, or existed at the beginning.
    Upsert {
        /// Its kind.
        kind: KindId,
        /// Namespace and name.
        key: ObjectKey,
        /// The resourceVersion of the event.
        version: ResourceVersion,
        /// The object, as JSON.
        json: Bytes,
    },
    /// An object was deleted.
    Remove {
        /// Its kind.
        kind: KindId,
        /// Namespace and name.
        key: ObjectKey,
        /// The resourceVersion of the event.
        version: ResourceVersion,
    },
    /// Everything up to here was sent.
    Bookmark {
        /// The resourceVersion.
        version: ResourceVersion,
        /// Whether it is the end of the initial objects.
        initial_end: bool,
    },
}

/// Follows objects of several kinds.
#[derive(Debug)]
pub struct ManyWatch {
    lines: Lines,
}

impl Client {
    /// Follows objects of several kinds from `from` on. Without that, all existing objects come
    /// first, followed by a bookmark with `initial_end`.
    pub async fn watch_many(
        &self,
        kinds: &[KindId],
        from: Option<ResourceVersion>,
        fields: &str,
    ) -> Result<ManyWatch, Error> {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.info().plural).collect();
        let mut path = format!(
            "/apis/{GROUP}/{VERSION}/watch?allowWatchBookmarks=true&kinds={}",
            names.join(",")
        );
        // Writing to a String cannot fail.
        let _infallible = match from {
            Some(version) => write!(path, "&resourceVersion={version}"),
            None => write!(path, "&sendInitialEvents=true"),
        };
        if !fields.is_empty() {
            let _infallible = write!(path, "&fieldSelector={}", crate::escape::escape(fields));
        }
        let response = self.stream(&path).await?;
        Ok(ManyWatch { lines: Lines::new(response.into_body()) })
    }
}

impl ManyWatch {
    /// The next event; nothing after the server has ended the watch. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<AnyEvent>, Error> {
        match self.lines.next().await? {
            Some(line) => parse(&line).map(Some),
            None => Ok(None),
        }
    }

    /// An event that was received already, without waiting.
    pub fn buffered(&mut self) -> Option<Result<AnyEvent, Error>> {
        self.lines.buffered().map(|line| parse(&line))
    }
}

/// The part of an object that a watch itself needs. It parses no more than this, because the
/// receiver of the event parses all of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    metadata: HeadMeta<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta<'a> {
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
}

fn parse(line: &Bytes) -> Result<AnyEvent, Error> {
    let event: RawEvent<'_> = serde_json::from_slice(line).map_err(Error::malformed)?;
    if event.kind == WatchEventType::Error {
        return Err(Error::of_event(event.object.get()));
    }
    let text = event.object.get();
    let Head { api_version, kind, metadata } =
        serde_json::from_str(text).map_err(Error::malformed)?;
    let version: ResourceVersion = metadata.resource_version.parse().map_err(Error::malformed)?;
    if event.kind == WatchEventType::Bookmark {
        let notes = metadata.annotations.map_or("{}", RawValue::get);
        let notes: BTreeMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(notes).map_err(Error::malformed)?;
        return Ok(AnyEvent::Bookmark {
            version,
            initial_end: notes.contains_key(INITIAL_EVENTS_END),
        });
    }
    let kind = KindId::from_manifest(&api_version, &kind)
        .ok_or_else(|| Error::malformed(format!("unknown kind {api_version} {kind}")))?;
    let HeadMeta { namespace, name, .. } = metadata;
    let key = ObjectKey::new(namespace.unwrap_or_default(), name.unwrap_or_default());
    Ok(match event.kind {
        WatchEventType::Deleted => AnyEvent::Remove { kind, key, version },
        WatchEventType::Added
        | WatchEventType::Modified
        | WatchEventType::Bookmark
        | WatchEventType::Error => {
            AnyEvent::Upsert { kind, key, version, json: line.slice_ref(text.as_bytes()) }
        }
    })
}
