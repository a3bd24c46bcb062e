//! What people ask of a service's rollout besides changing its manifest: the bodies of the subresource
//! `rollout`, and what follows from them. Pure.
//!
//! The apiserver stores a request in the status, with who asked for it and when, under the version that
//! the decision was made on. The service controller carries it out and takes it away in one write, which
//! is guarded in the same way: so a request is carried out once, whoever crashes in between.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Revision, RolloutState, Service, ServiceStatus};
use crate::conditions::{Standing, conditions};
use crate::object::Kind as _;
use crate::violation::Violation;

/// What can be asked of a service's rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutVerb {
    /// Run again what an earlier revision ran.
    Undo,
    /// Replace all tasks by others that run the same.
    Restart,
    /// Let the rollout go on after its canaries.
    Promote,
    /// End the rollout as failed.
    Abort,
}

impl RolloutVerb {
    /// Its word in sentences and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            RolloutVerb::Undo => "undo",
            RolloutVerb::Restart => "restart",
            RolloutVerb::Promote => "promote",
            RolloutVerb::Abort => "abort",
        }
    }
}

/// The body of a request to the subresource `rollout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutCommand {
    /// What is to be done.
    pub verb: RolloutVerb,
    /// The revision to go back to; only for Undo, which chooses one if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<u32>,
    /// The `status.updateRevision` that the command is meant for. With another one it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
}

/// A request about a service's rollout that its controller has yet to carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRequest {
    /// What is to be done.
    pub verb: RolloutVerb,
    /// The revision to go back to, for Undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<u32>,
    /// Who asked for it.
    #[serde(default)]
    pub by: String,
    /// When it was asked for.
    pub at: Timestamp,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// The service is in no state for it.
    Now(String),
    /// It names what does not exist, or may not be named.
    Field(Violation),
}

/// Longest name of a requester that a status keeps, in characters.
pub const BY_CHARS_MAX: usize = 128;

/// The status of a service that was asked for this; nothing if that is so already.
///
/// # Errors
/// It cannot be done now, or never.
pub fn ask(
    service: &Service,
    command: RolloutCommand,
    by: &str,
    now: Timestamp,
) -> Result<Option<ServiceStatus>, Unfit> {
    let status = &service.status;
    let refuse = |why: &str| Err(Unfit::Now(why.to_owned()));
    if service.is_deleting() {
        return refuse("it is being deleted");
    }
    if service.spec.has_expired(now) {
        return refuse("it has expired");
    }
    if command.verb != RolloutVerb::Undo && command.to_revision.is_some() {
        return Err(Unfit::Field(Violation::new(
            "toRevision",
            "only Undo goes back to a revision",
        )));
    }
    // What a restart replaces does not depend on a change that the controller has not seen.
    let is_seen = status.observed_generation >= service.generation();
    if status.update_revision == 0 || !is_seen && command.verb != RolloutVerb::Restart {
        return refuse("its latest change waits for the service controller; try again in a moment");
    }
    if let Some(meant) = command.revision.filter(|it| *it != status.update_revision) {
        let now = status.update_revision;
        return Err(Unfit::Now(format!(
            "the command is for revision {meant}, and revision {now} is rolled out now"
        )));
    }
    let Some(to_revision) = fits(service, command)? else { return Ok(None) };
    let by = by.chars().take(BY_CHARS_MAX).collect();
    let request = RolloutRequest { verb: command.verb, to_revision, by, at: now };
    if let Some(open) = &status.request {
        let is_same = (open.verb, open.to_revision) == (request.verb, request.to_revision);
        let (word, by) = (open.verb.word(), &open.by);
        let other = format!("{by} has asked for {word}, which is not carried out yet");
        return if is_same { Ok(None) } else { Err(Unfit::Now(other)) };
    }
    let mut next = status.clone();
    let why = format!("{} of the rollout was asked for", command.verb.word());
    let at = (service.generation(), now);
    // Whoever waits for the service must not take it for ready in between.
    next.conditions =
        conditions(&status.conditions, Standing::Reconciling, "RolloutRequested", &why, at);
    next.request = Some(request);
    Ok(Some(next))
}

/// Whether a command fits how the service is, and the revision that it goes back to. Nothing if there is
/// nothing to do.
fn fits(service: &Service, command: RolloutCommand) -> Result<Option<Option<u32>>, Unfit> {
    let status = &service.status;
    let state = status.rollout.as_ref().map(|rollout| rollout.state).unwrap_or_default();
    match command.verb {
        RolloutVerb::Restart if service.spec.is_suspended() => {
            Err(Unfit::Now("it is suspended: its tasks start anew when it is resumed".to_owned()))
        }
        RolloutVerb::Restart => Ok(Some(None)),
        RolloutVerb::Undo => {
            let to = undone_to(status, command.to_revision)?;
            let is_there = Some(&to.template) == status.wanted_revision().map(|it| &it.template);
            Ok((!is_there).then_some(Some(to.number)))
        }
        RolloutVerb::Promote => {
            let canary = status.rollout.as_ref().and_then(|rollout| rollout.canary.as_ref());
            let is_promoted = canary.is_some_and(|canary| canary.promoted_by.is_some());
            match &status.rollout {
                Some(rollout) if rollout.can_be_promoted() && is_promoted => Ok(None),
                Some(rollout) if rollout.can_be_promoted() => Ok(Some(None)),
                Some(_) | None => {
                    Err(Unfit::Now("no canary of it waits for a promotion".to_owned()))
                }
            }
        }
        RolloutVerb::Abort => match state {
            RolloutState::Progressing | RolloutState::Suspended => Ok(Some(None)),
            RolloutState::Failed => Ok(None),
            RolloutState::Complete => {
                let number = status.update_revision;
                Err(Unfit::Now(format!("the rollout of revision {number} is complete")))
            }
        },
    }
}

/// The revision that an undo goes back to.
fn undone_to(status: &ServiceStatus, named: Option<u32>) -> Result<&Revision, Unfit> {
    match named {
        Some(number) => status.revision(number).ok_or_else(|| {
            let known = status.revisions.iter().map(|it| it.number.to_string());
            let known: Vec<String> = known.collect();
            let why = format!("revision {number} is not in the history");
            let hint = format!("the revisions are {}", known.join(", "));
            Unfit::Field(Violation::new("toRevision", why).hint(hint))
        }),
        None => status
            .before_this()
            .ok_or_else(|| Unfit::Now("there is no earlier revision to go back to".to_owned())),
    }
}

impl ServiceStatus {
    /// What ran before the revision that tasks should run: the last good one, or else the newest whose
    /// rollout did not fail.
    pub fn before_this(&self) -> Option<&Revision> {
        let wanted = self.wanted_revision()?;
        let differs = |revision: &&Revision| revision.template != wanted.template;
        let good = self.revision(self.current_revision).filter(differs);
        let earlier =
            || self.revisions.iter().rev().filter(differs).filter(|it| it.number < wanted.number);
        let unfailed = || earlier().find(|revision| revision.failure.is_none());
        good.or_else(unfailed).or_else(|| earlier().next())
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
