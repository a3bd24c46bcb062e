//! Containers in memory, on tokio's clock: for simulations, benchmarks and a first look.
//!
//! A container runs for no time and exits with 0 unless its arguments say otherwise
//! ([`Program`]). It costs an entry in two maps and no task or timer of its own.
//!
//! # Invariants
//!
//! * A [`SimMachine`] is the machine: engines are handles to it. Dropping an engine is a crash of
//!   its agent, and the containers live on; [`SimMachine::lose_everything`] is a new machine.
//! * The same calls at the same times give the same answers: nothing is random.

mod history;
mod program;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::exec::ExecRequest;
use api::log::Position;
use api::template::ProbeKind;
use base::Clock;
use futures_util::stream::{self, BoxStream, StreamExt};
use futures_util::{FutureExt, future};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use self::history::ContainerKey;
pub use self::history::{HistoryEvent, HistoryKind};
pub use self::program::Program;
use self::state::State;
use super::logs::LogEvent;
use super::{
    Answer, Container, ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, Exec,
    IMAGES_MAX, Identity, LogOptions, LogStream, NodeFacts, PullProgress, Reach, Reason, Scope,
    Signal, Started, Usage,
};

/// What goes wrong with a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and the answer is lost.
    UnknownDone,
    /// It is not done, and the caller cannot know that.
    UnknownNotDone,
    /// It is not done, and the engine says so.
    Unavailable,
    /// It is refused because something else holds one of the host ports.
    PortTaken,
}

/// A machine on which simulated containers run. Clones are the same machine.
#[derive(Clone)]
pub struct SimMachine {
    clock: Clock,
    facts: Arc<NodeFacts>,
    /// Guards the containers for one operation.
    state: Arc<Mutex<State>>,
    /// Wakes those who wait for a change.
    changed: Arc<Notify>,
}

/// A node's engine on a [`SimMachine`].
#[derive(Debug, Clone)]
pub struct SimEngine {
    machine: SimMachine,
    scope: Scope,
}

impl fmt::Debug for SimMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMachine").finish_non_exhaustive()
    }
}

impl SimMachine {
    /// A machine without containers, with this number of processors and this much memory.
    pub fn new(clock: Clock, cpus: u32, memory_bytes: u64) -> Self {
        let facts = NodeFacts {
            engine: "sim".to_owned(),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            kernel: "simulated".to_owned(),
            cpus,
            memory_bytes,
        };
        Self { clock, facts: Arc::new(facts), state: Arc::default(), changed: Arc::default() }
    }

    /// The engine of a node on this machine.
    pub fn engine(&self, scope: Scope) -> SimEngine {
        SimEngine { machine: self.clone(), scope }
    }

    /// The next create on this machine has this fault. Several faults are queued.
    pub fn fail_next_create(&self, fault: Fault) {
        self.with(|state| state.faults.push_back(fault));
    }

    /// From now on this image must be pulled before it is used, which takes this long.
    pub fn make_slow(&self, image: &str, time: Duration) {
        self.with(|state| state.slow_images.insert(image.to_owned(), time));
    }

    /// Makes listing containers fail, or work again.
    pub fn break_listing(&self, is_broken: bool) {
        self.with(|state| state.is_listing_broken = is_broken);
    }

    /// Number of subscribers to events.
    pub fn listeners(&self) -> usize {
        self.with(|state| state.listeners())
    }

    /// Replaces the machine by an empty one: containers, exits and logs are gone.
    pub fn lose_everything(&self) {
        self.with(State::clear);
        self.changed.notify_waiters();
    }

    /// Running containers of all scopes.
    pub fn running(&self) -> Vec<(Scope, Identity)> {
        self.with(|state| state.running())
    }

    /// From now on, events are recorded until they are taken.
    pub fn keep_history(&self) {
        self.with(|state| state.history.keep());
    }

    /// The events since the last call, in order.
    pub fn take_history(&self) -> Vec<HistoryEvent> {
        self.with(|state| state.history.take())
    }

    /// The properties of this machine.
    pub fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle(Instant::now());
        work(&mut state)
    }
}

impl SimEngine {
    fn key(&self, identity: &Identity) -> ContainerKey {
        (self.scope.clone(), identity.clone())
    }

    fn create(&self, spec: &ContainerSpec) -> Result<Started, EngineError> {
        let program = Program::parse(spec)?;
        let key = self.key(&spec.identity);
        let now = self.machine.clock.now();
        let started = self.machine.with(|state| {
            if state.needs_image(&self.scope, &spec.image) {
                return Err(EngineError::NeedsImage);
            }
            let fault = state.faults.pop_front();
            let start = |state: &mut State| state.start(key, program, spec, now);
            match fault {
                None => Ok(start(state)),
                Some(Fault::UnknownDone) => {
                    start(state);
                    Err(EngineError::unknown("the answer was lost"))
                }
                Some(Fault::UnknownNotDone) => Err(EngineError::unknown("the answer was lost")),
                Some(Fault::Unavailable) => Err(EngineError::unavailable("the engine is down")),
                Some(Fault::PortTaken) => {
                    Err(EngineError::refused(Reason::PortTaken, "port is already allocated"))
                }
            }
        });
        self.machine.changed.notify_waiters();
        started
    }

    fn stop(&self, identity: &Identity, signal: Signal) -> Result<(), EngineError> {
        let now = self.machine.clock.now();
        let stopped = self.machine.with(|state| state.signal(&self.key(identity), signal, now));
        self.machine.changed.notify_waiters();
        stopped
    }

    fn forget(&self, identity: &Identity) -> Result<(), EngineError> {
        let removed = self.machine.with(|state| state.remove(&self.key(identity)));
        self.machine.changed.notify_waiters();
        removed
    }

    fn read(&self, identity: &Identity, options: LogOptions) -> Result<LogStream, EngineError> {
        let key = self.key(identity);
        let lines = self.machine.with(|state| state.logs(&key))?;
        let since = options.since;
        let after = options.after.map_or(0, |after| after.offset);
        let mut events: Vec<LogEvent> = (1..)
            .zip(lines)
            .filter(|(number, line)| {
                *number > after && since.is_none_or(|since| line.time >= since)
            })
            .map(|(number, line)| LogEvent::Line {
                line,
                next: Position { file: 0, offset: number },
            })
            .collect();
        if let Some(tail) = options.tail.filter(|_| options.after.is_none()) {
            events.drain(..events.len().saturating_sub(tail));
        }
        let present = stream::iter(events).map(Ok);
        if !options.follow {
            return Ok(present.boxed());
        }
        // A simulated program writes all of its output when it starts, so following means waiting
        // for its end.
        let machine = self.machine.clone();
        let end = stream::once(async move {
            machine.until(|state| (!state.is_running(&key)).then_some(())).await;
        });
        Ok(present.chain(end.filter_map(|()| future::ready(None))).boxed())
    }
}

impl SimMachine {
    /// Waits until `seen` returns something.
    async fn until<T>(&self, mut seen: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered now and not at the first poll, so that no change in between is missed.
            changed.as_mut().enable();
            let next = match self.with(|state| seen(state).ok_or_else(|| state.next_end())) {
                Ok(found) => return found,
                Err(next) => next,
            };
            match next {
                None => changed.await,
                Some(end) => {
                    tokio::select! {
                        biased;
                        () = changed => (),
                        () = sleep_until(end) => (),
                    }
                }
            }
        }
    }
}

/// Registered with the machine while it exists.
struct Subscription {
    machine: SimMachine,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.machine.with(|state| state.unsubscribe(self.id));
    }
}

impl Engine for SimEngine {
    fn info(&self) -> Answer<'_, NodeFacts> {
        future::ready(Ok(NodeFacts::clone(&self.machine.facts))).boxed()
    }

    fn list(&self) -> Answer<'_, Vec<Container>> {
        let listed = self.machine.with(|state| match state.is_listing_broken {
            true => Err(EngineError::unavailable("containers cannot be listed")),
            false => Ok(state.list(&self.scope)),
        });
        future::ready(listed).boxed()
    }

    fn inspect<'a>(&'a self, identity: &'a Identity) -> Answer<'a, Option<ContainerState>> {
        let key = self.key(identity);
        future::ready(Ok(self.machine.with(|state| state.inspect(&key)))).boxed()
    }

    fn create_and_start<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, Started> {
        future::ready(self.create(spec)).boxed()
    }

    fn pull<'a>(&'a self, image: &'a str, progress: &'a PullProgress) -> Answer<'a, ()> {
        async move {
            if let Some(time) = self.machine.with(|state| state.slow_images.get(image).copied()) {
                // A tenth of the time for each tenth of the image.
                for tenth in 1..=10_u8 {
                    sleep(time / 10).await;
                    progress.tell(Some(10 * tenth));
                }
                self.machine.with(|state| state.add_image(&self.scope, image));
            }
            Ok(())
        }
        .boxed()
    }

    fn signal<'a>(&'a self, identity: &'a Identity, signal: Signal) -> Answer<'a, ()> {
        future::ready(self.stop(identity, signal)).boxed()
    }

    fn remove<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()> {
        future::ready(self.forget(identity)).boxed()
    }

    fn logs<'a>(&'a self, identity: &'a Identity, options: LogOptions) -> Answer<'a, LogStream> {
        future::ready(self.read(identity, options)).boxed()
    }

    fn prune_logs(&self, now: Timestamp) -> Answer<'_, ()> {
        self.machine.with(|state| state.prune_logs(&self.scope, now));
        future::ready(Ok(())).boxed()
    }

    fn usage(&self) -> Answer<'_, Usage> {
        let now = self.machine.clock.now();
        future::ready(Ok(self.machine.with(|state| state.usage(&self.scope, now)))).boxed()
    }

    fn exec<'a>(&'a self, identity: &'a Identity, _: &'a ExecRequest) -> Answer<'a, Exec> {
        let message = format!("{identity} is simulated: exec is not supported");
        future::ready(Err(EngineError::refused(Reason::Invalid, message))).boxed()
    }

    fn reach<'a>(&'a self, identity: &'a Identity, kind: ProbeKind) -> Answer<'a, Reach> {
        let key = self.key(identity);
        let found = self.machine.with(|state| state.probe(&key, kind, Instant::now()));
        future::ready(found.map(Reach::Simulated).ok_or(EngineError::Gone)).boxed()
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        let machine = self.machine.clone();
        let id = machine.with(|state| state.subscribe(self.scope.clone()));
        let subscription = Subscription { machine, id };
        stream::unfold(subscription, |subscription| async move {
            let id = subscription.id;
            let identity = subscription.machine.until(|state| state.next_event(id)).await;
            Some((EngineEvent::Changed(identity), subscription))
        })
        .boxed()
    }

    fn images(&self) -> Answer<'_, Vec<String>> {
        let mut images = self.machine.with(|state| state.images(&self.scope));
        images.truncate(IMAGES_MAX);
        future::ready(Ok(images)).boxed()
    }
}

#[cfg(test)]
mod tests;
