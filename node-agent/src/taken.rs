//! Ports and resources of a node: what is held, and what a new attempt is given of the rest.
//!
//! # Invariants
//!
//! * What was added can be removed in any order; the rest is as if it had never been added.
//! * Finding and taking a port takes the same short time however many are held.
//! * If the scheduler's rule says that a task fits, it fits: both use [`api::room::fits`]. Ports of
//!   ended attempts are only avoided where others are free.

use std::collections::{BTreeMap, BTreeSet};

use api::Timestamp;
use api::amounts::{Amounts, written};
use api::room::{self, HeldPorts, HostPort, Misfit, WantedPorts};
use api::template::Port;

use crate::attempt::Attempt;

/// What the attempts on this node hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    /// Sums in a type that cannot overflow.
    amounts: BTreeMap<String, u128>,
    /// Numbers of graphics processors that running attempts hold, each with how many hold it.
    gpus: BTreeMap<u32, u32>,
    /// Ports held by running attempts.
    held: Ports,
    /// Ports held by running attempts, and by ended ones that were not removed yet.
    kept: Ports,
    /// Ports that something other than a task holds, and until when that is assumed.
    shunned: BTreeMap<u16, Timestamp>,
}

/// Ports, each with its number of holders: a port that tasks ask for by number may be held by an
/// ended attempt and by a running one.
#[derive(Debug, Clone, Default)]
struct Ports {
    ports: HeldPorts,
    /// A bit set of all held port numbers: bit n of word m is number 64 m + n. Empty until the
    /// first port is added.
    words: Vec<u64>,
}

/// Most graphics processors of a node.
const GPUS_MAX: u32 = 1 << 10;

/// Words for all port numbers.
const WORDS: usize = 1 << 10;

impl Taken {
    /// Adds what an attempt holds.
    pub(crate) fn add(&mut self, attempt: &Attempt) {
        self.kept.add(attempt.host_ports());
        if attempt.holds() {
            self.held.add(attempt.host_ports());
            for gpu in &attempt.gpus {
                *self.gpus.entry(*gpu).or_default() += 1;
            }
            for (resource, amount) in &attempt.requests {
                *self.amounts.entry(resource.clone()).or_default() += u128::from(*amount);
            }
        }
    }

    /// Removes what [`Self::add`] of the same attempt added.
    pub(crate) fn take_back(&mut self, attempt: &Attempt) {
        self.kept.take_back(attempt.host_ports());
        if attempt.holds() {
            self.held.take_back(attempt.host_ports());
            for gpu in &attempt.gpus {
                let Some(times) = self.gpus.get_mut(gpu) else { continue };
                *times -= 1;
                if *times == 0 {
                    self.gpus.remove(gpu);
                }
            }
            for (resource, amount) in &attempt.requests {
                let Some(sum) = self.amounts.get_mut(resource) else { continue };
                *sum = sum.saturating_sub(u128::from(*amount));
                if *sum == 0 {
                    self.amounts.remove(resource);
                }
            }
        }
    }

    /// Something else on this machine holds these ports. They are not assigned until then.
    pub(crate) fn shun(&mut self, ports: impl Iterator<Item = u16>, until: Timestamp) {
        self.shunned.extend(ports.map(|port| (port, until)));
    }

    /// Makes ports available again that were avoided until now.
    pub(crate) fn forgive(&mut self, now: Timestamp) {
        self.shunned.retain(|_, until| *until > now);
    }

    fn amount(&self, resource: &str) -> u128 {
        self.amounts.get(resource).copied().unwrap_or(0)
    }
}

impl Ports {
    fn add(&mut self, ports: impl Iterator<Item = HostPort>) {
        for port in ports {
            self.ports.add(port);
            let (word, bit) = place(port.port);
            if self.words.is_empty() {
                self.words = vec![0; WORDS];
            }
            self.words[word] |= bit;
        }
    }

    fn take_back(&mut self, ports: impl Iterator<Item = HostPort>) {
        for port in ports {
            if self.ports.take_back(port) {
                let (word, bit) = place(port.port);
                self.words[word] &= !bit;
            }
        }
    }

    /// The held numbers from 64 m to 64 m + 63, as bits.
    fn word(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }
}

/// The word and bit of a port.
fn place(port: u16) -> (usize, u64) {
    (usize::from(port >> 6), 1 << (port & 63))
}

/// What is held while a plan is made: what was held before, what the plan takes, and what it
/// releases.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    taken: &'a Taken,
    more: Taken,
    less: Taken,
    node: Offer<'a>,
}

/// What a node offers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) capacity: &'a Amounts,
    pub(crate) port_range: (u16, u16),
}

/// Which ports count as held: those of running attempts, or those of ended ones, too.
type Whose = fn(&Taken) -> &Ports;

const HELD: Whose = |taken| &taken.held;
const KEPT: Whose = |taken| &taken.kept;

impl<'a> Room<'a> {
    /// The room beside `taken`.
    pub(crate) fn beside(taken: &'a Taken, node: Offer<'a>) -> Self {
        Self { taken, more: Taken::default(), less: Taken::default(), node }
    }

    /// Replaces what an attempt holds.
    pub(crate) fn replace(&mut self, before: Option<&Attempt>, after: Option<&Attempt>) {
        before.into_iter().for_each(|before| self.less.add(before));
        after.into_iter().for_each(|after| self.more.add(after));
    }

    /// Why a task does not fit any more, by the same rule that the scheduler uses.
    pub(crate) fn misfit(&self, requests: &Amounts, ports: &[Port]) -> Option<String> {
        let requests = requests.iter().filter(|(_, wanted)| **wanted > 0);
        let requests = requests.map(|(resource, wanted)| (&**resource, *wanted));
        let misfit = room::fits(requests, &WantedPorts::of(ports), self).err()?;
        Some(match misfit {
            Misfit::Resource { resource, wanted, free } => {
                let (wanted, free) = (written(resource, wanted), written(resource, free));
                format!("{resource}: {wanted} requested, {free} free")
            }
            Misfit::Port(port) => format!("port {port} is taken"),
            Misfit::Range { wanted, .. } => self.exhausted(wanted),
        })
    }

    fn exhausted(&self, wanted: u32) -> String {
        let (first, last) = self.node.port_range;
        let range = first..=last;
        let strange = self.taken.shunned.keys().filter(|port| range.contains(port)).count();
        let strangers = match strange {
            0 => String::new(),
            count => format!("; {count} of them are in use by processes that are not tasks"),
        };
        format!("too few free ports from {first} to {last}: {wanted} requested{strangers}")
    }

    /// Assigns node ports for `ports`: those that were asked for by number, and others from the
    /// range. The first `passed_over` free ones are skipped, so that an attempt does not get the
    /// ports of its predecessor. Ports in `others`, which attempts of the same plan ask for by
    /// number, are avoided if possible.
    pub(crate) fn allot(
        &self,
        ports: &[Port],
        passed_over: u32,
        others: &BTreeSet<u16>,
    ) -> Result<BTreeMap<String, u16>, String> {
        let mut given = BTreeMap::new();
        let mut unfit: BTreeSet<u16> = ports.iter().filter_map(|port| port.host_port).collect();
        for port in ports {
            let number = match port.host_port {
                Some(number) => number,
                None => self
                    .free(&(&unfit | others), passed_over)
                    .or_else(|| self.free(&unfit, passed_over))
                    .ok_or_else(|| self.exhausted(1))?,
            };
            unfit.insert(number);
            given.insert(port.name.clone(), number);
        }
        Ok(given)
    }

    /// So many graphics processors that no attempt holds, those with the lowest numbers. That there are
    /// so many follows from what the node offers.
    pub(crate) fn allot_gpus(&self, count: u64) -> Vec<u32> {
        let times = |taken: &Taken, gpu: u32| taken.gpus.get(&gpu).copied().unwrap_or(0);
        let is_free = |gpu: &u32| {
            times(self.taken, *gpu) + times(&self.more, *gpu) <= times(&self.less, *gpu)
        };
        (0..GPUS_MAX).filter(is_free).take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
    }

    /// The same with other numbers for the ports that come from the range.
    pub(crate) fn allot_others(
        &self,
        ports: &[Port],
        given: &BTreeMap<String, u16>,
    ) -> BTreeMap<String, u16> {
        let mut others = given.clone();
        let mut unfit: BTreeSet<u16> = given.values().copied().collect();
        for port in ports.iter().filter(|port| port.host_port.is_none()) {
            // If no other number is free, the present ones may have become free.
            if let Some(number) = self.free(&unfit, 0) {
                unfit.insert(number);
                others.insert(port.name.clone(), number);
            }
        }
        others
    }

    /// A free number of the range, preferably one that was not used recently.
    fn free(&self, unfit: &BTreeSet<u16>, passed_over: u32) -> Option<u16> {
        let pick = |whose| {
            let all = self.count_free(whose, unfit);
            self.nth_free(whose, unfit, passed_over.checked_rem(all)?)
        };
        pick(KEPT).or_else(|| pick(HELD))
    }

    fn times(&self, port: &HostPort, whose: Whose) -> u32 {
        let times = |taken| whose(taken).ports.times(port);
        (times(self.taken) + times(&self.more)).saturating_sub(times(&self.less))
    }

    /// The held ports of a number.
    fn of_number(&self, port: u16, whose: Whose) -> impl Iterator<Item = HostPort> {
        let of = move |taken: &'a Taken| whose(taken).ports.of_number(port).copied();
        let more: Vec<HostPort> = whose(&self.more).ports.of_number(port).copied().collect();
        of(self.taken).chain(more).filter(move |port| self.times(port, whose) > 0)
    }

    /// The numbers of a word that are held or not in the range, as bits.
    fn unfree(&self, word: usize, whose: Whose, unfit: &BTreeSet<u16>) -> u64 {
        let first = u16::try_from(word << 6).expect("there are 1,024 words");
        let numbers = first..=first | 63;
        let mut bits = whose(self.taken).word(word) | whose(&self.more).word(word);
        if whose(&self.less).word(word) & bits != 0 {
            for port in
                numbers.clone().filter(|port| whose(&self.less).word(word) & place(*port).1 != 0)
            {
                if self.of_number(port, whose).next().is_none() {
                    bits &= !place(port).1;
                }
            }
        }
        let shunned = self.taken.shunned.range(numbers.clone()).map(|(port, _)| port);
        shunned.chain(unfit.range(numbers)).for_each(|port| bits |= place(*port).1);
        let (from, to) = self.node.port_range;
        if from > first {
            // Numbers of the word before the range.
            bits |= place(from).1 - 1;
        }
        if to < first | 63 {
            // Numbers of the word after the range.
            bits |= !(place(to).1 | (place(to).1 - 1));
        }
        bits
    }

    fn words(&self) -> std::ops::RangeInclusive<usize> {
        let (from, to) = self.node.port_range;
        place(from).0..=place(to).0
    }

    fn count_free(&self, whose: Whose, unfit: &BTreeSet<u16>) -> u32 {
        self.words().map(|word| self.unfree(word, whose, unfit).count_zeros()).sum()
    }

    fn nth_free(&self, whose: Whose, unfit: &BTreeSet<u16>, mut n: u32) -> Option<u16> {
        for word in self.words() {
            let mut free = !self.unfree(word, whose, unfit);
            if free.count_ones() <= n {
                n -= free.count_ones();
                continue;
            }
            for _ in 0..n {
                // Clears the lowest bit.
                free &= free - 1;
            }
            let bit = u16::try_from(free.trailing_zeros()).expect("a word has 64 bits");
            return u16::try_from(word << 6).ok().map(|first| first + bit);
        }
        None
    }
}

impl room::Room<&str> for Room<'_> {
    fn free(&self, resource: &str) -> u64 {
        let all = u128::from(self.node.capacity.get(resource).copied().unwrap_or(0));
        let taken = self.taken.amount(resource) + self.more.amount(resource);
        let free = (all + self.less.amount(resource)).saturating_sub(taken);
        u64::try_from(free).unwrap_or(u64::MAX)
    }

    fn is_held(&self, port: &HostPort) -> bool {
        self.of_number(port.port, HELD).any(|held| held.conflicts_with(port))
    }

    fn is_number_held(&self, port: u16) -> bool {
        self.of_number(port, HELD).next().is_some()
    }

    fn range(&self) -> Option<(u16, u16)> {
        let (first, last) = self.node.port_range;
        (first <= last).then_some((first, last))
    }

    fn free_in_range(&self) -> u32 {
        self.count_free(HELD, &BTreeSet::new())
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

    #[test]
    fn no_two_attempts_are_given_the_same_graphics_processor() {
        let with = |gpus: &[u32], progress| {
            let mut attempt = attempt(&[], progress);
            attempt.gpus = gpus.to_vec();
            attempt
        };
        let mut taken = Taken::default();
        let first = with(&[0, 2], starting());
        taken.add(&first);
        taken.add(&with(&[1], Progress::Ended));
        let capacity = Amounts::new();
        let offer = Offer { capacity: &capacity, port_range: (20_000, 20_001) };
        let mut room = Room::beside(&taken, offer);
        assert_eq!(room.allot_gpus(2), [1, 3], "what has ended holds none");
        room.replace(None, Some(&with(&[1, 3], starting())));
        assert_eq!(room.allot_gpus(1), [4], "what the same plan has given is taken");
        room.replace(Some(&first), None);
        assert_eq!(room.allot_gpus(2), [0, 2]);
        taken.take_back(&first);
        assert_eq!(Room::beside(&taken, offer).allot_gpus(1), [0]);
    }

    fn ports(wanted: &[Option<u16>]) -> Vec<Port> {
        let port = |(n, host_port): (usize, &Option<u16>)| {
            let port = serde_json::json!({ "name": format!("p{n}"), "hostPort": host_port });
            serde_json::from_value(port).unwrap()
        };
        wanted.iter().enumerate().map(port).collect()
    }

    static NOTHING: Amounts = Amounts::new();

    fn beside(taken: &Taken, port_range: (u16, u16)) -> Room<'_> {
        Room::beside(taken, Offer { capacity: &NOTHING, port_range })
    }

    /// The numbers that are assigned to ports, in the order of their names, after `passed_over`
    /// free ones.
    fn given(
        room: &Room<'_>,
        wanted: &[Option<u16>],
        passed_over: u32,
    ) -> Result<Vec<u16>, String> {
        let ports = ports(wanted);
        if let Some(misfit) = room.misfit(&NOTHING, &ports) {
            return Err(misfit);
        }
        Ok(room.allot(&ports, passed_over, &BTreeSet::new())?.into_values().collect())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn ports_at_the_ends_of_what_there_is_are_given() {
        let mut taken = Taken::default();
        let room = beside(&taken, (65_534, 65_535));
        assert_eq!(given(&room, &[None, None], 0), Ok(vec![65_534, 65_535]));
        taken.add(&attempt(&[65_534, 65_535], starting()));
        let none = given(&beside(&taken, (65_534, 65_535)), &[None], 0);
        assert_eq!(none, Err("too few free ports from 65534 to 65535: 1 requested".to_owned()));
        taken.add(&attempt(&[0], Progress::Ended));
        assert_eq!(given(&beside(&taken, (0, 70)), &[None, Some(1)], 0), Ok(vec![2, 1]));
    }

    #[test]
    fn a_port_of_what_has_ended_is_given_only_where_no_other_is_left() {
        let mut taken = Taken::default();
        taken.add(&attempt(&[20_000], Progress::Ended));
        assert_eq!(given(&beside(&taken, (20_000, 20_001)), &[None], 0), Ok(vec![20_001]));
        taken.add(&attempt(&[20_001], starting()));
        assert_eq!(given(&beside(&taken, (20_000, 20_001)), &[None], 0), Ok(vec![20_000]));
    }

    #[test]
    fn an_attempt_that_follows_another_gets_another_port() {
        let mut taken = Taken::default();
        taken.add(&attempt(&[20_001], starting()));
        let room = beside(&taken, (20_000, 20_003));
        let of_attempts = (0..5).map(|before| given(&room, &[None], before).unwrap()[0]);
        let expected = [20_000, 20_002, 20_003, 20_000, 20_002];
        assert_eq!(of_attempts.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_port_that_another_task_names_is_left_to_it() {
        let taken = Taken::default();
        let room = beside(&taken, (20_000, 20_001));
        let given = |others: &[u16]| {
            let others = others.iter().copied().collect();
            room.allot(&ports(&[None]), 0, &others).unwrap()["p0"]
        };
        assert_eq!(given(&[20_000]), 20_001);
        assert_eq!(given(&[20_000, 20_001]), 20_000, "it may not start after all");
    }

    #[test]
    fn what_something_else_holds_is_not_given_for_a_while() {
        let mut taken = Taken::default();
        taken.shun([20_000].into_iter(), at(300));
        assert_eq!(given(&beside(&taken, (20_000, 20_001)), &[None], 0), Ok(vec![20_001]));
        let why = "too few free ports from 20000 to 20000: 1 requested; 1 of them are in use by \
                   processes that are not tasks";
        assert_eq!(given(&beside(&taken, (20_000, 20_000)), &[None], 0), Err(why.to_owned()));
        taken.forgive(at(299));
        assert!(given(&beside(&taken, (20_000, 20_000)), &[None], 0).is_err());
        taken.forgive(at(300));
        assert_eq!(given(&beside(&taken, (20_000, 20_000)), &[None], 0), Ok(vec![20_000]));
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
            prop_assert_eq!(&all.held.ports, &rest.held.ports);
            prop_assert_eq!(&all.kept.ports, &rest.kept.ports);
            let mut whole = Taken::default();
            taken.iter().for_each(|it| whole.add(&of(it)));
            for range in [(0, 10), (60, 70), (0, 199), (128, 199)] {
                let (all, mut room) = (beside(&all, range), beside(&whole, range));
                taken.iter().filter(|it| it.2).for_each(|it| room.replace(Some(&of(it)), None));
                for whose in [HELD, KEPT] {
                    let none = BTreeSet::new();
                    let free = |port: &u16| whose(&rest).ports.of_number(*port).next().is_none();
                    let free: Vec<u16> = (range.0..=range.1).filter(free).collect();
                    for room in [&all, &room] {
                        prop_assert_eq!(room.count_free(whose, &none) as usize, free.len());
                        for n in 0..=free.len() {
                            let nth = room.nth_free(whose, &none, u32::try_from(n).unwrap());
                            prop_assert_eq!(nth, free.get(n).copied());
                        }
                    }
                }
            }
        }
    }
}
