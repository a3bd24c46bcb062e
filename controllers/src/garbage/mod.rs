//! Garbage: what goes because its owner has gone or is going.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::core::{ConfigMap, Event, Lease, Namespace, Secret};
use api::object::Kind as _;
use api::{
    CompletionChunk, Job, KindId, Node, NodeLease, ObjectKey, PartitionSet, Task, TaskTemplate,
    Workflow, WorkflowRun,
};
use base::ErrorChain;
use client::{Client, Error};
use runtime::{Any, ReconcileError, Requeue, Snapshot};
use tokio::time::Instant;

use crate::tools::Tools;
use plan::{Dependent, Object, Patch, View, old_events, outdated, plan};

/// Removes what nobody needs any more.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    /// Guards when events were looked at last; held for one look.
    events_seen: std::sync::Mutex<Option<Instant>>,
}

/// Events are looked at no more often: each look reads them all.
const EVENTS_PERIOD: std::time::Duration = std::time::Duration::from_secs(60);

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// What an owner of this uid owns.
    Owner(String),
    /// What a job that lives needs no longer.
    Job(ObjectKey),
    /// Old events.
    Events,
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, events_seen: std::sync::Mutex::default() }
    }

    async fn look_at_owner(&self, uid: &str) -> Result<Requeue, ReconcileError> {
        let (owner, dependents) = self.tools.cache.read(|snapshot| {
            let owner = owner_of(snapshot, uid);
            let lives =
                owner.as_ref().is_some_and(|owner| owner.meta().deletion_timestamp.is_none());
            (owner, if lives { Vec::new() } else { dependents_of(snapshot, uid) })
        });
        if owner.is_none() && dependents.is_empty() {
            return Ok(Requeue::Gone);
        }
        let refs: Vec<Dependent<'_>> = dependents
            .iter()
            .map(|any| {
                if let Any::Task(task) = any {
                    Dependent::Task(task)
                } else {
                    Dependent::Other(Object { kind: any.kind(), meta: any.meta() })
                }
            })
            .collect();
        let owner = owner.as_ref().map(|any| Object { kind: any.kind(), meta: any.meta() });
        let lives = owner.is_some_and(|owner| owner.meta.deletion_timestamp.is_none());
        let plan = plan(&View { owner, uid, dependents: &refs });
        self.tools.write("garbage", plan.groups).await?;
        for change in &plan.patches {
            match patch(&self.tools.client, change).await {
                Ok(()) => (),
                // It is gone, or has changed: its event brings the key back.
                Err(Error::Refused(_)) => (),
                Err(error) => return Err(ReconcileError::Again(ErrorChain(&error).to_string())),
            }
        }
        Ok(if lives { Requeue::Gone } else { Requeue::OnChange })
    }

    async fn look_at_job(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let groups = self.tools.cache.read(|snapshot| {
            let job = snapshot.jobs.get(key)?;
            let tasks: Vec<&Task> = snapshot.tasks.of_owner(job.uid()).map(Arc::as_ref).collect();
            let templates: Vec<&TaskTemplate> =
                snapshot.task_templates.of_owner(job.uid()).map(Arc::as_ref).collect();
            let chunks: Vec<&CompletionChunk> =
                snapshot.completion_chunks.of_owner(job.uid()).map(Arc::as_ref).collect();
            Some(outdated(job, &tasks, &templates, &chunks))
        });
        let Some(groups) = groups else { return Ok(Requeue::Gone) };
        self.tools.write("garbage", groups).await?;
        Ok(Requeue::OnChange)
    }

    async fn look_at_events(&self) -> Result<Requeue, ReconcileError> {
        let now = Instant::now();
        {
            let mut seen =
                self.events_seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let wait = seen.map(|last| EVENTS_PERIOD.saturating_sub(now.duration_since(last)));
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                return Ok(Requeue::After(wait));
            }
            *seen = Some(now);
        }
        let groups = self.tools.cache.read(|snapshot| {
            let events: Vec<&Event> = snapshot.events.iter().map(Arc::as_ref).collect();
            old_events(&events, self.tools.clock.now()).0
        });
        self.tools.write("garbage", groups).await?;
        Ok(Requeue::OnChange)
    }
}

impl runtime::Controller for Controller {
    type Key = Key;

    const NAME: &'static str = "garbage";

    fn keys(&self, before: Option<&Any>, now: Option<&Any>) -> Vec<Key> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let mut keys = Vec::new();
        let (meta, kind) = (object.meta(), object.kind());
        let is_going = meta.deletion_timestamp.is_some() || now.is_none();
        if is_going && let Some(uid) = &meta.uid {
            keys.push(Key::Owner(uid.clone()));
        }
        // New, gone, or on its way: its owner may be gone, or wait for it.
        if before.is_none() || is_going {
            let owners = meta.owner_references.iter().flatten();
            keys.extend(owners.map(|owner| Key::Owner(owner.uid.clone())));
            if kind == KindId::CompletionChunk {
                keys.push(Key::Owner(object.key().namespace));
            }
        }
        if let Any::Task(task) = object
            && task.stop().is_some_and(|stop| stop.reason.is_for_good())
            && let Some(owner) = task.controller()
        {
            keys.push(Key::Owner(owner.uid.clone()));
        }
        if kind == KindId::Event && before.is_none() {
            keys.push(Key::Events);
        }
        if let Any::Job(job) = object {
            let was = match before {
                Some(Any::Job(before)) => Some((before.status.run, before.status.phase)),
                _ => None,
            };
            if was != Some((job.status.run, job.status.phase)) {
                keys.push(Key::Job(object.key()));
            }
        }
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, ReconcileError> {
        match key {
            Key::Owner(uid) => self.look_at_owner(uid).await,
            Key::Job(job) => self.look_at_job(job).await,
            Key::Events => self.look_at_events().await,
        }
    }
}

macro_rules! each_kind {
    ($($kind:ident: $table:ident),+ $(,)?) => {
        fn get(snapshot: &Snapshot, kind: KindId, key: &ObjectKey) -> Option<Any> {
            match kind { $(KindId::$kind => snapshot.$table.get(key).cloned().map(Any::$kind),)+ }
        }

        fn dependents_of(snapshot: &Snapshot, uid: &str) -> Vec<Any> {
            let mut all = Vec::new();
            $(all.extend(snapshot.$table.of_owner(uid).cloned().map(Any::$kind));)+
            all
        }

        /// The first thing that an owner owns tells where the owner is.
        fn first_dependent(snapshot: &Snapshot, uid: &str) -> Option<Any> {
            None$(.or_else(|| snapshot.$table.of_owner(uid).next().cloned().map(Any::$kind)))+
        }

        /// An object of any kind with this uid: a look at all objects that may own others.
        fn with_uid(snapshot: &Snapshot, uid: &str) -> Option<Any> {
            let has = |object: &Any| object.meta().uid.as_deref() == Some(uid);
            let workflows = snapshot.workflows.iter().cloned().map(Any::Workflow);
            let runs = snapshot.workflow_runs.iter().cloned().map(Any::WorkflowRun);
            let jobs = snapshot.jobs.iter().cloned().map(Any::Job);
            workflows.chain(runs).chain(jobs).find(has)
        }

        async fn patch(client: &Client, patch: &Patch) -> Result<(), Error> {
            let Patch { kind, key, body } = patch;
            match kind {
                $(KindId::$kind => {
                    client.api::<$kind>(&key.namespace).merge_patch(&key.name, body).await.map(drop)
                })+
            }
        }
    };
}

each_kind!(
    WorkflowRun: workflow_runs,
    Job: jobs,
    TaskTemplate: task_templates,
    Task: tasks,
    Workflow: workflows,
    CompletionChunk: completion_chunks,
    PartitionSet: partition_sets,
    Node: nodes,
    NodeLease: node_leases,
    Namespace: namespaces,
    ConfigMap: config_maps,
    Secret: secrets,
    Event: events,
    Lease: leases,
);

fn owner_of(snapshot: &Snapshot, uid: &str) -> Option<Any> {
    let named = first_dependent(snapshot, uid).and_then(|dependent| {
        let owners = dependent.meta().owner_references.clone().unwrap_or_default();
        owners.into_iter().find(|owner| owner.uid == uid).map(|owner| (dependent.key(), owner))
    });
    let Some((dependent, owner)) = named else { return with_uid(snapshot, uid) };
    let kind = KindId::from_manifest(&owner.api_version, &owner.kind)?;
    let namespace = if kind.is_namespaced() { dependent.namespace } else { String::new() };
    let found = get(snapshot, kind, &ObjectKey::new(namespace, owner.name))?;
    (found.meta().uid.as_deref() == Some(uid)).then_some(found)
}
