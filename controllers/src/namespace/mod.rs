//! Namespaces: one that is deleted loses what it holds, and then goes.

pub mod plan;
#[cfg(test)]
mod tests;

use api::core::Namespace;
use api::object::Kind as _;
use api::{KindId, ObjectKey};
use runtime::{Any, ReconcileError, Requeue};

use crate::tools::Tools;
use plan::{Held, View, plan};

/// Empties namespaces that are being deleted.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools }
    }
}

impl runtime::Controller for Controller {
    /// The name of a namespace.
    type Key = String;

    const NAME: &'static str = "namespace";

    fn keys(&self, before: Option<&Any>, now: Option<&Any>) -> Vec<String> {
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
        let groups = self.tools.cache.read(|snapshot| {
            let namespace: &Namespace = snapshot.namespaces.get(&ObjectKey::new("", &**name))?;
            if !namespace.is_deleting() {
                return None;
            }
            let all: Vec<Any> = snapshot.in_namespace(name).collect();
            let held: Vec<Held<'_>> =
                all.iter().map(|any| Held { kind: any.kind(), meta: any.meta() }).collect();
            Some(plan(&View { namespace, held: &held }))
        });
        let Some(groups) = groups else { return Ok(Requeue::Gone) };
        self.tools.write(Self::NAME, groups).await?;
        Ok(Requeue::OnChange)
    }
}
