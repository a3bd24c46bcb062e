//! What an engine's answer to an action means for the attempt.
//!
//! # Invariants
//!
//! * Whatever the engine answers, an attempt that has to be started is eventually running, ends
//!   with a sentence that says why it could not start, or is tried again while its report says what
//!   delays it. One that is restarted in place is tried again after a pause.
//! * The grace period of a stop begins when the signal was delivered, or when it is certain that it
//!   never will be.

use api::Timestamp;
use api::task::reason;

use super::Action;
use super::ending::Ending;
use super::restart::after_failure;
use crate::attempt::{Attempt, Begun, Progress};
use crate::engine::EngineError;

/// After this many failures of the engine a start is given up and the attempt fails, so that its
/// job can try another node. With the pauses in between that takes about a minute.
const START_FAILURES_MAX: u32 = 8;

/// The action that was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ActionKind {
    Start { image: String },
    Signal,
    Kill,
    Remove,
}

impl ActionKind {
    pub(crate) fn of(action: &Action) -> Self {
        match action {
            Action::Start(spec) => Self::Start { image: spec.image.clone() },
            Action::Signal(..) => Self::Signal,
            Action::Kill(_) => Self::Kill,
            Action::Remove(_) => Self::Remove,
        }
    }
}

/// The consequence of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum After {
    /// Nothing: the next observation tells.
    Nothing,
    /// The attempt is this from now on.
    Known(Box<Attempt>),
    /// The attempt has ended like this.
    Ended(Box<Ending>),
}

/// The attempt while its image is pulled, of which so much is there.
pub(crate) fn while_pulled(attempt: &Attempt, image: &str, percent: u8) -> Attempt {
    let mut next = attempt.clone();
    if next.waits_for_image() {
        next.session.trouble = Some(format!("pulling image {image}: {percent} %"));
    }
    next
}

/// The attempt after its image was pulled, or could not be.
pub(crate) fn after_pull(
    attempt: &Attempt,
    outcome: Result<(), &EngineError>,
    times: (Timestamp, Timestamp),
) -> After {
    if !attempt.waits_for_image() {
        return After::Nothing;
    }
    let mut next = attempt.clone();
    next.session.wanted_image = None;
    match outcome {
        Ok(()) => {
            next.session.trouble = None;
            next.session.is_fetched = true;
        }
        Err(EngineError::Refused { reason, message }) => {
            return after_failure(attempt, (reason.as_str(), message.clone()), times);
        }
        Err(
            error @ (EngineError::NeedsImage
            | EngineError::Failed { .. }
            | EngineError::Unavailable { .. }
            | EngineError::Unknown { .. }
            | EngineError::Gone),
        ) => {
            let image = attempt.session.wanted_image.as_deref().unwrap_or_default();
            let trouble = format!("cannot pull image {image}, will try again: {error}");
            if attempt.in_place.is_some() {
                return after_failure(attempt, (reason::IMAGE_PULL, trouble), times);
            }
            next.session.trouble = Some(trouble);
        }
    }
    After::Known(Box::new(next))
}

/// Decides the consequence of an answer. A refused start is not handled here, because other ports
/// may help.
pub(crate) fn after(
    attempt: &Attempt,
    kind: &ActionKind,
    outcome: Result<(), &EngineError>,
    (now, wall): (Timestamp, Timestamp),
) -> After {
    match kind {
        ActionKind::Start { image } => after_start(attempt, image, outcome, (now, wall)),
        ActionKind::Signal => after_signal(attempt, outcome, now),
        ActionKind::Kill => after_kill(attempt, outcome),
        ActionKind::Remove => After::Nothing,
    }
}

fn after_start(
    attempt: &Attempt,
    image: &str,
    outcome: Result<(), &EngineError>,
    times: (Timestamp, Timestamp),
) -> After {
    if !matches!(attempt.progress, Progress::Starting { .. }) {
        return After::Nothing;
    }
    let mut next = attempt.clone();
    let session = &mut next.session;
    match outcome {
        Ok(()) | Err(EngineError::Unknown { .. } | EngineError::Gone) => {
            session.begun = Begun::Perhaps;
        }
        // Nothing was done this time. That says nothing about an earlier start whose answer was
        // lost.
        Err(
            EngineError::NeedsImage
            | EngineError::Failed { .. }
            | EngineError::Unavailable { .. }
            | EngineError::Refused { .. },
        ) => (),
    }
    match outcome {
        Ok(()) => session.trouble = None,
        Err(EngineError::Refused { .. } | EngineError::Gone) => return After::Nothing,
        Err(EngineError::NeedsImage) if !session.is_fetched => {
            session.wanted_image = Some(image.to_owned());
            session.trouble = Some(format!("pulling image {image}"));
        }
        Err(EngineError::NeedsImage) => {
            // The image was pulled and is missing again: somebody removes it, or it has another
            // name. Do not count it as pulled, or the start would be repeated without a pull for
            // ever.
            session.is_fetched = false;
            let message = format!("image {image} was pulled, but is missing on the node");
            return failed(next, message, times);
        }
        Err(EngineError::Failed { message }) => return failed(next, message.clone(), times),
        Err(error @ (EngineError::Unavailable { .. } | EngineError::Unknown { .. })) => {
            session.trouble = Some(format!("cannot start the container, will try again: {error}"));
        }
    }
    After::Known(Box::new(next))
}

/// The engine failed to start it. It is tried again, but not for ever.
fn failed(mut next: Attempt, message: String, times: (Timestamp, Timestamp)) -> After {
    if next.in_place.is_some() {
        return after_failure(&next, (reason::START_FAILED, message), times);
    }
    let session = &mut next.session;
    session.start_failures = session.start_failures.saturating_add(1);
    if session.start_failures >= START_FAILURES_MAX {
        let message = format!("given up after {START_FAILURES_MAX} tries: {message}");
        return After::Ended(Box::new(Ending::failed(reason::START_FAILED, message, times.1)));
    }
    let tries = format!("try {} of {START_FAILURES_MAX}", session.start_failures);
    session.trouble = Some(format!("{tries} failed: {message}"));
    After::Known(Box::new(next))
}

fn after_signal(attempt: &Attempt, outcome: Result<(), &EngineError>, now: Timestamp) -> After {
    let mut next = attempt.clone();
    let Progress::Stopping { delivered, .. } = &mut next.progress else { return After::Nothing };
    next.session.trouble = trouble("cannot send the stop signal", outcome);
    match outcome {
        // If the engine does not support the signal, it will never be delivered: begin the grace
        // period now, or the container would never be killed.
        Ok(()) | Err(EngineError::Refused { .. }) => {
            delivered.get_or_insert(now);
        }
        Err(EngineError::Failed { .. }) => {
            next.session.signal_failures = next.session.signal_failures.saturating_add(1);
        }
        // The signal did not reach the engine, or that is not known. Sending it twice does no harm.
        Err(
            EngineError::NeedsImage
            | EngineError::Unavailable { .. }
            | EngineError::Unknown { .. }
            | EngineError::Gone,
        ) => (),
    }
    After::Known(Box::new(next))
}

fn after_kill(attempt: &Attempt, outcome: Result<(), &EngineError>) -> After {
    if !matches!(attempt.progress, Progress::Stopping { .. }) {
        return After::Nothing;
    }
    let mut next = attempt.clone();
    next.session.trouble = trouble("cannot kill the container, will try again", outcome);
    After::Known(Box::new(next))
}

/// What delays an action of a stop. A container that is gone is no problem for a stop.
fn trouble(action: &str, outcome: Result<(), &EngineError>) -> Option<String> {
    let error = outcome.err().filter(|error| **error != EngineError::Gone)?;
    Some(format!("{action}: {error}"))
}
