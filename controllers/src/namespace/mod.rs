//! Namespaces: one that is deleted loses what it holds, and then goes.

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
use crate::tools::Tools;
use plan::{Held, View, plan};

/// Between two looks at one namespace of which the first left nothing to do passes at least this: each
/// reads all that is in it, and each of the objects that go brings it back here.
const PERIOD: Duration = Duration::from_secs(1);

/// Empties namespaces that are being deleted.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    /// Guards when each namespace that is being deleted was read without anything to do; held for one
    /// look.
    idle: Mutex<BTreeMap<String, Instant>>,
}

/// What became of a look at a namespace.
enum Look {
    /// There is no such namespace, or it stays.
    None,
    /// It was read a moment ago, and holds something still.
    Later(Duration),
    /// What is to be done, and how many objects it holds.
    Plan(Vec<Group>, usize),
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, idle: Mutex::default() }
    }

    /// How long a namespace is not read again.
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
        // Once it is empty, which is found by one step of each kind, it waits for nothing.
        if !wait.is_zero() && snapshot.in_namespace(name).next().is_some() {
            return Look::Later(wait);
        }
        let all: Vec<Any> = snapshot.in_namespace(name).collect();
        let held: Vec<Held<'_>> =
            all.iter().map(|any| Held { kind: any.kind(), meta: any.meta() }).collect();
        Look::Plan(plan(&View { namespace, held: &held }), held.len())
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
        // The last object may have gone, or one of which others waited for its end.
        let may_be_last = now.is_none() && kind.is_namespaced() && !kind.info().internal;
        may_be_last.then_some(key.namespace).into_iter().collect()
    }

    async fn reconcile(&self, name: &String) -> Result<Requeue, ReconcileError> {
        let groups = match self.tools.cache.read(|snapshot| self.look(snapshot, name)) {
            Look::None => {
                self.set_idle(name, false);
                return Ok(Requeue::Gone);
            }
            Look::Later(wait) => return Ok(Requeue::After(wait)),
            Look::Plan(groups, objects) => {
                self.tools.metrics.viewed(Self::NAME, objects + 1);
                groups
            }
        };
        self.set_idle(name, groups.is_empty());
        self.tools.write(Self::NAME, groups).await?;
        Ok(Requeue::OnChange)
    }
}
