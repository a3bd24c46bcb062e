//! What people are told of a service by events, besides how its rollouts go.

use api::object::Kind as _;
use api::service::{ServicePhase, ServiceStatus};
use api::table::some_of;
use api::task::TaskState;

use super::target::ended;
use super::{Course, PlanInput, objects};
use crate::notice::Notice;

/// How many tasks an event names.
const TASKS_NAMED: usize = 3;

/// What has changed from one status to the next, and which tasks start again.
pub(super) fn of_change(
    input: &PlanInput<'_>,
    before: &ServiceStatus,
    next: &ServiceStatus,
) -> Vec<Notice> {
    let notice = |reason, message| Notice { warning: false, reason, message };
    let mut told = Vec::new();
    // The nodes change how many tasks there are as well, and say so themselves.
    let is_changed = before.observed_generation > 0
        && before.observed_generation != next.observed_generation
        && input.course != Course::Expired;
    if is_changed && before.replicas != next.replicas {
        let (from, to) = (before.replicas, next.replicas);
        told.push(notice("Scaled", format!("scaled from {from} to {to} tasks")));
    }
    match (before.phase, next.phase) {
        (ServicePhase::Suspended, ServicePhase::Suspended)
        | (ServicePhase::Expired, ServicePhase::Expired) => (),
        (_, ServicePhase::Suspended) => {
            told.push(notice("Suspended", "all tasks are being stopped".to_owned()));
        }
        (_, ServicePhase::Expired) => {
            told.push(notice("Expired", "expiresAt has passed: all tasks are stopped".to_owned()));
        }
        (ServicePhase::Suspended, _) => {
            told.push(notice("Resumed", "the tasks start again".to_owned()));
        }
        (_, _) => (),
    }
    told.extend(started_again(input));
    told
}

/// Tasks whose attempt has ended and that get another one with this plan: bounded by their back-off.
fn started_again(input: &PlanInput<'_>) -> Option<Notice> {
    if input.course != Course::Usual {
        return None;
    }
    let is_left = |task| matches!(task, TaskState::Lost { .. });
    let again = input.members.all.iter().filter(|member| {
        member.has_ended() && !(is_left(member.task.state()) && objects::pin(member.task).is_some())
    });
    let again: Vec<String> =
        again.map(|member| format!("{} ({})", member.task.name(), ended(member.task))).collect();
    (!again.is_empty()).then(|| {
        let start = if again.len() == 1 { "starts" } else { "start" };
        let message = format!("{} {start} again", some_of(again.iter(), TASKS_NAMED));
        Notice { warning: true, reason: "TaskRetried", message }
    })
}
