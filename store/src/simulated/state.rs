//! The state of the simulated store as plain data: nothing waits, and it has no clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::ops::Bound;
use std::time::Duration;

use tokio::time::Instant;

use crate::gathering::{Effect, Gathering, Transaction};
use crate::group::{Stored, There, Verdict, judge};
use crate::{
    Event, Expectation, Group, Key, LeaseId, List, Outcome, PAGE_RECORDS_MAX, POSITIONS_MAX, Page,
    ReadError, Record, Revision,
};

/// The state of a simulated store.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) oldest: Revision,
    current: BTreeMap<Key, Stored>,
    /// Invariant: its revisions have no gap up to the current one.
    log: VecDeque<Transaction>,
    /// What each change of the log has replaced, by revision and key.
    replaced: BTreeMap<(Revision, Key), Option<Record>>,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: u64,
    /// Groups that come late, by when and in which order.
    late: BTreeMap<(Instant, u64), Group>,
    last_late: u64,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
}

/// What happens by itself next.
enum Due {
    Lease(LeaseId),
    Group((Instant, u64)),
}

impl There for State {
    type Error = Infallible;

    fn find(&self, key: &Key) -> Result<Option<Stored>, Infallible> {
        Ok(self.current.get(key).cloned())
    }

    fn has_lease(&self, lease: LeaseId) -> Result<bool, Infallible> {
        Ok(self.leases.contains_key(&lease))
    }
}

impl State {
    /// Carries out everything that is due by `now`, in order.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some((at, due)) = self.next_due()
            && at <= now
        {
            match due {
                Due::Lease(lease) => self.revoke(lease),
                Due::Group(place) => {
                    let group = self.late.remove(&place).expect("it was just found");
                    let mut gathering = Gathering::after(self.revision);
                    self.commit(&mut gathering, group);
                    self.finish(gathering);
                }
            }
        }
    }

    /// When something happens by itself next.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.next_due().map(|(at, _)| at)
    }

    fn next_due(&self) -> Option<(Instant, Due)> {
        let lease = self.leases.iter().map(|(id, lease)| (lease.deadline, *id)).min();
        let group = self.late.keys().next().copied();
        match (lease, group) {
            (Some((at, _)), Some(place)) if place.0 < at => Some((place.0, Due::Group(place))),
            (Some((at, lease)), _) => Some((at, Due::Lease(lease))),
            (None, Some(place)) => Some((place.0, Due::Group(place))),
            (None, None) => None,
        }
    }

    /// Tries a group as part of a gathering.
    pub(crate) fn commit(&mut self, gathering: &mut Gathering, group: Group) -> Outcome {
        let Ok(verdict) = judge(&group, self);
        match verdict {
            Verdict::Invalid(reason) => Outcome::Invalid(reason),
            Verdict::Refused(conflicts) => Outcome::Refused { conflicts },
            Verdict::Happens(before) => self.happen(gathering, group, before),
        }
    }

    /// Adds a gathering to the history.
    pub(crate) fn finish(&mut self, gathering: Gathering) {
        self.revision = gathering.revision();
        self.log.extend(gathering.finish());
    }

    /// Keeps a group for later.
    pub(crate) fn defer(&mut self, group: Group, until: Instant) {
        self.last_late += 1;
        self.late.insert((until, self.last_late), group);
    }

    fn happen(
        &mut self,
        gathering: &mut Gathering,
        group: Group,
        before: Vec<Option<Stored>>,
    ) -> Outcome {
        let (outcome, effects) = gathering.place(group, before);
        for Effect { event, before, lease, .. } in effects {
            self.replaced.insert((event.revision, event.key.clone()), before);
            match event.now {
                Some(record) => drop(self.current.insert(event.key, Stored { record, lease })),
                None => drop(self.current.remove(&event.key)),
            }
        }
        outcome
    }

    pub(crate) fn get(&self, key: &str) -> Option<Record> {
        self.current.get(key).map(|stored| stored.record.clone())
    }

    pub(crate) fn list(&self, list: &List) -> Result<Page, ReadError> {
        let revision = list.at.unwrap_or(self.revision);
        let records = if revision == self.revision {
            self.under(list).map(|stored| stored.record.clone()).collect()
        } else {
            self.records_at(list, revision)?
        };
        let limit = list.limit.min(PAGE_RECORDS_MAX);
        let more = records.len() > limit;
        Ok(Page { revision, records: records.into_iter().take(limit).collect(), more })
    }

    /// Current records in the list, up to one more than its limit.
    fn under(&self, list: &List) -> impl Iterator<Item = &Stored> {
        let start = match &list.after {
            Some(after) if *after >= list.prefix => Bound::Excluded(&**after),
            Some(_) | None => Bound::Included(&*list.prefix),
        };
        self.current
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&*list.prefix))
            .map(|(_, stored)| stored)
            .take(list.limit.min(PAGE_RECORDS_MAX) + 1)
    }

    /// The same as of an old revision: the current records with all later changes undone.
    fn records_at(&self, list: &List, revision: Revision) -> Result<Vec<Record>, ReadError> {
        if revision > self.revision {
            return Err(ReadError::Future { asked: revision, current: self.revision });
        }
        self.check_kept(revision)?;
        let mut records: BTreeMap<&str, &Record> =
            self.current.iter().map(|(key, stored)| (&**key, &stored.record)).collect();
        // From the newest change back. A key changes once at most in a revision.
        let later = self.replaced.iter().rev().take_while(|((at, _), _)| *at > revision);
        for ((_, key), before) in later {
            match before {
                Some(before) => records.insert(key, before),
                None => records.remove(&**key),
            };
        }
        let wanted = |key: &str| {
            key.starts_with(&*list.prefix) && list.after.as_deref().is_none_or(|after| key > after)
        };
        Ok(records.into_iter().filter(|(key, _)| wanted(key)).map(|(_, r)| r.clone()).collect())
    }

    /// The events of keys under `prefix` from `from` on.
    pub(crate) fn events(&self, prefix: &str, from: Revision) -> Result<Vec<Event>, ReadError> {
        self.check_kept(from)?;
        let new = self.log.iter().rev().take_while(|transaction| transaction.revision >= from);
        let skip = self.log.len() - new.count();
        let events = self.log.range(skip..).flat_map(|transaction| &transaction.events);
        Ok(events.filter(|event| event.key.starts_with(prefix)).cloned().collect())
    }

    /// Fails if history does not reach back to the revision.
    pub(crate) fn check_kept(&self, asked: Revision) -> Result<(), ReadError> {
        let oldest = self.oldest;
        if asked < oldest { Err(ReadError::Compacted { asked, oldest }) } else { Ok(()) }
    }

    pub(crate) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last_lease += 1;
        let lease = LeaseId(self.last_lease);
        self.leases.insert(lease, Lease { ttl, deadline: now + ttl });
        lease
    }

    pub(crate) fn renew(&mut self, lease: LeaseId, now: Instant) -> bool {
        let Some(lease) = self.leases.get_mut(&lease) else {
            return false;
        };
        lease.deadline = now + lease.ttl;
        true
    }

    /// Gives every node lease its full time again.
    pub(crate) fn renew_all(&mut self, now: Instant) {
        self.leases.values_mut().for_each(|lease| lease.deadline = now + lease.ttl);
    }

    pub(crate) fn revoke(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        let under = self.current.values().filter(|stored| stored.lease == Some(lease));
        let keys: Vec<Key> = under.map(|stored| stored.record.key.clone()).collect();
        let mut gathering = Gathering::after(self.revision);
        for keys in keys.chunks(usize::try_from(POSITIONS_MAX).expect("a few bits")) {
            let before = keys.iter().map(|key| self.current.get(key).cloned()).collect();
            let group = keys
                .iter()
                .fold(Group::default(), |group, key| group.delete(key.clone(), Expectation::Any));
            self.happen(&mut gathering, group, before);
        }
        self.finish(gathering);
    }

    /// Returns whether that was possible: the store must be empty.
    pub(crate) fn begin_after(&mut self, revision: Revision) -> bool {
        if self.current.is_empty() {
            self.revision = self.revision.max(revision);
            self.compact(self.revision);
            self.log.clear();
            self.replaced.clear();
        }
        self.current.is_empty()
    }

    pub(crate) fn compact(&mut self, keep_from: Revision) {
        self.oldest = self.oldest.max(keep_from.min(self.revision));
        while self.log.front().is_some_and(|transaction| transaction.revision < self.oldest) {
            self.log.pop_front();
        }
        let is_old = |(at, _): &(Revision, Key)| *at < self.oldest;
        while self.replaced.first_key_value().is_some_and(|(change, _)| is_old(change)) {
            self.replaced.pop_first();
        }
    }
}
