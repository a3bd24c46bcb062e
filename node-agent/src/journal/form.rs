//! The form of a journal's file: lines of a checksum and JSON.
//!
//! ```text
//! <sum> {"version":2,"agent":...,"cluster":...,"attempts":n}
//! <sum> an attempt                                            n times: the snapshot
//! <sum> [{"put":an attempt},{"forget":an identity},...]       what changed, in one write each
//! ```
//!
//! # Invariants
//!
//! * A line's checksum is that of everything up to its end: lines that were changed, lost, doubled
//!   or put elsewhere are noticed.
//! * Only what stands after the last line end is torn, and only where the snapshot is whole: a
//!   snapshot was never written but as a whole.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Owner, Record};
use crate::attempt::Attempt;
use crate::engine::Identity;

/// Version of the file format.
const VERSION: u32 = 2;
/// Number of digits of a checksum.
const SUM_DIGITS: usize = 16;
/// The initial checksum of FNV-1a with 64 bits. The function detects every single wrong byte.
const SUM_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;
const SUM_PRIME: u64 = 0x100_0000_01b3;

/// What is damaged in a journal.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("line {line} (at byte {byte}): {what}")]
pub struct Damage {
    /// The line, from 1.
    pub line: usize,
    /// The offset at which that line begins, from 0.
    pub byte: usize,
    /// What is wrong with it.
    pub what: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head<O> {
    version: u32,
    owner: O,
    attempts: usize,
}

/// The first line in any version.
#[derive(Deserialize)]
struct AnyHead {
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change<A, I> {
    Put(A),
    Forget(I),
}

/// A whole file, and its checksum.
pub(super) fn snapshot(owner: &Owner, attempts: &BTreeMap<Identity, Attempt>) -> (Vec<u8>, u64) {
    let (mut bytes, mut sum) = (Vec::new(), SUM_OF_NOTHING);
    let head = Head { version: VERSION, owner, attempts: attempts.len() };
    write(&head, &mut bytes, &mut sum);
    attempts.values().for_each(|attempt| write(attempt, &mut bytes, &mut sum));
    (bytes, sum)
}

/// A line of changes to append to a file with the checksum `sum`, which is updated.
pub(super) fn changes(changes: &[(Identity, Option<Attempt>)], sum: &mut u64) -> Vec<u8> {
    let changes = changes.iter().map(|(identity, now)| match now {
        Some(attempt) => Change::Put(attempt),
        None => Change::Forget(identity),
    });
    let mut line = Vec::new();
    write(&changes.collect::<Vec<_>>(), &mut line, sum);
    line
}

fn write(what: &impl Serialize, bytes: &mut Vec<u8>, sum: &mut u64) {
    let json = serde_json::to_vec(what).expect("attempts have text keys only");
    *sum = sum_with(*sum, &json);
    bytes.extend(format!("{sum:016x} ").into_bytes());
    bytes.extend(json);
    bytes.push(b'\n');
}

/// Parses a file, ignoring a torn last line.
pub(super) fn parse(bytes: &[u8]) -> Result<Record, Damage> {
    let mut lines = Lines { rest: bytes, read: 0, begins: 0, next: 0, sum: SUM_OF_NOTHING };
    let head: Head<Owner> = lines.read()?.ok_or_else(|| lines.ended("what it is"))?;
    let mut attempts = BTreeMap::new();
    for number in 1..=head.attempts {
        let what = || format!("attempt {number} of {}", head.attempts);
        let attempt: Attempt = lines.read()?.ok_or_else(|| lines.ended(&what()))?;
        attempts.insert(attempt.identity.clone(), attempt);
    }
    while let Some(changes) = lines.read::<Vec<Change<Box<Attempt>, Identity>>>()? {
        for change in changes {
            match change {
                Change::Put(attempt) => {
                    attempts.insert(attempt.identity.clone(), *attempt);
                }
                Change::Forget(identity) => drop(attempts.remove(&identity)),
            }
        }
    }
    Ok(Record { owner: head.owner, attempts })
}

struct Lines<'a> {
    /// What has not been read yet.
    rest: &'a [u8],
    /// Number of lines read.
    read: usize,
    /// Offset of the last line read.
    begins: usize,
    /// Offset of the next line.
    next: usize,
    /// Checksum of everything read so far.
    sum: u64,
}

impl<'a> Lines<'a> {
    /// The next complete line; nothing at the end or at a torn line.
    fn read<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Damage> {
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        self.read += 1;
        (self.begins, self.next) = (self.next, self.next + end + 1);
        let json = self.check(line).ok_or_else(|| self.damage("checksum mismatch"))?;
        if self.read == 1 {
            self.check_version(json)?;
        }
        let read = serde_json::from_slice(json);
        read.map(Some).map_err(|error| self.damage(&error.to_string()))
    }

    /// The content of a line if its checksum is right.
    fn check(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (digits, json) = line.split_at_checked(SUM_DIGITS)?;
        let json = json.strip_prefix(b" ")?;
        self.sum = sum_with(self.sum, json);
        (digits == format!("{:016x}", self.sum).as_bytes()).then_some(json)
    }

    fn check_version(&self, json: &[u8]) -> Result<(), Damage> {
        let head: AnyHead =
            serde_json::from_slice(json).map_err(|error| self.damage(&error.to_string()))?;
        if head.version == VERSION {
            return Ok(());
        }
        let what =
            format!("unsupported version {}; this agent reads version {VERSION}", head.version);
        Err(self.damage(&what))
    }

    /// The damage that the file ends where a line is required.
    fn ended(&self, missing: &str) -> Damage {
        let what = format!("the file ends in the middle of the line for {missing}");
        Damage { line: self.read + 1, byte: self.next, what }
    }

    /// The damage that the last line read is wrong.
    fn damage(&self, what: &str) -> Damage {
        Damage { line: self.read, byte: self.begins, what: what.to_owned() }
    }
}

fn sum_with(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(SUM_PRIME))
}
