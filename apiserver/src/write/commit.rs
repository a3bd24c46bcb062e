//! Tries decisions, and repeats them when only the cache was behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::resource_version::ResourceVersion;
use api::status::{Refusal, Why};
use base::Clock;
use futures_util::future::join_all;
use store::{Expectation, Group, Guard, Key, Outcome, Revision, Store};
use tracing::{debug, error};

use super::facts::{Chunks, Current, Facts, Known};
use super::refusals::{contended, deposed, full, never, unavailable, unknown};
use super::turns::Turns;
use super::{Answer, Intent, Prepared, prepare};
use crate::cache::Cache;
use crate::kinds::Wire;
use crate::{encoding, keys};

/// How often a decision is repeated before the client is told that the object changes too often.
const TRIES_MAX: usize = 16;

/// Writes to the store.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) clock: Clock,
    pub(crate) turns: Turns,
}

/// The leader of a component in a term, which guards the writes that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) component: String,
    /// `<identity>/<term>`, which the store has to have.
    pub(crate) claim: String,
}

/// Whether the write is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteMode {
    Real,
    /// Everything except the write.
    Dry,
}

/// The result of intents that are carried out together.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    /// A watcher of every kind that has reached this version has seen the writes. This is always
    /// the version of an event that a watcher will get, and never the end of a revision, which only
    /// the next bookmark would show, seconds later.
    pub(crate) seen: ResourceVersion,
    /// For each intent, the resulting object.
    pub(crate) answers: Vec<Option<Answer>>,
}

/// A group of intents in progress.
struct Attempt<'a> {
    intents: &'a [Intent],
    /// The keys that its last decision would write or guard; `None` before the first decision.
    touches: BTreeSet<Key>,
    result: Option<Result<Committed, Refusal>>,
}

impl Attempt<'_> {
    /// The final result. A refusal is logged without its message, which may contain what is in the
    /// object.
    fn ended(self) -> Result<Committed, Refusal> {
        let result = self.result.unwrap_or_else(|| Err(contended()));
        if let (Err(refusal), Some(first)) = (&result, self.intents.first()) {
            let (requester, key, why) = (first.by.requester(), first.key(), refusal.why);
            debug!(%requester, %key, ?why, "a write was refused");
        }
        result
    }
}

/// What all groups of a request share.
#[derive(Default)]
struct Learned {
    /// What was read from the store itself since the request came in.
    known: Known,
    chunks: Chunks,
}

impl Writer {
    /// Carries out one intent, when it is its turn.
    pub(crate) async fn one(
        &self,
        intent: Intent,
        leader: Option<&Leader>,
        mode: WriteMode,
    ) -> Result<Committed, Refusal> {
        let _turn = self.turns.take(intent.key()).await;
        let groups = [vec![intent]];
        let mut results = self.groups(&groups, leader, mode).await;
        results.pop().unwrap_or_else(|| Err(unknown()))
    }

    /// Carries out groups of intents. Each group happens as a whole or not at all, independently of
    /// the others.
    pub(crate) async fn groups(
        &self,
        groups: &[Vec<Intent>],
        leader: Option<&Leader>,
        mode: WriteMode,
    ) -> Vec<Result<Committed, Refusal>> {
        let attempt = |intents| Attempt { intents, touches: BTreeSet::new(), result: None };
        let mut attempts: Vec<Attempt<'_>> =
            groups.iter().map(|intents| attempt(intents.as_slice())).collect();
        let mut learned = Learned::default();
        // Each round ends at least one group. Groups that wait for others are not tried meanwhile.
        for _ in 0..TRIES_MAX + groups.len() {
            let open: Vec<&mut Attempt<'_>> =
                attempts.iter_mut().filter(|attempt| attempt.result.is_none()).collect();
            if open.is_empty() {
                break;
            }
            self.round(open, &mut learned, leader, mode).await;
        }
        attempts.into_iter().map(Attempt::ended).collect()
    }

    /// Decides every open group once, and tries the decisions. A group that depends on what another
    /// one writes in this round waits for the next: it would only be refused now.
    async fn round(
        &self,
        open: Vec<&mut Attempt<'_>>,
        learned: &mut Learned,
        leader: Option<&Leader>,
        mode: WriteMode,
    ) {
        let (mut tried, mut decided) = (Vec::new(), Vec::new());
        let mut written: BTreeSet<Key> = BTreeSet::new();
        let mut awaited: BTreeSet<Key> = BTreeSet::new();
        for attempt in open {
            if wait_for(&written, attempt, &mut awaited) {
                continue;
            }
            let Some(prepared) = self.decide(attempt, learned).await else { continue };
            let group = match mode {
                WriteMode::Real => group(&prepared, leader),
                WriteMode::Dry => looked_at(group(&prepared, leader)),
            };
            // A group that writes nothing is tried, too: the store then confirms that the cache was
            // right.
            let guards = group.guards.iter().map(|guard| &guard.key);
            let writes = group.writes.iter().map(|write| &write.key);
            attempt.touches = guards.chain(writes.clone()).cloned().collect();
            if wait_for(&written, attempt, &mut awaited) {
                continue;
            }
            written.extend(writes.cloned());
            tried.push((attempt, prepared));
            decided.push(group);
        }
        if decided.is_empty() {
            return;
        }
        let outcomes = self.store.commit(decided).await;
        for ((attempt, prepared), outcome) in tried.into_iter().zip(outcomes) {
            Self::settle(attempt, &mut learned.known, prepared, outcome, leader);
        }
        // What cannot be read is read again, or leads to a refusal, at the next decision.
        let _unread = self.look(&mut learned.known, awaited).await;
    }

    /// Decides about a group. A refusal that was based on the cache is decided again with what the
    /// store itself says.
    async fn decide(
        &self,
        attempt: &mut Attempt<'_>,
        learned: &mut Learned,
    ) -> Option<Vec<Prepared>> {
        let now = self.clock.now();
        loop {
            let Learned { known, chunks } = learned;
            let mut facts = Facts::new(&self.cache, known, chunks);
            let mut decide = |intent| {
                let mut prepared = prepare(intent, &mut facts, now)?;
                facts.guard_what_writes_nothing(&mut prepared);
                Ok(prepared)
            };
            let decided: Result<Vec<Prepared>, Refusal> =
                attempt.intents.iter().map(&mut decide).collect();
            let cached = facts.into_cached();
            match decided {
                Ok(prepared) => return Some(prepared),
                Err(refusal) if cached.is_empty() => {
                    attempt.result = Some(Err(refusal));
                    return None;
                }
                Err(_) => {
                    if let Err(refusal) = self.look(known, cached).await {
                        attempt.result = Some(Err(refusal));
                        return None;
                    }
                }
            }
        }
    }

    /// Reads keys from the store itself.
    async fn look(&self, known: &mut Known, keys: BTreeSet<Key>) -> Result<(), Refusal> {
        let reads = keys.iter().map(|key| self.store.get(key));
        for (key, read) in keys.iter().zip(join_all(reads).await) {
            let record = read.map_err(|error| unavailable(&error))?;
            let current = record.as_ref().map(Current::of_record).transpose();
            known.insert(Arc::clone(key), current.map_err(|error| unreadable(key, &error))?);
        }
        Ok(())
    }

    fn settle(
        attempt: &mut Attempt<'_>,
        known: &mut Known,
        prepared: Vec<Prepared>,
        outcome: Outcome,
        leader: Option<&Leader>,
    ) {
        attempt.result = match outcome {
            Outcome::Done { revision, positions } => {
                // A group that only checks wrote nothing, as in a dry run.
                let done = (!positions.is_empty()).then_some((revision, positions.as_slice()));
                Some(Ok(committed(prepared, done)))
            }
            Outcome::Unknown => Some(Err(unknown())),
            Outcome::Full(why) => Some(Err(full(why))),
            Outcome::Invalid(why) => Some(Err(never(why))),
            Outcome::Refused { conflicts } => {
                let leader_key = leader.map(|leader| keys::leader(&leader.component));
                let mut result = None;
                for conflict in conflicts {
                    if Some(&conflict.key) == leader_key.as_ref() {
                        result = Some(Err(deposed()));
                        break;
                    }
                    match conflict.found.as_ref().map(Current::of_record).transpose() {
                        Ok(current) => drop(known.insert(conflict.key, current)),
                        Err(error) => result = Some(Err(unreadable(&conflict.key, &error))),
                    }
                }
                result
            }
        };
    }
}

/// Whether a group has to wait for those of this round that write `written`. Adds the keys in
/// question to `awaited`.
fn wait_for(written: &BTreeSet<Key>, attempt: &Attempt<'_>, awaited: &mut BTreeSet<Key>) -> bool {
    let common: Vec<Key> = written.intersection(&attempt.touches).cloned().collect();
    let waits = !common.is_empty();
    awaited.extend(common);
    waits
}

/// The result for the client: each object, at the version of its change. `done` has the revision
/// and the position of each write, if anything was written.
fn committed(prepared: Vec<Prepared>, done: Option<(Revision, &[u32])>) -> Committed {
    let keys: Vec<Key> =
        prepared.iter().flat_map(|one| &one.writes).map(|write| Arc::clone(&write.key)).collect();
    let places: BTreeMap<&Key, usize> =
        keys.iter().enumerate().map(|(place, key)| (key, place)).collect();
    let event_of = |place: usize| {
        let (revision, positions) = done?;
        let position = positions.get(place).copied().unwrap_or_default();
        Some(ResourceVersion::of_event(revision.0, position))
    };
    // Watchers only get events of objects: there is none for the key that guards a leader.
    let objects = (0..keys.len()).filter(|place| keys::kind_of(&keys[*place]).is_some());
    let written = objects.filter_map(event_of).max();
    let there = prepared.iter().map(|one| one.seen).max();
    let answer = |one: Prepared| {
        let mut answer = one.answer?;
        let place = places.get(&answer.key).copied();
        if let Some(version) = place.and_then(event_of) {
            answer.version = version;
        }
        Some(answer)
    };
    let answers: Vec<Option<Answer>> = prepared.into_iter().map(answer).collect();
    let answered = answers.iter().flatten().map(|answer| answer.version).max();
    Committed { seen: written.max(there).max(answered).unwrap_or_default(), answers }
}

impl Answer {
    /// The object as clients see it.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let key = keys::object_key(self.kind, &self.key).unwrap_or_default();
        let (wire, _said_by_the_cache) =
            Wire::of(self.kind, &key, &self.object.stored(), self.version);
        wire.json
    }
}

/// Turns decisions into a group for the store. Guards on keys that the group writes are left out,
/// because the writes have expectations of their own.
fn group(prepared: &[Prepared], leader: Option<&Leader>) -> Group {
    let writes: Vec<_> = prepared.iter().flat_map(|one| one.writes.iter().cloned()).collect();
    let written: BTreeSet<Key> = writes.iter().map(|write| Arc::clone(&write.key)).collect();
    let mut guards: Vec<Guard> = Vec::new();
    let leader = leader.map(|leader| Guard {
        key: keys::leader(&leader.component),
        expect: Expectation::Value(leader.claim.clone().into()),
    });
    for guard in
        leader.into_iter().chain(prepared.iter().flat_map(|one| one.guards.iter().cloned()))
    {
        // Most guards of a group are equal.
        if !guards.contains(&guard) && !written.contains(&guard.key) {
            guards.push(guard);
        }
    }
    Group { guards, writes }
}

/// Only checks what a group depends on, without writing anything.
fn looked_at(group: Group) -> Group {
    let Group { mut guards, writes } = group;
    let expected = writes.into_iter().filter(|write| write.expect != Expectation::Any);
    guards.extend(expected.map(|write| Guard { key: write.key, expect: write.expect }));
    Group { guards, writes: Vec::new() }
}

fn unreadable(key: &Key, error: &encoding::Unreadable) -> Refusal {
    error!(%key, %error, "a stored object cannot be read");
    Refusal::new(Why::Internal, error.to_string())
}
