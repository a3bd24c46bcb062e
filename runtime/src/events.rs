//! Events: what people want to know of an object's past.

use api::core::{Event, EventSource, ObjectReference};
use api::{Kind, ObjectMeta, Time, names};
use base::{Clock, ErrorChain, Rng};
use client::Client;
use tracing::debug;

/// Longest message of an event.
const MESSAGE_CHARS_MAX: usize = 1024;

/// Writes events. Best effort: an event that is not written is not missed by any decision.
#[derive(Debug, Clone)]
pub struct Recorder {
    client: Client,
    component: &'static str,
    clock: Clock,
    rng: Rng,
}

/// Whether an event is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is, or none.
    Normal,
    /// Somebody may want to act.
    Warning,
}

impl Recorder {
    /// Events of `component`.
    pub fn new(client: Client, component: &'static str, clock: Clock, rng: Rng) -> Self {
        Self { client, component, clock, rng }
    }

    /// An event about `object`: `reason` is one CamelCase word, `message` a sentence.
    pub fn event<K: Kind>(
        &self,
        object: &K,
        severity: Severity,
        reason: &str,
        message: &str,
    ) -> Event {
        let now = Time(self.clock.now());
        let namespace = match object.namespace() {
            "" => api::object::DEFAULT_NAMESPACE,
            namespace => namespace,
        };
        let suffix: String = self.rng.uuid().chars().filter(|c| *c != '-').take(12).collect();
        let name = format!("{}.{suffix}", names::bounded(&format!("{}-{reason}", object.name())));
        let name: String = name.to_ascii_lowercase();
        Event {
            metadata: ObjectMeta {
                name: Some(names::bounded(&name)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(K::ID.api_version()),
                kind: Some(K::ID.info().kind.to_owned()),
                name: Some(object.name().to_owned()),
                namespace: object.meta().namespace.clone(),
                uid: object.meta().uid.clone(),
                ..ObjectReference::default()
            },
            type_: Some(format!("{severity:?}")),
            reason: Some(reason.to_owned()),
            message: Some(message.chars().take(MESSAGE_CHARS_MAX).collect()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            ..Event::default()
        }
    }

    /// Writes an event about `object`.
    pub async fn record<K: Kind>(
        &self,
        object: &K,
        severity: Severity,
        reason: &str,
        message: &str,
    ) {
        let event = self.event(object, severity, reason, message);
        // Nothing follows from an event, so that the work goes on without it.
        if let Err(error) = self.client.api::<Event>("").create(&event).await {
            debug!(reason, error = %ErrorChain(&error), "could not write an event");
        }
    }
}
