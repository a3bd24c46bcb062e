//! What people have asked of a rollout: carried out once, with the write that takes the request away.

use api::object::Kind as _;
use api::service::{Origin, Revision, RolloutRequest, RolloutState, RolloutVerb};
use api::template::ImagePullPolicy;

use super::View;
use super::target::{Target, again};
use crate::notice::Notice;

/// Carries out what was asked of the rollout, if anything was. What no longer fits how the service is by
/// now is dropped, and an event says so.
pub(super) fn carry_out(target: &mut Target, view: &View<'_>) -> Option<Notice> {
    let request = target.request.take()?;
    let done = match request.verb {
        RolloutVerb::Undo => undo(target, view, &request),
        RolloutVerb::Restart => restart(target, view, &request),
        RolloutVerb::Promote => promote(target, &request),
        RolloutVerb::Abort => abort(target, view, &request),
    };
    let refused = |why: String| {
        let message = format!("{} was asked for and not done: {why}", request.verb.word());
        Notice { warning: true, reason: "RolloutRefused", message }
    };
    Some(done.unwrap_or_else(refused))
}

/// Opens a revision that runs what an earlier one ran. The manifest stays as it is.
fn undo(target: &mut Target, view: &View<'_>, request: &RolloutRequest) -> Result<Notice, String> {
    let number = request.to_revision.unwrap_or_default();
    let earlier = target.revision(number).ok_or(format!("revision {number} is gone"))?.clone();
    if !view.templates.iter().any(|template| template.name() == earlier.template) {
        return Err(format!("TaskTemplate {} of revision {number} is gone", earlier.template));
    }
    open(target, view, Revision { by: by(request), ..again(&earlier, Origin::Undo) });
    let message =
        format!("rolling out revision {}: what revision {number} ran", target.rollout.revision);
    Ok(Notice { warning: false, reason: "RolloutStarted", message })
}

/// Opens a revision that runs the same, and replaces all tasks that were there before it.
fn restart(
    target: &mut Target,
    view: &View<'_>,
    request: &RolloutRequest,
) -> Result<Notice, String> {
    let wanted = target.revision(target.rollout.revision).ok_or("there is no revision yet")?;
    let template = view.templates.iter().find(|it| it.name() == wanted.template);
    let policy = template.and_then(|it| it.spec.template.image_pull_policy);
    // With Always, the tag is looked up again by each rollout.
    let asks_anew = policy == Some(ImagePullPolicy::Always);
    let again = again(wanted, Origin::Restart);
    let digest = again.digest.clone().filter(|_| !asks_anew);
    let revision = Revision { by: by(request), digest, ..again };
    open(target, view, revision);
    let message = format!("rolling out revision {}: all tasks anew", target.rollout.revision);
    Ok(Notice { warning: false, reason: "RolloutStarted", message })
}

/// Remembers that the canaries are good: the rollout goes on once they are available and checked.
fn promote(target: &mut Target, request: &RolloutRequest) -> Result<Notice, String> {
    let number = target.rollout.revision;
    let can_be = target.rollout.can_be_promoted();
    let canary = target.rollout.canary.as_mut().filter(|_| can_be);
    let canary = canary.ok_or_else(|| format!("no canary of revision {number} waits"))?;
    canary.promoted_by = Some(request.by.clone());
    let message = format!("revision {number} was promoted by {}", request.by);
    Ok(Notice { warning: false, reason: "RolloutPromoted", message })
}

fn abort(target: &mut Target, view: &View<'_>, request: &RolloutRequest) -> Result<Notice, String> {
    match target.rollout.state {
        RolloutState::Progressing | RolloutState::Suspended => {
            Ok(target.give_up(view, &format!("aborted by {}", request.by)))
        }
        RolloutState::Complete => Err("the rollout is complete".to_owned()),
        RolloutState::Failed => Err("the rollout has failed already".to_owned()),
    }
}

fn open(target: &mut Target, view: &View<'_>, revision: Revision) {
    *target = target.clone().opened(revision, view.now);
}

fn by(request: &RolloutRequest) -> Option<String> {
    (!request.by.is_empty()).then(|| request.by.clone())
}
