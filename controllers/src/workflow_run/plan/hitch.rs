//! What keeps a run from going on although it has not ended.

use api::Job;
use api::conditions::{Standing as Condition, UNSCHEDULABLE, is_unschedulable, stalled};

use super::standing::Standing;

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
    pub(super) fn of(standings: &[Standing<'_>]) -> Option<Self> {
        stalled_job(standings).or_else(|| unschedulable(standings))
    }

    /// The problem, as a sentence.
    pub(super) fn message(&self) -> &str {
        match self {
            Hitch::Stalled { message, .. } | Hitch::Unschedulable(message) => message,
        }
    }

    /// The condition of the run that follows.
    pub(super) fn standing(&self) -> Condition {
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
fn stalled_job(standings: &[Standing<'_>]) -> Option<Hitch> {
    let open = standings.iter().filter(|standing| !standing.report.phase.is_final());
    let stalled = |standing: &Standing<'_>| {
        let condition = stalled(&standing.object?.status.conditions)?;
        let message = said_of(standing);
        Some(Hitch::Stalled { reason: condition.reason.clone(), message })
    };
    open.filter_map(stalled).next()
}

fn unschedulable(standings: &[Standing<'_>]) -> Option<Hitch> {
    let is = |standing: &&Standing<'_>, is: fn(&Job) -> bool| standing.object.is_some_and(is);
    if standings.iter().any(|standing| is(&standing, |job| job.status.active > 0)) {
        return None;
    }
    let waits =
        |job: &Job| !job.status.phase.is_final() && is_unschedulable(&job.status.conditions);
    let first = standings.iter().find(|standing| is(standing, waits))?;
    Some(Hitch::Unschedulable(said_of(first)))
}

/// The message of a job, after its name in the workflow.
fn said_of(standing: &Standing<'_>) -> String {
    let why = standing.report.message.as_deref().unwrap_or_default();
    format!("{}: {why}", standing.report.name)
}
