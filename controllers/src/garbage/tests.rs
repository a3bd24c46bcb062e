//! What garbage collection removes.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

use std::sync::Arc;
use std::time::Duration;

use api::batch::Propagation;
use api::core::ConfigMap;
use api::job::JobSpec;
use api::object::Kind as _;
use api::resource_version::ResourceVersion;
use api::task::transition::{Applied, TaskChange, apply};
use api::task::{StopReason, TaskSpec};
use api::{
    CompletionChunk, Job, KindId, ObjectKey, ObjectMeta, Task, TaskTemplate, Time, Timestamp,
    labels,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use runtime::{Any, Change, Controller as _, Requeue, Snapshot, Update};

use super::circle::Link;
use super::plan::{
    Dependent, Object, Outdated, ROUND_OPS_MAX, View, blocks, finish, orphaned, outdated, plan,
};
use super::{Controller, Found, Key, Owner};
use crate::action::{Action, Field, Group, ObjectRef, Patch};
use crate::job::plan::template_name;
use crate::obedient;
use crate::remaining::{Left, Remaining};

fn job() -> Job {
    let mut job = Job::new("default", "j", JobSpec::default());
    job.metadata.uid = Some("job-uid".to_owned());
    job
}

fn task(name: &str) -> Task {
    let spec = TaskSpec { run: 1, attempt: 1, ..TaskSpec::default() };
    let mut task = Task::new("default", name, spec).with_controller(job().as_controller());
    task.metadata.uid = Some(name.to_owned());
    task
}

fn changed(task: &Task, change: &TaskChange) -> Task {
    match apply(task, task.spec.attempt, change, Timestamp::UNIX_EPOCH).unwrap() {
        Applied::Changed(task) => *task,
        Applied::Already => panic!("nothing changed"),
    }
}

fn bound(name: &str) -> Task {
    changed(&task(name), &TaskChange::Bind { node: "n1".to_owned() })
}

fn ops(groups: &[Group]) -> Vec<String> {
    let name = |kind: &KindId, of: &ObjectRef| format!("{}/{}", kind.info().plural, of.key.name);
    let words = groups.iter().flat_map(|group| &group.actions).map(|action| match action {
        Action::Remove { task } => format!("remove {}", task.key.name),
        Action::Delete { kind, object, propagation: Propagation::Background, .. } => {
            format!("delete {}", name(kind, object))
        }
        Action::Delete { kind, object, propagation, .. } => {
            format!("delete {} {propagation:?}", name(kind, object))
        }
        Action::Patch(Patch { kind, object, fields, .. }) => {
            let of = name(kind, object);
            let left = |owners: &[OwnerReference]| -> Vec<String> {
                owners.iter().map(|owner| owner.uid.clone()).collect()
            };
            match &fields[..] {
                [Field::OwnerReferences(owners)] => format!("leave {of} to {:?}", left(owners)),
                [Field::OwnerReferences(owners), Field::Annotation(labels::ORPHANED, _)] => {
                    format!("leave {of} to {:?} as an orphan", left(owners))
                }
                [Field::Finalizers(left)] => {
                    format!("leave {of} the finalizers {}", serde_json::json!(left))
                }
                other => panic!("{other:?}"),
            }
        }
        Action::Task { task, change: TaskChange::Evict { reason, message }, .. } => {
            let why = message.as_deref().unwrap_or_default();
            format!("evict {} {reason} ({why})", task.key.name)
        }
        other => format!("{other:?}"),
    });
    words.collect()
}

fn deleting(finalizer: &str) -> ObjectMeta {
    let mut meta = job().metadata;
    meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    meta.finalizers = Some(vec![finalizer.to_owned(), "other".to_owned()]);
    meta
}

fn of_task(task: &Task) -> Dependent<'_> {
    Dependent { task: Some(task), ..of(task) }
}

fn of<K: api::Kind>(object: &K) -> Dependent<'_> {
    let object = Object { kind: K::ID, meta: object.meta() };
    Dependent { object, task: None, is_kept: false, owns: false }
}

fn config(name: &str) -> ConfigMap {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("default".to_owned()),
        owner_references: Some(vec![job().as_controller()]),
        ..ObjectMeta::default()
    };
    ConfigMap { metadata, ..ConfigMap::default() }
}

fn asked(owner: Option<&ObjectMeta>, dependents: &[Dependent<'_>]) -> Vec<String> {
    let owner = owner.map(|meta| Object { kind: KindId::Job, meta });
    ops(&plan(&view(owner, dependents)))
}

/// A view of dependents of which some may be of no concern.
fn view<'a>(owner: Option<Object<'a>>, dependents: &'a [Dependent<'a>]) -> View<'a> {
    let uid = "job-uid";
    let blocking = dependents.iter().filter(|dependent| blocks(dependent, uid)).count();
    View { owner, uid, dependents, blocking, circle: None, remaining: None }
}

#[test]
fn dependents_of_a_gone_owner_go_and_tasks_on_a_node_are_stopped_first() {
    let (waits, runs) = (task("waits"), bound("runs"));
    let stops = changed(&bound("stops"), &TaskChange::evict(StopReason::Drain));
    let lost = changed(&bound("lost"), &TaskChange::Lose);
    let replaceable =
        changed(&changed(&bound("replaceable"), &TaskChange::Lose), &TaskChange::Replaceable);
    let (chunk, config) = (CompletionChunk::empty("job-uid", 1, 0), config("c"));
    let tasks = [&waits, &runs, &stops, &lost, &replaceable];
    let mut dependents: Vec<Dependent<'_>> = tasks.into_iter().map(of_task).collect();
    dependents.extend([of(&chunk), of(&config)]);
    assert_eq!(
        asked(None, &dependents),
        [
            "remove waits",
            "evict runs Delete (job j was deleted)",
            "evict lost Delete (job j was deleted)",
            "remove replaceable",
            "delete done/1.0",
            "delete configmaps/c"
        ]
    );
}

/// Somebody may give it another owner meanwhile; a record has none to be given.
#[test]
fn what_goes_is_what_was_looked_at() {
    let mut config = config("c");
    config.metadata.resource_version = Some("5".to_owned());
    let mut chunk = CompletionChunk::empty("job-uid", 1, 0);
    chunk.metadata.resource_version = Some("6".to_owned());
    let dependents = [of(&config), of(&chunk)];
    let groups = plan(&view(None, &dependents));
    let versions: Vec<Option<String>> = groups
        .iter()
        .flat_map(|group| &group.actions)
        .map(|action| match action {
            Action::Delete { version, .. } => version.map(|version| version.to_string()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(versions, [Some("5".to_owned()), None]);
}

#[test]
fn dependents_of_a_living_owner_stay() {
    let task = task("t");
    assert!(asked(Some(&job().metadata), &[of_task(&task)]).is_empty());
}

#[test]
fn what_another_owner_keeps_is_left_to_that_one() {
    let mut config = config("c");
    let mut other = job().as_controller();
    other.uid = "other".to_owned();
    config.metadata.owner_references.as_mut().unwrap().push(other);
    let kept = Dependent { is_kept: true, ..of(&config) };
    let left = ["leave configmaps/c to [\"other\"]"];
    assert_eq!(asked(None, &[kept]), left);
    assert_eq!(asked(Some(&deleting(labels::FINALIZER_FOREGROUND)), &[kept]), left);
}

#[test]
fn an_owner_that_waits_for_its_dependents_goes_after_them() {
    let meta = deleting(labels::FINALIZER_FOREGROUND);
    let (task, config) = (task("t"), config("c"));
    assert_eq!(
        asked(Some(&meta), &[of_task(&task), of(&config)]),
        ["remove t", "delete configmaps/c"]
    );
    assert_eq!(asked(Some(&meta), &[]), ["leave jobs/j the finalizers [\"other\"]"]);
}

#[test]
fn an_owner_in_a_circle_has_one_of_it_no_longer_waited_for() {
    let meta = deleting(labels::FINALIZER_FOREGROUND);
    let owner = Object { kind: KindId::Job, meta: &meta };
    let config = config("c");
    let link = Link { dependent: of(&config).object, owner: "job-uid".to_owned() };
    let dependents = [of(&config)];
    let groups = plan(&View { circle: Some(&link), ..view(Some(owner), &dependents) });
    let Action::Patch(Patch { fields, .. }) = &groups[0].actions[0] else { panic!("{groups:?}") };
    let [Field::OwnerReferences(owners)] = &fields[..] else { panic!("{fields:?}") };
    assert_eq!(owners[0].uid, "job-uid");
    assert_eq!(owners[0].block_owner_deletion, Some(false));
    assert_eq!(ops(&groups[1..]), ["delete configmaps/c"], "all else goes its way");
}

#[test]
fn an_owner_that_is_deleted_in_the_foreground_says_what_it_waits_for() {
    let mut meta = deleting(labels::FINALIZER_FOREGROUND);
    let stops = changed(&bound("t"), &TaskChange::evict(StopReason::Delete));
    let left = Left { kind: KindId::Task, meta: &stops.metadata, task: Some(&stops) };
    let remaining = Remaining::of([left], 0);
    let told = |meta: &ObjectMeta, dependents: &[Dependent<'_>]| {
        let owner = Object { kind: KindId::Job, meta };
        plan(&View { remaining: Some(&remaining), ..view(Some(owner), dependents) })
    };
    let groups = told(&meta, &[of_task(&stops)]);
    let [Group { actions }] = &groups[..] else { panic!("{groups:?}") };
    let [Action::Patch(Patch { kind, fields, .. })] = &actions[..] else { panic!("{actions:?}") };
    let what = "1 task still stops on node n1".to_owned();
    assert_eq!(
        (*kind, &fields[..]),
        (KindId::Job, &[Field::Annotation(labels::DELETION_WAITS_FOR, what.clone())][..])
    );
    meta.annotations = Some([(labels::DELETION_WAITS_FOR.to_owned(), what)].into());
    assert_eq!(told(&meta, &[of_task(&stops)]), [], "it says so already");
    assert_eq!(told(&meta, &[]).len(), 1, "what is not waited for is not said");
}

fn owning(dependent: Dependent<'_>) -> Dependent<'_> {
    Dependent { owns: true, ..dependent }
}

#[test]
fn a_dependent_with_dependents_of_its_own_waits_for_those() {
    let meta = deleting(labels::FINALIZER_FOREGROUND);
    let (task, mut config) = (bound("t"), config("c"));
    assert_eq!(
        asked(Some(&meta), &[owning(of_task(&task)), owning(of(&config))]),
        ["delete tasks/t Foreground", "delete configmaps/c Foreground"]
    );
    config.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert!(asked(Some(&meta), &[owning(of(&config))]).is_empty(), "it is on its way");
}

#[test]
fn what_does_not_block_its_owner_and_its_record_are_not_waited_for() {
    let meta = deleting(labels::FINALIZER_FOREGROUND);
    let (chunk, mut config) = (CompletionChunk::empty("job-uid", 1, 0), config("c"));
    config.metadata.owner_references.as_mut().unwrap()[0].block_owner_deletion = None;
    let freed = ["leave jobs/j the finalizers [\"other\"]"];
    assert_eq!(asked(Some(&meta), &[of(&config), of(&chunk)]), freed);
    let meta = deleting(labels::FINALIZER_ORPHAN);
    assert_eq!(asked(Some(&meta), &[of(&chunk)]), freed);
}

#[test]
fn an_owner_that_leaves_its_dependents_goes_after_they_are_cut_loose() {
    let meta = deleting(labels::FINALIZER_ORPHAN);
    let (task, template) = (task("t"), template("tt"));
    assert_eq!(
        asked(Some(&meta), &[of_task(&task), of(&template)]),
        ["leave tasks/t to []", "leave tasktemplates/tt to [] as an orphan"]
    );
}

#[test]
fn a_template_that_was_left_behind_goes_with_its_last_task() {
    let mut orphan = template("tt");
    assert!(orphaned(&orphan, 0).is_empty(), "somebody made it by hand");
    orphan.metadata.annotations = Some([(labels::ORPHANED.to_owned(), String::new())].into());
    assert!(orphaned(&orphan, 1).is_empty());
    assert_eq!(ops(&orphaned(&orphan, 0)), ["delete tasktemplates/tt"]);
    orphan.metadata.owner_references = Some(vec![job().as_controller()]);
    assert!(orphaned(&orphan, 0).is_empty(), "it was adopted");
}

#[test]
fn a_task_that_is_held_by_a_finalizer_stays() {
    let mut held = task("t");
    held.metadata.finalizers = Some(vec![labels::FINALIZER_FOREGROUND.to_owned()]);
    assert_eq!(finish(&held), None);
}

fn template(name: &str) -> TaskTemplate {
    TaskTemplate::new("default", name, Default::default())
}

#[test]
fn a_job_keeps_its_current_template_those_in_use_and_records_of_runs_with_tasks() {
    let mut job = job();
    job.status.run = 3;
    let mut user = task("t");
    user.spec.template = "used".to_owned();
    user.spec.run = 2;
    let (current, used, old) = (template(&template_name(&job)), template("used"), template("old"));
    let chunks: Vec<CompletionChunk> =
        (1..=3).map(|run| CompletionChunk::empty("job-uid", run, 0)).collect();
    let chunks: Vec<&CompletionChunk> = chunks.iter().collect();
    let (groups, is_more_later) = outdated(&Outdated {
        job: &job,
        templates: &[&current, &used, &old],
        chunks: &chunks,
        is_used: &|template| user.spec.template == template.name(),
        has_tasks_of: &|run| user.spec.run == run,
    });
    assert_eq!(ops(&groups), ["delete tasktemplates/old", "delete done/1.0"]);
    assert!(is_more_later, "what the task uses");
}

/// What was asked of the first ones need not change the owner's key again, such as tasks that take
/// long to stop.
#[tokio::test(start_paused = true)]
async fn a_round_that_was_cut_is_followed_by_the_next_one_at_once() {
    let owned = |count: usize| {
        let configs = (0..count).map(|at| Any::ConfigMap(Arc::new(config(&format!("c{at}")))));
        configs.collect::<Vec<_>>()
    };
    let key = ObjectKey::new("default", "j");
    let owner = || Owner { kind: KindId::Job, key: key.clone(), uid: "job-uid".to_owned() };
    for (count, next) in [
        (ROUND_OPS_MAX + 1, Requeue::After(Duration::ZERO)),
        (ROUND_OPS_MAX - 1, Requeue::OnChange),
        (0, Requeue::Gone),
    ] {
        let (tools, asked) = obedient::tools(owned(count), Timestamp::UNIX_EPOCH);
        let controller = Controller::new(tools);
        assert_eq!(controller.reconcile(&Key::Owner(owner())).await.unwrap(), next, "{count}");
        assert_eq!(asked.groups(), count.min(ROUND_OPS_MAX));
    }
}

#[test]
fn what_is_made_after_its_owner_has_gone_is_looked_at() {
    let mut late = config("c");
    late.metadata.namespace = Some("default".to_owned());
    let there = Snapshot::default();
    let keys = Controller::keys(None, Some(&Any::ConfigMap(Arc::new(late))), &there);
    let key = ObjectKey::new("default", "j");
    assert_eq!(keys, [Key::Owner(Owner { kind: KindId::Job, key, uid: "job-uid".to_owned() })]);
}

#[test]
fn an_owner_keeps_what_it_owns_unless_it_has_gone_or_waits_for_it_to_go() {
    let other = |uid: &str, finalizer: Option<&str>| {
        let mut other = Job::new("default", "other", JobSpec::default());
        other.metadata = ObjectMeta {
            deletion_timestamp: finalizer.map(|_| Time(Timestamp::UNIX_EPOCH)),
            finalizers: finalizer.map(|finalizer| vec![finalizer.to_owned()]),
            uid: Some(uid.to_owned()),
            ..other.metadata
        };
        other
    };
    let named = other("other-uid", None).as_controller();
    let is_kept = |there: Option<Job>, named: &OwnerReference| {
        let mut snapshot = Snapshot::default();
        there.map(|job| snapshot.insert(Any::Job(Arc::new(job))));
        let mut config = config("c");
        config.metadata.namespace = Some("default".to_owned());
        config.metadata.owner_references.as_mut().unwrap().push(named.clone());
        let key = ObjectKey::new("default", "j");
        let owner = Owner { kind: KindId::Job, key, uid: "job-uid".to_owned() };
        Found::of(&snapshot, Any::ConfigMap(Arc::new(config)), &owner).is_kept
    };
    assert!(is_kept(Some(other("other-uid", None)), &named));
    assert!(is_kept(Some(other("other-uid", Some(labels::FINALIZER_ORPHAN))), &named));
    assert!(!is_kept(Some(other("other-uid", Some(labels::FINALIZER_FOREGROUND))), &named));
    assert!(!is_kept(Some(other("made-anew", None)), &named));
    assert!(!is_kept(None, &named));
    let unknown = OwnerReference { kind: "OfANewerVersion".to_owned(), ..named };
    assert!(is_kept(None, &unknown), "nobody can tell whether it is there");
}

fn owner_key() -> Owner {
    Owner { kind: KindId::Job, key: ObjectKey::new("default", "j"), uid: "job-uid".to_owned() }
}

fn removed(snapshot_of: &crate::tools::Tools, names: impl Iterator<Item = String>) {
    let gone = |name: String| Change::Remove(KindId::Task, ObjectKey::new("default", name));
    let (changes, version) = (names.map(gone).collect(), ResourceVersion::after(1));
    snapshot_of.cache.apply(Update::Changes { changes, version }, |_, _, _| ());
}

/// Of many that go with their owner each is read once: not again with each round, and not again with
/// each of the others that has gone.
#[tokio::test(start_paused = true)]
async fn many_dependents_cost_one_look_each() {
    let tasks = |state: fn(&str) -> Task, kind: char, count: usize| {
        (0..count).map(move |at| Any::Task(Arc::new(state(&format!("{kind}{at:05}")))))
    };
    let stopping = |name: &str| changed(&bound(name), &TaskChange::evict(StopReason::Delete));
    let objects = tasks(task, 'a', 4 * ROUND_OPS_MAX).chain(tasks(stopping, 's', 5_000));
    let (tools, asked) = obedient::tools(objects.collect(), Timestamp::UNIX_EPOCH);
    let (controller, key) = (Controller::new(tools.clone()), Key::Owner(owner_key()));
    for round in 0..4 {
        assert_eq!(controller.reconcile(&key).await.unwrap(), Requeue::After(Duration::ZERO));
        let names = (round * ROUND_OPS_MAX)..((round + 1) * ROUND_OPS_MAX);
        removed(&tools, names.map(|at| format!("a{at:05}")));
    }
    assert_eq!(asked.groups(), 4 * ROUND_OPS_MAX);
    // Those that stop let go of their nodes one after the other, and each of them brings the owner.
    for at in 0..100 {
        assert_eq!(controller.reconcile(&key).await.unwrap(), Requeue::OnChange);
        removed(&tools, std::iter::once(format!("s{at:05}")));
    }
    assert_eq!(tools.metrics.objects_viewed("garbage"), 4 * ROUND_OPS_MAX as u64);
}

/// The index of what is not on its way out holds just those of which something may be asked.
#[test]
fn a_task_that_stays_is_one_of_which_something_is_asked() {
    let mut held = task("held");
    held.metadata.finalizers = Some(vec!["example.com/f".to_owned()]);
    let deleted = |task: Task| {
        let mut task = task;
        task.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        task
    };
    let stops = changed(&bound("stops"), &TaskChange::evict(StopReason::Drain));
    let lost = changed(&bound("lost"), &TaskChange::Lose);
    let lost_stops = changed(&lost, &TaskChange::evict(StopReason::Drain));
    let replaceable = changed(&lost, &TaskChange::Replaceable);
    let mut going = deleted(held);
    going.metadata.name = Some("going".to_owned());
    let waits = deleted(task("waits"));
    for task in [task("new"), bound("runs"), stops, lost, lost_stops, replaceable, going, waits] {
        let mut snapshot = Snapshot::default();
        snapshot.insert(Any::Task(Arc::new(task.clone())));
        let stays = snapshot.staying_dependents("job-uid").count() == 1;
        assert_eq!(stays, finish(&task).is_some(), "{}", task.name());
        assert_eq!(snapshot.dependents("job-uid").count(), 1);
    }
}

/// Whoever writes an owner reference with the uid of a job that lives, but another name, has an owner
/// that does not exist: what has just that goes, and nothing of the job.
#[tokio::test]
async fn who_names_a_living_owner_wrongly_takes_nothing_of_it_along() {
    let mut wrong = config("c");
    wrong.metadata.namespace = Some("default".to_owned());
    wrong.metadata.owner_references.as_mut().unwrap()[0].name = "wrong".to_owned();
    let wrong = Any::ConfigMap(Arc::new(wrong));
    let tasks = [bound("j-0"), task("j-1")].map(|task| Any::Task(Arc::new(task)));
    let objects = [Any::Job(Arc::new(job())), wrong.clone()].into_iter().chain(tasks).collect();
    let (tools, asked) = obedient::tools(objects, Timestamp::UNIX_EPOCH);
    let controller = Controller::new(tools.clone());
    let keys = tools.cache.read(|snapshot| Controller::keys(None, Some(&wrong), snapshot));
    assert_eq!(keys.len(), 1);
    for key in &keys {
        controller.reconcile(key).await.unwrap();
    }
    assert_eq!(asked.groups(), 1, "the ConfigMap's deletion");
}

/// Ends of its tasks are nothing to the collector while the owner stays.
#[test]
fn an_owner_that_stays_is_not_looked_at_for_its_dependents() {
    let mut snapshot = Snapshot::default();
    snapshot.insert(Any::Job(Arc::new(job())));
    let (runs, new) = (Any::Task(Arc::new(bound("t"))), Any::Task(Arc::new(task("t"))));
    for (before, now) in [(None, Some(&new)), (Some(&runs), Some(&new)), (Some(&runs), None)] {
        let keys = Controller::keys(before, now, &snapshot);
        assert!(!keys.contains(&Key::Owner(owner_key())), "{keys:?}");
    }
    let mut going = job();
    going.metadata = deleting(labels::FINALIZER_FOREGROUND);
    snapshot.insert(Any::Job(Arc::new(going)));
    let keys = Controller::keys(Some(&runs), Some(&new), &snapshot);
    assert_eq!(keys, [Key::Owner(owner_key())], "it may wait for that");
}
