//! The last transactions, in memory: what watchers that keep up read, once for all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::gathering::Transaction;
use crate::{Event, Record, Revision};

/// Transactions kept: a few tenths of a second of a busy store.
const TRANSACTIONS_MAX: usize = 1024;
/// Bytes of values kept, so that an idle store stays small. 4 MiB.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A window on the end of the log.
///
/// Invariant: revisions follow each other without a gap.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    transactions: VecDeque<Arc<Transaction>>,
    bytes: usize,
}

impl Recent {
    /// Adds the next transaction, and lets go of old ones over the bounds.
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

    /// Lets go of all: what comes next does not follow what there was.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Every transaction from `from` on; nothing if the window begins later.
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
        .map(|event: &Event| {
            size_of::<Event>() + event.key.len() + record(&event.now) + record(&event.before)
        })
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
        let event = Event { revision, position: 0, key, now: Some(now), before: None };
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
