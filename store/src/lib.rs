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

/// What counts the store's transactions. 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A key: text such as `/heliox/v1/jobs/default/resize`. At most [`KEY_BYTES_MAX`] bytes.
pub type Key = Arc<str>;

/// Longest key.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value: 1 MiB, which leaves room for headers under etcd's request limit of 1.5 MiB.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most guards and writes of one group together: what fits etcd's limit of 128 operations. Its
/// expectations are bounded so, too, of which one of a value counts twice.
pub const GROUP_OPERATIONS_MAX: usize = 128;
/// Most bytes of keys and values, expected ones included, that one group holds: what fits etcd's
/// request limit of 1.5 MiB. 1.25 MiB.
pub const GROUP_BYTES_MAX: usize = 1280 * 1024;
/// Most positions of one transaction. Clients see `revision * 1024 + position`, and the last place
/// means "all of it".
pub const POSITIONS_MAX: u32 = 1023;
/// Most records that one page of a list holds.
pub const PAGE_RECORDS_MAX: usize = 10_000;
/// About how many bytes of values one page of a list holds: it ends after the record that reaches
/// this. 16 MiB.
pub const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A key's value and where it stands in the history. What another program has put is told of as it
/// is, at position 0, by lists, watches and conflicts: whoever took the key for absent would be wrong.
/// `Debug` tells the length of the value alone, as for all that holds values here: they may be Secrets,
/// and what can be logged is logged some day.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// The revision that created the key (anew, if it was deleted before).
    pub created: Revision,
    /// The revision of the last put.
    pub modified: Revision,
    /// The place of that put in its transaction.
    pub position: u32,
}

/// What must hold of a key for a group to happen.
#[derive(Clone, PartialEq, Eq)]
pub enum Expectation {
    /// Whatever is there.
    Any,
    /// The key is not there.
    Absent,
    /// It is there, last put at this revision.
    Modified(Revision),
    /// It is there, created at this revision (it may have been put since).
    Created(Revision),
    /// It is there with exactly this value.
    Value(Bytes),
}

/// A condition on a key that the group does not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The key looked at.
    pub key: Key,
    /// What must hold of it.
    pub expect: Expectation,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key changed.
    pub key: Key,
    /// What must hold of it before.
    pub expect: Expectation,
    /// The change.
    pub change: Change,
}

/// What happens to a key.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The value is set; the key goes when the node lease (if one is named) does. A put without a
    /// node lease takes the key off the one it was under.
    Put {
        /// The new value.
        value: Bytes,
        /// The node lease that the key lives under.
        lease: Option<LeaseId>,
    },
    /// The key is removed. Removing what is not there is `Done`, and alone makes no revision.
    Delete,
}

/// All or nothing: if every guard and expectation holds, every write happens.
///
/// A key appears at most once among the writes. A key may be both guarded and written. Bounds:
/// [`GROUP_OPERATIONS_MAX`], [`GROUP_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Conditions on keys that are not written.
    pub guards: Vec<Guard>,
    /// The changes, in the order of their positions.
    pub writes: Vec<Write>,
}

/// How a group ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Done {
        /// The revision; the current one where nothing changed.
        revision: Revision,
        /// For each write of the group, its position in the transaction, as its event has it. A
        /// delete of nothing has no event: what stands for it means nothing. Where the whole group
        /// changed nothing, all are 0.
        positions: Vec<u32>,
    },
    /// It did not happen, since an expectation did not hold.
    Refused {
        /// The keys whose expectations failed, guards first, and what is there now.
        conflicts: Vec<Conflict>,
    },
    /// It may have happened, or may still; or the store failed or was closed before it could tell.
    /// Read before deciding anew.
    Unknown,
    /// It did not happen, since the store has no room. It may once somebody made room: says how.
    Full(String),
    /// It can never happen as it is: a key, a value or the group is over its bound, a key is
    /// empty or written twice, or a node lease is not there.
    Invalid(String),
}

/// An expectation that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The key.
    pub key: Key,
    /// What is there now; nothing if the key is absent.
    pub found: Option<Record>,
}

/// Names a node lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// Some of a list, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision that the list shows.
    pub revision: Revision,
    /// The records.
    pub records: Vec<Record>,
    /// Whether keys follow after the last record.
    pub more: bool,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Keys that start with this.
    pub prefix: Key,
    /// As of this revision; the current one if none is named.
    pub at: Option<Revision>,
    /// Only keys after this one.
    pub after: Option<Key>,
    /// At most so many records; bounded by [`PAGE_RECORDS_MAX`] and [`PAGE_BYTES_MAX`], so a page
    /// may be shorter: [`Page::more`] says whether it was the last.
    pub limit: usize,
}

/// One change, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The transaction.
    pub revision: Revision,
    /// Its place in the transaction; a lease that expires makes transactions of its own.
    pub position: u32,
    /// The key.
    pub key: Key,
    /// What it holds now; nothing if it was deleted.
    pub now: Option<Record>,
    /// What it held before. A store may not know any more where history was compacted since: that
    /// there is nothing here does not mean that there was nothing.
    pub before: Option<Record>,
}

/// How far a watch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The events of whole transactions, in order. There may be none, where the store's revision
    /// moves for other reasons.
    pub events: Vec<Event>,
    /// Everything that happened under the prefix up to this revision was given out.
    pub reached: Revision,
}

/// A read that gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The revision asked for is no longer kept. Read the current one.
    #[error("revision {asked} was compacted; the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision that can be read at, and after which can be watched.
        oldest: Revision,
    },
    /// The revision asked for is not there yet.
    #[error("revision {asked} is in the future; the current one is {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The newest there is.
        current: Revision,
    },
    /// The store cannot be reached or has failed. Try again later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// Why a store did not begin after a revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// It holds something. Use an empty store.
    #[error("the store is not empty")]
    NotEmpty,
    /// It cannot be read or written, so it may have been done. Try again.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The events of whole transactions, in order.
pub trait Watch: Send {
    /// Waits for the next transactions that changed keys under the prefix, never half of one, or for
    /// the watch to come further without any. A watch that is read reaches every revision that
    /// [`Store::revision`] or [`Store::list`] of the same store have told, and soon, whatever else is
    /// written to the database. An error ends the watch; open another from the revision after the last
    /// one reached. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<News, ReadError>>;
}

/// The seam between Heliox and what keeps its data.
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Reads a key as of now (linearizable: every write answered before this call is seen).
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, ReadError>>;

    /// Reads keys in order.
    fn list(&self, list: List) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// The current revision, as linearizable as [`Store::get`].
    fn revision(&self) -> BoxFuture<'_, Result<Revision, ReadError>>;

    /// The oldest revision that can be read at: never beyond the current one. What came after it can
    /// be watched; what happened at it a store may not tell any more.
    fn oldest(&self) -> BoxFuture<'_, Result<Revision, ReadError>>;

    /// Follows keys that start with `prefix`, from `from` (included) on. `from` may be the revision
    /// after the current one, which is to say "what comes"; beyond that it is
    /// [`ReadError::Future`].
    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, ReadError>>;

    /// Tries each group and says how each ended, in order. A group sees what those before it in
    /// the same call did.
    ///
    /// Once called, it may happen even if the future is dropped.
    fn commit(&self, groups: Vec<Group>) -> BoxFuture<'_, Vec<Outcome>>;

    /// Makes a node lease. Keys put under it are deleted when it has not been renewed for `ttl`.
    /// After a restart of the store, every node lease has its full `ttl` again.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, ReadError>>;

    /// Renews node leases; for each, whether it was still there.
    fn renew(&self, leases: Vec<LeaseId>) -> BoxFuture<'_, Result<Vec<bool>, ReadError>>;

    /// Ends a node lease and deletes its keys.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Forgets history before `keep_from`, which becomes the [`Store::oldest`] revision. Current values
    /// stay, whatever their age. Never goes back; a future revision counts as the current one. When to
    /// call it is the caller's policy: no store does it by itself, but one that has no room left.
    fn compact(&self, keep_from: Revision) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Where to hold revisions that are read at for a while: a store that forgets history by itself,
    /// since it has no room left, keeps those for some minutes. Callers of [`Store::compact`] heed
    /// them by themselves. A store that forgets nothing by itself gives empty ones at each call.
    fn holds(&self) -> Holds {
        Holds::default()
    }

    /// Gives whatever happens from now on greater revisions than `revision`, and forgets what was
    /// before; watches that are open end with [`ReadError::Compacted`]. For a store that takes over
    /// from a lost one: whoever remembers a revision of that one asks for what is gone, never for
    /// what another history has there. Only of a store that holds no keys, and that nobody else
    /// uses meanwhile. Doing it twice does no harm.
    fn begin_after(&self, revision: Revision) -> BoxFuture<'_, Result<(), BeginError>>;
}
