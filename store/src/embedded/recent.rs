//! The last transactions in memory, which watchers that keep up read without disk access.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::gathering::Transaction;
use crate::{Event, Record, Revision};

/// Most transactions that are kept: a few tenths of a second of a busy store.
const TRANSACTIONS_MAX: usize = 1024;
/// Most bytes of values that are kept, 4 MiB, so that an idle store stays small.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The last part of the log.
///
/// Invariant: its revisions have no gap.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    transactions: VecDeque<Arc<Transaction>>,
    bytes: usize,
}

impl Recent {
    /// Adds the next transaction, and removes old ones beyond the bounds.
    pub(crate) fn push(&mut self, transaction: Transaction) {
        self.bytes += bytes_of(&transaction);
        self.transactions.push_back(Arc::new(transaction));
        while self.bytes > BYTES_MAX || self.transactions.len() > TRANSACTIONS_MAX {
            let Some(oldest) = self.transactions.pop_front() else {
                break;
            };
            self.bytes -= bytes_of(&oldest);
        }
    }

    /// Removes everything, because the next transaction does not follow the last one.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All transactions from `from` on; nothing if older ones were removed already.
    pub(crate) fn since(&self, from: Revision) -> Option<Vec<Arc<Transaction>>> {
        let first = self.transactions.front()?.revision;
        let skip = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        Some(self.transactions.iter().skip(skip).cloned().collect())
    }
}

fn bytes_of(transaction: &Transaction) -> usize {
    let record = |record: &Option<Record>| record.as_ref().map_or(0, |record| record.value.len());
    transaction
        .events
        .iter()
        .map(|event: &Event| size_of::<Event>() + event.key.len() + record(&event.now))
        .sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Key;

    fn transaction(revision: u64, bytes: usize) -> Transaction {
        let (key, revision) = (Key::from("k"), Revision(revision));
        let now = Record {
            key: key.clone(),
            value: Bytes::from(vec![0; bytes]),
            created: revision,
            modified: revision,
            position: 0,
        };
        let event = Event { revision, position: 0, key, now: Some(now) };
        Transaction { revision, events: vec![event] }
    }

    #[test]
    fn the_window_slides_by_count_and_by_bytes() {
        let mut recent = Recent::default();
        assert!(recent.since(Revision(1)).is_none(), "an empty window covers nothing");
        for revision in 1..=1500 {
            recent.push(transaction(revision, 1));
        }
        assert!(recent.since(Revision(1500 - 1024)).is_none());
        assert_eq!(recent.since(Revision(1500 - 1023)).unwrap().len(), 1024);
        assert_eq!(recent.since(Revision(1501)).unwrap().len(), 0);
        for revision in 1501..=1510 {
            recent.push(transaction(revision, 1024 * 1024));
        }
        assert_eq!(recent.since(Revision(1508)).unwrap().len(), 3);
        assert!(recent.since(Revision(1507)).is_none());
    }
}
