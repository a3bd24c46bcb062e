//! The description of a service.

use api::service::{Revision, RolloutState, Service, ServiceSpec, StageJob};
use api::table::{age, span};
use api::{Kind as _, Task, Timestamp, table};

use crate::rollout;

use super::{ROWS_MAX, Sheet, labels, owner, place};

/// The description of a service. `tasks` are its tasks.
pub fn text(service: &Service, tasks: &[Task], now: Timestamp) -> Sheet {
    let status = &service.status;
    let mut sheet = Sheet::default();
    sheet.line(&headline(service));
    sheet.field(
        "Tasks",
        &format!(
            "{} wanted, {} ready, {} available in revision {}",
            status.replicas, status.ready, status.updated, status.update_revision
        ),
    );
    sheet.field("Rollout", &of_rollout(service, now));
    sheet.field("Before", &stages(service).0);
    sheet.field("Canary", &stages(service).1);
    sheet.field("Why", status.message.as_deref().unwrap_or_default());
    sheet.field("Spec", &spec(&service.spec));
    sheet.field("Place", &placement(&service.spec));
    sheet.field("Owner", &owner(service));
    sheet.field("Labels", &labels(service));
    sheet.conditions(&status.conditions);
    let revisions = status.revisions.iter().rev();
    let revisions = revisions.map(|it| revision(service, it, now)).collect();
    sheet.table("Revisions", &["REV", "IMAGE", "STATE", "AGE", "WHY"], revisions);
    let rows = tasks.iter().map(|task| super::task_row(task, now)).collect();
    let all = format!("hctl get tasks --selector {}", status.selector);
    sheet.list("Now", &super::TASK_HEADINGS, rows, (ROWS_MAX, &all));
    sheet
}

fn headline(service: &Service) -> String {
    let status = &service.status;
    let deleting = if service.is_deleting() { ", being deleted" } else { "" };
    let revision = match status.update_revision {
        0 => String::new(),
        number => format!(", revision {number}"),
    };
    format!("Service {}: {}{revision}{deleting}", place(service), status.phase)
}

/// `revision 3, Progressing for 2m; 1 task has failed: web-3-0`.
fn of_rollout(service: &Service, now: Timestamp) -> String {
    let Some(rollout) = &service.status.rollout else { return String::new() };
    let lasted = span(rollout.started_at, rollout.finished_at.unwrap_or(now));
    let how = match rollout.state {
        RolloutState::Progressing | RolloutState::Suspended => {
            format!("{:?} for {lasted}", rollout.state)
        }
        RolloutState::Complete => format!("complete after {lasted}"),
        RolloutState::Failed => format!("failed after {lasted}"),
    };
    let back = rollout.back_from.map(|from| format!(", since revision {from} failed"));
    let asked = service.status.request.as_ref().map(|request| {
        format!("; {} was asked for by {} and is next", request.verb.word(), request.by)
    });
    let failed = match rollout.failed {
        0 => String::new(),
        1 => format!("; 1 task has failed: {}", table::some_of(rollout.failed_tasks.iter(), 3)),
        many => {
            format!(
                "; {many} tasks have failed: {}",
                table::some_of(rollout.failed_tasks.iter(), 3)
            )
        }
    };
    let (back, asked) = (back.unwrap_or_default(), asked.unwrap_or_default());
    format!("revision {}, {how}{back}{failed}{asked}", rollout.revision)
}

/// What the rollout does before tasks change, and how its canaries stand.
fn stages(service: &Service) -> (String, String) {
    let Some(rollout) = &service.status.rollout else { return (String::new(), String::new()) };
    let job = |stage: &StageJob| {
        let state = if stage.succeeded { "succeeded" } else { "has not succeeded yet" };
        format!("job/{} {state}", stage.job)
    };
    let before = rollout.before.as_ref().map(job).unwrap_or_default();
    let canary = rollout.canary.as_ref().map(|canary| {
        let tasks = if canary.count == 1 { "task" } else { "tasks" };
        let state = match (canary.passed_at, canary.available_at) {
            (Some(_), _) => "passed",
            (None, Some(_)) => "available",
            (None, None) => "not available yet",
        };
        let check = canary.check.as_ref().map(|check| format!("; {}", job(check)));
        let by = canary.promoted_by.as_ref().map(|by| format!("; promoted by {by}"));
        let (check, by) = (check.unwrap_or_default(), by.unwrap_or_default());
        format!("{} {tasks}, {state}{check}{by}", canary.count)
    });
    (before, canary.unwrap_or_default())
}

/// A row of the table of revisions.
fn revision(service: &Service, revision: &Revision, now: Timestamp) -> Vec<String> {
    vec![
        revision.number.to_string(),
        revision.image.clone(),
        rollout::state(service, revision).to_owned(),
        age(Some(revision.at), now),
        revision.failure.clone().unwrap_or_default(),
    ]
}

fn spec(spec: &ServiceSpec) -> String {
    let mut parts = vec![format!("image {}", spec.template.image)];
    parts.push(if spec.is_per_node() {
        "one task on each node".to_owned()
    } else {
        format!("replicas {}", spec.replicas())
    });
    let rollout = spec.rollout();
    let order = rollout.order.unwrap_or_default();
    let parallelism = rollout.parallelism.map_or("1".to_owned(), |it| it.to_string());
    parts.push(format!("{order:?}, {parallelism} at a time"));
    if let Some(max) = spec.max_unavailable {
        parts.push(format!("maxUnavailable {max}"));
    }
    if let Some(at) = spec.expires_at {
        parts.push(format!("expires at {at}"));
    }
    if spec.is_suspended() {
        parts.push("suspended".to_owned());
    }
    parts.join(", ")
}

fn placement(spec: &ServiceSpec) -> String {
    let placement = spec.placement();
    if placement == api::placement::Placement::default() {
        return String::new();
    }
    // As it was written.
    serde_json::to_string(&placement).unwrap_or_else(|_| table::NOTHING.to_owned())
}
