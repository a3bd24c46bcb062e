//! A client that follows everything through all faults, and remembers what it was told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::kind::{GROUP, VERSION};
use api::resource_version::ResourceVersion;
use api::status::Why;
use api::watch::{INITIAL_EVENTS_END, WatchEventType};
use api::{KindId, ObjectKey, ObjectMeta};
use bytes::Bytes;
use client::{Client, Error, Lines, RawEvent};
use serde::Deserialize;

/// What was told, in order. Clones are the same memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<Heard>>>);

/// Something that a watcher was told, or that it asked for.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    /// It asked for what comes after this; for all there is where it is nothing.
    Opened(Option<ResourceVersion>),
    /// It was told that what comes after this is no longer known.
    Expired(ResourceVersion),
    /// An event of an object.
    Event {
        what: WatchEventType,
        kind: KindId,
        key: ObjectKey,
        version: ResourceVersion,
        json: Bytes,
    },
    /// That everything up to here was told, or (the first time) all there is.
    Bookmark { version: ResourceVersion, ends_initial: bool },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: ObjectMeta,
}

impl Memory {
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[Heard]) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, heard: Heard) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    }
}

/// Follows objects of every kind, for ever. Lists anew only where it is told that it must.
pub(crate) async fn watch(client: Client, memory: Memory) {
    let mut seen = None;
    loop {
        memory.add(Heard::Opened(seen));
        match follow(&client, &mut seen, &memory).await {
            Err(error) if error.why() == Some(Why::Expired) => {
                memory.add(Heard::Expired(seen.unwrap_or_default()));
                seen = None;
            }
            Ok(()) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads one watch until it breaks. `seen` is the last that it heard, once it has heard all.
async fn follow(
    client: &Client,
    seen: &mut Option<ResourceVersion>,
    memory: &Memory,
) -> Result<(), Error> {
    let plurals: Vec<&str> = KindId::ALL.iter().map(|kind| kind.info().plural).collect();
    let from =
        seen.map_or("sendInitialEvents=true".to_owned(), |at| format!("resourceVersion={at}"));
    let path = format!(
        "/apis/{GROUP}/{VERSION}/watch?allowWatchBookmarks=true&{from}&kinds={}",
        plurals.join(",")
    );
    let mut lines = Lines::new(client.stream(&path).await?.into_body());
    while let Some(line) = lines.next().await? {
        let heard = parse(&line)?;
        if let Heard::Event { version, .. } | Heard::Bookmark { version, .. } = &heard {
            let is_complete = matches!(heard, Heard::Bookmark { ends_initial: true, .. });
            if seen.is_some() || is_complete {
                *seen = Some(*version);
            }
        }
        memory.add(heard);
    }
    Ok(())
}

fn parse(line: &Bytes) -> Result<Heard, Error> {
    let event: RawEvent<'_> = serde_json::from_slice(line).unwrap();
    let text = event.object.get();
    if event.kind == WatchEventType::Error {
        return Err(Error::of_event(text));
    }
    let meta: Meta = serde_json::from_str(text).unwrap();
    let version = meta.metadata.resource_version.as_deref().unwrap_or_default().parse().unwrap();
    if event.kind == WatchEventType::Bookmark {
        let notes = meta.metadata.annotations.unwrap_or_default();
        return Ok(Heard::Bookmark {
            version,
            ends_initial: notes.contains_key(INITIAL_EVENTS_END),
        });
    }
    Ok(Heard::Event {
        what: event.kind,
        kind: KindId::from_manifest(&meta.api_version, &meta.kind).unwrap(),
        key: ObjectKey::new(
            meta.metadata.namespace.unwrap_or_default(),
            meta.metadata.name.unwrap_or_default(),
        ),
        version,
        json: line.slice_ref(text.as_bytes()),
    })
}
