//! What keeps a run from going on although it has not ended.

use api::Job;
use api::conditions::{Standing as Condition, UNSCHEDULABLE, is_unschedulable, stalled};

use super::job_state::JobState;

/// What keeps a run from going on.
pub(super) enum Hitch {
    /// Somebody has to do something.
    Stalled {
        /// The reason, in one CamelCase word.
        reason: String,
        message: String,
    },
    /// Nothing runs, and no node accepts what waits.
    Unschedulable(String),
}

impl Hitch {
    /// A name that the run needs belongs to another owner.
    pub(super) fn name_taken(message: String) -> Self {
        Self::Stalled { reason: "NameTaken".to_owned(), message }
    }

    /// What the jobs of the run report.
    pub(super) fn of(states: &[JobState<'_>]) -> Option<Self> {
        stalled_job(states).or_else(|| unschedulable(states))
    }

    /// The problem, as a sentence.
    pub(super) fn message(&self) -> &str {
        match self {
            Hitch::Stalled { message, .. } | Hitch::Unschedulable(message) => message,
        }
    }

    /// The condition of the run that follows.
    pub(super) fn condition(&self) -> Condition {
        match self {
            Hitch::Stalled { .. } => Condition::Stalled,
            Hitch::Unschedulable(_) => Condition::Reconciling,
        }
    }

    /// The reason, in one CamelCase word.
    pub(super) fn reason(&self) -> String {
        match self {
            Hitch::Stalled { reason, .. } => reason.clone(),
            Hitch::Unschedulable(_) => UNSCHEDULABLE.to_owned(),
        }
    }
}

/// The first job that waits for a user, for example for them to apply what it targets.
fn stalled_job(states: &[JobState<'_>]) -> Option<Hitch> {
    let open = states.iter().filter(|state| !state.report.phase.is_final());
    let stalled = |state: &JobState<'_>| {
        let condition = stalled(&state.object?.status.conditions)?;
        let message = said_of(state);
        Some(Hitch::Stalled { reason: condition.reason.clone(), message })
    };
    open.filter_map(stalled).next()
}

fn unschedulable(states: &[JobState<'_>]) -> Option<Hitch> {
    let is = |state: &&JobState<'_>, is: fn(&Job) -> bool| state.object.is_some_and(is);
    if states.iter().any(|state| is(&state, |job| job.status.active > 0)) {
        return None;
    }
    let waits =
        |job: &Job| !job.status.phase.is_final() && is_unschedulable(&job.status.conditions);
    let first = states.iter().find(|state| is(state, waits))?;
    Some(Hitch::Unschedulable(said_of(first)))
}

/// The message of a job, after its name in the workflow.
fn said_of(state: &JobState<'_>) -> String {
    let why = state.report.message.as_deref().unwrap_or_default();
    format!("{}: {why}", state.report.name)
}
