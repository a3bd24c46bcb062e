//! What an agent must report again to a store that was restored: the store knows what was reported
//! before its backup was taken, and nothing since.

use std::collections::BTreeMap;

use api::task::ReportState;

use super::report;
use crate::attempt::{Attempt, Content, Progress};
use crate::engine::Identity;
use crate::ledger::Ledger;

/// The new state of each attempt; `None` for those that are forgotten.
///
/// * Running attempts are reported again, because the store may not know that they run; so are
///   those that wait to be restarted in place.
/// * Ended attempts whose end was acknowledged are forgotten. If the restored store still wants
///   one, its end is read from its container again, or is reported as unknown.
/// * Messages that were not acknowledged are still sent.
pub(crate) fn tell_anew(ledger: &Ledger, boot_id: &str) -> BTreeMap<Identity, Option<Attempt>> {
    let mut last_message = ledger.last_message();
    let mut changes = BTreeMap::new();
    for (identity, attempt) in ledger.attempts() {
        match attempt.progress {
            Progress::Running { .. } => {
                let mut next = attempt.clone();
                last_message += 1;
                let running = report(&next, boot_id, ReportState::Running);
                next.say(last_message, Content::Report(Box::new(running)));
                changes.insert(identity.clone(), Some(next));
            }
            Progress::BackOff { .. } => {
                let mut next = attempt.clone();
                last_message += 1;
                let waits = report(&next, boot_id, ReportState::Starting);
                next.say(last_message, Content::Report(Box::new(waits)));
                changes.insert(identity.clone(), Some(next));
            }
            Progress::Ended | Progress::Refused if attempt.unsent.is_none() => {
                changes.insert(identity.clone(), None);
            }
            Progress::Starting { .. }
            | Progress::Stopping { .. }
            | Progress::Ended
            | Progress::Refused => (),
        }
    }
    changes
}
