//! Deletion along ownership, and of namespaces: every kind in every way.

use std::time::Duration;

use api::core::{ConfigMap, Namespace};
use api::job::JobPhase;
use api::owner::owning_kind;
use api::status::Why;
use api::task::TaskPhase;
use api::{Job, Kind as _, KindId, Task, TaskTemplate, Workflow, labels};
use client::{DeletePropagation, object_path};
use http::Method;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::stories::job;

const LIMIT: Duration = Duration::from_secs(30);
const CASCADES: [DeletePropagation; 3] =
    [DeletePropagation::Background, DeletePropagation::Foreground, DeletePropagation::Orphan];

/// The least that an object of a kind says; nothing for those that nobody makes by hand. A new kind
/// says here how it is made.
fn sample(kind: KindId) -> Option<Value> {
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    Some(match kind {
        KindId::NodeLease | KindId::CompletionChunk => return None,
        KindId::Namespace | KindId::ConfigMap | KindId::Secret => json!({}),
        KindId::Event => json!({ "involvedObject": {}, "reason": "Sampled" }),
        KindId::Lease => json!({ "spec": {} }),
        KindId::Node => json!({ "spec": {} }),
        KindId::PartitionSet => {
            json!({ "spec": { "partitions": 1, "stateModel": "OnlineOffline", "mode": "Manual" } })
        }
        KindId::Workflow => json!({ "spec": {
            "suspend": true, "jobs": [{ "name": "a", "template": template }],
        } }),
        KindId::WorkflowRun => json!({ "spec": { "workflow": "nowhere" } }),
        KindId::Job | KindId::Service => json!({ "spec": { "template": template } }),
        KindId::TaskTemplate => {
            json!({ "spec": { "owner": { "kind": "Job", "name": "j" }, "template": template } })
        }
        KindId::Task => json!({ "spec": { "template": "forever" } }),
    })
}

/// Talks to the apiserver about objects of any kind.
struct Objects<'a>(&'a Cluster);

impl Objects<'_> {
    async fn make(&self, kind: KindId, name: &str, owner: Option<&Value>) -> Value {
        let mut object = sample(kind).unwrap();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.info().kind.into();
        object["metadata"] = json!({ "name": name });
        if let Some(owner) = owner {
            // Of tasks, an owner of any kind may wait for them, but not make them.
            let is_task = matches!(kind, KindId::Task | KindId::TaskTemplate);
            let controls = !is_task || owning_kind(owner["kind"].as_str().unwrap()).is_some();
            object["metadata"]["ownerReferences"] = json!([{
                "apiVersion": owner["apiVersion"], "kind": owner["kind"],
                "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
                "controller": controls, "blockOwnerDeletion": true,
            }]);
        }
        let path = object_path(kind, namespace(kind), "");
        let body = Some(("application/json", object.to_string().into_bytes()));
        self.0.god.json(Method::POST, &path, body).await.unwrap()
    }

    async fn find(&self, kind: KindId, name: &str) -> Option<Value> {
        let path = object_path(kind, namespace(kind), name);
        match self.0.god.json(Method::GET, &path, None).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn delete(&self, kind: KindId, name: &str, cascade: DeletePropagation) {
        let path = object_path(kind, namespace(kind), name);
        let path = format!("{path}?propagationPolicy={cascade:?}");
        self.0.god.bytes(Method::DELETE, &path, None).await.unwrap();
    }

    async fn wait_until_gone(&self, kind: KindId, name: &str, why: &str) {
        let until = tokio::time::Instant::now() + LIMIT;
        while let Some(there) = self.find(kind, name).await {
            assert!(tokio::time::Instant::now() < until, "{why}: still there: {there:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes a task with an owner and waits until it runs; its name. A job or a service makes its task
    /// itself.
    async fn run(&self, owner: &Value) -> String {
        let name = owner["metadata"]["name"].as_str().unwrap();
        let task = match owning_kind(owner["kind"].as_str().unwrap()) {
            Some(KindId::Job) => format!("{name}-0"),
            Some(_) => format!("{name}-1-0"),
            None => {
                let task = format!("{name}-t");
                self.make(KindId::Task, &task, Some(owner)).await;
                task
            }
        };
        self.wait_until_running(&task).await;
        task
    }

    /// Waits until a task runs.
    async fn wait_until_running(&self, name: &str) {
        let running = |seen: &runtime::Snapshot| {
            seen.tasks.iter().any(|task| task.name() == name && task.phase() == TaskPhase::Running)
        };
        self.0.wait_for("the task runs", LIMIT, running).await;
    }
}

fn namespace(kind: KindId) -> &'static str {
    if kind.is_namespaced() { "default" } else { "" }
}

/// The template of tasks that run until they are stopped.
async fn forever(cluster: &Cluster) {
    let spec = json!({
        "owner": { "kind": "Job", "name": "j" }, "template": { "image": "x", "args": ["duration=forever"] },
    });
    let template = TaskTemplate::new("default", "forever", serde_json::from_value(spec).unwrap());
    cluster.god.api::<TaskTemplate>("default").create(&template).await.unwrap();
}

/// An owner of each kind, with a ConfigMap and a running task, is deleted in each way.
#[tokio::test(start_paused = true)]
async fn every_kind_of_owner_is_deleted_in_every_way() {
    let cluster = Cluster::start(40).await;
    let objects = Objects(&cluster);
    forever(&cluster).await;
    let kinds = KindId::ALL.into_iter().filter(|kind| sample(*kind).is_some());
    for (kind, cascade) in kinds.flat_map(|kind| CASCADES.map(|cascade| (kind, cascade))) {
        let why = format!("{kind} {cascade:?}");
        let name = format!("o-{}", format!("{kind}-{cascade:?}").to_lowercase());
        let config = format!("{name}-c");
        let owner = objects.make(kind, &name, None).await;
        objects.make(KindId::ConfigMap, &config, Some(&owner)).await;
        let task = objects.run(&owner).await;
        objects.delete(kind, &name, cascade).await;
        if cascade == DeletePropagation::Foreground {
            // Who sees the owner gone sees its dependents gone.
            objects.wait_until_gone(kind, &name, &why).await;
            assert_eq!(objects.find(KindId::ConfigMap, &config).await, None, "{why}");
            assert_eq!(objects.find(KindId::Task, &task).await, None, "{why}");
            continue;
        }
        objects.wait_until_gone(kind, &name, &why).await;
        if cascade == DeletePropagation::Orphan {
            for (kind, name) in [(KindId::ConfigMap, &config), (KindId::Task, &task)] {
                let left = objects.find(kind, name).await.unwrap();
                let owners = left["metadata"]["ownerReferences"].as_array();
                assert!(owners.is_none_or(Vec::is_empty), "{why}: {left:#}");
                assert_eq!(left["metadata"].get("deletionTimestamp"), None, "{why}");
                objects.delete(kind, name, DeletePropagation::Background).await;
            }
        }
        objects.wait_until_gone(KindId::ConfigMap, &config, &why).await;
        objects.wait_until_gone(KindId::Task, &task, &why).await;
    }
    assert!(cluster.hosts.iter().all(|host| host.machine.running().is_empty()));
}

/// A task is deleted although what it belongs to is there, when that is nothing that finishes tasks.
#[tokio::test(start_paused = true)]
async fn a_task_of_a_living_owner_of_any_kind_can_be_deleted() {
    let cluster = Cluster::start(41).await;
    let objects = Objects(&cluster);
    forever(&cluster).await;
    for kind in KindId::ALL.into_iter().filter(|kind| sample(*kind).is_some()) {
        let name = format!("o-{kind}").to_lowercase();
        let owner = objects.make(kind, &name, None).await;
        let task = objects.run(&owner).await;
        let before = objects.find(KindId::Task, &task).await.unwrap();
        objects.delete(KindId::Task, &task, DeletePropagation::Background).await;
        if kind == KindId::Job {
            // Its job has work for it still: another task takes its place.
            let uid = before["metadata"]["uid"].as_str().unwrap();
            is_replaced(&cluster, &task, uid).await;
        } else {
            objects.wait_until_gone(KindId::Task, &task, &name).await;
        }
    }
}

/// Waits until another task of this name runs, for which nothing counts that became of the one before.
async fn is_replaced(cluster: &Cluster, name: &str, uid: &str) {
    let runs_anew = |seen: &runtime::Snapshot| {
        seen.tasks.iter().any(|task| {
            task.name() == name && task.uid() != uid && task.phase() == TaskPhase::Running
        })
    };
    let seen = cluster.wait_for("another task runs in its place", LIMIT, runs_anew).await;
    let owner = name.strip_suffix("-0").unwrap();
    let job = seen.jobs.iter().find(|job| job.name() == owner).unwrap();
    let status = &job.status;
    assert_eq!((status.failed, status.cancelled, status.retries), (0, 0, 0), "{status:?}");
    let told = |event: &&api::core::Event| event.reason.as_deref() == Some("TaskDeleted");
    let events = cluster
        .god
        .api::<api::core::Event>("default")
        .list(&client::ListOptions::default())
        .await
        .unwrap();
    assert_eq!(events.items.iter().filter(told).count(), 1, "{events:?}");
}

async fn running_job(cluster: &Cluster, name: &str) -> Job {
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    let job = job(cluster, name, json!({ "template": template })).await;
    Objects(cluster).wait_until_running(&format!("{name}-0")).await;
    job
}

#[tokio::test(start_paused = true)]
async fn tasks_and_templates_that_a_job_left_behind_go_when_they_are_deleted() {
    let cluster = Cluster::start(42).await;
    running_job(&cluster, "x").await;
    let jobs = cluster.god.api::<Job>("default");
    jobs.delete("x", DeletePropagation::Orphan).await.unwrap();
    let left = cluster.wait_for("the job is gone", LIMIT, |seen| seen.jobs.is_empty()).await;
    assert_eq!((left.tasks.len(), left.task_templates.len()), (1, 1));
    assert_eq!(left.tasks.iter().next().unwrap().phase(), TaskPhase::Running);
    // A job of the same name waits for the names, and goes on as soon as they are free.
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    job(&cluster, "x", json!({ "template": template })).await;
    cluster
        .wait_for("the new job says that it waits", LIMIT, |seen| {
            seen.jobs
                .iter()
                .any(|job| job.status.conditions.iter().any(|it| it.reason == "NameTaken"))
        })
        .await;
    let tasks = cluster.god.api::<Task>("default");
    tasks.delete("x-0", DeletePropagation::Background).await.unwrap();
    cluster
        .wait_for("the new job's task runs", Duration::from_secs(10), |seen| {
            let owned = |task: &Task| task.controller().is_some();
            seen.tasks.iter().any(|task| owned(task) && task.phase() == TaskPhase::Running)
                && seen.task_templates.iter().all(|template| template.controller().is_some())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_waits_for_its_dependents_waits_for_the_last_task() {
    let cluster = Cluster::start(43).await;
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    let spec = json!({ "jobs": [{ "name": "a", "template": template }] });
    let workflow = Workflow::new("default", "w", serde_json::from_value(spec).unwrap());
    let workflows = cluster.god.api::<Workflow>("default");
    workflows.create(&workflow).await.unwrap();
    Objects(&cluster).wait_until_running("w-1-a-0").await;
    workflows.delete("w", DeletePropagation::Foreground).await.unwrap();
    let seen =
        cluster.wait_for("the workflow is gone", LIMIT, |seen| seen.workflows.is_empty()).await;
    assert_eq!((seen.workflow_runs.len(), seen.jobs.len(), seen.tasks.len()), (0, 0, 0));
    assert!(cluster.hosts.iter().all(|host| host.machine.running().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn what_a_job_needs_no_longer_goes_at_once() {
    let cluster = Cluster::start(44).await;
    running_job(&cluster, "x").await;
    let jobs = cluster.god.api::<Job>("default");
    // Changed in place: the tasks follow, and the template of before is used by none.
    let change = json!({ "spec": { "placement": { "nodes": ["node-1", "node-2", "node-3"] } } });
    jobs.merge_patch("x", &change).await.unwrap();
    let rerun = json!({ "spec": { "template": { "args": ["duration=1s"] } } });
    jobs.merge_patch("x", &rerun).await.unwrap();
    cluster
        .wait_for("the job has succeeded, with one template", LIMIT, |seen| {
            seen.jobs.iter().all(|job| job.status.phase == JobPhase::Succeeded)
                && seen.task_templates.len() == 1
                && seen.completion_chunks.len() == 1
        })
        .await;
}

async fn make_namespace(cluster: &Cluster, name: &str) {
    let path = object_path(KindId::Namespace, "", "");
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let body = Some(("application/json", body.to_string().into_bytes()));
    let _: Value = cluster.god.json(Method::POST, &path, body).await.unwrap();
}

/// A namespace that holds an object of each kind, running work and a circle empties itself.
#[tokio::test(start_paused = true)]
async fn a_namespace_empties_itself_and_goes() {
    let mut cluster = Cluster::start(45).await;
    make_namespace(&cluster, "n").await;
    let make = async |kind: KindId, mut object: Value| {
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.info().kind.into();
        let path = object_path(kind, "n", "");
        let body = Some(("application/json", object.to_string().into_bytes()));
        cluster.god.json::<Value>(Method::POST, &path, body).await
    };
    for kind in KindId::ALL.into_iter().filter(|kind| kind.is_namespaced()) {
        let Some(mut object) = sample(kind) else { continue };
        object["metadata"] = json!({ "name": "sample" });
        make(kind, object).await.unwrap();
    }
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    let work =
        json!({ "metadata": { "name": "work" }, "spec": { "count": 3, "template": template } });
    make(KindId::Job, work).await.unwrap();
    // Two that own each other.
    let config = json!({ "metadata": { "name": "a" } });
    let a = make(KindId::ConfigMap, config).await.unwrap();
    let owned_by = |name: &str, uid: &Value| {
        json!({ "name": name, "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": if name == "a" { "b" } else { "a" }, "uid": uid,
        }] })
    };
    let config = json!({ "metadata": owned_by("b", &a["metadata"]["uid"]) });
    let b = make(KindId::ConfigMap, config).await.unwrap();
    let circle = json!({ "metadata": owned_by("a", &b["metadata"]["uid"]) });
    cluster.god.api::<ConfigMap>("n").merge_patch("a", &circle).await.unwrap();
    cluster
        .wait_for("the work runs", LIMIT, |seen| {
            let work = seen.tasks.iter().filter(|task| task.name().starts_with("work-"));
            work.filter(|task| task.phase() == TaskPhase::Running).count() == 3
        })
        .await;
    let namespaces = cluster.god.api::<Namespace>("");
    namespaces.delete("n", DeletePropagation::Background).await.unwrap();
    let marked = namespaces.get("n").await.unwrap();
    assert_eq!(marked.status.unwrap().phase.as_deref(), Some("Terminating"));
    let late = make(KindId::ConfigMap, json!({ "metadata": { "name": "late" } })).await;
    assert_eq!(late.unwrap_err().why(), Some(Why::Forbidden), "nothing is made in it any more");
    // The controllers are killed in the middle of it: others go on.
    cluster.crash_leaders();
    cluster.start_leaders();
    let objects = Objects(&cluster);
    objects.wait_until_gone(KindId::Namespace, "n", "a namespace").await;
    for kind in KindId::ALL.into_iter().filter(|kind| sample(*kind).is_some()) {
        if kind.is_namespaced() {
            let list: Value =
                cluster.god.json(Method::GET, &object_path(kind, "n", ""), None).await.unwrap();
            assert_eq!(list["items"], json!([]), "{kind}");
        }
    }
    assert!(cluster.hosts.iter().all(|host| host.machine.running().is_empty()));
    // The name can be used again.
    make_namespace(&cluster, "n").await;
}

/// A store without room takes no puts: no leader renews its lease, and yet the leader goes on, and
/// what was deleted goes.
#[tokio::test(start_paused = true)]
async fn what_is_deleted_goes_while_the_store_is_full() {
    let cluster = Cluster::start(46).await;
    let template = json!({ "image": "x", "args": ["duration=0s"] });
    job(&cluster, "done", json!({ "count": 50, "template": template })).await;
    cluster
        .wait_for("the job has succeeded", LIMIT, |seen| {
            let done = seen.jobs.iter().all(|job| job.status.phase == JobPhase::Succeeded);
            done && seen.tasks.iter().all(|task| task.spec.recorded.is_some())
        })
        .await;
    cluster.store.faults().fill(true);
    // Far longer than a leader holds out that cannot renew.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let jobs = cluster.god.api::<Job>("default");
    jobs.delete("done", DeletePropagation::Background).await.unwrap();
    cluster
        .wait_for("all of it is gone", Duration::from_secs(90), |seen| {
            seen.tasks.is_empty()
                && seen.task_templates.is_empty()
                && seen.completion_chunks.is_empty()
        })
        .await;
    let template = json!({ "image": "x", "args": ["duration=0s"] });
    let next = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": "next", "namespace": "default" }, "spec": { "template": template },
    });
    let next: Job = serde_json::from_value(next).unwrap();
    assert_eq!(jobs.create(&next).await.unwrap_err().why(), Some(Why::Full));
    cluster.store.faults().fill(false);
    jobs.create(&next).await.unwrap();
    cluster
        .wait_for("work goes on", LIMIT, |seen| {
            seen.jobs.iter().any(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
}

/// Gives a ConfigMap an owner, which waits for it.
async fn give_owner(cluster: &Cluster, namespace: &str, name: &str, owner: &ConfigMap) {
    let owners = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name,
        "uid": owner.metadata.uid, "blockOwnerDeletion": true,
    }]);
    let change = json!({ "metadata": { "ownerReferences": owners } });
    cluster.god.api::<ConfigMap>(namespace).merge_patch(name, &change).await.unwrap();
}

async fn config(cluster: &Cluster, namespace: &str, name: &str) -> ConfigMap {
    let mut config = ConfigMap::default();
    config.metadata.name = Some(name.to_owned());
    config.metadata.namespace = Some(namespace.to_owned());
    cluster.god.api::<ConfigMap>(namespace).create(&config).await.unwrap()
}

/// ConfigMaps of which each is owned by the one before it, and the first by the last.
async fn circle(cluster: &Cluster, namespace: &str, names: &[&str]) -> Vec<ConfigMap> {
    let mut made = Vec::new();
    for name in names {
        made.push(config(cluster, namespace, name).await);
    }
    for (place, name) in names.iter().enumerate() {
        let owner = &made[(place + names.len() - 1) % names.len()];
        give_owner(cluster, namespace, name, owner).await;
    }
    made
}

/// Owners that wait for each other in a circle all go, and whoever sees the one gone that was deleted
/// sees the others gone.
#[tokio::test(start_paused = true)]
async fn a_foreground_deletion_in_a_circle_of_owners_ends() {
    let cluster = Cluster::start(47).await;
    let objects = Objects(&cluster);
    forever(&cluster).await;
    for names in [&["self"][..], &["a", "b"], &["c", "d", "e"]] {
        let made = circle(&cluster, "default", names).await;
        let last = serde_json::to_value(made.last().unwrap()).unwrap();
        let task = objects.run(&last).await;
        objects.delete(KindId::ConfigMap, names[0], DeletePropagation::Foreground).await;
        objects.wait_until_gone(KindId::ConfigMap, names[0], "a circle").await;
        for name in names {
            assert_eq!(objects.find(KindId::ConfigMap, name).await, None, "{names:?}");
        }
        assert_eq!(objects.find(KindId::Task, &task).await, None, "{names:?}");
    }
    assert!(cluster.hosts.iter().all(|host| host.machine.running().is_empty()));
}

/// Neither does such a circle keep its namespace, nor does an object keep itself.
#[tokio::test(start_paused = true)]
async fn a_circle_that_is_deleted_in_the_foreground_does_not_keep_its_namespace() {
    let cluster = Cluster::start(48).await;
    let objects = Objects(&cluster);
    make_namespace(&cluster, "n").await;
    circle(&cluster, "n", &["a", "b"]).await;
    circle(&cluster, "n", &["self"]).await;
    let configs = cluster.god.api::<ConfigMap>("n");
    configs.delete("a", DeletePropagation::Foreground).await.unwrap();
    let namespaces = cluster.god.api::<Namespace>("");
    namespaces.delete("n", DeletePropagation::Background).await.unwrap();
    objects.wait_until_gone(KindId::Namespace, "n", "a namespace around a circle").await;
    // Owned by another one and by itself: what goes with the other one goes.
    let owner = config(&cluster, "default", "owner").await;
    let own = config(&cluster, "default", "own").await;
    let reference = |owner: &ConfigMap| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name,
            "uid": owner.metadata.uid,
        })
    };
    let owners = json!({ "metadata": { "ownerReferences": [reference(&owner), reference(&own)] } });
    cluster.god.api::<ConfigMap>("default").merge_patch("own", &owners).await.unwrap();
    objects.delete(KindId::ConfigMap, "owner", DeletePropagation::Background).await;
    objects.wait_until_gone(KindId::ConfigMap, "own", "it does not keep itself").await;
}

/// The server says what a deletion waits for, writes it only when it changes, and the deletion goes on
/// once that is gone.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_waits_says_what_for() {
    let cluster = Cluster::start(49).await;
    make_namespace(&cluster, "n").await;
    // Their tasks ignore what asks them to stop, for a minute.
    let template = json!({
        "image": "x", "args": ["duration=forever", "ignore-term=true"],
        "terminationGracePeriodSeconds": 60,
    });
    let spec = json!({ "template": template, "placement": { "nodes": ["node-1"] } });
    for namespace in ["default", "n"] {
        let held = Job::new(namespace, "held", serde_json::from_value(spec.clone()).unwrap());
        cluster.god.api::<Job>(namespace).create(&held).await.unwrap();
    }
    let runs = |seen: &runtime::Snapshot| {
        seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count() == 2
    };
    cluster.wait_for("both run", LIMIT, runs).await;
    let objects = Objects(&cluster);
    objects.delete(KindId::Namespace, "n", DeletePropagation::Background).await;
    objects.delete(KindId::Job, "held", DeletePropagation::Foreground).await;
    let said = async || {
        let namespace = objects.find(KindId::Namespace, "n").await.unwrap();
        let owner = objects.find(KindId::Job, "held").await.unwrap();
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let conditions = conditions.iter().map(|it| {
            format!("{} {} {}", it["type"], it["status"], it["message"]).replace('"', "")
        });
        let of_owner = owner["metadata"]["annotations"][labels::DELETION_WAITS_FOR].clone();
        let versions = [&namespace, &owner].map(|it| it["metadata"]["resourceVersion"].clone());
        (conditions.collect::<Vec<_>>(), of_owner, versions)
    };
    let until = tokio::time::Instant::now() + LIMIT;
    let (conditions, of_owner, versions) = loop {
        let said = said().await;
        if !said.0.is_empty() && said.1.is_string() {
            break said;
        }
        assert!(tokio::time::Instant::now() < until, "nothing is said: {said:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(conditions.len(), 2, "{conditions:?}");
    let content = "NamespaceContentRemaining True 1 task still stops on node node-1";
    assert!(conditions[0].starts_with(content), "{conditions:?}");
    assert!(conditions[1].starts_with("NamespaceFinalizersRemaining False"), "{conditions:?}");
    let of_owner = of_owner.as_str().unwrap();
    assert!(of_owner.starts_with("1 task still stops on node node-1"), "{of_owner}");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(said().await.2, versions, "it is said once");
    tokio::time::sleep(Duration::from_secs(60)).await;
    objects.wait_until_gone(KindId::Namespace, "n", "nothing holds it").await;
    objects.wait_until_gone(KindId::Job, "held", "nothing holds it").await;
}
