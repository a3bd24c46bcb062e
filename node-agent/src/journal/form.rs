//! The form of a journal's file: lines of a checksum and JSON.
//!
//! ```text
//! <sum> {"version":2,"writtenBy":"0.1.0","owner":{...},"attempts":n}
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
//! * An agent reads what a newer one has written, also after a downgrade: fields that it does not
//!   know are passed over. What it cannot pass over (another kind of change, another state of an
//!   attempt, another part of an identity) is an error. If it guessed, it could start a container
//!   twice, or remove one that runs. A newer agent whose fields must not be passed over writes
//!   another version.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Owner, Record};
use crate::attempt::Attempt;
use crate::engine::Identity;

/// Version of the file format.
const VERSION: u32 = 2;
/// The version of this agent.
pub(super) const OURS: &str = env!("CARGO_PKG_VERSION");
/// Number of digits of a checksum.
const SUM_DIGITS: usize = 16;
/// The initial checksum of FNV-1a with 64 bits. The function detects every single wrong byte.
pub(super) const SUM_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;
const SUM_PRIME: u64 = 0x100_0000_01b3;

/// What is wrong in a journal.
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

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is damaged, or an earlier version wrote it.
    Damaged(Damage),
    /// A version that names itself wrote what this one does not know.
    NotKnown {
        /// Which version.
        written_by: String,
        /// What is not known, and where.
        what: Damage,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<O> {
    version: u32,
    /// The version of the agent that wrote the file; empty if an earlier version did.
    #[serde(default)]
    written_by: String,
    owner: O,
    attempts: usize,
}

/// The first line in any version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyHead {
    version: u32,
    #[serde(default)]
    written_by: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change<A, I> {
    Put(A),
    Forget(I),
}

/// A whole file, and its checksum.
pub(super) fn snapshot(owner: &Owner, attempts: &BTreeMap<Identity, Attempt>) -> (Vec<u8>, u64) {
    snapshot_by(OURS, owner, attempts)
}

/// The same as an agent of this version writes it.
pub(super) fn snapshot_by(
    agent: &str,
    owner: &Owner,
    attempts: &BTreeMap<Identity, Attempt>,
) -> (Vec<u8>, u64) {
    let (mut bytes, mut sum) = (Vec::new(), SUM_OF_NOTHING);
    let written_by = agent.to_owned();
    let head = Head { version: VERSION, written_by, owner, attempts: attempts.len() };
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
pub(super) fn parse(bytes: &[u8]) -> Result<Record, Problem> {
    let mut lines = Lines {
        rest: bytes,
        read: 0,
        begins: 0,
        next: 0,
        sum: SUM_OF_NOTHING,
        written_by: String::new(),
    };
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
    /// The version that wrote the file, if it says so.
    written_by: String,
}

impl<'a> Lines<'a> {
    /// The next complete line; nothing at the end or at a torn line.
    fn read<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Problem> {
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        self.read += 1;
        (self.begins, self.next) = (self.next, self.next + end + 1);
        let json =
            self.check(line).ok_or_else(|| Problem::Damaged(self.damage("checksum mismatch")))?;
        if self.read == 1 {
            self.check_version(json)?;
        }
        let read = serde_json::from_slice(json);
        read.map(Some).map_err(|error| self.not_known(&error.to_string()))
    }

    /// The content of a line if its checksum is right.
    fn check(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (digits, json) = line.split_at_checked(SUM_DIGITS)?;
        let json = json.strip_prefix(b" ")?;
        self.sum = sum_with(self.sum, json);
        (digits == format!("{:016x}", self.sum).as_bytes()).then_some(json)
    }

    fn check_version(&mut self, json: &[u8]) -> Result<(), Problem> {
        let head: AnyHead = serde_json::from_slice(json)
            .map_err(|error| Problem::Damaged(self.damage(&error.to_string())))?;
        self.written_by = head.written_by;
        if head.version == VERSION {
            return Ok(());
        }
        let what =
            format!("unsupported version {}; this agent reads version {VERSION}", head.version);
        Err(self.not_known(&what))
    }

    /// The problem that the last line read is as it was written, and cannot be understood.
    fn not_known(&self, what: &str) -> Problem {
        let what = self.damage(what);
        if self.written_by.is_empty() {
            return Problem::Damaged(what);
        }
        Problem::NotKnown { written_by: self.written_by.clone(), what }
    }

    /// The damage that the file ends where a line is required.
    fn ended(&self, missing: &str) -> Problem {
        let what = format!("the file ends in the middle of the line for {missing}");
        Problem::Damaged(Damage { line: self.read + 1, byte: self.next, what })
    }

    /// The damage that the last line read is wrong.
    fn damage(&self, what: &str) -> Damage {
        Damage { line: self.read, byte: self.begins, what: what.to_owned() }
    }
}

pub(super) fn sum_with(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(SUM_PRIME))
}
