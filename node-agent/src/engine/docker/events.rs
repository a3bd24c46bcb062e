//! The Docker Engine's event stream, dialled again when it is cut.

use std::time::Duration;

use base::{Clock, ErrorChain};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::time::sleep;
use tracing::info;

use crate::engine::{EngineEvent, LABEL_CLUSTER, LABEL_NODE, Scope};

/// How long to wait before dialling an engine that hung up.
const REDIAL_INTERVAL: Duration = Duration::from_secs(1);

struct Listener {
    docker: Docker,
    scope: Scope,
    /// From when on events are wanted, in seconds: the engine repeats what it remembers, and
    /// hearing twice of a change does no harm.
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
        // The stream borrows nothing, but its type says that it borrows the client.
        let docker = self.docker.clone();
        stream::once(async move { docker.events(Some(options)).boxed() }).flatten().boxed()
    }

    fn read(&self, message: &EventMessage) -> Option<EngineEvent> {
        let labels = message.actor.as_ref()?.attributes.as_ref()?;
        self.scope.identity_in(|key| labels.get(key).map(String::as_str)).map(EngineEvent::Changed)
    }
}
