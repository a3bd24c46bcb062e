//! The number that is added to etcd's revisions if the store continues the revisions of another
//! one. etcd's own revision cannot be set.
//!
//! # Invariants
//!
//! * Everything that goes into or out of [`Etcd`](super::Etcd) passes here once. The code below
//!   uses etcd's own revisions.
//! * The shift is stored under a key of the store's own. It is set before the store contains
//!   anything, and never changes while it does.

use std::sync::{Arc, PoisonError, RwLock};

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::etcd::Remote;
use crate::etcd::members::Trouble;
use crate::etcd::watch::EtcdWatch;
use crate::{
    BeginError, Conflict, Event, Expectation, Group, Outcome, Page, ReadError, Record, Revision,
    Watch, WatchProgress,
};

/// How revisions differ from etcd's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shift {
    /// The number that is added to etcd's.
    add: u64,
    /// The oldest revision, as callers see it, of this store's own history.
    began: u64,
}

impl Shift {
    /// The shift of a store that begins after `revision`, when etcd is at `own`.
    fn after(self, revision: Revision, own: Revision) -> Self {
        // What is at `own` belongs to the time before.
        let next = Revision(own.0 + 1);
        let began = self.shown(next).max(revision).0;
        Self { add: began - next.0, began }
    }

    fn parse(text: &str) -> Option<Self> {
        let (add, began) = text.split_once(' ')?;
        Some(Self { add: add.parse().ok()?, began: began.parse().ok()? })
    }

    fn text(self) -> String {
        format!("{} {}", self.add, self.began)
    }

    /// Converts a revision of etcd's to what callers see.
    pub(crate) fn shown(self, own: Revision) -> Revision {
        Revision(own.0.saturating_add(self.add))
    }

    /// Converts a revision to etcd's; `None` if it belongs to the history of another store.
    pub(crate) fn own(self, shown: Revision) -> Option<Revision> {
        if shown.0 < self.began { None } else { shown.0.checked_sub(self.add).map(Revision) }
    }

    /// The oldest revision that is kept, if etcd's is `own`.
    pub(crate) fn oldest(self, own: Revision) -> Revision {
        self.shown(own).max(Revision(self.began))
    }

    pub(crate) fn record(self, record: Record) -> Record {
        let (created, modified) = (self.shown(record.created), self.shown(record.modified));
        Record { created, modified, ..record }
    }

    pub(crate) fn page(self, page: Page) -> Page {
        let records = page.records.into_iter().map(|record| self.record(record)).collect();
        Page { revision: self.shown(page.revision), records, more: page.more }
    }

    fn news(self, news: WatchProgress) -> WatchProgress {
        WatchProgress {
            events: news.events.into_iter().map(|event| self.event(event)).collect(),
            reached: self.shown(news.reached),
        }
    }

    fn event(self, event: Event) -> Event {
        Event {
            revision: self.shown(event.revision),
            now: event.now.map(|record| self.record(record)),
            ..event
        }
    }

    pub(crate) fn error(self, error: ReadError) -> ReadError {
        match error {
            ReadError::Compacted { asked, oldest } => {
                ReadError::Compacted { asked: self.shown(asked), oldest: self.oldest(oldest) }
            }
            ReadError::Future { asked, current } => {
                ReadError::Future { asked: self.shown(asked), current: self.shown(current) }
            }
            ReadError::Unavailable(why) => ReadError::Unavailable(why),
        }
    }

    /// Converts the revisions that a group expects.
    pub(crate) fn group(self, group: &mut Group) {
        let guards = group.guards.iter_mut().map(|guard| &mut guard.expect);
        let writes = group.writes.iter_mut().map(|write| &mut write.expect);
        for expect in guards.chain(writes) {
            match expect {
                // No record has revision 0.
                Expectation::Modified(at) | Expectation::Created(at) => {
                    *at = self.own(*at).unwrap_or_default();
                }
                Expectation::Any | Expectation::Absent | Expectation::Value(_) => (),
            }
        }
    }

    pub(crate) fn outcome(self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Done { revision, positions } => {
                Outcome::Done { revision: self.shown(revision), positions }
            }
            Outcome::Refused { conflicts } => {
                let shown = |conflict: Conflict| Conflict {
                    key: conflict.key,
                    found: conflict.found.map(|record| self.record(record)),
                };
                Outcome::Refused { conflicts: conflicts.into_iter().map(shown).collect() }
            }
            outcome @ (Outcome::Unknown | Outcome::Full(_) | Outcome::Invalid(_)) => outcome,
        }
    }
}

/// A watch with converted revisions. It ends when the store begins anew.
pub(crate) struct ShiftedWatch {
    watch: EtcdWatch,
    shift: Shift,
    now: Arc<RwLock<Shift>>,
}

impl ShiftedWatch {
    pub(crate) fn new(watch: EtcdWatch, shift: Shift, now: Arc<RwLock<Shift>>) -> Self {
        Self { watch, shift, now }
    }

    async fn advance(&mut self) -> Result<WatchProgress, ReadError> {
        let news = self.watch.next().await.map_err(|error| self.shift.error(error))?;
        let now = *self.now.read().unwrap_or_else(PoisonError::into_inner);
        if now != self.shift {
            let (asked, oldest) = (self.shift.shown(news.reached), Revision(now.began));
            return Err(ReadError::Compacted { asked, oldest });
        }
        Ok(self.shift.news(news))
    }
}

impl Watch for ShiftedWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchProgress, ReadError>> {
        self.advance().boxed()
    }
}

impl Remote {
    /// The shift of the store; no shift if it does not continue another store.
    pub(crate) async fn read_shift(&self) -> Result<Shift, ReadError> {
        let key = self.keys.shift();
        let ask = |client: Client| {
            let key = key.clone();
            async move { client.kv_client().get(key, None).await }
        };
        let answer = self.members.call_patiently(ask).await?;
        self.members.learn(answer.header())?;
        let Some(pair) = answer.kvs().first() else { return Ok(Shift::default()) };
        let shift = pair.value_str().ok().and_then(Shift::parse);
        let unreadable =
            || ReadError::Unavailable("where the store began is unreadable".to_owned());
        shift.ok_or_else(unreadable)
    }

    /// Whether there are no keys but the store's own.
    async fn is_empty(&self) -> Result<bool, Trouble> {
        let count = |(start, end): (Vec<u8>, Vec<u8>)| {
            TxnOp::get(start, Some(GetOptions::new().with_range(end).with_count_only()))
        };
        let counts =
            Txn::new().and_then([count(self.keys.range("")), count(self.keys.own_range())]);
        let ask = |client: Client| {
            let counts = counts.clone();
            async move { client.kv_client().txn(counts).await }
        };
        let answer = self.members.call_patiently(ask).await?;
        let counts: Vec<i64> = answer
            .op_responses()
            .iter()
            .filter_map(|it| if let TxnOpResponse::Get(it) = it { Some(it.count()) } else { None })
            .collect();
        match counts[..] {
            [all, own] => Ok(all == own),
            _ => Err(Trouble::Lost("an answer that does not fit the request".to_owned())),
        }
    }

    /// Sets the shift so that everything that follows is after `revision`, and returns it.
    pub(crate) async fn begin_after(&self, revision: Revision) -> Result<Shift, BeginError> {
        if !self.is_empty().await.map_err(ReadError::from)? {
            return Err(BeginError::NotEmpty);
        }
        let before = self.read_shift().await?;
        let wanted = before.after(revision, self.read_revision().await?);
        let key = self.keys.shift();
        let is_as_read = match before {
            Shift { began: 0, .. } => Compare::create_revision(key.clone(), CompareOp::Equal, 0),
            before => Compare::value(key.clone(), CompareOp::Equal, before.text()),
        };
        let put = TxnOp::put(key, wanted.text(), None);
        let put = Txn::new().when([is_as_read]).and_then([put]);
        let ask = |client: Client| {
            let put = put.clone();
            async move { client.kv_client().txn(put).await }
        };
        self.members.call_patiently(ask).await.map_err(ReadError::from)?;
        // An answer may have been lost and the call repeated. Reading shows what is there now.
        let now = self.read_shift().await?;
        if now == wanted {
            return Ok(now);
        }
        let why = "another process is preparing this store".to_owned();
        Err(ReadError::Unavailable(why).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_found_again_and_nothing_of_another_history() {
        let shift = Shift::default().after(Revision(1000), Revision(7));
        assert_eq!(shift.shown(Revision(8)), Revision(1000));
        assert_eq!(shift.own(Revision(1007)), Some(Revision(15)));
        assert_eq!(shift.own(Revision(999)), None, "of the store that was lost");
        assert_eq!(shift.oldest(Revision(1)), Revision(1000));
        assert_eq!(shift.oldest(Revision(20)), Revision(1012));
        assert_eq!(Shift::parse(&shift.text()), Some(shift));
    }

    #[test]
    fn a_store_never_begins_earlier_than_it_is() {
        let shift = Shift::default().after(Revision(5), Revision(7));
        assert_eq!(shift.shown(Revision(8)), Revision(8));
        let again = shift.after(Revision(100), Revision(9)).after(Revision(50), Revision(12));
        assert_eq!(again.shown(Revision(13)), Revision(103));
        assert_eq!(again.own(Revision(102)), None);
    }
}
