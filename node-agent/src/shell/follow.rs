//! Follows what is bound to this node, and reads the templates of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Kind as _, KindId, ObjectKey, Task, TaskTemplate};
use base::{Backoff, ErrorChain, Rng, Spawner};
use client::Client;
use runtime::{Any, Change, Reflector, Update};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::warn;

use super::Event;
use crate::engine::Identity;
use crate::plan::{Assignment, Template};

/// A time in which the known cluster answers: from one grant of the node lease on.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    /// Only grows.
    pub(super) number: u64,
    /// Speaks to that cluster alone; nothing while another one answers, or none has yet.
    pub(super) client: Option<Client>,
}

/// The tasks that are bound to this node, and their templates.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// Whether the tasks are all there are, as of some moment of this session.
    pub(super) is_complete: bool,
    tasks: BTreeMap<ObjectKey, Arc<Task>>,
    /// Nothing while one is being read.
    templates: BTreeMap<ObjectKey, Option<Template>>,
}

impl Bound {
    /// Takes over news.
    pub(super) fn apply(&mut self, update: Update) {
        match update {
            Update::Reset { objects, .. } => {
                self.tasks.clear();
                objects.into_iter().for_each(|object| self.upsert(object));
                self.is_complete = true;
            }
            Update::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Upsert(object) => self.upsert(object),
                        Change::Remove(_, key) => drop(self.tasks.remove(&key)),
                    }
                }
            }
        }
    }

    fn upsert(&mut self, object: Any) {
        if let Any::Task(task) = object {
            self.tasks.insert(task.key(), task);
        }
    }

    /// Takes over a template that was read.
    pub(super) fn learn(&mut self, key: &ObjectKey, template: Template) {
        if let Some(slot) = self.templates.get_mut(key) {
            *slot = Some(template);
        }
    }

    /// Templates that are needed and were not asked for yet. Others are forgotten.
    pub(super) fn take_missing(&mut self) -> Vec<ObjectKey> {
        let mut needed = BTreeMap::new();
        let mut missing = Vec::new();
        for task in self.tasks.values().filter(|task| !task.has_ended()) {
            let key = template_of(task);
            if needed.contains_key(&key) {
                continue;
            }
            let known = self.templates.remove(&key).unwrap_or_else(|| {
                missing.push(key.clone());
                None
            });
            needed.insert(key, known);
        }
        self.templates = needed;
        missing
    }

    /// The tasks by identity.
    pub(super) fn assignments(&self) -> BTreeMap<Identity, Assignment> {
        let of = |task: &Arc<Task>| {
            let (namespace, name) = (task.namespace(), task.name());
            match Identity::new(namespace, name, task.uid(), task.spec.attempt) {
                Ok(identity) => {
                    let template = self.templates.get(&template_of(task)).cloned().flatten();
                    Some((identity, Assignment { task: Arc::clone(task), template }))
                }
                Err(error) => {
                    warn!(%error, "a task has no usable identity");
                    None
                }
            }
        };
        self.tasks.values().filter_map(of).collect()
    }
}

fn template_of(task: &Task) -> ObjectKey {
    ObjectKey::new(task.namespace(), &*task.spec.template)
}

/// Sends news of tasks that are bound to `node`, from a complete list on for each session.
pub(super) async fn follow(
    node: String,
    rng: Rng,
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
        let mut reflector = Reflector::new(client, &[KindId::Task], &fields, rng.clone());
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

/// Reads a template, however often that takes.
pub(super) fn read_template(
    spawner: &Spawner,
    client: Client,
    key: ObjectKey,
    rng: Rng,
    events: mpsc::Sender<Event>,
) {
    spawner.spawn("template", async move {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rng);
        let template = loop {
            match client.api::<TaskTemplate>(&key.namespace).find(&key.name).await {
                Ok(Some(template)) => break Template::Known(Arc::new(template.spec)),
                Ok(None) => break Template::Missing,
                Err(error) => {
                    if backoff.failures() == 3 {
                        warn!(template = %key, error = %ErrorChain(&error), "cannot read");
                    }
                    sleep(backoff.next_wait()).await;
                }
            }
        };
        // Nobody listens when the agent ends.
        let _stopping = events.send(Event::Template { key, template }).await;
    });
}
