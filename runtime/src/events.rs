//! Events, which tell people about an object's past.

use api::core::{Event, EventSource, ObjectReference};
use api::{Kind, ObjectMeta, Time, names};
use base::{Clock, ErrorChain, Rng};
use client::Client;
use tracing::debug;

/// The maximum length of an event's message.
const MESSAGE_CHARS_MAX: usize = 1024;

/// Writes events on a best-effort basis: no decision depends on an event.
#[derive(Debug, Clone)]
pub struct Recorder {
    client: Client,
    component: &'static str,
    clock: Clock,
    rng: Rng,
}

/// Whether an event needs attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is for information only.
    Normal,
    /// Somebody may want to act on it.
    Warning,
}

impl Recorder {
    /// Writes events in the name of `component`.
    pub fn new(client: Client, component: &'static str, clock: Clock, rng: Rng) -> Self {
        Self { client, component, clock, rng }
    }

    /// Makes an event about `object`: `reason` is one CamelCase word, `message` a sentence.
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
        // Nothing depends on an event, so the work goes on without it.
        if let Err(error) = self.client.api::<Event>("").create(&event).await {
            debug!(reason, error = %ErrorChain(&error), "could not write an event");
        }
    }
}
