//! Writes the journal, and handles failures of the disk.
//!
//! # Invariants
//!
//! * While the journal cannot be written nothing is decided, and no action of a plan that is not in
//!   the journal is carried out, then or later. Containers continue to run.
//! * After an error the content of the file is not known. So a complete new file is written beside
//!   it, and then renamed.

use std::time::Duration;

use base::{Backoff, ErrorChain, Health, Retry, Rng};
use tokio::time::Instant;

use super::Agent;
use crate::free::Free;
use crate::journal::{Journal, JournalError, Log, Owner};
use crate::ledger::Ledger;

/// The journal, and the state of writing it.
#[derive(Debug)]
pub(super) struct Keeping {
    journal: Journal,
    /// `None` if everything has to be written anew.
    log: Option<Log>,
    retry: Retry,
    /// When the next try is due after a failure.
    try_at: Option<Instant>,
}

impl Keeping {
    /// A journal whose first save writes everything.
    pub(super) fn new(journal: Journal, rng: Rng, health: &Health) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), rng);
        Self { journal, log: None, retry: Retry::new("the journal", backoff, health), try_at: None }
    }

    /// Makes the next save write everything, for example because the owner has changed.
    pub(super) fn begin_anew(&mut self) {
        self.log = None;
    }

    /// When to try again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.try_at
    }

    /// The free room on the disk.
    pub(super) async fn free(&self) -> Result<Free, JournalError> {
        self.journal.free().await
    }

    /// Writes what has changed.
    async fn save(&mut self, owner: &Owner, ledger: &mut Ledger) -> Result<(), JournalError> {
        // Taken even if the write fails: the next write then contains the whole ledger.
        let changes = ledger.take_unwritten();
        match self.log.take() {
            Some(log) if changes.is_empty() => self.log = Some(log),
            Some(mut log) if !log.is_long(ledger.attempts().len()) => {
                log.append(&changes).await?;
                self.log = Some(log);
            }
            Some(_) | None => self.log = Some(self.journal.begin(owner, ledger.attempts()).await?),
        }
        Ok(())
    }
}

impl Agent {
    /// Writes what has changed. Returns whether all of it is in the journal. If not, the node
    /// reports why, and it is tried again later.
    pub(super) async fn save(&mut self) -> bool {
        let now = Instant::now();
        if self.keeping.try_at.is_some_and(|at| at > now) {
            return false;
        }
        match self.keeping.save(&self.owner, &mut self.ledger).await {
            Ok(()) => {
                if self.keeping.try_at.take().is_some() {
                    // Nothing was decided while the journal could not be written.
                    self.queue.add_all();
                }
                self.keeping.retry.worked();
                self.publishing.set_journal_problem(None);
                true
            }
            Err(error) => {
                let problem = format!(
                    "the agent cannot write its journal and starts and stops nothing until it can: {}",
                    ErrorChain(&error)
                );
                self.publishing.set_journal_problem(Some(problem));
                self.keeping.try_at = Some(now + self.keeping.retry.failed(&error));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::{Attempt, Progress};
    use crate::engine::Identity;

    fn attempt(number: u32) -> Attempt {
        let identity = Identity::new("default", "t", "0a", number).unwrap();
        Attempt::found(identity, Progress::Starting { since: base::Timestamp::UNIX_EPOCH })
    }

    fn keeping(journal: &Journal) -> Keeping {
        Keeping::new(journal.clone(), Rng::seeded(1), &Health::default())
    }

    #[tokio::test]
    async fn what_could_not_be_written_down_is_written_with_the_next_that_can() {
        let (journal, owner, mut ledger) =
            (Journal::in_memory(), Owner::default(), Ledger::default());
        let mut keeping = keeping(&journal);
        keeping.save(&owner, &mut ledger).await.unwrap();
        ledger.put(attempt(1));
        journal.fill(true);
        keeping.save(&owner, &mut ledger).await.unwrap_err();
        journal.fill(false);
        ledger.put(attempt(2));
        keeping.save(&owner, &mut ledger).await.unwrap();
        let kept: Vec<u32> =
            journal.load().unwrap().attempts.keys().map(Identity::attempt).collect();
        assert_eq!(kept, [1, 2]);
    }

    #[tokio::test]
    async fn for_whom_the_agent_works_is_written_down_when_it_changes() {
        let (journal, mut owner, mut ledger) =
            (Journal::in_memory(), Owner::default(), Ledger::default());
        let mut keeping = keeping(&journal);
        keeping.save(&owner, &mut ledger).await.unwrap();
        owner.agent = "another".to_owned();
        keeping.begin_anew();
        keeping.save(&owner, &mut ledger).await.unwrap();
        assert_eq!(journal.load().unwrap().owner.agent, "another");
    }
}
