//! The completion record: what is done stays done.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::completion::{End, place_of};
use api::status::Refusal;
use api::{CompletionChunk, KindId, ObjectKey};
use store::Guard;

use super::Prepared;
use super::facts::{Facts, absent, make};
use super::refusals::conflict;
use crate::{encoding, keys};

/// A guard: the index is not recorded in this run, and its chunk of the record is unchanged.
pub(super) fn bit_guard(
    job_uid: &str,
    run: u32,
    index: u32,
    facts: &mut Facts<'_>,
) -> Result<Guard, Refusal> {
    let (chunk, place) = place_of(index);
    let key = keys::chunk(job_uid, run, chunk);
    let Some((chunk, current)) = facts.chunk(&key)? else {
        return Ok(absent(key));
    };
    if let Some(end) = chunk.spec.bits.get(place) {
        let why = format!("index {index} is already recorded as {end:?} in run {run}");
        return Err(conflict(KindId::Task, &index.to_string(), why));
    }
    Ok(current.unchanged(key))
}

/// How an index ended in this run, if it is recorded, and a guard: its chunk of the record is there,
/// whatever is recorded in it since.
pub(super) fn end_guard(
    job_uid: &str,
    run: u32,
    index: u32,
    facts: &mut Facts<'_>,
) -> Result<Option<(End, Guard)>, Refusal> {
    let (chunk, place) = place_of(index);
    let key = keys::chunk(job_uid, run, chunk);
    let Some((chunk, current)) = facts.chunk(&key)? else { return Ok(None) };
    Ok(chunk.spec.bits.get(place).map(|end| (end, current.alive(key))))
}

/// Records how indexes of one chunk ended.
pub(super) fn record(
    (job, uid): (&ObjectKey, &str),
    run: u32,
    ends: &[(u32, End)],
    facts: &mut Facts<'_>,
) -> Result<Prepared, Refusal> {
    let refuse = |why: &str| Err(conflict(KindId::Job, &job.name, why));
    let chunks: BTreeSet<u32> = ends.iter().map(|(index, _)| place_of(*index).0).collect();
    let (Some(&chunk), 1) = (chunks.first(), chunks.len()) else {
        return refuse("the indexes of one record must be in one chunk");
    };
    let mut prepared = Prepared::default();
    let job_key = keys::object(KindId::Job, job);
    match facts.at(&job_key) {
        Some(current) if current.uid() == uid => prepared.guards.push(current.alive(job_key)),
        _ => return refuse("the job was deleted"),
    }
    let key = keys::chunk(uid, run, chunk);
    let (before, current) = match facts.chunk(&key)? {
        Some((before, current)) => (before, Some(current)),
        None => (Arc::new(CompletionChunk::empty(uid, run, chunk)), None),
    };
    let mut next = before.as_ref().clone();
    for (index, end) in ends {
        if !next.spec.bits.set(place_of(*index).1, *end) {
            return refuse(&format!(
                "index {index} is already recorded with another end than {end:?}"
            ));
        }
    }
    if next != *before {
        prepared.writes.push(match current {
            Some(current) => {
                let object = current.changed(before.as_ref(), &next);
                current.put(key, object)
            }
            None => make(key, encoding::encode(&next)),
        });
    } else if let Some(current) = current {
        prepared.seen = current.version;
    }
    Ok(prepared)
}
