//! Making, replacing and patching objects of any kind.

use std::sync::Arc;

use api::labels::SYSTEM_NAMESPACE;
use api::owner::OWNERS;
use api::patch::{Patch, PatchError};
use api::resource_version::ResourceVersion;
use api::status::{Mistake, Refusal, Why};
use api::verb::Subresource;
use api::workflow_run::misfits;
use api::{KindId, ObjectKey, Timestamp, Violation, WorkflowRun, key_order, meaning};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::Deserialize;
use serde_json::Value;
use store::{Change, Expectation, Write};

use super::facts::{Current, Facts, absent, make, text};
use super::new::{New, controller_of};
use super::owner::Owner;
use super::record::bit_guard;
use super::refusals::{conflict, not_found};
use super::{Answer, Document, Part, Prepared, Repeatable, fixed};
use crate::kinds::strip_wire;
use crate::{carried, encoding, keys, kinds};

/// Finalizers that are understood.
const FINALIZERS: [&str; 2] = [api::labels::FINALIZER_FOREGROUND, api::labels::FINALIZER_ORPHAN];

pub(super) fn create(
    (kind, key): (KindId, &ObjectKey),
    object: &New,
    repeatable: Repeatable,
    facts: &mut Facts<'_>,
) -> Result<Prepared, Refusal> {
    if kind == KindId::Event && facts.has_too_many_events() {
        return Err(too_many_events(key));
    }
    let store_key = keys::object(kind, key);
    let mut prepared = Prepared::default();
    if let Some(current) = facts.at(&store_key) {
        let there = current.object();
        let controller = object.controller();
        let controller = controller.as_ref().map(|owner| owner.uid.as_str());
        // Its owner may have made it in another way than this: a person's run of a workflow bears the
        // next number, too, and not the label of a revision.
        let same = controller.is_some()
            && controller == controller_uid(&there)
            && object.labels() == there["metadata"]["labels"];
        if repeatable == Repeatable::BySameController && same && !current.is_deleting() {
            prepared.seen = current.version;
            return Ok(prepared);
        }
        let message = format!("{} {:?} already exists", kind.info().plural, key.name);
        return Err(Refusal::new(Why::Exists, message).about(kind, &key.name));
    }
    if kind.is_namespaced() {
        let namespace = ObjectKey::new("", &*key.namespace);
        let Some(current) = facts.object(KindId::Namespace, &namespace) else {
            return Err(not_found(KindId::Namespace, &key.namespace));
        };
        if current.is_deleting() {
            return Err(terminating(kind, key));
        }
        // Guarded on not having changed at all: so a create that is under way while the namespace
        // is marked for deletion is refused, and what is empty after the mark stays empty. Many
        // creates share this guard in a transaction, and a namespace hardly ever changes.
        prepared.guards.push(current.unchanged(keys::object(KindId::Namespace, &namespace)));
    }
    if matches!(kind, KindId::Task | KindId::TaskTemplate) {
        guard_owner((kind, key), object, facts, &mut prepared)?;
    }
    // A controller's run fails by itself with the same words, which its workflow then shows.
    if let New::Document(object) = object
        && kind == KindId::WorkflowRun
        && repeatable == Repeatable::No
    {
        check_params_of_run(key, object, facts, &mut prepared)?;
    }
    let stored = object.stored();
    prepared.writes.push(make(store_key.clone(), stored.clone()));
    if let New::Document(object) = object {
        guard_leader(kind, key, object, facts, &mut prepared);
        if OWNERS.contains(&kind) {
            facts.make(&store_key, text(object, "uid"));
        }
    }
    prepared.answer = Some(Answer {
        kind,
        key: store_key,
        object: Document::Stored(stored),
        version: ResourceVersion::default(),
    });
    Ok(prepared)
}

/// So that what is removed keeps up with what is taken.
fn too_many_events(key: &ObjectKey) -> Refusal {
    let message = "there are too many events: the oldest are being removed; try again later";
    Refusal::new(Why::Busy, message).about(KindId::Event, &key.name)
}

/// Nothing is made in a namespace that is being deleted. As Kubernetes says it.
fn terminating(kind: KindId, key: &ObjectKey) -> Refusal {
    let message = format!(
        "{} {:?} is forbidden: unable to create new content in namespace {} because it is being \
         terminated",
        kind.info().plural,
        key.name,
        key.namespace
    );
    let cause = StatusCause {
        reason: Some("NamespaceTerminating".to_owned()),
        message: Some(format!("namespace {} is being terminated", key.namespace)),
        field: Some("metadata.namespace".to_owned()),
    };
    Refusal::new(Why::Forbidden, message).about(kind, &key.name).with_cause(cause)
}

/// A run is given parameters that its workflow takes, and that make valid jobs. Where there is no
/// workflow, which the store is to say, the run waits for it and is looked at then. A workflow that
/// changes later needs no guard: a run that no longer fits it fails when it begins.
fn check_params_of_run(
    key: &ObjectKey,
    object: &Value,
    facts: &mut Facts<'_>,
    prepared: &mut Prepared,
) -> Result<(), Refusal> {
    let Ok(run) = WorkflowRun::deserialize(object) else { return Ok(()) };
    let name = ObjectKey::new(&*key.namespace, &*run.spec.workflow);
    let Some(current) = facts.object(KindId::Workflow, &name) else {
        prepared.guards.push(absent(keys::object(KindId::Workflow, &name)));
        return Ok(());
    };
    if current.is_deleting() {
        return Ok(());
    }
    let found = misfits(&run, &current.workflow()?.spec);
    if found.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(KindId::WorkflowRun, &key.name, &found))
}

/// The create of a task or a template is guarded on its owner, and a task's on its bit of the owner's
/// completion record, where there is one: a stale controller cannot make finished work run again.
fn guard_owner(
    (kind, key): (KindId, &ObjectKey),
    object: &New,
    facts: &mut Facts<'_>,
    prepared: &mut Prepared,
) -> Result<(), Refusal> {
    let refuse = |why: String| conflict(kind, &key.name, why);
    let controller = object.controller();
    let Some(owner) = Owner::of_new((kind, key), controller.as_deref())? else { return Ok(()) };
    // If the same group creates the owner, no guard is needed: a group happens as a whole or not at all.
    if !facts.makes(&owner.store_key, owner.uid) {
        let Some(living) = owner.living(facts) else {
            let (owner_kind, name) = (owner.kind.info().singular, owner.name);
            return Err(refuse(format!(
                "the {}'s {owner_kind} {name:?} is gone",
                kind.info().singular
            )));
        };
        prepared.guards.push(living.alive(Arc::clone(&owner.store_key)));
    }
    if kind == KindId::Task && owner.rules.keeps_record {
        let work = object.work().map_err(|error| refuse(error.to_string()))?;
        prepared.guards.push(bit_guard(owner.uid, work.run, work.index, facts)?);
    }
    Ok(())
}

pub(super) fn replace(
    (kind, key): (KindId, &ObjectKey),
    object: Value,
    part: Part,
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    let Some(current) = facts.object(kind, key) else {
        return Err(not_found(kind, &key.name));
    };
    // As in Kubernetes that is the writer's choice, but for a Lease, over which several contend: who takes
    // one blindly has it beside the one who holds it.
    if kind == KindId::Lease && names_no_version(&object) {
        let violation =
            Violation::new("metadata.resourceVersion", "must be specified for an update")
                .hint("read the object, and send it back with your change");
        return Err(Refusal::invalid(kind, &key.name, &[violation]));
    }
    change((kind, key), &current, (object, part, Sent::Whole), facts, now)
}

fn names_no_version(object: &Value) -> bool {
    match object["metadata"].get("resourceVersion") {
        None | Some(Value::Null) => true,
        Some(named) => named.as_str() == Some(""),
    }
}

pub(super) fn patch(
    (kind, key): (KindId, &ObjectKey),
    patch: &Patch,
    part: Part,
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    let Some(current) = facts.object(kind, key) else {
        return Err(not_found(kind, &key.name));
    };
    let mut object = current.object();
    // A patch may test the version that it was made for.
    object["metadata"]["resourceVersion"] = current.version.to_string().into();
    patch.apply(&mut object).map_err(|error| {
        let reason = match error {
            PatchError::Malformed(_) => Why::Mistaken(Mistake::Request),
            PatchError::TooLarge(_) => Why::TooLarge,
            PatchError::Inapplicable(_) => Why::Invalid,
        };
        Refusal::new(reason, error.to_string()).about(kind, &key.name)
    })?;
    change((kind, key), &current, (object, part, Sent::Patched), facts, now)
}

/// How an object came that is to be put in the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// As a whole. Who sends it without fields that this version does not know need not know them
    /// either: they stay.
    Whole,
    /// As a patch, which removes what it names.
    Patched,
}

/// Puts `object` in the place of `current`, as far as `part` goes.
fn change(
    (kind, key): (KindId, &ObjectKey),
    current: &Current,
    (mut object, part, sent): (Value, Part, Sent),
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    let store_key = keys::object(kind, key);
    let before = current.object();
    fixed::hold((kind, key), (current, &before), &mut object)?;
    check_version((kind, key), current, &object)?;
    strip_wire(kind, &mut object);
    let known = current.may_have_more().then(|| (kinds::strategy(kind).normal)(before.clone()));
    let mut next = match known {
        Some(Ok(known)) => admit_known((kind, key), (&before, &known), (object, part, sent))?,
        // What this version cannot read is replaced as a whole.
        Some(Err(_)) | None => {
            admit_change((kind, key), &before, part.taken(kind, &before, object))?
        }
    };
    if part == Part::Spec
        && let (Some(old), Some(new)) = (before.get("spec"), next.get_mut("spec"))
    {
        key_order::keep(old, new);
    }
    let mut next = with_generation(kind, &before, next);
    if let Some(settle) = kinds::strategy(kind).settle {
        next = settle(next, Some(&before), now);
    }
    if matches!(kind, KindId::Task | KindId::TaskTemplate) {
        let controller = controller_of(&next);
        if controller != controller_of(&before) {
            Owner::of_new((kind, key), controller.as_ref())?;
        }
    }
    let stored = encoding::encode(&next);
    let mut prepared = Prepared::default();
    // A task goes when it has let go of its node, a namespace when nothing is left in it.
    let gone = current.is_deleting()
        && finalizers(&next).is_empty()
        && !matches!(kind, KindId::Task | KindId::Namespace);
    if gone {
        prepared.writes.push(current.delete(store_key.clone()));
    } else if next != before {
        if kind == KindId::Event && stored.len() > current.bytes() && facts.has_too_many_events() {
            return Err(too_many_events(key));
        }
        prepared.writes.push(current.put(store_key.clone(), stored.clone()));
        guard_leader(kind, key, &next, facts, &mut prepared);
    }
    let object = Document::Stored(stored);
    prepared.answer = Some(Answer { kind, key: store_key, object, version: current.version });
    Ok(prepared)
}

/// Whether the object is still at the point that the writer has read, if it names one.
fn check_version(
    (kind, key): (KindId, &ObjectKey),
    current: &Current,
    object: &Value,
) -> Result<(), Refusal> {
    if names_no_version(object) {
        return Ok(());
    }
    let named = &object["metadata"]["resourceVersion"];
    let version = named.as_str().and_then(|text| text.parse::<ResourceVersion>().ok());
    let Some(version) = version else {
        let named: String = named.to_string().chars().take(100).collect();
        let message = format!("invalid resourceVersion {named}; send it back as you read it");
        return Err(Refusal::new(Why::Mistaken(Mistake::Request), message).about(kind, &key.name));
    };
    if version.revision() != current.modified().0 {
        let why = "the object has changed since it was read; read it again";
        return Err(conflict(kind, &key.name, why));
    }
    Ok(())
}

/// The old object with the new status.
fn with_status(old: &Value, mut new: Value) -> Value {
    let mut next = old.clone();
    match new.get_mut("status").map(Value::take) {
        Some(status) if !status.is_null() => next["status"] = status,
        _ => drop(next.as_object_mut().map(|fields| fields.shift_remove("status"))),
    }
    next
}

/// What an object is to be, where this version may not know all that is there: it reads `known` of
/// `before`. The change is held against what it knows. The rest neither meets its rules, nor is lost.
fn admit_known(
    (kind, key): (KindId, &ObjectKey),
    (before, known): (&Value, &Value),
    (object, part, sent): (Value, Part, Sent),
) -> Result<Value, Refusal> {
    let of_known = carried::over(known.clone(), before, &object);
    let asked = part.taken(kind, known, of_known);
    let admitted = admit_change((kind, key), known, asked.clone())?;
    Ok(match sent {
        Sent::Whole => carried::over(before.clone(), known, &admitted),
        Sent::Patched => carried::over(part.taken(kind, before, object), &asked, &admitted),
    })
}

impl Part {
    /// The object that is there after this part of `new` was taken.
    fn taken(self, kind: KindId, old: &Value, new: Value) -> Value {
        match self {
            Part::Status => with_status(old, new),
            Part::Spec => with_spec(kind, old, new),
        }
    }
}

/// The new object, with the status, which is the controllers', taken from the old one.
fn with_spec(kind: KindId, old: &Value, mut new: Value) -> Value {
    if kind.info().has(Subresource::Status)
        && let Some(fields) = new.as_object_mut()
    {
        fields.shift_remove("status");
        if let Some(status) = old.get("status") {
            fields.insert("status".to_owned(), status.clone());
        }
    }
    new
}

fn admit_change(
    (kind, key): (KindId, &ObjectKey),
    old: &Value,
    next: Value,
) -> Result<Value, Refusal> {
    let refuse = |violations: Vec<Violation>| Refusal::invalid(kind, &key.name, &violations);
    if kind == KindId::Task && next["spec"] != old["spec"] {
        let violation = Violation::new("spec", "cannot be changed: tasks follow their job")
            .hint("change the job, or stop the task with evict");
        return Err(refuse(vec![violation]));
    }
    let strategy = kinds::strategy(kind);
    let next = match admit(kind, next.clone()) {
        Ok(next) => next,
        Err(found) => tolerate(kind, old, next, found).map_err(refuse)?,
    };
    let settled = (strategy.admit_update)(&next, old).map_err(refuse)?;
    Ok(settled.unwrap_or(next))
}

/// A document in which nothing is wrong that was not wrong with the old one already. An object that
/// was accepted under older rules can still be reported on, cancelled and mended; only what a change
/// brings is held against it.
fn tolerate(
    kind: KindId,
    old: &Value,
    next: Value,
    found: Vec<Violation>,
) -> Result<Value, Vec<Violation>> {
    let known = admit(kind, old.clone()).err().unwrap_or_default();
    let new: Vec<Violation> = found.into_iter().filter(|it| !known.contains(it)).collect();
    if new.is_empty() { (kinds::strategy(kind).normal)(next) } else { Err(new) }
}

/// A document in its kind's normal form, or all that is wrong with it.
pub(crate) fn admit(kind: KindId, object: Value) -> Result<Value, Vec<Violation>> {
    let mut next = (kinds::strategy(kind).admit)(object)?;
    // A kind's own wire form may add what is never stored.
    strip_wire(kind, &mut next);
    let unknown: Vec<Violation> = finalizers(&next)
        .into_iter()
        .filter(|finalizer| !FINALIZERS.contains(finalizer))
        .map(|finalizer| {
            Violation::new("metadata.finalizers", format!("{finalizer:?} is not supported yet"))
        })
        .collect();
    if unknown.is_empty() { Ok(next) } else { Err(unknown) }
}

/// Counts a change of what the spec means: other words for the same are none.
fn with_generation(kind: KindId, old: &Value, mut next: Value) -> Value {
    let before = old["metadata"].get("generation").and_then(Value::as_i64).unwrap_or(1);
    let changed = match (next.get("spec"), old.get("spec")) {
        (Some(next), Some(old)) => {
            next != old && meaning::spec(kind, next) != meaning::spec(kind, old)
        }
        (next, old) => next != old,
    };
    if let Some(metadata) = next.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("generation".to_owned(), before.saturating_add(changed.into()).into());
    }
    next
}

pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"].get("finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn controller_uid(object: &Value) -> Option<&str> {
    let owners = object["metadata"].get("ownerReferences")?.as_array()?;
    let controller = owners.iter().find(|owner| owner["controller"] == Value::Bool(true))?;
    controller.get("uid")?.as_str()
}

/// A Lease that elects a leader moves the key that guards the leader's writes with it.
fn guard_leader(
    kind: KindId,
    key: &ObjectKey,
    object: &Value,
    facts: &mut Facts<'_>,
    prepared: &mut Prepared,
) {
    if kind != KindId::Lease || key.namespace != SYSTEM_NAMESPACE {
        return;
    }
    let claim = |lease: &Value| {
        let identity = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        (identity, lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default())
    };
    let before = facts.object(kind, key).map(|current| claim(&current.object()));
    let (identity, term) = claim(object);
    if before != Some((identity.clone(), term)) {
        prepared.writes.push(Write {
            key: keys::leader(&key.name),
            expect: Expectation::Any,
            change: Change::Put { value: format!("{identity}/{term}").into(), lease: None },
        });
    }
}
