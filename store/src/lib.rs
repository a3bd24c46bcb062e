//! The store: revisions, guards, watches and node leases.
//!
//! One trait, three implementations (etcd, embedded, simulated), one conformance suite. It knows
//! no kind: a key is text, a value is bytes. The apiserver is its only user.
//!
//! # Invariants
//!
//! * A **revision** counts transactions that changed something. It only grows; every event of one
//!   transaction has the same revision and its own position, from 0.
//! * A [`Group`] is all or nothing; groups given to one [`Store::commit`] are independent, and those
//!   that succeed together may share a revision.
//! * A key changes at most once in a transaction, so a [`Revision`] names one value of it.
//! * [`Outcome::Unknown`] promises nothing: the group may have happened, or may still happen, or
//!   not. Where a store can tell, it tells.
//! * An answered write survives any crash of this process.

pub mod conformance;
mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
mod gathering;
mod group;
mod hidden;
mod holds;
mod simulated;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use embedded::{Embedded, OpenError};
#[cfg(feature = "etcd")]
pub use etcd::{ConnectError, Etcd, EtcdConfig, EtcdIdentity, EtcdTls, EtcdUser};
pub use holds::{Hold, Holds};
pub use simulated::{Fault, Faults, Simulated};

/// The number of a transaction of the store. 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A key: text such as `/heliox/v1/jobs/default/resize`. At most [`KEY_BYTES_MAX`] bytes.
pub type Key = Arc<str>;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value, in bytes: 1 MiB, which leaves room for headers under etcd's request limit of 1.5
/// MiB.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most guards and writes of one group together: within etcd's limit of 128 operations. The same
/// bound applies to its expectations, where a comparison of a value counts twice.
pub const GROUP_OPERATIONS_MAX: usize = 128;
/// Most bytes of keys and values, expected ones included, in one group: 1.25 MiB, which is within
/// etcd's request limit of 1.5 MiB.
pub const GROUP_BYTES_MAX: usize = 1280 * 1024;
/// Most positions of one transaction. Clients see `revision * 1024 + position`, where the last
/// position means "all of it".
pub const POSITIONS_MAX: u32 = 1023;
/// Most records of one page of a list.
pub const PAGE_RECORDS_MAX: usize = 10_000;
/// Approximate number of bytes of values in one page of a list, 16 MiB: the page ends after the
/// record that reaches this.
pub const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The value of a key with its place in history. Values that another program has put are reported
/// as they are, with position 0, by lists, watches and conflicts, because treating the key as
/// absent would be wrong. `Debug` shows only the length of the value, as everywhere here: values
/// may be Secrets, and what can be logged will be logged some day.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// The revision that created the key (again, if it was deleted before).
    pub created: Revision,
    /// The revision of the last put.
    pub modified: Revision,
    /// The position of that put in its transaction.
    pub position: u32,
}

/// A condition on a key, without which a group does not happen.
#[derive(Clone, PartialEq, Eq)]
pub enum Expectation {
    /// No condition.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and was last put at this revision.
    Modified(Revision),
    /// The key exists and was created at this revision. It may have been put since.
    Created(Revision),
    /// The key exists and has exactly this value.
    Value(Bytes),
}

/// A condition on a key that the group does not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: Key,
    /// The condition.
    pub expect: Expectation,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// The condition on the key before the change.
    pub expect: Expectation,
    /// The change.
    pub change: Change,
}

/// What happens to a key.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the value. If a node lease is named, the key is deleted when the lease ends. A put
    /// without a node lease removes the key from the lease that it belonged to.
    Put {
        /// The new value.
        value: Bytes,
        /// The node lease that the key belongs to.
        lease: Option<LeaseId>,
    },
    /// Deletes the key. Deleting a key that does not exist is `Done`, and without other changes
    /// makes no revision.
    Delete,
}

/// If every guard and expectation holds, every write happens; otherwise none does.
///
/// A key may be written at most once in a group. A key may be both guarded and written. Bounds:
/// [`GROUP_OPERATIONS_MAX`], [`GROUP_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Conditions on keys that are not written.
    pub guards: Vec<Guard>,
    /// The changes, in the order of their positions.
    pub writes: Vec<Write>,
}

/// The result of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Done {
        /// Its revision; the current one if nothing was changed.
        revision: Revision,
        /// For each write of the group, its position in the transaction, as in its event. A delete
        /// of an absent key has no event, and its position has no meaning. If the group changed
        /// nothing at all, all positions are 0.
        positions: Vec<u32>,
    },
    /// It did not happen, because an expectation did not hold.
    Refused {
        /// The keys whose expectations did not hold, guards first, with their current records.
        conflicts: Vec<Conflict>,
    },
    /// It may have happened or may still happen; or the store failed or was closed before it could
    /// tell. Read before deciding anew.
    Unknown,
    /// It did not happen, because the store has no room. The text says how to make room.
    Full(String),
    /// It can never happen as it is: a key, a value or the group exceeds its bound, a key is empty
    /// or written twice, or a node lease does not exist.
    Invalid(String),
}

/// An expectation that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The key.
    pub key: Key,
    /// The current record; nothing if the key does not exist.
    pub found: Option<Record>,
}

/// The id of a node lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A page of a list, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision that the list shows.
    pub revision: Revision,
    /// The records.
    pub records: Vec<Record>,
    /// Whether more keys follow.
    pub more: bool,
}

/// What a list has to contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Keys that start with this.
    pub prefix: Key,
    /// The revision to read at; by default the current one.
    pub at: Option<Revision>,
    /// Only keys after this one.
    pub after: Option<Key>,
    /// Most records of the page. It is also bounded by [`PAGE_RECORDS_MAX`] and [`PAGE_BYTES_MAX`],
    /// so a page may be shorter; [`Page::more`] says whether it was the last.
    pub limit: usize,
}

/// One change, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision of the transaction.
    pub revision: Revision,
    /// The position in the transaction. A lease that expires makes transactions of its own.
    pub position: u32,
    /// The key.
    pub key: Key,
    /// The new record; nothing if the key was deleted. What was there before is not told: a store
    /// would have to read it for each event, and who watches knows it.
    pub now: Option<Record>,
}

/// Progress of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchProgress {
    /// The events of whole transactions, in order. May be empty if the store's revision has moved
    /// for other reasons.
    pub events: Vec<Event>,
    /// Everything that happened under the prefix up to this revision was returned.
    pub reached: Revision,
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The requested revision is no longer kept. Read the current one.
    #[error("revision {asked} was compacted; the oldest kept is {oldest}")]
    Compacted {
        /// The requested revision.
        asked: Revision,
        /// The oldest revision that can be read, and after which a watch can start.
        oldest: Revision,
    },
    /// The requested revision is in the future.
    #[error("revision {asked} is in the future; the current one is {current}")]
    Future {
        /// The requested revision.
        asked: Revision,
        /// The current revision.
        current: Revision,
    },
    /// The store cannot be reached, or has failed. Try again later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// Why a store did not begin after a revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// It is not empty. Use an empty store.
    #[error("the store is not empty")]
    NotEmpty,
    /// It could not be read or written, so it may have been done. Try again.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The events of whole transactions, in order.
pub trait Watch: Send {
    /// Waits for the next transactions that changed keys under the prefix, never for a part of one,
    /// or for the watch to progress without any. A watch that is read soon reaches every revision
    /// that [`Store::revision`] or [`Store::list`] of the same store has returned, whatever else is
    /// written to the database. An error ends the watch; open another from the revision after the
    /// last one reached. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<WatchProgress, ReadError>>;
}

/// The interface between Heliox and what keeps its data.
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Reads a key. Linearizable: every write that was answered before this call is seen.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, ReadError>>;

    /// Reads keys in order.
    fn list(&self, list: List) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// The current revision, as linearizable as [`Store::get`].
    fn revision(&self) -> BoxFuture<'_, Result<Revision, ReadError>>;

    /// The oldest revision that can be read; never beyond the current one. Changes after it can be
    /// watched; a store may not be able to tell what changed at it.
    fn oldest(&self) -> BoxFuture<'_, Result<Revision, ReadError>>;

    /// Follows keys that start with `prefix`, from revision `from` (included) on. `from` may be the
    /// revision after the current one, to watch what comes next; anything beyond is
    /// [`ReadError::Future`].
    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, ReadError>>;

    /// Tries each group and returns the result of each, in order. A group sees the effects of
    /// earlier groups in the same call.
    ///
    /// Once called, it may happen even if the future is dropped.
    fn commit(&self, groups: Vec<Group>) -> BoxFuture<'_, Vec<Outcome>>;

    /// Creates a node lease. Keys that belong to it are deleted when it has not been renewed for
    /// `ttl`. After a restart of the store, every node lease has its full `ttl` again.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, ReadError>>;

    /// Renews node leases. Returns for each whether it still existed.
    fn renew(&self, leases: Vec<LeaseId>) -> BoxFuture<'_, Result<Vec<bool>, ReadError>>;

    /// Ends a node lease and deletes its keys.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Forgets history before `keep_from`, which becomes the [`Store::oldest`] revision. Current
    /// values stay, however old they are. It never goes back; a future revision counts as the
    /// current one. The caller decides when to do this: no store does it by itself, except one that
    /// has no room left.
    fn compact(&self, keep_from: Revision) -> BoxFuture<'_, Result<(), ReadError>>;

    /// The revisions that are being read for a while. A store that compacts history by itself when
    /// it has no room keeps them for some minutes. Callers of [`Store::compact`] must take them
    /// into account themselves. A store that never compacts by itself returns an empty set at each
    /// call.
    fn holds(&self) -> Holds {
        Holds::default()
    }

    /// Makes every later transaction have a greater revision than `revision`, and forgets the
    /// history before it; open watches end with [`ReadError::Compacted`]. For a store that takes
    /// over from a lost one: whoever remembers a revision of the lost store is told that it is
    /// gone, and never gets another history's data for it. Only allowed for a store without keys
    /// that nobody else uses meanwhile. Repeating it does no harm.
    fn begin_after(&self, revision: Revision) -> BoxFuture<'_, Result<(), BeginError>>;
}
