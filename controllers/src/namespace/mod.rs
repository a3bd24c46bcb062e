//! Namespaces: empties a namespace that is being deleted, and then removes it.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::core::Namespace;
use api::object::Kind as _;
use api::{KindId, ObjectKey};
use runtime::{Any, ReconcileError, Requeue, Snapshot};
use tokio::time::Instant;

use crate::action::Group;
use crate::remaining::{Left, Tellings};
use crate::tools::Tools;
use plan::{View, plan};

/// After a look at a namespace that found nothing to do, the next one comes no earlier than this.
/// Each look reads all objects of the namespace, and each object that goes away brings the key
/// back.
const PERIOD: Duration = Duration::from_secs(1);

/// Empties namespaces that are being deleted.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    /// Guards the time of the last look that found nothing to do, for each namespace that is being
    /// deleted. Locked for one look.
    idle: Mutex<BTreeMap<String, Instant>>,
    tellings: Tellings,
}

/// The result of a look at a namespace.
enum Look {
    /// The namespace does not exist, or it is not being deleted.
    None,
    /// It was read a moment ago, and still has objects.
    Later(Duration),
    /// What is to be done, how many objects it has, and when to look again to say what it waits for.
    Plan(Vec<Group>, usize, Duration),
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, idle: Mutex::default(), tellings: Tellings::default() }
    }

    /// For how long a namespace is not read again.
    fn wait(&self, name: &str) -> Duration {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get(name).map_or(Duration::ZERO, |at| PERIOD.saturating_sub(at.elapsed()))
    }

    fn set_idle(&self, name: &str, is_idle: bool) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if is_idle {
            idle.insert(name.to_owned(), Instant::now());
        } else {
            idle.remove(name);
        }
    }

    fn look(&self, snapshot: &Snapshot, name: &str) -> Look {
        let namespace = snapshot.namespaces.get(&ObjectKey::new("", name));
        let Some(namespace) = namespace.filter(|it| it.is_deleting()) else { return Look::None };
        let namespace: &Namespace = namespace;
        let wait = self.wait(name);
        // An empty namespace need not wait, and finding out takes one look-up for each kind.
        if !wait.is_zero() && snapshot.in_namespace(name).next().is_some() {
            return Look::Later(wait);
        }
        let all: Vec<Any> = snapshot.in_namespace(name).collect();
        let held: Vec<Left<'_>> = all.iter().map(Left::of).collect();
        let now = self.tools.clock.now();
        let tells = self.tellings.wait(name, &namespace.metadata, now).is_zero();
        let groups = plan(&View { namespace, held: &held, tells, now });
        if tells {
            self.tellings.told(name);
        }
        Look::Plan(groups, held.len(), self.tellings.wait(name, &namespace.metadata, now))
    }
}

impl runtime::Controller for Controller {
    /// The name of a namespace.
    type Key = String;

    const NAME: &'static str = "namespace";

    fn keys(before: Option<&Any>, now: Option<&Any>, _: &Snapshot) -> Vec<String> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let (kind, key) = (object.kind(), object.key());
        if kind == KindId::Namespace {
            return vec![key.name];
        }
        // This may have been the last object, or one that others were waiting for.
        let may_be_last = now.is_none() && kind.is_namespaced() && !kind.info().internal;
        may_be_last.then_some(key.namespace).into_iter().collect()
    }

    async fn reconcile(&self, name: &String) -> Result<Requeue, ReconcileError> {
        let (groups, wait) = match self.tools.cache.read(|snapshot| self.look(snapshot, name)) {
            Look::None => {
                self.set_idle(name, false);
                self.tellings.forget(name);
                return Ok(Requeue::Gone);
            }
            Look::Later(wait) => return Ok(Requeue::After(wait)),
            Look::Plan(groups, objects, wait) => {
                self.tools.metrics.viewed(Self::NAME, objects + 1);
                (groups, wait)
            }
        };
        self.set_idle(name, groups.is_empty());
        let is_idle = groups.is_empty();
        self.tools.write(Self::NAME, groups).await?;
        // What it waits for may change without an event that brings it back.
        Ok(if is_idle { Requeue::After(wait) } else { Requeue::OnChange })
    }
}
