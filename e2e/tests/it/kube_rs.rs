//! A program that uses kube-rs, a client that nobody here wrote: what README claims of it.

use std::time::Duration;

use e2e::dev::Dev;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams, PropagationPolicy,
};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, Config, CustomResource, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How long a state is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// A watch of ours says something after 5 s without news; a client must be able to read it.
const QUIET: Duration = Duration::from_secs(6);

/// A Job as a user of kube-rs would declare the part that they need.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "heliox.dev",
    version = "v1",
    kind = "Job",
    plural = "jobs",
    namespaced,
    schema = "disabled",
    status = "JobStatus"
)]
#[serde(rename_all = "camelCase")]
struct JobSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    template: serde_json::Value,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct JobStatus {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

fn sleeper(name: &str) -> Job {
    let template = json!({
        "image": "busybox", "command": ["sleep", "600"], "terminationGracePeriodSeconds": 1,
    });
    Job::new(name, JobSpec { count: Some(1), template })
}

fn client(dev: &Dev) -> Client {
    Client::try_from(Config::new(dev.url().parse().unwrap())).unwrap()
}

fn of_kind(client: &Client, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("heliox.dev", "v1", kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Whether an object of any kind has a condition that holds.
fn holds(kind: &'static str) -> impl Fn(Option<&DynamicObject>) -> bool {
    move |object| {
        let conditions = object.and_then(|object| object.data["status"]["conditions"].as_array());
        conditions.into_iter().flatten().any(|it| it["type"] == kind && it["status"] == "True")
    }
}

/// A status as kube-rs reports it: its code, and what it says.
fn refusal<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> (u16, String) {
    let error = answer.unwrap_err();
    let kube::Error::Api(status) = &error else { panic!("it is no status: {error:?}") };
    (status.code, status.message.clone())
}

#[tokio::test]
async fn kube_rs_reads_and_writes_our_kinds() {
    let dev = Dev::start().await;
    let client = client(&dev);
    let jobs: Api<Job> = Api::namespaced(client.clone(), "default");
    let made = jobs.create(&PostParams::default(), &sleeper("a")).await.unwrap();
    assert_eq!(jobs.get("a").await.unwrap().uid(), made.uid());
    let (code, why) = refusal(jobs.create(&PostParams::default(), &sleeper("a")).await);
    assert_eq!(code, 409, "{why}");
    assert!(jobs.get_opt("none").await.unwrap().is_none());
    let listed = jobs.list(&ListParams::default().fields("metadata.name=a")).await.unwrap();
    assert_eq!(listed.items.len(), 1);

    let merge = Patch::Merge(json!({ "metadata": { "labels": { "x": "y" } } }));
    let patched = jobs.patch("a", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(patched.labels()["x"], "y");
    let selected = jobs.list(&ListParams::default().labels("x=y").limit(1)).await.unwrap();
    assert_eq!(selected.items.len(), 1);
    // What is not supported yet says so.
    let apply = Patch::Apply(sleeper("a"));
    let params = PatchParams::apply("e2e");
    let (code, why) = refusal(jobs.patch("a", &params, &apply).await);
    assert_eq!(code, 415, "{why}");

    // Its controller writes, too: who comes second reads again.
    let (replaced, stale) = loop {
        let mut whole = jobs.get("a").await.unwrap();
        whole.annotations_mut().insert("note".to_owned(), "z".to_owned());
        match jobs.replace("a", &PostParams::default(), &whole).await {
            Ok(replaced) => break (replaced, whole),
            Err(kube::Error::Api(status)) if status.code == 409 => (),
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(replaced.annotations()["note"], "z");
    let stale = jobs.replace("a", &PostParams::default(), &stale).await;
    assert_eq!(refusal(stale).0, 409);
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    jobs.create(&tried, &sleeper("b")).await.unwrap();
    assert!(jobs.get_opt("b").await.unwrap().is_none());
    assert_eq!(jobs.get_metadata("a").await.unwrap().uid(), made.uid());

    let options = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    jobs.delete("a", &options).await.unwrap();
    let uid = made.uid().unwrap();
    let gone = await_condition(jobs.clone(), "a", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
}

#[tokio::test]
async fn kube_rs_waits_for_conditions_of_every_kind_that_has_a_state() {
    let dev = Dev::start().await;
    let client = client(&dev);
    let within = async |what: &str, waits: Api<DynamicObject>, name: &str| {
        let ready = await_condition(waits, name, holds("Ready"));
        tokio::time::timeout(PATIENCE, ready).await.unwrap_or_else(|_| panic!("{what}")).unwrap();
    };
    within("the node is ready", of_kind(&client, "Node", None), "node-1").await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), "default");
    jobs.create(&PostParams::default(), &sleeper("a")).await.unwrap();
    within("its task is ready", of_kind(&client, "Task", Some("default")), "a-0").await;
    let set = json!({ "spec": {
        "partitions": 1, "stateModel": "OnlineOffline", "mode": "Manual",
        "assignment": { "p-0": { "node-1": "ONLINE" } },
    } });
    let sets = of_kind(&client, "PartitionSet", Some("default"));
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("heliox.dev", "v1", "PartitionSet"));
    let set = DynamicObject::new("p", &resource).data(set);
    sets.create(&PostParams::default(), &set).await.unwrap();
    within("the set is ready", sets, "p").await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let active = |namespace: Option<&Namespace>| {
        let status = namespace.and_then(|namespace| namespace.status.as_ref());
        status.is_some_and(|status| status.phase.as_deref() == Some("Active"))
    };
    let active = await_condition(namespaces, "default", active);
    tokio::time::timeout(PATIENCE, active).await.unwrap().unwrap();
    // What happened is told as events of the core group.
    let events: Api<Event> = Api::namespaced(client, "default");
    let about = ListParams::default().fields("involvedObject.kind=Task,involvedObject.name=a-0");
    let told = events.list(&about).await.unwrap();
    assert!(told.items.iter().all(|event| event.involved_object.name.as_deref() == Some("a-0")));
}

#[tokio::test]
async fn a_watch_of_kube_rs_lives_through_quiet_seconds() {
    let dev = Dev::start().await;
    let client = client(&dev);
    let jobs: Api<Job> = Api::namespaced(client.clone(), "default");
    jobs.create(&PostParams::default(), &sleeper("a")).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let name = format!(
            "b-{}",
            matches!(config.initial_list_strategy, watcher::InitialListStrategy::ListWatch)
        );
        let mut events = watcher(jobs.clone(), config).boxed();
        let mut first = Vec::new();
        loop {
            match events.next().await.unwrap().unwrap() {
                watcher::Event::InitApply(job) => first.push(job.name_any()),
                watcher::Event::InitDone => break,
                watcher::Event::Init | watcher::Event::Apply(_) | watcher::Event::Delete(_) => (),
            }
        }
        assert!(first.contains(&"a".to_owned()), "{first:?}");
        // Its task starts, and then nothing happens.
        let quiet = async {
            while let Some(event) = events.next().await {
                event.unwrap();
            }
        };
        tokio::time::timeout(QUIET, quiet).await.unwrap_err();
        jobs.create(&PostParams::default(), &sleeper(&name)).await.unwrap();
        let seen = async {
            loop {
                if let watcher::Event::Apply(job) = events.next().await.unwrap().unwrap()
                    && job.name_any() == name
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }
}

#[tokio::test]
async fn a_reflector_of_kube_rs_shows_what_there_is() {
    let dev = Dev::start().await;
    let client = client(&dev);
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let (reader, writer) = reflector::store();
    let stream = reflector(writer, watcher(maps.clone(), watcher::Config::default()));
    let mut applied = stream.applied_objects().boxed();
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "c" }, "data": { "a": "b" },
    }))
    .unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let is_seen = || reader.state().iter().any(|map| map.name_any() == "c");
    let seen = async {
        let mut is_ready = false;
        while !is_seen() {
            // What is listed at first is shown once all of it is there. That is waited for once: after
            // that it is true at once each time, and this loop would give nothing else its turn.
            tokio::select! {
                biased;
                event = applied.next() => drop(event.unwrap().unwrap()),
                ready = reader.wait_until_ready(), if !is_ready => {
                    ready.unwrap();
                    is_ready = true;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}

#[tokio::test]
async fn kube_rs_discovers_our_kinds() {
    let dev = Dev::start().await;
    let client = client(&dev);
    let discovery = kube::discovery::Discovery::new(client.clone()).run().await.unwrap();
    let group = discovery.groups().find(|group| group.name() == "heliox.dev").unwrap();
    let kinds: Vec<String> =
        group.recommended_resources().into_iter().map(|(kind, _)| kind.kind).collect();
    for kind in ["Job", "Workflow", "WorkflowRun", "Task", "Node", "PartitionSet"] {
        assert!(kinds.contains(&kind.to_owned()), "{kinds:?}");
    }
    let version = client.apiserver_version().await.unwrap();
    assert!(!version.git_version.is_empty());
}
