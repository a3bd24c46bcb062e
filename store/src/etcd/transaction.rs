//! Builds one etcd transaction from several groups, and reads the result of each from its answer.
//!
//! # Invariants
//!
//! * The form that is sent first does everything if all expectations hold, and nothing otherwise.
//!   Only after a conflict is each group sent as a nested transaction of its own, so that a
//!   conflict fails only its own group. Both forms write the same bytes for a group.
//! * Every write has its own position, which is assigned before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use etcd_client::proto::{PbResponseOp, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use crate::etcd::format::{Decoded, Keyspace, WriteId, bounds, encode, revision, signed};
use crate::etcd::plan::expected;
use crate::{
    Change, Conflict, Expectation, Group, Key, LeaseId, Outcome, POSITIONS_MAX, Record, Revision,
};

/// Up to this many expectations of a single group, the records are read in the same call, in case
/// the group is refused.
const READS_AT_ONCE_MAX: usize = 8;

/// A group, with the id of this attempt to commit it.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) group: Group,
    pub(crate) id: WriteId,
}

/// How groups are put into a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of them or none. Each value is sent once. A conflict shows, but not which group it
    /// concerns.
    Together,
    /// Each group by itself. For a refused group, the records that it has expectations about are
    /// read.
    Each,
}

impl Form {
    /// The form in which `groups` are sent first. For one small group, reading the records at once
    /// costs less than asking again after a conflict.
    pub(crate) fn first(groups: &[Named]) -> Self {
        match groups {
            [only] if expected(&only.group).count() <= READS_AT_ONCE_MAX => Form::Each,
            _ => Form::Together,
        }
    }
}

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// How each group ended.
    Ended(Vec<Outcome>),
    /// Nothing happened, because an expectation of some group did not hold.
    Conflict,
}

/// An answer that does not match the request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("etcd's answer to a transaction does not fit it")]
    Shape,
}

/// Builds the transaction for `groups`, which planning has combined.
pub(crate) fn build(groups: &[Named], form: Form, keys: &Keyspace) -> Txn {
    let mut first = 0;
    let mut all = Vec::with_capacity(groups.len());
    for named in groups {
        all.push((named, first));
        first += count(&named.group);
    }
    assert!(first <= POSITIONS_MAX, "etcd's limit on writes is far lower");
    match form {
        Form::Together => together(&all, keys),
        Form::Each => match all[..] {
            [(named, first)] => by_itself(named, first, keys),
            _ => {
                let each = all.iter().map(|(named, first)| by_itself(named, *first, keys));
                Txn::new().and_then(each.map(TxnOp::txn).collect::<Vec<_>>())
            }
        },
    }
}

fn together(all: &[(&Named, u32)], keys: &Keyspace) -> Txn {
    let mut distinct: BTreeMap<&Key, Vec<&Expectation>> = BTreeMap::new();
    for (key, expect) in all.iter().flat_map(|(named, _)| expected(&named.group)) {
        let known = distinct.entry(key).or_default();
        if !known.contains(&expect) {
            known.push(expect);
        }
    }
    let comparisons: Vec<Compare> = distinct
        .iter()
        .flat_map(|(key, expects)| expects.iter().map(move |expect| (*key, *expect)))
        .flat_map(|(key, expect)| comparisons(&keys.stored(key), expect))
        .collect();
    let writes: Vec<TxnOp> =
        all.iter().flat_map(|(named, first)| writes(named, *first, keys)).collect();
    Txn::new().when(comparisons).and_then(writes)
}

/// Reads what happened to `groups`, which were sent in this form.
pub(crate) fn read_answer(
    answer: PbTxnResponse,
    groups: &[Named],
    form: Form,
    keys: &Keyspace,
) -> Result<Answer, Misfit> {
    if form == Form::Together && !answer.succeeded {
        return Ok(Answer::Conflict);
    }
    let at = revision(answer.header.as_ref().ok_or(Misfit::Shape)?.revision);
    let is_nested = form == Form::Each && groups.len() > 1;
    let mut first = 0;
    let mut outcomes = Vec::with_capacity(groups.len());
    let mut responses = answer.responses.into_iter();
    let mut events = Events::default();
    for Named { group, .. } in groups {
        let outcome = if is_nested {
            let Some(PbTxnOpResponse::ResponseTxn(nested)) = next(&mut responses) else {
                return Err(Misfit::Shape);
            };
            let responses = nested.responses.into_iter();
            if nested.succeeded {
                events.done(group, first, at, responses)
            } else {
                refused(group, responses, keys)
            }
        } else if answer.succeeded {
            events.done(group, first, at, responses.by_ref().take(group.writes.len()))
        } else {
            refused(group, responses.by_ref(), keys)
        };
        outcomes.push(outcome?);
        first += count(group);
    }
    Ok(Answer::Ended(outcomes))
}

/// The positions of a group's writes, if `position` is that of the write with this `index`.
pub(crate) fn positions_around(group: &Group, index: usize, position: u32) -> Vec<u32> {
    let before = u32::try_from(index).expect("a group's bound fits");
    let first = position.saturating_sub(before);
    (first..first + count(group)).collect()
}

fn count(group: &Group) -> u32 {
    u32::try_from(group.writes.len()).expect("a group's bound fits")
}

fn by_itself(named: &Named, first: u32, keys: &Keyspace) -> Txn {
    let comparisons: Vec<Compare> = expected(&named.group)
        .flat_map(|(key, expect)| comparisons(&keys.stored(key), expect))
        .collect();
    let mut looked_at: Vec<&Key> = expected(&named.group).map(|(key, _)| key).collect();
    looked_at.sort();
    looked_at.dedup();
    let reads: Vec<TxnOp> =
        looked_at.into_iter().map(|key| TxnOp::get(keys.stored(key), None)).collect();
    Txn::new().when(comparisons).and_then(writes(named, first, keys)).or_else(reads)
}

fn writes(named: &Named, first: u32, keys: &Keyspace) -> Vec<TxnOp> {
    let places = named.group.writes.iter().zip(first..);
    places
        .map(|(write, position)| match &write.change {
            Change::Put { value, lease } => {
                let options = lease.map(|LeaseId(lease)| {
                    let lease = signed(lease).expect("others are refused on arrival");
                    PutOptions::new().with_lease(lease)
                });
                let stored = encode(value, position, named.id);
                TxnOp::put(keys.stored(&write.key), stored, options)
            }
            Change::Delete => TxnOp::delete(keys.stored(&write.key), None),
        })
        .collect()
}

fn comparisons(key: &[u8], expect: &Expectation) -> Vec<Compare> {
    // etcd treats both revisions of a missing key as 0.
    let at = |Revision(revision): &Revision| signed(*revision).filter(|revision| *revision > 0);
    let never = || Compare::create_revision(key, CompareOp::Less, 0);
    match expect {
        Expectation::Any => vec![],
        Expectation::Absent => vec![Compare::create_revision(key, CompareOp::Equal, 0)],
        Expectation::Modified(revision) => vec![match at(revision) {
            Some(revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
            None => never(),
        }],
        Expectation::Created(revision) => vec![match at(revision) {
            Some(revision) => Compare::create_revision(key, CompareOp::Equal, revision),
            None => never(),
        }],
        Expectation::Value(value) => {
            let (low, high) = bounds(value);
            vec![
                Compare::value(key, CompareOp::Greater, low),
                Compare::value(key, CompareOp::Less, high),
            ]
        }
    }
}

fn next(responses: &mut impl Iterator<Item = PbResponseOp>) -> Option<PbTxnOpResponse> {
    responses.next()?.response
}

/// The events of a transaction, as far as its answer has been read.
#[derive(Debug, Default)]
struct Events {
    /// The position of the next delete, which cannot carry its own: the one after the event before
    /// it.
    next_delete: u32,
}

impl Events {
    /// The outcome of a group that happened at `at`, with its positions as watchers see them.
    fn done(
        &mut self,
        group: &Group,
        first: u32,
        at: Revision,
        mut responses: impl Iterator<Item = PbResponseOp>,
    ) -> Result<Outcome, Misfit> {
        let mut changed = false;
        let mut positions = Vec::with_capacity(group.writes.len());
        for planned in first..first + count(group) {
            let position = match next(&mut responses) {
                Some(PbTxnOpResponse::ResponsePut(_)) => Some(planned),
                Some(PbTxnOpResponse::ResponseDeleteRange(deleted)) => {
                    (deleted.deleted > 0).then_some(self.next_delete)
                }
                Some(PbTxnOpResponse::ResponseRange(_) | PbTxnOpResponse::ResponseTxn(_))
                | None => return Err(Misfit::Shape),
            };
            changed |= position.is_some();
            self.next_delete = position.map_or(self.next_delete, |position| position + 1);
            positions.push(position.unwrap_or(planned));
        }
        if !changed {
            positions.fill(0);
        }
        Ok(Outcome::Done { revision: at, positions })
    }
}

fn refused(
    group: &Group,
    mut responses: impl Iterator<Item = PbResponseOp>,
    keys: &Keyspace,
) -> Result<Outcome, Misfit> {
    let (mut found, mut foreign) = (BTreeMap::<Key, Record>::new(), BTreeSet::new());
    while let Some(response) = next(&mut responses) {
        let PbTxnOpResponse::ResponseRange(range) = response else {
            return Err(Misfit::Shape);
        };
        for pair in range.kvs {
            if let Some(Decoded { record, id }) = keys.decode(pair) {
                if id.is_none() {
                    foreign.insert(record.key.clone());
                }
                found.insert(record.key.clone(), record);
            }
        }
    }
    // A value that another program has put is not what this store would have put.
    let is_foreign = |key: &Key, expect: &Expectation| {
        matches!(expect, Expectation::Value(_)) && foreign.contains(key)
    };
    let conflicts = expected(group)
        .filter(|(key, expect)| !expect.holds(found.get(*key)) || is_foreign(key, expect))
        .map(|(key, _)| Conflict { key: key.clone(), found: found.get(key).cloned() })
        .collect();
    Ok(Outcome::Refused { conflicts })
}
