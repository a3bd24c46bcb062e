//! The attempts of this node with everything derived from them: resources in use, messages to send,
//! and changes that are not in the journal yet.
//!
//! # Invariants
//!
//! * Attempts are changed only by [`Ledger::put`], [`Ledger::remove`] and [`Ledger::heard`], which
//!   update everything that is derived. So no query here has to look at all attempts.

use std::collections::{BTreeMap, BTreeSet};

use api::Timestamp;

use crate::attempt::{Attempt, Message};
use crate::engine::Identity;
use crate::taken::Taken;

/// How many times an attempt is given other ports because something else holds its own.
const PORT_TRIES_MAX: u32 = 5;

/// The attempts of a node.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    attempts: BTreeMap<Identity, Attempt>,
    /// Attempts with a message to send, by the number of the message: the oldest first.
    unsent: BTreeMap<u64, Identity>,
    /// Number of attempts that hold resources.
    holding: usize,
    taken: Taken,
    /// Number of the newest message.
    last_message: u64,
    /// Attempts that have changed since [`Ledger::take_unwritten`].
    unwritten: BTreeSet<Identity>,
}

impl Ledger {
    /// A ledger of the attempts that were read from the journal.
    pub fn of(attempts: impl IntoIterator<Item = Attempt>) -> Self {
        let mut ledger = Self::default();
        attempts.into_iter().for_each(|attempt| ledger.put(attempt));
        ledger.unwritten.clear();
        ledger
    }

    /// What is known of an attempt.
    pub fn get(&self, identity: &Identity) -> Option<&Attempt> {
        self.attempts.get(identity)
    }

    /// What is known of the newest main container of the attempt that `identity` belongs to.
    pub(crate) fn current(&self, identity: &Identity) -> Option<&Attempt> {
        identity.newest_main_in(&self.attempts).map(|(_, attempt)| attempt)
    }

    /// All attempts, by identity.
    pub fn attempts(&self) -> &BTreeMap<Identity, Attempt> {
        &self.attempts
    }

    /// Replaces what is known of an attempt.
    pub fn put(&mut self, attempt: Attempt) {
        self.release(&attempt.identity);
        self.taken.add(&attempt);
        self.holding += usize::from(attempt.holds());
        if let Some(message) = &attempt.unsent {
            self.last_message = self.last_message.max(message.number);
            self.unsent.insert(message.number, attempt.identity.clone());
        }
        let before = self.attempts.get(&attempt.identity);
        if !before.is_some_and(|before| before.is_written_as(&attempt)) {
            self.unwritten.insert(attempt.identity.clone());
        }
        self.attempts.insert(attempt.identity.clone(), attempt);
    }

    /// Forgets an attempt.
    pub fn remove(&mut self, identity: &Identity) {
        if self.release(identity) {
            self.attempts.remove(identity);
            self.unwritten.insert(identity.clone());
        }
    }

    /// Removes a message that was acknowledged or refused for good. Returns whether it was still
    /// the attempt's current message.
    pub fn heard(&mut self, identity: &Identity, number: u64) -> bool {
        let Some(attempt) = self.attempts.get_mut(identity) else { return false };
        let is_last = attempt.unsent.as_ref().is_some_and(|message| message.number == number);
        if is_last {
            attempt.unsent = None;
            self.unsent.remove(&number);
            self.unwritten.insert(identity.clone());
        }
        is_last
    }

    /// All messages to send, in the order in which they were first set.
    pub fn to_say(&self) -> impl Iterator<Item = (&Attempt, &Message)> {
        let of = |identity| {
            let attempt = self.attempts.get(identity)?;
            Some((attempt, attempt.unsent.as_ref()?))
        };
        self.unsent.values().filter_map(of)
    }

    /// Number of attempts with a message to send.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Number of attempts that hold resources.
    pub fn holding(&self) -> usize {
        self.holding
    }

    /// Number of the newest message.
    pub fn last_message(&self) -> u64 {
        self.last_message
    }

    /// Something other than a task holds a port of this attempt. The attempt is to be started with
    /// other ports of the range, and its present ones are given to nobody until `until`. Returns
    /// whether that may help: it was not tried too often, and some of its ports are from the range.
    pub(crate) fn shun_ports(&mut self, identity: &Identity, until: Timestamp) -> bool {
        let Some(attempt) = self.attempts.get_mut(identity) else { return false };
        let ports =
            attempt.ports.iter().filter(|(name, _)| !attempt.fixed_ports.contains_key(*name));
        let ports: Vec<u16> = ports.map(|(_, port)| *port).collect();
        self.taken.shun(ports.iter().copied(), until);
        let tries = &mut attempt.session.port_tries;
        if *tries >= PORT_TRIES_MAX || ports.is_empty() {
            return false;
        }
        *tries += 1;
        attempt.session.wants_ports = true;
        true
    }

    /// Makes ports available again that were avoided until now.
    pub(crate) fn forgive(&mut self, now: Timestamp) {
        self.taken.forgive(now);
    }

    /// What the attempts hold.
    pub(crate) fn taken(&self) -> &Taken {
        &self.taken
    }

    /// The attempts that have changed since the last call, with their current state; `None` for
    /// forgotten ones.
    pub fn take_unwritten(&mut self) -> Vec<(Identity, Option<Attempt>)> {
        let unwritten = std::mem::take(&mut self.unwritten);
        let now = |identity: Identity| {
            let attempt = self.attempts.get(&identity).cloned();
            (identity, attempt)
        };
        unwritten.into_iter().map(now).collect()
    }

    /// Removes what is derived from an attempt. Returns whether the attempt exists.
    fn release(&mut self, identity: &Identity) -> bool {
        let Some(before) = self.attempts.get(identity) else { return false };
        self.taken.take_back(before);
        self.holding -= usize::from(before.holds());
        if let Some(message) = &before.unsent {
            self.unsent.remove(&message.number);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use api::amounts::Amounts;
    use api::template::Port;
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::attempt::{Content, Progress};
    use crate::taken::{Offer, Room};

    fn id(index: u32) -> Identity {
        Identity::new("default", &format!("t-{index}"), &format!("{index:x}"), 1).unwrap()
    }

    /// A test input: an attempt is put as holding or ended, with a message or without; heard;
    /// removed.
    type Happening = (u32, u8);

    fn happen(ledger: &mut Ledger, last_message: &mut u64, (index, what): Happening) {
        let progress = match what {
            0 => return ledger.remove(&id(index)),
            1 => {
                let number =
                    ledger.get(&id(index)).and_then(|it| it.unsent.as_ref()?.number.into());
                let heard = ledger.heard(&id(index), number.unwrap_or(0));
                return assert_eq!(heard, number.is_some());
            }
            2 | 3 => Progress::Starting { since: Timestamp::UNIX_EPOCH },
            _ => Progress::Ended,
        };
        let mut attempt = Attempt::found(id(index), progress);
        attempt.requests = Amounts::from([("cpu".to_owned(), u64::from(index))]);
        attempt.ports = BTreeMap::from([("http".to_owned(), 100 + u16::try_from(index).unwrap())]);
        if what % 2 == 0 {
            *last_message += 1;
            attempt.say(*last_message, Content::Refuse(String::new()));
        }
        ledger.put(attempt);
    }

    #[test]
    fn what_only_this_process_knows_is_not_written() {
        let mut ledger = Ledger::default();
        let mut attempt = Attempt::found(id(1), Progress::Ended);
        ledger.put(attempt.clone());
        assert_eq!(ledger.take_unwritten().len(), 1);
        attempt.session.start_failures += 1;
        ledger.put(attempt.clone());
        assert_eq!(ledger.take_unwritten(), []);
        assert_eq!(ledger.get(&id(1)).unwrap().session.start_failures, 1, "it is known, though");
        attempt.binding += 1;
        ledger.put(attempt.clone());
        assert_eq!(ledger.take_unwritten(), [(id(1), Some(attempt))]);
    }

    fn http() -> Vec<Port> {
        serde_json::from_value(serde_json::json!([{ "name": "http" }])).unwrap()
    }

    proptest! {
        #[test]
        fn what_follows_from_attempts_is_as_if_counted_anew(
            happenings in proptest::collection::vec((1_u32..6, 0_u8..6), 0..60),
        ) {
            let (mut ledger, mut last_message) = (Ledger::default(), 0);
            let mut written = BTreeMap::new();
            for happening in happenings {
                happen(&mut ledger, &mut last_message, happening);
                let anew = Ledger::of(ledger.attempts().values().cloned());
                prop_assert_eq!(&ledger.unsent, &anew.unsent);
                prop_assert_eq!(ledger.holding(), anew.holding());
                let said: Vec<u64> = ledger.to_say().map(|(_, message)| message.number).collect();
                let unsent = ledger.attempts().values().filter_map(|it| it.unsent.as_ref());
                let mut wanted: Vec<u64> = unsent.map(|message| message.number).collect();
                wanted.sort_unstable();
                prop_assert_eq!(said, wanted);
                let all = Amounts::from([("cpu".to_owned(), 20)]);
                let offer = Offer { capacity: &all, port_range: (101, 105) };
                let room = Room::beside(ledger.taken(), offer);
                let fresh = Room::beside(anew.taken(), offer);
                prop_assert_eq!(room.misfit(&all, &http()), fresh.misfit(&all, &http()));
                prop_assert_eq!(room.misfit(&all, &[]), fresh.misfit(&all, &[]));
                let none = BTreeSet::new();
                prop_assert_eq!(room.allot(&http(), 0, &none), fresh.allot(&http(), 0, &none));
                prop_assert_eq!(ledger.last_message(), last_message);
                for (identity, now) in ledger.take_unwritten() {
                    match now {
                        Some(attempt) => written.insert(identity, attempt),
                        None => written.remove(&identity),
                    };
                }
                prop_assert_eq!(&written, ledger.attempts());
            }
        }
    }
}
