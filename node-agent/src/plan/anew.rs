//! What an agent has to say again to a store that was restored: it knows what it had heard up to
//! its backup, and nothing since.

use std::collections::BTreeMap;

use api::task::ReportState;

use super::report;
use crate::attempt::{Attempt, Progress, Says};
use crate::engine::Identity;
use crate::ledger::Ledger;

/// What is known of attempts from then on; nothing of those that are forgotten.
///
/// * What runs is said again: the store may not have heard that it does.
/// * What has ended, and whose end was heard, is forgotten. Should the store still want it, it is
///   seen by its container how it ended, or else it is said that nobody knows.
/// * What was not heard yet is still to be said.
pub(crate) fn tell_anew(ledger: &Ledger, boot_id: &str) -> BTreeMap<Identity, Option<Attempt>> {
    let mut words = ledger.words();
    let mut changes = BTreeMap::new();
    for (identity, attempt) in ledger.attempts() {
        match attempt.progress {
            Progress::Running { .. } => {
                let mut next = attempt.clone();
                words += 1;
                let running = report(&next, boot_id, ReportState::Running);
                next.say(words, Says::Report(Box::new(running)));
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
