//! What a service has come to, as its status says it.

use std::collections::{BTreeMap, BTreeSet};

use api::conditions::{Standing, UNSCHEDULABLE, conditions};
use api::object::Kind as _;
use api::service::{Revision, RolloutState, ServicePhase, ServiceStatus};
use api::table::some_of;
use api::{TaskTemplate, Timestamp};

use super::members::{Health, Member};
use super::target::lasting_why;
use super::{Course, Obstacle, PlanInput, objects, stages};

/// How many tasks a sentence names.
const TASKS_NAMED: usize = 3;

/// The next status.
pub(super) fn next(input: &PlanInput<'_>, obstacle: Option<&Obstacle>) -> ServiceStatus {
    let PlanInput { view, course, target, places, members } = input;
    let service = view.service;
    let mut status = service.status.clone();
    target.store(&mut status);
    status.revisions = kept(input);
    status.observed_generation =
        if obstacle.is_some() { status.observed_generation } else { service.generation() };
    status.selector = objects::selector(service);
    let in_reach = || members.all.iter().filter(|member| !member.is_out_of_reach);
    let count = |is: &dyn Fn(&Member<'_>) -> bool| {
        u32::try_from(in_reach().filter(|member| is(member)).count()).unwrap_or(u32::MAX)
    };
    status.replicas = match course {
        Course::Usual | Course::Suspended => places.total(),
        Course::Expired => 0,
    };
    status.ready = count(&|member| member.is_ready());
    status.updated = count(&|member| member.is_new && member.is_available());
    status.unavailable = status.replicas.saturating_sub(status.ready);
    status.suspended_at = match course {
        Course::Suspended => status.suspended_at.or(Some(view.now)),
        Course::Usual | Course::Expired => None,
    };
    status.phase = phase(input, &status);
    status.message = message(input, &status, obstacle);
    let unfit = in_reach().find_map(|member| member.task.unschedulable());
    let (standing, reason) = match (status.phase, obstacle) {
        (_, Some(obstacle)) => (Standing::Stalled, obstacle.reason().to_owned()),
        (ServicePhase::Paused, None) if target.rollout.state == RolloutState::Failed => {
            (Standing::Stalled, "RolloutFailed".to_owned())
        }
        // What the manifest says is not what runs, and will not be unless a person changes it.
        (ServicePhase::Running, None) if target.rollout.back_from.is_some() => {
            (Standing::Stalled, "RolledBack".to_owned())
        }
        (ServicePhase::Running, None) => (Standing::Ready, "Running".to_owned()),
        (ServicePhase::Expired, None) => (Standing::Stalled, "Expired".to_owned()),
        (ServicePhase::RollingOut | ServicePhase::Degraded, None) if unfit.is_some() => {
            (Standing::Reconciling, UNSCHEDULABLE.to_owned())
        }
        (
            ServicePhase::RollingOut
            | ServicePhase::Degraded
            | ServicePhase::Paused
            | ServicePhase::Suspended,
            None,
        ) => (Standing::Reconciling, status.phase.to_string()),
    };
    let why = status.message.clone().unwrap_or_default();
    let at = (service.generation(), view.now);
    status.conditions = conditions(&service.status.conditions, standing, &reason, &why, at);
    status
}

fn phase(input: &PlanInput<'_>, status: &ServiceStatus) -> ServicePhase {
    match (input.course, input.target.rollout.state) {
        (Course::Expired, _) => ServicePhase::Expired,
        (Course::Suspended, _) => ServicePhase::Suspended,
        (Course::Usual, RolloutState::Suspended | RolloutState::Failed) => ServicePhase::Paused,
        // Nothing is rolled out where no task is wanted.
        (Course::Usual, RolloutState::Progressing)
            if status.replicas == 0 && input.view.tasks.is_empty() =>
        {
            ServicePhase::Running
        }
        (Course::Usual, RolloutState::Progressing) => ServicePhase::RollingOut,
        (Course::Usual, RolloutState::Complete) if status.unavailable > 0 => ServicePhase::Degraded,
        (Course::Usual, RolloutState::Complete) => ServicePhase::Running,
    }
}

/// Why the service is in its phase, or what it waits for.
fn message(
    input: &PlanInput<'_>,
    status: &ServiceStatus,
    obstacle: Option<&Obstacle>,
) -> Option<String> {
    if let Some(obstacle) = obstacle {
        return Some(obstacle.to_string());
    }
    let (service, rollout) = (input.view.service, &input.target.rollout);
    let number = rollout.revision;
    let failure = || input.target.revision(number)?.failure.clone();
    match status.phase {
        ServicePhase::Running => {
            let back = rollout.back_from.map(|from| {
                let failed = input.target.revision(from).and_then(|it| it.failure.clone());
                let why = failed.map(|why| format!(": {why}")).unwrap_or_default();
                format!("went back to an earlier revision, since revision {from} failed{why}")
            });
            back.or_else(|| undone(input)).or_else(|| passed_over(input))
        }
        ServicePhase::Expired => {
            service.spec.expires_at.map(|at| format!("expired at {at}")).or_else(|| leaving(input))
        }
        ServicePhase::Suspended => leaving(input),
        ServicePhase::Paused if rollout.state == RolloutState::Failed => {
            let why = failure().unwrap_or_else(|| "too many tasks failed".to_owned());
            Some(format!("rollout of revision {number} failed: {why}"))
        }
        ServicePhase::Paused => Some(format!(
            "rollout of revision {number} is suspended: {} of {} tasks run it",
            input.members.updated().count(),
            status.replicas
        )),
        ServicePhase::RollingOut => {
            let back = rollout.back_from.map(|from| format!("revision {from} failed; "));
            let waits = stages::waits_for(input).or_else(|| waits_for(input));
            let waits = waits.map(|waits| format!("; {waits}")).unwrap_or_default();
            Some(format!(
                "{}{} of {} tasks are available in revision {number}{waits}",
                back.unwrap_or_default(),
                status.updated,
                status.replicas,
            ))
        }
        ServicePhase::Degraded => {
            let waits = waits_for(input).map(|waits| format!("; {waits}")).unwrap_or_default();
            Some(format!("{} of {} tasks are ready{waits}", status.ready, status.replicas))
        }
    }
}

/// That tasks run something else than the manifest asks for, since a person went back from that.
fn undone(input: &PlanInput<'_>) -> Option<String> {
    let target = &input.target;
    let asked_for = target.revision(target.of_manifest)?;
    let runs = target.revision(target.rollout.revision)?;
    let before =
        runs.same_as.map(|number| format!(" what revision {number} ran")).unwrap_or_default();
    (asked_for.template != target.template()).then(|| {
        format!("runs{before}, since revision {}, the manifest's, was undone", asked_for.number)
    })
}

/// Tasks that a rollout has passed over, since their nodes accept none at the moment.
fn passed_over(input: &PlanInput<'_>) -> Option<String> {
    let is_behind = |it: &&Member<'_>| it.is_out_of_reach && !(it.is_new && it.is_available());
    let behind: Vec<&Member<'_>> = input.members.all.iter().filter(is_behind).collect();
    let names = some_of(behind.iter().map(|member| member.task.name()), TASKS_NAMED);
    let (tasks, are) = if behind.len() == 1 { ("task", "is") } else { ("tasks", "are") };
    (!behind.is_empty()).then(|| {
        format!(
            "{} {tasks} {are} left as before, on nodes that accept none now: {names}",
            behind.len()
        )
    })
}

/// Tasks that are still being stopped.
fn leaving(input: &PlanInput<'_>) -> Option<String> {
    let open = input.members.all.iter().filter(|member| !member.task.has_ended()).count();
    let open = open + input.members.stopping.len();
    (open > 0).then(|| format!("{open} tasks are still being stopped"))
}

/// The first task that is not available, and why it is not.
fn waits_for(input: &PlanInput<'_>) -> Option<String> {
    let first = input.members.all.iter().find(|member| !member.is_available())?;
    let task = first.task;
    let why = match first.health {
        Health::Ready(_) => "ready, for less than minReadySeconds".to_owned(),
        Health::Available | Health::NotReady | Health::Ended => {
            let why = lasting_why(task);
            if why.is_empty() {
                task.phase().to_string()
            } else {
                format!("{} ({why})", task.phase())
            }
        }
    };
    Some(format!("{}: {why}", task.name()))
}

/// The revisions that are kept: those that tasks run or may have to, and the newest of the others.
pub(super) fn kept(input: &PlanInput<'_>) -> Vec<Revision> {
    let target = &input.target;
    let used: BTreeSet<&str> =
        input.view.tasks.iter().map(|task| task.spec.template.as_str()).collect();
    let numbers = [
        Some(target.current),
        Some(target.rollout.revision),
        Some(target.of_manifest),
        target.rollout.back_from,
    ];
    // Of several revisions with one template, the newest speaks for all.
    let newest: BTreeMap<&str, u32> =
        target.revisions.iter().map(|it| (it.template.as_str(), it.number)).collect();
    let is_needed = |revision: &&Revision| {
        let template = revision.template.as_str();
        let is_newest = newest.get(template) == Some(&revision.number);
        numbers.contains(&Some(revision.number)) || is_newest && used.contains(template)
    };
    let others = target.revisions.iter().filter(|it| !is_needed(it)).count();
    let limit = input.view.service.spec.revision_history_limit();
    let mut surplus = others.saturating_sub(limit);
    let keeps = |revision: &&Revision| {
        let drops = surplus > 0 && !is_needed(revision);
        surplus -= usize::from(drops);
        !drops
    };
    target.revisions.iter().filter(keeps).cloned().collect()
}

/// Whether a status says more than other counts, so that it is written at once.
pub(super) fn is_urgent(before: &ServiceStatus, next: &ServiceStatus) -> bool {
    before.phase != next.phase
        || before.rollout != next.rollout
        || before.revisions != next.revisions
        || before.request != next.request
        || before.observed_generation != next.observed_generation
}

/// When to look again although nothing has happened.
pub(super) fn wake_at(input: &PlanInput<'_>) -> Option<Timestamp> {
    let PlanInput { view, course, target, members, .. } = input;
    let spec = &view.service.spec;
    let expires = spec.expires_at.filter(|at| *at > view.now);
    let is_open = target.rollout.state == RolloutState::Progressing && *course == Course::Usual;
    let timeout = spec.rollout().timeout().signed();
    let of_member = |member: &Member<'_>| match member.health {
        Health::Available => None,
        Health::Ready(at) => Some(at),
        Health::NotReady | Health::Ended if is_open && member.is_new => {
            target.due(member.task, timeout).filter(|at| *at > view.now)
        }
        Health::NotReady | Health::Ended => None,
    };
    let progress = target.progress_due(&spec.rollout()).filter(|at| is_open && *at > view.now);
    let promoted = stages::due(input).filter(|at| is_open && *at > view.now);
    members.all.iter().filter_map(of_member).chain(expires).chain(progress).chain(promoted).min()
}

/// The templates that no revision in the status and no task needs any more.
pub(super) fn outdated<'a>(input: &'a PlanInput<'_>) -> impl Iterator<Item = &'a TaskTemplate> {
    let revisions = &input.view.service.status.revisions;
    let kept: BTreeSet<&str> = revisions.iter().map(|it| it.template.as_str()).collect();
    let used: BTreeSet<&str> =
        input.view.tasks.iter().map(|task| task.spec.template.as_str()).collect();
    let is_outdated = move |template: &&&TaskTemplate| {
        !kept.contains(template.name()) && !used.contains(template.name())
    };
    input.view.templates.iter().filter(is_outdated).copied()
}
