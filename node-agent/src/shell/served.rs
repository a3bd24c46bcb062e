//! What an agent answers the apiserver's requests from: its engine, the names of its attempts, and
//! slots for commands and logs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::status::{Refusal, Why};
use axum::extract::{FromRef, FromRequestParts, Path};
use base::Spawner;
use http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::warn;

use super::answers::Refused;
use super::stats::{Figures, Sampler};
use crate::engine::{Engine, Identity};

/// Most attempts whose task names are remembered, so that their logs can be found.
const NAMES_MAX: usize = 10_000;
/// How long all commands may take to end with the agent: less than the agent's process is given.
const END_TIMEOUT: Duration = Duration::from_millis(800);
/// Most commands that run at the same time.
pub(super) const EXECS_MAX: usize = 32;
/// Most logs that are read at the same time.
pub(super) const LOGS_MAX: usize = 256;

/// The data that requests are answered from. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// Guards the data for one operation.
    known: Arc<Mutex<Known>>,
    sampler: Arc<Sampler>,
    places: Arc<Semaphore>,
    /// Whether commands have to end because the agent ends.
    is_ending: Arc<watch::Sender<bool>>,
    log_places: Arc<Semaphore>,
    spawner: Spawner,
}

#[derive(Debug, Default)]
struct Known {
    /// `None` until it is opened.
    engine: Option<Arc<dyn Engine>>,
    /// The newest known container of each attempt, by the attempt's identity without the task's
    /// name.
    names: BTreeMap<Identity, Identity>,
}

impl Served {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing is known yet. Running commands are supervised by tasks of `spawner`.
    pub(super) fn new(spawner: Spawner) -> Self {
        Self {
            known: Arc::default(),
            sampler: Arc::default(),
            places: Arc::new(Semaphore::new(EXECS_MAX)),
            is_ending: Arc::default(),
            log_places: Arc::new(Semaphore::new(LOGS_MAX)),
            spawner,
        }
    }

    /// Where tasks run that outlive an answer.
    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// A slot for a command; nothing if all are taken.
    pub(super) fn place_for_exec(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Becomes true when commands have to end.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.is_ending.subscribe()
    }

    /// Ends all commands, because nobody supervises them after the agent has ended.
    pub(super) async fn end_commands(&self) {
        self.is_ending.send_replace(true);
        let all = u32::try_from(EXECS_MAX).unwrap_or(u32::MAX);
        // Each command holds its slot until it has ended.
        if timeout(END_TIMEOUT, self.places.acquire_many(all)).await.is_err() {
            warn!("a command beside a task may keep running after the agent has exited");
        }
    }

    /// A slot for reading a log; nothing if all are taken.
    pub(super) fn place_for_log(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.log_places).try_acquire_owned().ok()
    }

    /// Sets the engine.
    pub(super) fn open(&self, engine: Arc<dyn Engine>) {
        self.with(|known| known.engine = Some(engine));
    }

    /// The engine; `None` until it is opened.
    pub(super) fn engine(&self) -> Option<Arc<dyn Engine>> {
        self.with(|known| known.engine.clone())
    }

    /// Remembers a container of an attempt, unless a newer one of it is known.
    pub(super) fn remember(&self, identity: &Identity) {
        self.with(|known| {
            let newest = known
                .names
                .entry(identity.without_name().into_attempt())
                .or_insert_with(|| identity.clone());
            if newest.restart() < identity.restart() {
                newest.clone_from(identity);
            }
            while known.names.len() > NAMES_MAX {
                known.names.pop_first();
            }
        });
    }

    /// The newest main container of an attempt, by the task's uid and the attempt's number.
    pub(super) fn find(&self, uid: &str, attempt: u32) -> Option<Identity> {
        // Kept logs are found without the task's name.
        let nameless = Identity::nameless(uid, attempt).ok()?;
        Some(self.with(|known| known.names.get(&nameless).cloned()).unwrap_or(nameless))
    }
}

impl FromRef<Served> for Figures {
    fn from_ref(served: &Served) -> Self {
        Self { engine: served.engine(), sampler: Arc::clone(&served.sampler) }
    }
}

/// The container of the attempt that a path names, by the task's uid and the attempt's number.
#[derive(Debug)]
pub(super) struct Named(pub(super) Identity);

impl FromRequestParts<Served> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, served: &Served) -> Result<Self, Refused> {
        let path = Path::<(String, u32)>::from_request_parts(parts, served).await;
        let identity = path.ok().and_then(|Path((uid, attempt))| served.find(&uid, attempt));
        identity.map(Self).ok_or_else(|| {
            let message =
                "invalid path; it ends with the uid of a task and the number of an attempt";
            Refused(Refusal::new(Why::NotFound, message))
        })
    }
}

#[cfg(test)]
mod tests {
    use base::Tasks;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn an_uid_that_is_a_path_names_nothing() {
        let served = Served::new(Tasks::new("test").spawner());
        assert_eq!(served.find("..", 1), None);
        assert!(served.find("0af3", 1).is_some());
    }

    #[test]
    fn the_newest_container_of_an_attempt_is_found() {
        let served = Served::new(Tasks::new("test").spawner());
        let first = Identity::new("default", "web-0", "0af3", 1).unwrap();
        let nth = |restart| first.clone().of_container("main", restart).unwrap();
        [0, 2, 1].iter().for_each(|restart| served.remember(&nth(*restart)));
        assert_eq!(served.find("0af3", 1), Some(nth(2)));
        assert_eq!(served.with(|known| known.names.len()), 1, "a restart takes no further place");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_waits_for_its_commands_to_end_though_not_for_ever() {
        let served = Served::new(Tasks::new("test").spawner());
        let (place, mut ending) = (served.place_for_exec(), served.ending());
        let ends = async {
            assert!(ending.wait_for(|is_ending| *is_ending).await.is_ok());
            drop(place);
        };
        let began = Instant::now();
        tokio::join!(served.end_commands(), ends);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let _stays = served.place_for_exec();
        served.end_commands().await;
        assert_eq!(began.elapsed(), END_TIMEOUT);
    }

    #[test]
    fn no_more_commands_run_at_once_than_there_are_places() {
        let served = Served::new(Tasks::new("test").spawner());
        let places: Vec<_> =
            std::iter::from_fn(|| served.place_for_exec()).take(EXECS_MAX + 1).collect();
        assert_eq!(places.len(), EXECS_MAX);
        drop(places);
        assert!(served.place_for_exec().is_some());
    }
}
