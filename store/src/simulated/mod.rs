//! The store in memory, for simulations: deterministic, on tokio's clock, with faults on demand.
//!
//! It has no task of its own. What is due (expiring node leases, late groups) happens when somebody
//! uses the store, at the latest when a watch that waits for it wakes up.

mod faults;
mod state;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use self::faults::Signal;
pub use self::faults::{Fault, Faults};
use self::state::State;
use crate::gathering::Gathering;
use crate::{
    BeginError, Group, Key, LeaseId, List, Outcome, Page, ReadError, Record, Revision, Store,
    Watch, WatchProgress,
};

/// A simulated store. Clones are handles to the same data: an apiserver that "crashes" drops its
/// handle, and its successor gets another one.
#[derive(Debug, Clone)]
pub struct Simulated {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Guards the whole store for one operation.
    state: Mutex<State>,
    /// The revision, and when something happens by itself next. Wakes watches.
    changed: watch::Sender<(Revision, Option<Instant>)>,
    faults: Faults,
}

impl Simulated {
    /// An empty store without faults.
    #[expect(clippy::new_without_default, reason = "a store is made on purpose")]
    pub fn new() -> Self {
        let (state, changed, faults) = (Mutex::default(), watch::Sender::default(), Faults::none());
        Self { shared: Arc::new(Shared { state, changed, faults }) }
    }

    /// Controls this store's faults.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// Does what a restart of a store does: watches end, and every node lease has its full time
    /// again.
    pub fn restart(&self) {
        self.shared.with(|state, now| state.renew_all(now));
        self.shared.faults.cut_watches();
    }

    /// Carries out a read unless reads fail, and returns when the answer has arrived.
    async fn read<T>(
        &self,
        read: impl FnOnce(&mut State, Instant) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.shared.check_readable()?;
        let answer = self.shared.with(read);
        self.answered().await;
        answer
    }

    async fn answered(&self) {
        let delay = self.shared.faults.draw_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

impl Shared {
    /// Accesses the store at the current time, and wakes watches if anything has changed.
    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.settle(now);
        let result = act(&mut state, now);
        let news = (state.revision, state.wake_at());
        self.changed.send_if_modified(|known| std::mem::replace(known, news) != news);
        result
    }

    fn check_readable(&self) -> Result<(), ReadError> {
        let Signal { reads_fail, .. } = *self.faults.signal().borrow();
        if reads_fail { Err(unavailable("reads fail on demand")) } else { Ok(()) }
    }
}

fn unavailable(why: &str) -> ReadError {
    ReadError::Unavailable(why.to_owned())
}

impl Store for Simulated {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, ReadError>> {
        self.read(|state, _| Ok(state.get(key))).boxed()
    }

    fn list(&self, list: List) -> BoxFuture<'_, Result<Page, ReadError>> {
        self.read(move |state, _| state.list(&list)).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        self.read(|state, _| Ok(state.revision)).boxed()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        self.read(|state, _| Ok(state.oldest)).boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, ReadError>> {
        async move {
            let signal = self.shared.faults.signal();
            let cuts = signal.borrow().cuts;
            let watch = SimulatedWatch {
                shared: Arc::clone(&self.shared),
                changed: self.shared.changed.subscribe(),
                signal,
                cuts,
                prefix: prefix.into(),
                next: from,
            };
            self.read(|state, _| {
                let current = state.revision;
                if from.0 > current.0 + 1 {
                    return Err(ReadError::Future { asked: from, current });
                }
                state.check_kept(from)
            })
            .await?;
            Ok(Box::new(watch) as Box<dyn Watch>)
        }
        .boxed()
    }

    fn commit(&self, groups: Vec<Group>) -> BoxFuture<'_, Vec<Outcome>> {
        async move {
            let outcomes = self.shared.with(|state, now| {
                let mut gathering = Gathering::after(state.revision);
                let outcomes = groups
                    .into_iter()
                    .map(|group| match self.shared.faults.draw() {
                        _ if self.shared.faults.is_full() && group.puts() => {
                            Outcome::Full("the store is full on demand".to_owned())
                        }
                        None => state.commit(&mut gathering, group),
                        Some(Fault::AnswerLost) => {
                            state.commit(&mut gathering, group);
                            Outcome::Unknown
                        }
                        Some(Fault::RequestLost) => Outcome::Unknown,
                        Some(Fault::Late(by)) => {
                            state.defer(group, now + by);
                            Outcome::Unknown
                        }
                    })
                    .collect();
                state.finish(gathering);
                outcomes
            });
            self.answered().await;
            outcomes
        }
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, ReadError>> {
        self.read(move |state, now| match self.shared.faults.is_full() {
            true => Err(unavailable("the store is full on demand")),
            false => Ok(state.grant(ttl, now)),
        })
        .boxed()
    }

    fn renew(&self, leases: Vec<LeaseId>) -> BoxFuture<'_, Result<Vec<bool>, ReadError>> {
        self.read(|state, now| {
            Ok(leases.into_iter().map(|lease| state.renew(lease, now)).collect())
        })
        .boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), ReadError>> {
        self.read(move |state, _| {
            state.revoke(lease);
            Ok(())
        })
        .boxed()
    }

    fn compact(&self, keep_from: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        self.read(move |state, _| {
            state.compact(keep_from);
            Ok(())
        })
        .boxed()
    }

    fn begin_after(&self, revision: Revision) -> BoxFuture<'_, Result<(), BeginError>> {
        async move {
            let begun = self.read(move |state, _| Ok(state.begin_after(revision))).await?;
            if begun { Ok(()) } else { Err(BeginError::NotEmpty) }
        }
        .boxed()
    }
}

/// A position in the log of a simulated store.
struct SimulatedWatch {
    shared: Arc<Shared>,
    changed: watch::Receiver<(Revision, Option<Instant>)>,
    signal: watch::Receiver<Signal>,
    /// The number of cuts when this was opened.
    cuts: u64,
    prefix: Key,
    /// The first revision that was not returned yet.
    next: Revision,
}

impl SimulatedWatch {
    async fn advance(&mut self) -> Result<WatchProgress, ReadError> {
        loop {
            if self.signal.borrow_and_update().cuts != self.cuts {
                return Err(unavailable("the watch was cut on demand"));
            }
            self.shared.check_readable()?;
            let (prefix, next) = (&self.prefix, self.next);
            let (events, revision) =
                self.shared.with(|state, _| (state.events(prefix, next), state.revision));
            let events = events?;
            if self.next <= revision {
                self.next = Revision(revision.0 + 1);
                return Ok(WatchProgress { events, reached: revision });
            }
            let (_, wake_at) = *self.changed.borrow_and_update();
            tokio::select! {
                biased;
                // The senders exist as long as this holds the store.
                _ = self.signal.changed() => (),
                _ = self.changed.changed() => (),
                () = sleep_until(wake_at) => (),
            }
        }
    }
}

impl Watch for SimulatedWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchProgress, ReadError>> {
        self.advance().boxed()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
