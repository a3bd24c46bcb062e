//! The refusals that are used in more than one place.

use std::fmt::Display;

use api::KindId;
use api::status::{Refusal, Why};
use base::ErrorChain;
use store::{Outcome, ReadError};

/// The object does not exist.
pub(crate) fn not_found(kind: KindId, name: &str) -> Refusal {
    let message = format!("{} {name:?} not found", kind.info().plural);
    Refusal::new(Why::NotFound, message).about(kind, name)
}

/// The object has changed meanwhile.
pub(crate) fn conflict(kind: KindId, name: &str, why: impl Display) -> Refusal {
    let message = format!("{kind} {name:?} cannot be changed: {why}");
    Refusal::new(Why::Conflict, message).about(kind, name)
}

/// The intended object is gone, and another one has its name.
pub(crate) fn other_uid(kind: KindId, name: &str) -> Refusal {
    conflict(kind, name, "another object has its name now (the uid differs)")
}

/// The object was changed by others at every try.
pub(crate) fn contended() -> Refusal {
    let message = "the object is being changed by others too often; try again";
    Refusal::new(Why::Contended, message)
}

/// The client is no longer the leader.
pub(crate) fn deposed() -> Refusal {
    Refusal::new(Why::Deposed, "another process is the leader now")
}

/// The store gave no answer to a write.
pub(crate) fn unknown() -> Refusal {
    Refusal::new(Why::Unknown, "the store did not answer; the change may have been made")
}

/// The store cannot be read at the moment.
pub(crate) fn unavailable(error: &ReadError) -> Refusal {
    Refusal::new(Why::Unavailable, ErrorChain(error).to_string())
}

/// Turns the outcome of a group into a result, without reading which expectation has failed:
/// `refused` gives the refusal for that case. A missing outcome counts as unknown.
pub(crate) fn settled(
    outcome: Option<Outcome>,
    refused: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    match outcome {
        Some(Outcome::Done { .. }) => Ok(()),
        Some(Outcome::Refused { .. }) => Err(refused()),
        Some(Outcome::Full(why)) => Err(full(why)),
        Some(Outcome::Invalid(why)) => Err(never(why)),
        Some(Outcome::Unknown) | None => Err(unknown()),
    }
}

/// The store is full; `why` says how to free space.
pub(crate) fn full(why: String) -> Refusal {
    Refusal::new(Why::Full, why)
}

/// The store can never write this, because it exceeds a limit.
pub(crate) fn never(why: String) -> Refusal {
    Refusal::new(Why::TooLarge, why)
}
