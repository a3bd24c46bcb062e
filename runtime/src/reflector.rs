//! Follows the apiserver's multi-kind watch, and recovers when it breaks.

use std::time::Duration;

use api::resource_version::ResourceVersion;
use api::status::Why;
use api::{KindId, ObjectKey};
use base::{Backoff, Health, Retry, Rng};
use client::{AnyEvent, Client, Error, ManyWatch};
use tracing::debug;

use crate::any::Any;
use crate::parsed::Parsed;

/// The maximum number of changes in an update.
const CHANGES_MAX: usize = 10_000;
/// A watch without even a bookmark for this long is considered dead. The apiserver sends one every
/// 5 s.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A change of an object.
#[derive(Debug, Clone)]
pub enum Change {
    /// It was created or changed.
    Upsert(Any),
    /// It was removed.
    Remove(KindId, ObjectKey),
}

/// A message of the reflector, in revision order.
#[derive(Debug, Clone)]
pub enum Update {
    /// The full state, which replaces everything known before.
    Reset {
        /// Every object.
        objects: Vec<Any>,
        /// The version of this state.
        version: ResourceVersion,
    },
    /// The changes since the last update.
    Changes {
        /// The changes in order; empty if only the version has moved on.
        changes: Vec<Change>,
        /// The version after these changes.
        version: ResourceVersion,
    },
}

/// Follows the objects of several kinds.
#[derive(Debug)]
pub struct Reflector {
    client: Client,
    kinds: Vec<KindId>,
    fields: String,
    watch: Option<ManyWatch>,
    parsed: Parsed,
    /// The version up to which updates have been handed out; `None` before the first reset.
    seen: Option<ResourceVersion>,
    retry: Retry,
}

impl Reflector {
    /// Follows the objects of `kinds` that `fields` (a field selector) selects.
    pub fn new(client: Client, kinds: &[KindId], fields: &str, rng: Rng) -> Self {
        let retry = retry(rng, &Health::default());
        let (kinds, fields) = (kinds.to_vec(), fields.to_owned());
        Self { client, kinds, fields, watch: None, parsed: Parsed::default(), seen: None, retry }
    }

    /// Shares parsed objects with other watches of this process.
    #[must_use]
    pub fn sharing(self, parsed: Parsed) -> Self {
        Self { parsed, ..self }
    }

    /// Shows in `health` when the watch fails.
    #[must_use]
    pub fn shown_in(self, rng: Rng, health: &Health) -> Self {
        Self { retry: retry(rng, health), ..self }
    }

    /// Waits for the next update. Recovers from lost connections, server restarts and compacted
    /// history on its own. Not cancel-safe: dropping this future drops the watch, and the next call
    /// resumes it.
    pub async fn next(&mut self) -> Update {
        loop {
            let outcome = match self.watch.take() {
                Some(watch) => self.read(watch).await,
                None => self.open().await,
            };
            match outcome {
                Ok(Some(update)) => {
                    self.retry.worked();
                    return update;
                }
                Ok(None) => (),
                Err(error) if error.why() == Some(Why::Expired) => {
                    debug!(kinds = ?self.kinds, "history is gone; listing again");
                    self.seen = None;
                }
                // Whatever the error is, retry until it works. `/readyz` shows the reason.
                Err(error) => tokio::time::sleep(self.retry.failed(&error)).await,
            }
        }
    }

    /// Opens the watch. Lists everything the first time, and after the history was lost.
    async fn open(&mut self) -> Result<Option<Update>, Error> {
        let mut watch = self.client.watch_many(&self.kinds, self.seen, &self.fields).await?;
        if self.seen.is_some() {
            self.watch = Some(watch);
            return Ok(None);
        }
        let mut objects = Vec::new();
        loop {
            match next_event(&mut watch).await? {
                AnyEvent::Upsert { kind, key, version, json } => {
                    objects.push(self.parse((kind, &key, version), &json)?);
                }
                AnyEvent::Remove { .. } => (),
                AnyEvent::Bookmark { version, initial_end: true } => {
                    self.seen = Some(version);
                    self.watch = Some(watch);
                    return Ok(Some(Update::Reset { objects, version }));
                }
                AnyEvent::Bookmark { .. } => (),
            }
        }
    }

    /// Waits for an event, and takes all others that have arrived.
    async fn read(&mut self, mut watch: ManyWatch) -> Result<Option<Update>, Error> {
        let mut event = next_event(&mut watch).await?;
        let mut changes = Vec::new();
        let mut version = self.seen.unwrap_or_default();
        loop {
            match event {
                AnyEvent::Upsert { kind, key, version: at, json } => {
                    changes.push(Change::Upsert(self.parse((kind, &key, at), &json)?));
                    version = version.max(at);
                }
                AnyEvent::Remove { kind, key, version: at } => {
                    changes.push(Change::Remove(kind, key));
                    version = version.max(at);
                }
                AnyEvent::Bookmark { version: at, .. } => version = version.max(at),
            }
            if changes.len() >= CHANGES_MAX {
                break;
            }
            match watch.buffered() {
                Some(next) => event = next?,
                None => break,
            }
        }
        self.seen = Some(version);
        self.watch = Some(watch);
        Ok(Some(Update::Changes { changes, version }))
    }
}

impl Reflector {
    /// Parses an object. If this version cannot parse it, the watch stops there, which is safe:
    /// without the object, the component would take it for deleted. The error names the object, so
    /// that somebody can look into it.
    fn parse(
        &self,
        (kind, key, version): (KindId, &ObjectKey, ResourceVersion),
        json: &[u8],
    ) -> Result<Any, Error> {
        self.parsed.object((kind, key, version), json).map_err(|error| {
            let why = format!("{kind} {key} is not in a form that this version can read: {error}");
            Error::Malformed(why.into())
        })
    }
}

fn retry(rng: Rng, health: &Health) -> Retry {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rng);
    Retry::new("watching the apiserver", backoff, health)
}

async fn next_event(watch: &mut ManyWatch) -> Result<AnyEvent, Error> {
    match tokio::time::timeout(SILENCE_MAX, watch.next()).await {
        Ok(Ok(Some(event))) => Ok(event),
        Ok(Ok(None)) => Err(Error::Unavailable("the server ended the watch".into())),
        Ok(Err(error)) => Err(error),
        Err(elapsed) => Err(Error::Unavailable(elapsed.into())),
    }
}
