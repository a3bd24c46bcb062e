//! Every request passes the gate, and so does every operation of a batch: where one is closed, nobody gets
//! anything.

use std::collections::BTreeSet;

use api::batch::{Batch, BatchResponse, Group, GroupResult, Op, Propagation};
use api::completion::End;
use api::status::{Mistake, Refusal, Why};
use api::task::StopReason;
use api::task::transition::TaskChange;
use api::verb::{Subresource, Verb, verbs};
use api::{KindId, ObjectKey};
use expect_test::expect;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::batch;
use super::paths::{Fixed, served};
use super::world::World;
use crate::access::Gate;
use crate::requester::Requester;

const OURS: &str = "/apis/heliox.dev/v1";
/// For nobody and nothing: no path is called so.
const CLOSED: Gate = Gate::ClosedBut("");

/// A request that does this to a kind, or to a part of it; nothing where no request can.
fn request(kind: KindId, subresource: Option<Subresource>, verb: Verb) -> Option<(Method, String)> {
    let info = kind.info();
    let version = if info.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{}/v1", info.group)
    };
    let namespace = if kind.is_namespaced() { "/namespaces/a" } else { "" };
    let all = format!("{version}{namespace}/{}", info.plural);
    let one = match subresource {
        Some(subresource) => format!("{all}/x/{}", subresource.word()),
        None => format!("{all}/x"),
    };
    let is_part = subresource.is_some();
    match verb {
        Verb::List | Verb::Watch if is_part => None,
        Verb::List => Some((Method::GET, all)),
        Verb::Watch => Some((Method::GET, format!("{all}?watch=true"))),
        Verb::Create => Some((Method::POST, if is_part { one } else { all })),
        Verb::Get => Some((Method::GET, one)),
        Verb::Update => Some((Method::PUT, one)),
        Verb::Patch => Some((Method::PATCH, one)),
        Verb::Delete => Some((Method::DELETE, one)),
    }
}

const VERBS: [Verb; 7] =
    [Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// Everything that can be asked of objects: what it is, the request, and whether it is in the table.
fn of_objects() -> Vec<(String, (Method, String), bool)> {
    let mut all = Vec::new();
    for kind in served() {
        let parts = kind.info().subresources.iter().copied().map(Some);
        for subresource in std::iter::once(None).chain(parts) {
            for verb in VERBS {
                let Some(request) = request(kind, subresource, verb) else { continue };
                let name = format!("{} {kind} {subresource:?}", verb.word());
                all.push((name, request, verbs(kind, subresource).requests.contains(&verb)));
            }
        }
    }
    all
}

/// A request of each path that is no object's.
fn of_paths() -> Vec<(Method, String)> {
    let of = |fixed: Fixed| {
        let path = fixed.pattern().replace("{group}", "heliox.dev").replace("{version}", "v1");
        let path = path.replace("{node}", "n").replace("{*rest}", "x/y");
        let path = if fixed == Fixed::WatchMany { format!("{path}?kinds=jobs") } else { path };
        fixed.verbs().iter().map(move |verb| {
            let method = if *verb == Verb::Get { Method::GET } else { Method::POST };
            (method, path.clone())
        })
    };
    Fixed::ALL.into_iter().flat_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_gets_nothing_whatever_they_ask_for() {
    let world = World::new(CLOSED).await;
    let served = of_objects().into_iter().filter(|(_, _, is_served)| *is_served);
    let all: Vec<(Method, String)> =
        served.map(|(_, request, _)| request).chain(of_paths()).collect();
    for (method, path) in all {
        let refusal = world.refusal(&method, &path, &Value::Null).await;
        let refusal = refusal.unwrap_or_else(|| panic!("{method} {path} was answered"));
        assert_eq!(refusal.why, Why::Forbidden, "{method} {path}: {refusal}");
        let who = "system:anonymous via a connection may not ";
        assert!(refusal.message.starts_with(who), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_table_of_verbs_is_routed_and_nothing_else() {
    let world = World::new(Gate::Open).await;
    for (name, (method, path), is_served) in of_objects() {
        let refusal = world.refusal(&method, &path, &Value::Null).await;
        let is_not = |it: &Refusal| {
            it.why == Why::Mistaken(Mistake::Method) || it.message.starts_with("unknown path")
        };
        let is_routed = !refusal.as_ref().is_some_and(is_not);
        assert_eq!(is_routed, is_served, "{name}: {refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_watches_several_kinds_needs_to_be_let_in_for_each() {
    let world = World::new(Gate::ClosedBut("watch")).await;
    let path = format!("{OURS}/watch?kinds=jobs,completionchunks");
    let refusal = world.refusal(&Method::GET, &path, &Value::Null).await.unwrap();
    let expected = "system:anonymous via a connection may not watch jobs";
    assert_eq!((refusal.why, refusal.message.as_str()), (Why::Forbidden, expected));
}

/// A task of the job of this name.
fn task_of(job: &str) -> Value {
    json!({
        "apiVersion": "heliox.dev/v1", "kind": "Task",
        "metadata": {
            "name": "x", "namespace": "a",
            "ownerReferences": [{ "controller": true, "name": job }],
        },
    })
}

/// An operation of each form.
fn operations() -> Vec<Op> {
    let key = || ObjectKey::new("a", "x");
    let uid = || "u".to_owned();
    let object = || {
        json!({
            "apiVersion": "heliox.dev/v1", "kind": "Job",
            "metadata": { "name": "x", "namespace": "a" },
        })
    };
    let task = |change: TaskChange| Op::Task { key: key(), uid: uid(), attempt: 1, change };
    let report = json!({ "binding": 1, "bootId": "b", "state": "Succeeded" });
    let (kind, propagation) = ("jobs".to_owned(), Propagation::Background);
    vec![
        Op::Create { object: object() },
        Op::Replace { object: object() },
        Op::Status { object: object() },
        Op::Delete { kind: kind.clone(), key: key(), uid: uid(), propagation, version: None },
        Op::Patch { kind, key: key(), patch: json!({}) },
        Op::Emptied { key: ObjectKey::new("", "a"), uid: uid() },
        Op::Remove { key: key(), uid: uid() },
        task(TaskChange::Bind { node: "n".to_owned() }),
        task(TaskChange::evict(StopReason::Evict)),
        task(TaskChange::Report(serde_json::from_value(report).unwrap())),
        task(TaskChange::Lose),
        Op::Record { job: key(), uid: uid(), run: 1, ends: vec![(0, End::Succeeded)] },
        Op::CreateTasks { task: task_of("x"), indexes: [3, 4].into_iter().collect() },
        Op::CreateWithStatus { object: object() },
    ]
}

/// So that a new form is asked for here.
fn form(op: &Op) -> usize {
    match op {
        Op::Create { .. } => 0,
        Op::Replace { .. } => 1,
        Op::Status { .. } => 2,
        Op::Delete { .. } => 3,
        Op::Patch { .. } => 4,
        Op::Emptied { .. } => 5,
        Op::Remove { .. } => 6,
        Op::Task { .. } => 7,
        Op::Record { .. } => 8,
        Op::CreateTasks { .. } => 9,
        Op::CreateWithStatus { .. } => 10,
    }
}

#[tokio::test(start_paused = true)]
async fn each_operation_of_a_batch_is_let_in_by_itself() {
    let ops = operations();
    assert_eq!(ops.iter().map(form).collect::<BTreeSet<_>>(), (0..11).collect());
    let mut world = World::new(Gate::ClosedBut("batches")).await;
    world.router = world.router.asked_by(Requester::component("controllers"));
    let batch = Batch { groups: ops.into_iter().map(Group::from).collect() };
    let answer = world.ask(&Method::POST, &format!("{OURS}/batches"), &json!(batch)).await;
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let answer: BatchResponse = serde_json::from_slice(&bytes).unwrap();
    let told = answer.results.iter().map(|result| match result {
        GroupResult::Refused { why: Why::Forbidden, message } => format!("{message}\n"),
        other @ (GroupResult::Done | GroupResult::Refused { .. }) => {
            panic!("it was let in: {other:?}")
        }
    });
    expect![[r#"
        controllers via this process may not create jobs "x" in namespace "a"
        controllers via this process may not update jobs "x" in namespace "a"
        controllers via this process may not update jobs/status "x" in namespace "a"
        controllers via this process may not delete jobs "x" in namespace "a"
        controllers via this process may not patch jobs "x" in namespace "a"
        controllers via this process may not delete namespaces "a"
        controllers via this process may not delete tasks "x" in namespace "a"
        controllers via this process may not create tasks/binding "x" in namespace "a"
        controllers via this process may not create tasks/evict "x" in namespace "a"
        controllers via this process may not update tasks/status "x" in namespace "a"
        controllers via this process may not update tasks "x" in namespace "a"
        controllers via this process may not update jobs/record "x" in namespace "a"
        controllers via this process may not create tasks "x-3" in namespace "a"
        controllers via this process may not create jobs "x" in namespace "a"
    "#]]
    .assert_eq(&told.collect::<String>());
}

/// One operation makes both tasks, and asks for each of them.
#[test]
fn each_task_of_many_is_a_request_of_its_own() {
    let op = Op::CreateTasks { task: task_of("x"), indexes: [3, 4].into_iter().collect() };
    let asked = batch::asked(&op).unwrap();
    let tasks = ["x-3", "x-4"].map(|name| ObjectKey::new("a", name));
    assert_eq!(asked, tasks.map(|key| (Verb::Create, (KindId::Task, None), key)));
}

/// What batches do is in the table, too.
#[test]
fn what_operations_ask_for_is_in_the_table_of_verbs() {
    for op in operations() {
        for (verb, (kind, subresource), _) in batch::asked(&op).unwrap() {
            let served = verbs(kind, subresource);
            let is_there = served.requests.contains(&verb) || served.batches.contains(&verb);
            assert!(is_there, "{} {kind} {subresource:?}", verb.word());
        }
    }
}
