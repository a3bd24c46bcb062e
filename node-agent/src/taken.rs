//! Host ports and resources: what is taken of a node, and what a new attempt gets of what is left.
//!
//! # Invariants
//!
//! * What was added can be taken back, in any order: what is left is what was never added.
//! * A port is found and taken in the same small time, however many are taken.

use std::collections::{BTreeMap, BTreeSet};

use api::amounts::Amounts;
use api::template::Port;

use crate::attempt::Attempt;

/// What attempts on this node take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    /// Sums that nothing overflows.
    amounts: BTreeMap<String, u128>,
    /// Held by what runs.
    ports: Ports,
    /// Held, or had by what has ended and was not tidied away yet.
    kept: Ports,
    /// Held by something else, as far as is known; kept as well.
    shunned: BTreeSet<u16>,
}

/// Ports, and how many have each: a port that is asked for by number may be had by one that has
/// ended and by one that runs.
#[derive(Debug, Clone, Default)]
struct Ports {
    times: BTreeMap<u16, u32>,
    /// Bit n of word m: port 64 m + n is there. No words where no port ever was.
    words: Vec<u64>,
}

/// Words for all ports that there are.
const WORDS: usize = 1 << 10;

impl Taken {
    /// Adds what an attempt takes.
    pub(crate) fn add(&mut self, attempt: &Attempt) {
        self.kept.add(attempt.ports.values());
        if attempt.holds() {
            self.ports.add(attempt.ports.values());
            for (resource, amount) in &attempt.requests {
                *self.amounts.entry(resource.clone()).or_default() += u128::from(*amount);
            }
        }
    }

    /// Takes back what [`Self::add`] of the same attempt added.
    pub(crate) fn take_back(&mut self, attempt: &Attempt) {
        self.kept.take_back(attempt.ports.values());
        if attempt.holds() {
            self.ports.take_back(attempt.ports.values());
            for (resource, amount) in &attempt.requests {
                let Some(sum) = self.amounts.get_mut(resource) else { continue };
                *sum = sum.saturating_sub(u128::from(*amount));
                if *sum == 0 {
                    self.amounts.remove(resource);
                }
            }
        }
    }

    /// Something else on this machine holds these: they are not given for now.
    pub(crate) fn shun<'a>(&mut self, ports: impl Iterator<Item = &'a u16>) {
        for port in ports {
            if self.shunned.insert(*port) {
                self.kept.add([port].into_iter());
            }
        }
    }

    /// What was shunned may be free again.
    pub(crate) fn forgive(&mut self) {
        self.kept.take_back(std::mem::take(&mut self.shunned).iter());
    }

    fn amount(&self, resource: &str) -> u128 {
        self.amounts.get(resource).copied().unwrap_or(0)
    }
}

impl Ports {
    fn add<'a>(&mut self, ports: impl Iterator<Item = &'a u16>) {
        for port in ports {
            *self.times.entry(*port).or_default() += 1;
            let (word, bit) = place(*port);
            if self.words.is_empty() {
                self.words = vec![0; WORDS];
            }
            self.words[word] |= bit;
        }
    }

    fn take_back<'a>(&mut self, ports: impl Iterator<Item = &'a u16>) {
        for port in ports {
            let Some(times) = self.times.get_mut(port) else { continue };
            *times -= 1;
            if *times == 0 {
                self.times.remove(port);
                let (word, bit) = place(*port);
                self.words[word] &= !bit;
            }
        }
    }

    fn times(&self, port: u16) -> u32 {
        self.times.get(&port).copied().unwrap_or(0)
    }

    /// The ports from 64 m to 64 m + 63 that are there, as bits.
    fn word(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }
}

/// Where a port's bit is.
fn place(port: u16) -> (usize, u64) {
    (usize::from(port >> 6), 1 << (port & 63))
}

/// What is taken while a plan is made: what was, what the plan takes and what it gives back.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    taken: &'a Taken,
    more: Taken,
    less: Taken,
}

impl<'a> Room<'a> {
    /// What `taken` leaves.
    pub(crate) fn beside(taken: &'a Taken) -> Self {
        Self { taken, more: Taken::default(), less: Taken::default() }
    }

    /// An attempt that took something becomes another.
    pub(crate) fn replace(&mut self, before: Option<&Attempt>, after: Option<&Attempt>) {
        before.into_iter().for_each(|before| self.less.add(before));
        after.into_iter().for_each(|after| self.more.add(after));
    }

    /// Why `requests` do not fit into `capacity` any more.
    pub(crate) fn misfit(&self, requests: &Amounts, capacity: &Amounts) -> Option<String> {
        requests.iter().filter(|(_, wanted)| **wanted > 0).find_map(|(resource, wanted)| {
            let all = u128::from(capacity.get(resource).copied().unwrap_or(0));
            let taken = self.taken.amount(resource) + self.more.amount(resource);
            let free = (all + self.less.amount(resource)).saturating_sub(taken);
            (u128::from(*wanted) > free)
                .then(|| format!("{resource}: {wanted} wanted, {free} free"))
        })
    }

    /// Host ports for `ports`: those that were asked for, and others from `range`.
    pub(crate) fn allot(
        &self,
        ports: &[Port],
        range: (u16, u16),
    ) -> Result<BTreeMap<String, u16>, String> {
        let mut given = BTreeMap::new();
        let mut unfit: BTreeSet<u16> = ports.iter().filter_map(|port| port.host_port).collect();
        if let Some(port) = unfit.iter().find(|port| self.holds(**port)) {
            return Err(format!("port {port} is taken"));
        }
        for port in ports {
            let number = match port.host_port {
                Some(number) => number,
                None => self
                    .first_free(range, &unfit)
                    .ok_or_else(|| format!("no port of {} to {} is free", range.0, range.1))?,
            };
            unfit.insert(number);
            given.insert(port.name.clone(), number);
        }
        Ok(given)
    }

    /// The same with other numbers for those that come from `range`.
    pub(crate) fn allot_others(
        &self,
        ports: &[Port],
        given: &BTreeMap<String, u16>,
        range: (u16, u16),
    ) -> BTreeMap<String, u16> {
        let mut others = given.clone();
        let mut unfit: BTreeSet<u16> = given.values().copied().collect();
        for port in ports.iter().filter(|port| port.host_port.is_none()) {
            // Where none is left, those that were given may have become free.
            if let Some(number) = self.first_free(range, &unfit) {
                unfit.insert(number);
                others.insert(port.name.clone(), number);
            }
        }
        others
    }

    fn holds(&self, port: u16) -> bool {
        self.is_in(port, |taken| &taken.ports)
    }

    fn is_in(&self, port: u16, of: impl Fn(&Taken) -> &Ports) -> bool {
        let times = |taken: &Taken| of(taken).times(port);
        times(self.taken) + times(&self.more) > times(&self.less)
    }

    /// The first of `range` that nobody keeps and that is not in `unfit`.
    fn first_free(&self, range: (u16, u16), unfit: &BTreeSet<u16>) -> Option<u16> {
        let mut from = range.0;
        while from <= range.1 {
            let (word, _) = place(from);
            let (first, last) = (from & !63, from | 63);
            let mut kept = self.taken.kept.word(word) | self.more.kept.word(word);
            for port in self.less.kept.times.range(first..=last).map(|(port, _)| *port) {
                if !self.is_in(port, |taken| &taken.kept) {
                    kept &= !place(port).1;
                }
            }
            unfit.range(first..=last).for_each(|port| kept |= place(*port).1);
            // Those of the word that come before the range.
            kept |= (1 << (from & 63)) - 1;
            let free = u16::try_from(kept.trailing_ones()).expect("a word has 64 bits");
            if free < 64 {
                return Some(first + free).filter(|port| *port <= range.1);
            }
            from = last.checked_add(1)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::attempt::Progress;
    use crate::engine::Identity;

    fn attempt(ports: &[u16], progress: Progress) -> Attempt {
        let identity = Identity::new("default", "t", "0a", 1).unwrap();
        let mut attempt = Attempt::found(identity, progress);
        attempt.ports = ports.iter().map(|port| (format!("p{port}"), *port)).collect();
        attempt.requests = Amounts::from([("cpu".to_owned(), 5)]);
        attempt
    }

    fn starting() -> Progress {
        Progress::Starting { since: Timestamp::UNIX_EPOCH }
    }

    fn ports(wanted: &[Option<u16>]) -> Vec<Port> {
        let port = |(n, host_port): (usize, &Option<u16>)| {
            let port = serde_json::json!({ "name": format!("p{n}"), "hostPort": host_port });
            serde_json::from_value(port).unwrap()
        };
        wanted.iter().enumerate().map(port).collect()
    }

    #[test]
    fn ports_at_the_ends_of_what_there_is_are_given() {
        let mut taken = Taken::default();
        let full = Room::beside(&taken).allot(&ports(&[None, None]), (65_534, 65_535)).unwrap();
        assert_eq!(full.values().copied().collect::<Vec<_>>(), [65_534, 65_535]);
        taken.add(&attempt(&[65_534, 65_535], starting()));
        let none = Room::beside(&taken).allot(&ports(&[None]), (65_534, 65_535));
        assert_eq!(none, Err("no port of 65534 to 65535 is free".to_owned()));
        taken.add(&attempt(&[0], Progress::Ended));
        let given = Room::beside(&taken).allot(&ports(&[None, Some(1)]), (0, 70)).unwrap();
        assert_eq!(given.values().copied().collect::<Vec<_>>(), [2, 1]);
    }

    proptest! {
        #[test]
        fn what_is_taken_back_is_as_if_it_had_never_been_taken(
            taken in proptest::collection::vec((0_u16..200, any::<bool>(), any::<bool>()), 0..40),
        ) {
            let mut all = Taken::default();
            let mut rest = Taken::default();
            let of = |(port, holds, _): &(u16, bool, bool)| {
                attempt(&[*port], if *holds { starting() } else { Progress::Ended })
            };
            taken.iter().for_each(|it| all.add(&of(it)));
            taken.iter().filter(|it| it.2).for_each(|it| all.take_back(&of(it)));
            taken.iter().filter(|it| !it.2).for_each(|it| rest.add(&of(it)));
            prop_assert_eq!(&all.amounts, &rest.amounts);
            prop_assert_eq!(&all.ports.times, &rest.ports.times);
            prop_assert_eq!(&all.kept.times, &rest.kept.times);
            let mut whole = Taken::default();
            taken.iter().for_each(|it| whole.add(&of(it)));
            let mut room = Room::beside(&whole);
            taken.iter().filter(|it| it.2).for_each(|it| room.replace(Some(&of(it)), None));
            for range in [(0, 10), (60, 70), (0, 199), (128, 199)] {
                let free = (range.0..=range.1).find(|port| rest.kept.times(*port) == 0);
                prop_assert_eq!(Room::beside(&all).first_free(range, &BTreeSet::new()), free);
                prop_assert_eq!(room.first_free(range, &BTreeSet::new()), free);
            }
        }
    }
}
