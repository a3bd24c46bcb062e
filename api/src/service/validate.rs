//! Rules of a service.

use serde_json::Value;

use super::{
    HISTORY_MAX, MIN_READY_SECONDS_MAX, REPLICAS_MAX, Rollout, RolloutJob, RolloutOrder, Service,
    ServiceSpec,
};
use crate::job::JobSpec;
use crate::kind::KindId;
use crate::number_or_percent::NumberOrPercent;
use crate::object::number_problem;
use crate::violation::Violation;
use crate::{merge, metadata, placement, restart, substitute, template};

/// What is wrong with a service.
pub(super) fn validate(service: &Service) -> Vec<Violation> {
    let mut found = metadata::validate(KindId::Service, &service.metadata);
    let spec = &service.spec;
    template::validate(&spec.template, "spec.template", &mut found);
    if let Some(wanted) = &spec.placement {
        placement::validate(wanted, "spec.placement", &mut found);
    }
    if let Some(wanted) = &spec.restart {
        restart::validate(wanted, "spec.restart", &mut found);
    }
    which_tasks(spec, &mut found);
    if let Some(wanted) = &spec.rollout {
        rollout(spec, wanted, &mut found);
    }
    let policy = spec.rollout();
    let before = policy.before.map(|job| (job, "spec.rollout.before"));
    let check = policy.canary.and_then(|canary| canary.check);
    let check = check.map(|job| (job, "spec.rollout.canary.check"));
    for (job, path) in before.into_iter().chain(check) {
        rollout_job(spec, &job, path, &mut found);
    }
    found.extend(never_rolled_out(spec));
    found.extend(two_at_a_place(spec));
    if let Some(limit) = spec.revision_history_limit.filter(|limit| *limit > HISTORY_MAX) {
        let why = format!("{limit} revisions; at most {HISTORY_MAX} are allowed");
        found.push(Violation::new("spec.revisionHistoryLimit", why));
    }
    let document = Value::Object(merge::to_map(spec));
    substitute::check_job(&document, substitute::Scope::Service, "spec", &mut found);
    found
}

/// What is wrong with changing `old` into `new`.
pub(super) fn validate_update(new: &Service, old: &Service) -> Vec<Violation> {
    let number = new.status.update_revision;
    if number == old.status.update_revision {
        return Vec::new();
    }
    number_problem("status.updateRevision", number).into_iter().collect()
}

fn which_tasks(spec: &ServiceSpec, found: &mut Vec<Violation>) {
    if let Some(replicas) = spec.replicas.filter(|replicas| *replicas > REPLICAS_MAX) {
        let why = format!("{replicas} tasks; at most {REPLICAS_MAX} are allowed");
        found.push(Violation::new("spec.replicas", why));
    }
    if spec.is_per_node() && spec.replicas.is_some() {
        let violation =
            Violation::new("spec.replicas", "the nodes determine how many tasks there are");
        found.push(violation.hint("leave out replicas, or perNode"));
    }
}

/// What is wrong with a job of a rollout, but for what is wrong with the service's own template.
fn rollout_job(spec: &ServiceSpec, job: &RolloutJob, path: &str, found: &mut Vec<Violation>) {
    let merged = match job.spec(spec) {
        Ok(merged) => merged,
        Err(problems) => {
            found.extend(problems.into_iter().map(|it| it.under(&format!("{path}.template"))));
            return;
        }
    };
    let of_service = JobSpec {
        template: spec.template.clone(),
        placement: spec.placement.clone(),
        ..JobSpec::default()
    };
    let problems = |of: &JobSpec| {
        let mut found = Vec::new();
        crate::job::validate_spec(of, path, &mut found);
        let document = Value::Object(merge::to_map(of));
        substitute::check_job(&document, substitute::Scope::Job, path, &mut found);
        found
    };
    let (mut own, known) = (problems(&merged), problems(&of_service));
    own.retain(|violation| !known.contains(violation));
    if let Some(part) = &job.template {
        merge::repeated(part, &format!("{path}.template"), &mut own);
    }
    found.append(&mut own);
}

fn rollout(spec: &ServiceSpec, rollout: &Rollout, found: &mut Vec<Violation>) {
    let is_none = |share: NumberOrPercent| {
        matches!(share, NumberOrPercent::Number(0) | NumberOrPercent::Percent(0))
    };
    if rollout.parallelism.is_some_and(is_none) {
        let violation =
            Violation::new("spec.rollout.parallelism", "with 0 no task would ever be replaced");
        found.push(violation.hint("write suspend: true to pause a rollout"));
    }
    if rollout.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
        found.push(Violation::new("spec.rollout.timeout", "in 0s no task becomes ready"));
    }
    if let Some(seconds) = rollout.min_ready_seconds.filter(|it| *it > MIN_READY_SECONDS_MAX) {
        let why = format!("{seconds} seconds; at most {MIN_READY_SECONDS_MAX} are allowed");
        found.push(Violation::new("spec.rollout.minReadySeconds", why));
    }
    if rollout.canary.as_ref().and_then(|canary| canary.count).is_some_and(is_none) {
        let violation = Violation::new("spec.rollout.canary.count", "with 0 there is no canary");
        found.push(violation.hint("leave canary out"));
    }
    if rollout.timeout() <= spec.min_ready() {
        let why = format!(
            "no task would be available in time: timeout is {}, minReadySeconds {}",
            rollout.timeout(),
            spec.min_ready()
        );
        found.push(Violation::new("spec.rollout.minReadySeconds", why));
    }
}

/// The violation of a service whose tasks may never be stopped, and are stopped before others take
/// their place.
fn never_rolled_out(spec: &ServiceSpec) -> Option<Violation> {
    let is_none = matches!(
        spec.max_unavailable,
        Some(NumberOrPercent::Number(0) | NumberOrPercent::Percent(0))
    );
    let stops_first = spec.rollout().order.unwrap_or_default() == RolloutOrder::StopFirst;
    (is_none && stops_first).then(|| {
        let why = "with 0 no task could ever be stopped to be replaced";
        Violation::new("spec.maxUnavailable", why).hint("write rollout.order: StartFirst, or 1")
    })
}

/// The violation of a service whose new tasks would start beside the old ones although there can be
/// only one.
fn two_at_a_place(spec: &ServiceSpec) -> Option<Violation> {
    if spec.rollout().order.unwrap_or_default() != RolloutOrder::StartFirst {
        return None;
    }
    let has_fixed_port = spec.template.ports.iter().any(|port| port.host_port.is_some());
    let why = if spec.is_per_node() {
        "a node has one task of the service"
    } else if has_fixed_port {
        "two tasks on one node cannot have the same hostPort"
    } else {
        return None;
    };
    let violation =
        Violation::new("spec.rollout.order", format!("StartFirst is impossible: {why}"));
    Some(violation.hint("write StopFirst"))
}
