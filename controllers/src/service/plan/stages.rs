//! What a rollout waits for: its job before the first task changes, and its canaries before all do.

use std::collections::BTreeSet;

use api::job::{JobPhase, JobSpec};
use api::object::Kind as _;
use api::service::{Canary, CanaryStatus, RolloutJob, RolloutState, Stage, StageJob};
use api::{Job, Timestamp, labels, names};

use super::members::Members;
use super::target::Target;
use super::{Course, Obstacle, PlanInput, View};
use crate::action::{Action, Patch};

/// What the job before, and the job that checks canaries, are called in their names.
const BEFORE: &str = "before";
const CHECK: &str = "check";

impl Target {
    /// Says what the revision that a change of the manifest has made waits for. A revision that goes back
    /// waits for nothing: it ran before.
    pub(super) fn with_stages(mut self, view: &View<'_>, total: u32) -> Self {
        let policy = view.service.spec.rollout();
        let job = |what: &str| StageJob {
            job: names::rollout_job(view.service.name(), what, self.rollout.revision),
            succeeded: false,
        };
        self.rollout.before = policy.before.map(|_| job(BEFORE));
        // Where nothing good runs, nothing is spared by trying a few tasks first.
        let canary = policy.canary.filter(|_| self.current > 0 && total > 0);
        self.rollout.canary = canary.map(|canary| CanaryStatus {
            count: canary.count.map_or(1, |count| count.of(total)).clamp(1, total),
            check: canary.check.map(|_| job(CHECK)),
            ..CanaryStatus::default()
        });
        self
    }

    /// Looks at the job before. Returns why it has failed, if it has.
    pub(super) fn look_at_before(&mut self, view: &View<'_>) -> Option<String> {
        let is_wanted = view.service.spec.rollout().before.is_some();
        self.rollout.before.take_if(|before| !before.succeeded && !is_wanted);
        self.rollout.before.as_mut().and_then(|before| look_at(before, view))
    }

    /// Looks at the canaries: whether they are available, were checked and have been promoted. Returns
    /// why their check has failed, if it has.
    pub(super) fn look_at_canaries(
        &mut self,
        view: &View<'_>,
        members: &Members<'_>,
    ) -> Option<String> {
        let Stage::Canary(count) = self.rollout.stage() else { return None };
        let in_reach = || members.all.iter().filter(|member| !member.is_out_of_reach);
        let is_done = |task| self.has_failed(task);
        let done = in_reach().filter(|it| it.is_new && (it.is_available() || is_done(it.task)));
        let (done, old) = (done.count(), in_reach().filter(|it| !it.is_new).count());
        let policy = view.service.spec.rollout().canary;
        let canary = self.rollout.canary.as_mut()?;
        // It is no longer wanted, or nothing is left that it could spare.
        let Some(policy) = policy.filter(|_| old > 0) else {
            canary.passed_at = Some(view.now);
            return None;
        };
        if u32::try_from(done).unwrap_or(u32::MAX) < count {
            canary.available_at = None;
            return None;
        }
        let since = *canary.available_at.get_or_insert(view.now);
        if policy.check.is_none() {
            canary.check = None;
        }
        if let Some(check) = &mut canary.check {
            if let Some(why) = look_at(check, view) {
                return Some(why);
            }
            if !check.succeeded {
                return None;
            }
        }
        let is_due = promoted_at(&policy, since).is_some_and(|at| at <= view.now);
        if is_due || canary.promoted_by.is_some() {
            canary.passed_at = Some(view.now);
        }
        None
    }
}

/// When canaries that have been available since then are promoted by themselves.
fn promoted_at(policy: &Canary, since: Timestamp) -> Option<Timestamp> {
    since.checked_add(policy.promote_after?.signed()).ok()
}

/// When the rollout goes on by itself although nothing has happened.
pub(super) fn due(input: &PlanInput<'_>) -> Option<Timestamp> {
    let rollout = &input.target.rollout;
    let Stage::Canary(_) = rollout.stage() else { return None };
    let policy = input.view.service.spec.rollout().canary?;
    promoted_at(&policy, rollout.canary.as_ref()?.available_at?)
}

/// Looks at a job of the rollout. Returns why it has failed, if it has.
fn look_at(stage: &mut StageJob, view: &View<'_>) -> Option<String> {
    if stage.succeeded {
        return None;
    }
    let job = own(view, &stage.job)?;
    match phase(job)? {
        JobPhase::Pending | JobPhase::Running | JobPhase::Suspended => None,
        JobPhase::Succeeded => {
            stage.succeeded = true;
            None
        }
        JobPhase::Failed | JobPhase::TimedOut | JobPhase::Cancelled | JobPhase::Skipped => {
            Some(told(job))
        }
    }
}

fn own<'a>(view: &View<'a>, name: &str) -> Option<&'a Job> {
    view.jobs.iter().copied().find(|job| job.name() == name)
}

/// The phase of a job whose controller has seen its last change.
fn phase(job: &Job) -> Option<JobPhase> {
    let is_seen = job.status.observed_generation >= job.generation();
    is_seen.then_some(job.status.phase)
}

/// A job and how it does: `job web-before-3: Failed (1 failed: exit 3)`.
fn told(job: &Job) -> String {
    let why = job.status.message.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("job {}: {}{why}", job.name(), job.status.phase)
}

/// What the rollout waits for at its stage, in words; nothing if it replaces tasks.
pub(super) fn waits_for(input: &PlanInput<'_>) -> Option<String> {
    let rollout = &input.target.rollout;
    let job = |stage: &StageJob| {
        let told = own(input.view, &stage.job).map(told);
        told.unwrap_or_else(|| format!("job {}", stage.job))
    };
    match rollout.stage() {
        Stage::All => None,
        Stage::Before => rollout.before.as_ref().map(|before| format!("waits for {}", job(before))),
        Stage::Canary(count) => {
            let canary = rollout.canary.as_ref()?;
            if canary.available_at.is_none() {
                return Some(format!("waits for {count} to be available as canary"));
            }
            if let Some(check) = canary.check.as_ref().filter(|check| !check.succeeded) {
                return Some(format!("canary is available; waits for {}", job(check)));
            }
            Some(match due(input) {
                Some(at) => format!("canary is available; goes on at {at}"),
                None => "canary is available; waits for hctl rollout promote".to_owned(),
            })
        }
    }
}

/// The job that the rollout needs now, and its spec as the manifest says it.
fn wanted<'a>(input: &'a PlanInput<'_>) -> Option<(&'a StageJob, RolloutJob)> {
    let (rollout, policy) = (&input.target.rollout, input.view.service.spec.rollout());
    let is_open = match rollout.state {
        RolloutState::Progressing | RolloutState::Suspended => input.course != Course::Expired,
        RolloutState::Complete | RolloutState::Failed => false,
    };
    if !is_open {
        return None;
    }
    match rollout.stage() {
        Stage::All => None,
        Stage::Before => rollout.before.as_ref().zip(policy.before),
        Stage::Canary(_) => {
            let canary = rollout.canary.as_ref().filter(|canary| canary.available_at.is_some())?;
            canary.check.as_ref().zip(policy.canary?.check)
        }
    }
}

/// Makes the job that the rollout needs, cancels those that it does not need any more, and deletes those
/// of forgotten revisions.
pub(super) fn jobs(input: &PlanInput<'_>, kept: &BTreeSet<u32>) -> (Vec<Action>, Option<Obstacle>) {
    let PlanInput { view, course, target, .. } = input;
    let wanted = wanted(input);
    let (mut actions, mut obstacle) = (Vec::new(), None);
    for job in view.jobs.iter().copied() {
        let label = job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::REVISION));
        let revision = label.and_then(|number| number.parse::<u32>().ok());
        let is_needed = wanted.as_ref().is_some_and(|(stage, _)| stage.job == job.name());
        let is_open = !job.status.phase.is_final() && !job.spec.cancel && !job.is_deleting();
        if revision.is_some_and(|number| !kept.contains(&number)) && !job.is_deleting() {
            actions.push(Action::delete(job));
        } else if is_open && !is_needed {
            let why = format!("the rollout of service {} needs it no more", view.service.name());
            actions.push(Action::Patch(Patch::cancel(job, &why)));
        }
    }
    let is_under_way =
        *course == Course::Usual && target.rollout.state == RolloutState::Progressing;
    if let Some((stage, policy)) = wanted.filter(|_| is_under_way)
        && own(view, &stage.job).is_none()
    {
        if view.taken_jobs.contains(&stage.job) {
            obstacle = Some(Obstacle::NameTaken { kind: "job", name: stage.job.clone() });
        } else if let Ok(spec) = policy.spec(&view.service.spec) {
            actions.push(Action::create(job(input, &stage.job, spec)));
        }
    }
    (actions, obstacle)
}

fn job(input: &PlanInput<'_>, name: &str, spec: JobSpec) -> Job {
    let service = input.view.service;
    let labels = [
        (labels::SERVICE, service.name().to_owned()),
        (labels::REVISION, input.target.rollout.revision.to_string()),
    ];
    Job::new(service.namespace(), name, spec)
        .with_labels(labels)
        .with_controller(service.as_controller())
}
