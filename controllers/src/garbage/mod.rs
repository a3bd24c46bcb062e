//! Garbage collection: removes objects whose owner is gone or is being deleted.

pub mod circle;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use api::object::Kind as _;
use api::owner::OWNERS;
use api::{CompletionChunk, KindId, ObjectKey, ObjectMeta, Task, TaskTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use runtime::{Any, ReconcileError, Requeue, Snapshot};

use crate::action::Group;
use crate::remaining::{Left, Remaining, Tellings};
use crate::tools::Tools;
use circle::{Link, waits_for_dependents};
use plan::{
    Dependent, Object, Outdated, ROUND_OPS_MAX, View, finish, is_concerned, is_foreground,
    is_orphan, orphaned, outdated, plan, wants_every_dependent,
};

/// Removes what is no longer needed.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    tellings: Tellings,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The dependents of an owner, other than completion records.
    Owner(Owner),
    /// The completion record of the job with this uid. It is removed once the job is gone.
    Record(String),
    /// A task that is being deleted.
    Task(ObjectKey),
    /// A template that may have lost its owner, and later its last task.
    Template(ObjectKey),
    /// What a job that still exists no longer needs.
    Job(ObjectKey),
}

/// An owner, as its dependents refer to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    kind: KindId,
    key: ObjectKey,
    uid: String,
}

impl Owner {
    /// The owner that a reference means, in an object in `namespace` (empty for a cluster-wide
    /// kind). `None` if it cannot be looked up: it has an unknown, newer kind, or it is in a
    /// namespace while the dependent is in none. Such an owner counts as existing.
    fn named(reference: &OwnerReference, namespace: &str) -> Option<Self> {
        let kind = KindId::from_manifest(&reference.api_version, &reference.kind)?;
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        if kind.is_namespaced() && namespace.is_empty() {
            return None;
        }
        let key = ObjectKey::new(namespace, &*reference.name);
        Some(Self { kind, key, uid: reference.uid.clone() })
    }

    /// Whether an object refers to exactly this owner. A reference with the uid of an existing
    /// owner but with another name or kind refers to an owner that does not exist. The existing
    /// owner is not affected by it.
    fn is_named_by(&self, any: &Any) -> bool {
        let namespace = any.key().namespace;
        let references = any.meta().owner_references.iter().flatten();
        let mut same_uid = references.filter(|reference| reference.uid == self.uid);
        same_uid.any(|it| Self::named(it, &namespace).as_ref() == Some(self))
    }

    fn find(&self, snapshot: &Snapshot) -> Option<Any> {
        let found = snapshot.get(self.kind, &self.key)?;
        (found.meta().uid.as_deref() == Some(&*self.uid)).then_some(found)
    }
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, tellings: Tellings::default() }
    }

    async fn look_at_owner(&self, key: &Owner) -> Result<Requeue, ReconcileError> {
        let read = self.tools.cache.read(|snapshot| {
            let owner = key.find(snapshot);
            if owner.as_ref().is_some_and(|owner| owner.meta().deletion_timestamp.is_none()) {
                return None;
            }
            // Usually the first one says so.
            if owner.is_none() && !snapshot.dependents(&key.uid).any(|any| key.is_named_by(&any)) {
                return None;
            }
            // If there are many, the rest comes in the next rounds, without reading any of them
            // twice.
            let (object_of, uid) = (owner.as_ref().map(object), key.uid.as_str());
            let mut read = 0;
            let found: Vec<Found> = dependents(snapshot, object_of, uid)
                .inspect(|_| read += 1)
                .filter(|any| key.is_named_by(any))
                .map(|any| Found::of(snapshot, any, key))
                .filter(|found| is_concerned(object_of, uid, &found.as_dependent()))
                .take(ROUND_OPS_MAX)
                .collect();
            let dependents: Vec<Dependent<'_>> = found.iter().map(Found::as_dependent).collect();
            let circle = owner.as_ref().and_then(|owner| circle::cut(owner, find_owner(snapshot)));
            let circle = circle
                .as_ref()
                .map(|link| Link { dependent: object(&link.dependent), owner: link.owner.clone() });
            let blocking = snapshot.blocking_dependents(uid);
            let waits = object_of.filter(|owner| blocking > 0 && is_foreground(owner));
            let remaining = waits.and_then(|owner| self.remaining(snapshot, key, owner.meta));
            let groups = plan(&View {
                owner: object_of,
                uid,
                dependents: &dependents,
                blocking,
                circle: circle.as_ref(),
                remaining: remaining.as_ref(),
            });
            let again =
                waits.map(|owner| self.tellings.wait(&key.uid, owner.meta, self.tools.clock.now()));
            Some((groups, dependents.len(), read, again))
        });
        let Some((groups, concerned, read, again)) = read else {
            self.tellings.forget(&key.uid);
            return Ok(Requeue::Gone);
        };
        self.tools.metrics.viewed("garbage", read);
        Ok(match (self.round(groups, concerned).await?, again) {
            // What it waits for may change without an event that brings it back.
            (Requeue::OnChange, Some(wait)) => Requeue::After(wait),
            (requeue, _) => requeue,
        })
    }

    /// What the deletion of an owner waits for, if it may be said now.
    fn remaining(&self, snapshot: &Snapshot, key: &Owner, meta: &ObjectMeta) -> Option<Remaining> {
        if !self.tellings.wait(&key.uid, meta, self.tools.clock.now()).is_zero() {
            return None;
        }
        self.tellings.told(&key.uid);
        let blocks = |any: &Any| {
            let owners = any.meta().owner_references.iter().flatten();
            let mut owners = owners.filter(|owner| owner.uid == key.uid);
            owners.any(|owner| owner.block_owner_deletion == Some(true)) && key.is_named_by(any)
        };
        // Of many, the first ones say what it is that does not go.
        let found: Vec<Any> =
            snapshot.dependents(&key.uid).filter(blocks).take(ROUND_OPS_MAX).collect();
        let more = snapshot.blocking_dependents(&key.uid).saturating_sub(found.len());
        Some(Remaining::of(found.iter().map(Left::of), more))
    }

    /// Writes the groups of a plan that was made for this many objects.
    async fn round(&self, groups: Vec<Group>, objects: usize) -> Result<Requeue, ReconcileError> {
        self.tools.write("garbage", groups).await?;
        // The changes to the first ones need not cause an event soon, and nothing else brings up
        // the rest.
        let is_cut = objects >= ROUND_OPS_MAX;
        Ok(if is_cut { Requeue::After(Duration::ZERO) } else { Requeue::OnChange })
    }

    async fn look_at_record(&self, uid: &str) -> Result<Requeue, ReconcileError> {
        let found: Vec<Found> = self.tools.cache.read(|snapshot| {
            if snapshot.job_with_uid(uid).is_some() {
                return Vec::new();
            }
            let chunks = snapshot.completion_chunks.staying_dependents(uid).cloned();
            let found = chunks.take(ROUND_OPS_MAX).map(Any::CompletionChunk);
            found.map(|any| Found { any, is_kept: false, owns: false }).collect()
        });
        if found.is_empty() {
            return Ok(Requeue::Gone);
        }
        let dependents: Vec<Dependent<'_>> = found.iter().map(Found::as_dependent).collect();
        let view = View {
            owner: None,
            uid,
            dependents: &dependents,
            blocking: 0,
            circle: None,
            remaining: None,
        };
        self.tools.metrics.viewed("garbage", dependents.len());
        self.round(plan(&view), dependents.len()).await
    }

    /// The controller of a job or a service removes its tasks when they have ended, and an owner that
    /// is gone or being deleted has a key of its own. All other tasks are removed here.
    async fn look_at_task(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let action = self.tools.cache.read(|snapshot| {
            let task = snapshot.tasks.get(key).filter(|task| task.is_deleting())?;
            let by_owner = task
                .controller()
                .and_then(|owner| Owner::named(owner, task.namespace()))
                .filter(|owner| OWNERS.contains(&owner.kind))
                .and_then(|owner| owner.find(snapshot))
                .is_some_and(|owner| owner.meta().deletion_timestamp.is_none());
            (!by_owner).then(|| finish(task)).flatten()
        });
        self.tools.write("garbage", action.into_iter().map(Group::from).collect()).await?;
        Ok(Requeue::Gone)
    }

    async fn look_at_template(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let groups = self.tools.cache.read(|snapshot| {
            let template = snapshot.task_templates.get(key)?;
            Some(orphaned(template, snapshot.template_users(key)))
        });
        self.tools.write("garbage", groups.unwrap_or_default()).await?;
        Ok(Requeue::Gone)
    }

    async fn look_at_job(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let read = self.tools.cache.read(|snapshot| {
            let job = snapshot.jobs.get(key)?;
            let templates: Vec<&TaskTemplate> =
                snapshot.task_templates.of_owner(job.uid()).map(Arc::as_ref).collect();
            let chunks: Vec<&CompletionChunk> =
                snapshot.completion_chunks.of_owner(job.uid()).map(Arc::as_ref).collect();
            let (groups, is_more_later) = outdated(&Outdated {
                job,
                templates: &templates,
                chunks: &chunks,
                is_used: &|template| snapshot.template_users(&template.key()) > 0,
                has_tasks_of: &|run| snapshot.has_tasks_of_run(job.uid(), run),
            });
            // The last task of an earlier run or template brings the key back: see `keys_of_task`.
            let requeue = match (groups.is_empty(), is_more_later) {
                (false, _) => Requeue::After(Duration::ZERO),
                (true, true) if job.status.phase.is_final() => Requeue::AtRest,
                (true, true) => Requeue::OnChange,
                (true, false) => Requeue::Gone,
            };
            Some((groups, templates.len() + chunks.len() + 1, requeue))
        });
        let Some((groups, objects, requeue)) = read else { return Ok(Requeue::Gone) };
        self.tools.metrics.viewed("garbage", objects);
        self.tools.write("garbage", groups).await?;
        Ok(requeue)
    }
}

/// The dependents of an owner, of which some may need a change.
fn dependents<'a>(
    snapshot: &'a Snapshot,
    owner: Option<Object<'_>>,
    uid: &'a str,
) -> Box<dyn Iterator<Item = Any> + 'a> {
    if wants_every_dependent(owner) {
        Box::new(snapshot.dependents(uid))
    } else {
        Box::new(snapshot.staying_dependents(uid))
    }
}

/// A dependent, shared with the cache, and what else in the cache matters to it.
struct Found {
    any: Any,
    is_kept: bool,
    owns: bool,
}

impl Found {
    /// A dependent of `owner`.
    fn of(snapshot: &Snapshot, any: Any, owner: &Owner) -> Self {
        let namespace = any.key().namespace;
        // An object does not keep itself alive.
        let own_uid = any.meta().uid.as_deref().filter(|uid| !uid.is_empty());
        let others = any.meta().owner_references.iter().flatten();
        let others = others.filter(|it| it.uid != owner.uid && own_uid != Some(&*it.uid));
        let is_kept = others.into_iter().any(|reference| {
            let Some(owner) = Owner::named(reference, &namespace) else { return true };
            owner.find(snapshot).is_some_and(|owner| !waits_for_dependents(owner.meta()))
        });
        let owns = own_uid.is_some_and(|uid| snapshot.dependents(uid).next().is_some());
        Self { any, is_kept, owns }
    }

    fn as_dependent(&self) -> Dependent<'_> {
        Dependent {
            object: object(&self.any),
            task: as_task(&self.any),
            is_kept: self.is_kept,
            owns: self.owns,
        }
    }
}

fn object(any: &Any) -> Object<'_> {
    Object { kind: any.kind(), meta: any.meta() }
}

fn find_owner(snapshot: &Snapshot) -> impl Fn(&Any, &OwnerReference) -> Option<Any> {
    |any, reference| Owner::named(reference, &any.key().namespace)?.find(snapshot)
}

/// The keys that a change of a task concerns, beyond those of any object.
fn keys_of_task(before: Option<&Task>, now: Option<&Task>, keys: &mut Vec<Key>) {
    let Some(task) = now.or(before) else { return };
    if now.is_some() && task.is_deleting() {
        keys.push(Key::Task(task.key()));
    }
    let template = |task: &Task| ObjectKey::new(task.namespace(), &*task.spec.template);
    let left = before.filter(|before| {
        now.is_none_or(|now| {
            now.spec.template != before.spec.template || now.spec.run != before.spec.run
        })
    });
    // It may have been the last task of its template or run.
    if let Some(before) = left {
        keys.push(Key::Template(template(before)));
        if let Some(job) = before.controller().filter(|it| it.kind == KindId::Job.info().kind) {
            keys.push(Key::Job(ObjectKey::new(before.namespace(), &*job.name)));
        }
    }
}

fn as_task(any: &Any) -> Option<&Task> {
    if let Any::Task(task) = any { Some(task) } else { None }
}

/// Whether a task has just released its node, which its owner may be waiting for.
fn has_let_go(before: Option<&Any>, now: Option<&Any>) -> bool {
    let takes = |any: Option<&Any>| {
        any.and_then(as_task).is_some_and(|task| task.takes_resources_on().is_some())
    };
    takes(before) && !takes(now)
}

impl runtime::Controller for Controller {
    type Key = Key;

    const NAME: &'static str = "garbage";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<Key> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let mut keys = Vec::new();
        let (meta, kind, key) = (object.meta(), object.kind(), object.key());
        let is_going = meta.deletion_timestamp.is_some() || now.is_none();
        if is_going && let Some(uid) = meta.uid.as_ref().filter(|uid| !uid.is_empty()) {
            keys.push(Key::Owner(Owner { kind, key: key.clone(), uid: uid.clone() }));
            if kind == KindId::Job {
                keys.push(Key::Record(uid.clone()));
            }
        }
        // It is new, gone, or about to go: its owners may be gone, or waiting for it. Or its owners
        // have changed: the old ones may have been waiting for that.
        let is_disowned = |before: &&Any| before.meta().owner_references != meta.owner_references;
        let disowned = before.filter(is_disowned);
        let concerned =
            before.is_none() || is_going || disowned.is_some() || has_let_go(before, now);
        let named = concerned.then_some(object).into_iter().chain(disowned);
        let named = named.flat_map(|object| object.meta().owner_references.iter().flatten());
        let owners = named.filter_map(|it| Owner::named(it, &key.namespace));
        // An owner that stays is not affected by what happens to its dependents, such as tasks that
        // end. It gets a key of its own when it is deleted.
        let stays = |owner: &Any| owner.meta().deletion_timestamp.is_none();
        let owners = owners.filter(|owner| !owner.find(snapshot).is_some_and(|it| stays(&it)));
        keys.extend(owners.map(Key::Owner));
        if kind == KindId::CompletionChunk && (before.is_none() || is_going) {
            keys.push(Key::Record(key.namespace.clone()));
        }
        keys_of_task(before.and_then(as_task), now.and_then(as_task), &mut keys);
        if let Any::TaskTemplate(template) = object
            && is_orphan(template)
        {
            keys.push(Key::Template(key.clone()));
        }
        if let Some(Any::Job(job)) = now {
            let was = before.and_then(|before| {
                let Any::Job(before) = before else { return None };
                Some((before.status.run, before.status.phase))
            });
            if was != Some((job.status.run, job.status.phase)) {
                keys.push(Key::Job(key));
            }
        }
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, ReconcileError> {
        match key {
            Key::Owner(owner) => self.look_at_owner(owner).await,
            Key::Record(uid) => self.look_at_record(uid).await,
            Key::Task(task) => self.look_at_task(task).await,
            Key::Template(template) => self.look_at_template(template).await,
            Key::Job(job) => self.look_at_job(job).await,
        }
    }
}
