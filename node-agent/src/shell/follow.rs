//! Follows the tasks that are bound to this node, and reads their templates.

use std::sync::Arc;
use std::time::Duration;

use api::{KindId, ObjectKey, TaskTemplate};
use base::{Backoff, ErrorChain, Health, Retry, Rng, Spawner};
use client::Client;
use runtime::Reflector;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::Event;
use crate::plan::Template;

/// A time during which the known cluster answers. It begins with a grant of the node lease.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    /// Number of the session. It only grows.
    pub(super) number: u64,
    /// A client for that cluster alone; `None` while another cluster answers, or none has yet.
    pub(super) client: Option<Client>,
}

/// Sends updates of the tasks that are bound to `node`, beginning with a complete list in each
/// session.
pub(super) async fn follow(
    node: String,
    (rng, health): (Rng, Health),
    mut sessions: watch::Receiver<Session>,
    events: mpsc::Sender<Event>,
) {
    let fields = format!("spec.nodeName={node}");
    loop {
        let Session { number: session, client } = sessions.borrow_and_update().clone();
        let Some(client) = client else {
            if sessions.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut reflector = Reflector::new(client, &[KindId::Task], &fields, rng.clone())
            .shown_in(rng.clone(), &health);
        loop {
            let update = tokio::select! {
                biased;
                changed = sessions.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                update = reflector.next() => update,
            };
            if events.send(Event::Tasks { session, update }).await.is_err() {
                return;
            }
        }
    }
}

/// Reads a template and repeats that until it succeeds.
pub(super) fn read_template(
    spawner: &Spawner,
    client: Client,
    key: ObjectKey,
    (rng, health): (Rng, Health),
    events: mpsc::Sender<Event>,
) {
    spawner.spawn_awaited("template", async move {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rng);
        let mut retry = Retry::aside("reading a task template", backoff, &health);
        let template = loop {
            match client.api::<TaskTemplate>(&key.namespace).find(&key.name).await {
                Ok(Some(template)) => break Template::Known(Arc::new(template.spec)),
                Ok(None) => break Template::Missing,
                Err(error) => {
                    let why = format!("{key}: {}", ErrorChain(&error));
                    sleep(retry.failed_because(&why)).await;
                }
            }
        };
        // The receiver is closed when the agent ends.
        let _stopping = events.send(Event::Template { key, template }).await;
    });
}
