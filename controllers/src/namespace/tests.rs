//! What a namespace's plan does.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

use api::core::Namespace;
use api::job::JobSpec;
use api::task::TaskSpec;
use api::task::transition::{Applied, TaskChange, apply};
use api::{Job, Kind as _, KindId, ObjectMeta, Task, Time, Timestamp};
use expect_test::expect;

use runtime::{Any, Change, Controller as _, Requeue, Update};
use std::sync::Arc;
use std::time::Duration;

use super::Controller;
use super::plan::{View, plan};
use crate::action::{Action, Status};
use crate::obedient;
use crate::remaining::{Left, TELL_AFTER};

fn namespace(is_deleting: bool) -> Namespace {
    let metadata = ObjectMeta {
        name: Some("n".to_owned()),
        uid: Some("n-uid".to_owned()),
        deletion_timestamp: is_deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
        ..ObjectMeta::default()
    };
    Namespace { metadata, ..Namespace::default() }
}

fn job(name: &str) -> Job {
    let mut job = Job::new("n", name, JobSpec::default());
    job.metadata.uid = Some(format!("{name}-uid"));
    job
}

fn task(name: &str, owner: &Job) -> Task {
    Task::new("n", name, TaskSpec::default()).with_controller(owner.as_controller())
}

fn asked(namespace: &Namespace, held: &[Left<'_>]) -> Vec<String> {
    let view = View { namespace, held, tells: false, now: Timestamp::UNIX_EPOCH };
    let groups = plan(&view);
    let words = groups.iter().flat_map(|group| &group.actions).map(|action| match action {
        Action::Delete { kind, object, .. } => {
            format!("delete {}/{}", kind.info().plural, object.key.name)
        }
        Action::Emptied { namespace: of } => format!("emptied {} {}", of.key.name, of.uid),
        other => panic!("{other:?}"),
    });
    words.collect()
}

fn held<K: api::Kind>(object: &K) -> Left<'_> {
    Left { kind: K::ID, meta: object.meta(), task: None }
}

#[test]
fn a_namespace_that_lives_keeps_all() {
    let job = job("a");
    assert!(asked(&namespace(false), &[held(&job)]).is_empty());
    assert!(asked(&namespace(false), &[]).is_empty());
}

#[test]
fn owners_go_first_and_what_they_own_with_them() {
    let owner = job("a");
    let (owned, mut going) = (task("a-0", &owner), job("b"));
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let namespace = namespace(true);
    assert_eq!(asked(&namespace, &[held(&owner), held(&owned), held(&going)]), ["delete jobs/a"]);
    assert!(asked(&namespace, &[held(&owned), held(&going)]).is_empty(), "it waits for b");
}

#[test]
fn what_owns_each_other_goes_too() {
    let (mut a, mut b) = (job("a"), job("b"));
    (a, b) = (a.clone().with_controller(b.as_controller()), b.with_controller(a.as_controller()));
    assert_eq!(asked(&namespace(true), &[held(&a), held(&b)]), ["delete jobs/a", "delete jobs/b"]);
}

#[test]
fn an_owner_of_the_cluster_or_of_a_kind_that_is_not_known_keeps_nothing() {
    let mut node = job("a").as_controller();
    node.kind = KindId::Node.info().kind.to_owned();
    let mut unknown = node.clone();
    unknown.kind = "Unheard".to_owned();
    let of_node = job("b").with_controller(node);
    let of_unknown = job("c").with_controller(unknown);
    assert_eq!(
        asked(&namespace(true), &[held(&of_node), held(&of_unknown)]),
        ["delete jobs/b", "delete jobs/c"]
    );
}

#[test]
fn an_empty_one_goes_unless_a_finalizer_holds_it() {
    let mut namespace = namespace(true);
    assert_eq!(asked(&namespace, &[]), ["emptied n n-uid"]);
    namespace.metadata.finalizers = Some(vec![api::labels::FINALIZER_FOREGROUND.to_owned()]);
    assert!(asked(&namespace, &[]).is_empty());
}

/// Each of the tasks that go brings the namespace: it is not read anew for each of them.
#[tokio::test(start_paused = true)]
async fn what_goes_one_by_one_is_read_once_in_a_second_and_the_last_is_not_waited_for() {
    let mut owner = job("a");
    owner.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let tasks = (0..100).map(|at| Any::Task(Arc::new(task(&format!("a-{at}"), &owner))));
    let namespace = Any::Namespace(Arc::new(namespace(true)));
    let objects = [namespace, Any::Job(Arc::new(owner.clone()))].into_iter().chain(tasks).collect();
    let (tools, asked) = obedient::tools(objects, Timestamp::UNIX_EPOCH);
    let controller = Controller::new(tools.clone());
    let remove = |kind: KindId, name: String| {
        let changes = vec![Change::Remove(kind, api::ObjectKey::new("n", name))];
        let version = api::resource_version::ResourceVersion::after(1);
        tools.cache.apply(Update::Changes { changes, version }, |_, _, _| ());
    };
    let name = "n".to_owned();
    assert_eq!(controller.reconcile(&name).await.unwrap(), Requeue::After(TELL_AFTER));
    for at in 0..100 {
        remove(KindId::Task, format!("a-{at}"));
        let next = controller.reconcile(&name).await.unwrap();
        assert!(matches!(next, Requeue::After(wait) if wait <= Duration::from_secs(1)), "{next:?}");
    }
    assert_eq!(tools.metrics.objects_viewed("namespace"), 102, "by the first look alone");
    remove(KindId::Job, "a".to_owned());
    assert_eq!(controller.reconcile(&name).await.unwrap(), Requeue::OnChange);
    assert_eq!(asked.groups(), 1, "it is empty: that is said at once");
}

/// Its conditions as the plan writes them at this second, one a line; empty if it writes none.
fn told(namespace: &mut Namespace, held: &[Left<'_>], second: i64) -> String {
    let now = Timestamp::from_second(second).unwrap();
    let groups = plan(&View { namespace, held, tells: true, now });
    let Some(action) = groups.into_iter().flat_map(|group| group.actions).next() else {
        return String::new();
    };
    let Action::Status(Status::Namespace(next)) = action else { panic!("{action:?}") };
    *namespace = *next;
    let conditions = namespace.status.as_ref().unwrap().conditions.iter().flatten();
    let lines = conditions.map(|it| {
        let since = it.last_transition_time.as_ref().unwrap().0.as_second();
        let (reason, message) = (it.reason.as_ref().unwrap(), it.message.as_ref().unwrap());
        format!("{} {} since {since}: {reason}: {message}\n", it.type_, it.status)
    });
    lines.collect()
}

#[test]
fn what_a_deletion_waits_for_is_in_the_conditions_as_in_kubernetes() {
    let mut namespace = namespace(true);
    let owner = job("a");
    let mut owned = task("a-0", &owner);
    let bind = TaskChange::Bind { node: "db-1".to_owned() };
    let bound = apply(&owned, owned.spec.attempt, &bind, Timestamp::UNIX_EPOCH);
    let Ok(Applied::Changed(bound)) = bound else { panic!("{bound:?}") };
    owned = *bound;
    let mut going = job("b");
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    going.metadata.finalizers = Some(vec!["example.com/x".to_owned()]);
    let as_task = Left { task: Some(&owned), ..held(&owned) };
    let left = [as_task, held(&going)];
    expect![[r#"
        NamespaceContentRemaining True since 1: SomeResourcesRemain: 1 task still stops on node db-1; still there: 1 job
        NamespaceFinalizersRemaining True since 1: SomeFinalizersRemain: finalizer example.com/x of job/b
    "#]].assert_eq(&told(&mut namespace, &left, 1));
    assert_eq!(told(&mut namespace, &left, 2), "", "it says so already");
    going.metadata.finalizers = None;
    expect![[r#"
        NamespaceContentRemaining True since 1: SomeResourcesRemain: still there: 1 job
        NamespaceFinalizersRemaining False since 3: ContentHasNoFinalizers: nothing remains
    "#]]
    .assert_eq(&told(&mut namespace, &[held(&going)], 3));
    namespace.metadata.finalizers = Some(vec!["example.com/y".to_owned()]);
    expect![[r#"
        NamespaceContentRemaining False since 4: ContentRemoved: nothing remains
        NamespaceFinalizersRemaining True since 4: SomeFinalizersRemain: finalizer example.com/y of the namespace
    "#]].assert_eq(&told(&mut namespace, &[], 4));
}
