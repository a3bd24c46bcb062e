//! Services in the simulated cluster: kept up, rolled out, and what is ready meanwhile.

use std::time::Duration;

use api::service::{RolloutState, Service, ServicePhase};
use api::task::TaskPhase;
use api::{Kind as _, Task};
use client::DeletePropagation;
use http::Method;
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(120);

/// What a container of a revision runs: for ever, with the revision's number as a label that can be
/// told.
fn template(revision: u32) -> Value {
    json!({
        "image": format!("i{revision}"), "args": ["duration=forever"],
        "terminationGracePeriodSeconds": 1,
    })
}

async fn service(cluster: &Cluster, mut spec: Value) {
    spec["template"] = template(1);
    let service = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "default" }, "spec": spec,
    });
    let service: Service = serde_json::from_value(service).unwrap();
    cluster.god.api::<Service>("default").create(&service).await.unwrap();
}

async fn patch(cluster: &Cluster, spec: Value) {
    let services = cluster.god.api::<Service>("default");
    services.merge_patch("web", &json!({ "spec": spec })).await.unwrap();
}

fn web(seen: &Snapshot) -> Option<&Service> {
    seen.services.iter().map(AsRef::as_ref).find(|service| service.name() == "web")
}

/// Whether the service runs a revision with all its tasks, and nothing else is left.
fn is_up(seen: &Snapshot, revision: u32, tasks: usize) -> bool {
    let is_complete = web(seen).is_some_and(|web| {
        let status = &web.status;
        status.phase == ServicePhase::Running && status.current_revision == revision
    });
    is_complete && seen.tasks.len() == tasks && seen.tasks.iter().all(|task| task.is_ready())
}

fn ready(seen: &Snapshot) -> usize {
    seen.tasks.iter().filter(|task| task.is_ready()).count()
}

/// Waits for a state, and holds that at no time fewer tasks are ready than `least`.
async fn meanwhile(cluster: &Cluster, least: usize, what: &str, is: impl Fn(&Snapshot) -> bool) {
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(seen) = cluster.look().await {
            assert!(ready(&seen) >= least, "{what}: {} tasks are ready", ready(&seen));
            if is(&seen) {
                return;
            }
        }
        assert!(tokio::time::Instant::now() < until, "{what}: it takes too long");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_rolled_out_and_enough_of_it_is_ready_all_the_time() {
    let cluster = Cluster::start(11).await;
    service(&cluster, json!({ "replicas": 6, "rollout": { "parallelism": 2 } })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 6)).await;
    patch(&cluster, json!({ "template": template(2) })).await;
    meanwhile(&cluster, 4, "two at a time", |seen| is_up(seen, 2, 6)).await;
    patch(&cluster, json!({ "template": template(3), "rollout": { "order": "StartFirst" } })).await;
    meanwhile(&cluster, 6, "new ones first", |seen| is_up(seen, 3, 6)).await;
    patch(&cluster, json!({ "replicas": 2 })).await;
    meanwhile(&cluster, 2, "scaled down", |seen| is_up(seen, 3, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn leaders_that_crash_in_the_middle_of_a_rollout_change_nothing_of_how_it_ends() {
    for seed in 20..26 {
        let mut cluster = Cluster::start(seed).await;
        service(&cluster, json!({ "replicas": 4 })).await;
        cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 4)).await;
        patch(&cluster, json!({ "template": template(2) })).await;
        for _ in 0..6 {
            let millis = cluster.rng.below(1500);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let index = usize::try_from(cluster.rng.below(2)).unwrap();
            cluster.controllers[index].crash();
            cluster.schedulers[1 - index].crash();
            if cluster.rng.chance(300) {
                cluster.crash_server();
                cluster.start_server().await;
            }
            cluster.start_leaders();
            if let Some(seen) = cluster.look().await {
                assert!(ready(&seen) >= 3, "seed {seed}: {} are ready", ready(&seen));
            }
        }
        meanwhile(&cluster, 3, "in the end", |seen| is_up(seen, 2, 4)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_machine_ran_starts_elsewhere_and_a_deleted_service_leaves_nothing() {
    let mut cluster = Cluster::start(12).await;
    service(&cluster, json!({ "replicas": 6 })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 6)).await;
    cluster.lose_machine(0);
    let is_elsewhere = |seen: &Snapshot| {
        let there = |task: &Task| task.node() == Some("node-1");
        is_up(seen, 1, 6) && !seen.tasks.iter().any(|task| there(task))
    };
    cluster.wait_for("all run elsewhere", LIMIT, is_elsewhere).await;
    let services = cluster.god.api::<Service>("default");
    services.delete("web", DeletePropagation::Background).await.unwrap();
    let is_gone =
        |seen: &Snapshot| seen.services.len() + seen.tasks.len() + seen.task_templates.len() == 0;
    cluster.wait_for("nothing is left", LIMIT, is_gone).await;
    for host in &cluster.hosts {
        assert_eq!(host.machine.running(), [], "on {}", host.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_with_a_task_on_each_node_follows_the_nodes() {
    let mut cluster = Cluster::start(13).await;
    service(&cluster, json!({ "perNode": true })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 3)).await;
    cluster.add_host("node-4");
    cluster.wait_for("also on the new node", LIMIT, |seen| is_up(seen, 1, 4)).await;
    // A rollout passes over the node that is away, which follows when it is back.
    cluster.hosts[1].line.cut(true);
    let is_lost = |seen: &Snapshot| seen.tasks.iter().any(|task| task.phase() == TaskPhase::Lost);
    cluster.wait_for("a node is lost", LIMIT, is_lost).await;
    patch(&cluster, json!({ "template": template(2) })).await;
    let is_past = |seen: &Snapshot| {
        let state = web(seen).and_then(|web| web.status.rollout.as_ref()).map(|it| it.state);
        state == Some(RolloutState::Complete) && web(seen).unwrap().status.current_revision == 2
    };
    cluster.wait_for("it is rolled out elsewhere", LIMIT, is_past).await;
    cluster.hosts[1].line.cut(false);
    let follows =
        |seen: &Snapshot| is_up(seen, 2, 4) && seen.tasks.iter().all(|task| task.spec.run == 2);
    cluster.wait_for("the node follows", LIMIT, follows).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_revision_is_taken_back_and_the_good_one_stays_up() {
    let cluster = Cluster::start(14).await;
    let rollout = json!({ "timeout": "10s", "onFailure": "Rollback" });
    service(&cluster, json!({ "replicas": 3, "rollout": rollout })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 3)).await;
    let mut bad = template(2);
    bad["resources"] = json!({ "requests": { "cpu": "64" } });
    patch(&cluster, json!({ "template": bad })).await;
    let is_back = |seen: &Snapshot| {
        is_up(seen, 3, 3)
            && web(seen).unwrap().status.rollout.as_ref().unwrap().back_from == Some(2)
    };
    meanwhile(&cluster, 2, "it goes back", is_back).await;
    // A change of something else does not try it again.
    patch(&cluster, json!({ "replicas": 4 })).await;
    meanwhile(&cluster, 3, "only more of it", |seen| is_up(seen, 3, 4)).await;
}

/// Asks something of the rollout, as `hctl rollout` does.
async fn ask(cluster: &Cluster, body: Value) {
    let path = "/apis/heliox.dev/v1/namespaces/default/services/web/rollout";
    let body = Some(("application/json", body.to_string().into_bytes()));
    let asked: Result<Value, client::Error> = cluster.god.json(Method::POST, path, body).await;
    asked.unwrap();
}

fn is_canary_available(seen: &Snapshot) -> bool {
    let rollout = web(seen).and_then(|web| web.status.rollout.as_ref());
    let canary = rollout.and_then(|rollout| rollout.canary.as_ref());
    canary.is_some_and(|canary| canary.available_at.is_some() && canary.passed_at.is_none())
}

/// Canaries are beside the others until they are promoted; an undo brings back what ran, and edits no
/// spec; a restart replaces every task.
#[tokio::test(start_paused = true)]
async fn canaries_are_promoted_and_what_was_rolled_out_is_undone_and_restarted() {
    let mut cluster = Cluster::start(17).await;
    service(&cluster, json!({ "replicas": 3, "rollout": { "canary": { "count": 1 } } })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 3)).await;
    patch(&cluster, json!({ "template": template(2) })).await;
    meanwhile(&cluster, 3, "canaries cost nothing", is_canary_available).await;
    ask(&cluster, json!({ "verb": "Promote" })).await;
    meanwhile(&cluster, 2, "they are promoted", |seen| is_up(seen, 2, 3)).await;
    ask(&cluster, json!({ "verb": "Undo" })).await;
    cluster.crash_leaders();
    cluster.start_leaders();
    meanwhile(&cluster, 2, "it goes back", |seen| is_up(seen, 3, 3)).await;
    let seen = cluster.look().await.unwrap();
    let now = web(&seen).unwrap();
    assert_eq!((now.spec.template.image.as_str(), now.image()), ("i2", "i1"));
    ask(&cluster, json!({ "verb": "Restart" })).await;
    meanwhile(&cluster, 2, "it is restarted", |seen| is_up(seen, 4, 3)).await;
    let seen = cluster.look().await.unwrap();
    assert!(seen.tasks.iter().all(|task| task.spec.run == 4));
}

/// The job before a revision ends before the first task changes; one that fails costs no task.
#[tokio::test(start_paused = true)]
async fn a_job_runs_before_tasks_change_and_its_failure_costs_none() {
    let cluster = Cluster::start(19).await;
    let job = |exit: u32| json!({ "template": { "args": ["duration=1s", format!("exit={exit}")] }, "retry": { "maxAttempts": 1 } });
    let rollout = json!({ "before": job(0), "onFailure": "Rollback" });
    service(&cluster, json!({ "replicas": 2, "rollout": rollout })).await;
    let is_up_beside_jobs = |seen: &Snapshot, revision: u32| {
        let complete = web(seen).is_some_and(|web| web.status.current_revision == revision);
        let is_mine = |task: &&std::sync::Arc<Task>| {
            task.controller().is_some_and(|owner| owner.kind == "Service")
        };
        let mine = seen.tasks.iter().filter(is_mine);
        complete && mine.filter(|task| task.is_ready()).count() == 2
    };
    cluster.wait_for("it is up", LIMIT, |seen| is_up_beside_jobs(seen, 1)).await;
    patch(&cluster, json!({ "template": template(2), "rollout": { "before": job(1) } })).await;
    meanwhile(&cluster, 2, "the job fails", |seen| is_up_beside_jobs(seen, 3)).await;
    let seen = cluster.look().await.unwrap();
    let names: Vec<&str> = seen.jobs.iter().map(|job| job.name()).collect();
    assert_eq!(names, ["web-before-1", "web-before-2"]);
    let failure = web(&seen).unwrap().status.revision(2).unwrap().failure.clone().unwrap();
    assert!(failure.starts_with("job web-before-2: Failed"), "{failure}");
}
