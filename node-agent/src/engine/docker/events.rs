//! The Docker Engine's event stream, which is reopened when it breaks, and rechecks that the driver
//! schedules itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, ErrorChain};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::info;

use crate::engine::{EngineEvent, Identity, LABEL_CLUSTER, LABEL_NODE, Scope};

/// How long to wait before the stream of an engine that hung up is opened again.
const REDIAL_INTERVAL: Duration = Duration::from_secs(1);

/// How long the engine may take to report past events.
const PAST_TIMEOUT: Duration = Duration::from_secs(5);

/// Containers that have to be inspected again although the engine may send no more events about
/// them.
#[derive(Debug, Clone, Default)]
pub(super) struct Rechecks {
    /// Guards the due times, the earliest first.
    due: Arc<Mutex<BTreeSet<(Instant, Identity)>>>,
    added: Arc<Notify>,
}

impl Rechecks {
    pub(super) fn add(&self, identity: Identity, at: Instant) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert((at, identity));
        self.added.notify_one();
    }

    /// One event for each recheck when it is due.
    pub(super) fn events(&self) -> BoxStream<'static, EngineEvent> {
        stream::unfold(self.clone(), |rechecks| async move {
            let identity = rechecks.next().await;
            Some((EngineEvent::Changed(identity), rechecks))
        })
        .boxed()
    }

    async fn next(&self) -> Identity {
        loop {
            let first = {
                let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
                match due.pop_first() {
                    Some((at, identity)) if at <= Instant::now() => return identity,
                    Some((at, identity)) => {
                        due.insert((at, identity));
                        Some(at)
                    }
                    None => None,
                }
            };
            match first {
                None => self.added.notified().await,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.added.notified() => (),
                        () = sleep_until(at) => (),
                    }
                }
            }
        }
    }
}

/// Whether the engine remembers an out-of-memory event of a container between `since` and `until`.
/// It keeps few events, so no event proves nothing.
pub(super) async fn remembers_oom(
    docker: &Docker,
    id: &str,
    (since, until): (Timestamp, Timestamp),
) -> bool {
    let filters = [("container", vec![id.to_owned()]), ("event", vec!["oom".to_owned()])];
    let second = |at: Timestamp| format!("{}.{:09}", at.as_second(), at.subsec_nanosecond());
    let options = EventsOptionsBuilder::new()
        .since(&second(since))
        .until(&second(until))
        .filters(&filters.into())
        .build();
    let mut events = std::pin::pin!(docker.events(Some(options)));
    matches!(timeout(PAST_TIMEOUT, events.next()).await, Ok(Some(Ok(_))))
}

struct Listener {
    docker: Docker,
    scope: Scope,
    /// From when on events are requested, in seconds. The engine repeats what it remembers, and
    /// seeing an event twice does no harm.
    since: i64,
    connection: Option<BoxStream<'static, Result<EventMessage, Error>>>,
}

/// Events of the scope's containers from now on.
pub(super) fn watch(docker: Docker, scope: Scope, clock: Clock) -> BoxStream<'static, EngineEvent> {
    let since = clock.now().as_second();
    let listener = Listener { docker, scope, since, connection: None };
    stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await;
        Some((event, listener))
    })
    .boxed()
}

impl Listener {
    async fn next(&mut self) -> EngineEvent {
        loop {
            let mut connection = self.connection.take().unwrap_or_else(|| self.dial());
            match connection.next().await {
                Some(Ok(message)) => {
                    self.connection = Some(connection);
                    self.since = message.time.unwrap_or(self.since).max(self.since);
                    if let Some(event) = self.read(&message) {
                        return event;
                    }
                }
                Some(Err(error)) => {
                    info!(error = %ErrorChain(&error), "event stream cut");
                    sleep(REDIAL_INTERVAL).await;
                    return EngineEvent::Missed;
                }
                None => {
                    info!("event stream ended");
                    sleep(REDIAL_INTERVAL).await;
                    return EngineEvent::Missed;
                }
            }
        }
    }

    fn dial(&self) -> BoxStream<'static, Result<EventMessage, Error>> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let filters = [
            ("type", words(&["container"])),
            ("event", words(&["start", "die", "destroy", "oom"])),
            (
                "label",
                vec![
                    format!("{LABEL_CLUSTER}={}", self.scope.cluster()),
                    format!("{LABEL_NODE}={}", self.scope.node()),
                ],
            ),
        ];
        let options = EventsOptionsBuilder::new()
            .since(&self.since.to_string())
            .filters(&filters.into())
            .build();
        // The stream borrows nothing, but its type claims that it borrows the client.
        let docker = self.docker.clone();
        stream::once(async move { docker.events(Some(options)).boxed() }).flatten().boxed()
    }

    fn read(&self, message: &EventMessage) -> Option<EngineEvent> {
        let labels = message.actor.as_ref()?.attributes.as_ref()?;
        self.scope.identity_in(|key| labels.get(key).map(String::as_str)).map(EngineEvent::Changed)
    }
}
