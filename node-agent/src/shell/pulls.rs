//! Fetches images: beside everything else, each once for all that wait for it, and no longer than
//! anybody does.
//!
//! # Invariants
//!
//! * A fetch takes no place of a start: images that come slowly hold up only those who need them.
//! * What is fetched at the same time is bounded by [`PULLS_MAX`]; the others wait in line.
//! * A fetch that nobody waits for any more is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Spawner, without_panic};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, error, info};

use super::Event;
use crate::engine::{Engine, EngineError, Identity};

/// Images that are fetched at the same time: as many as keep a node's line to its registry busy.
const PULLS_MAX: usize = 4;

/// What came of a fetch.
#[derive(Debug)]
pub(super) struct Pulled {
    image: String,
    /// Tells this fetch from an earlier one of the same image that was given up.
    number: u64,
    pub(super) outcome: Result<(), EngineError>,
}

/// Fetches images.
#[derive(Debug)]
pub(super) struct Pulls {
    spawner: Spawner,
    events: mpsc::Sender<Event>,
    slots: Arc<Semaphore>,
    by_image: BTreeMap<String, Pull>,
    started: u64,
}

#[derive(Debug)]
struct Pull {
    number: u64,
    waiting: BTreeSet<Identity>,
    /// Dropped with this: the fetch is given up.
    _wanted: oneshot::Sender<()>,
}

impl Pulls {
    pub(super) fn new(spawner: Spawner, events: mpsc::Sender<Event>) -> Self {
        let slots = Arc::new(Semaphore::new(PULLS_MAX));
        Self { spawner, events, slots, by_image: BTreeMap::new(), started: 0 }
    }

    /// Has an image fetched for `identity`, unless that is being done already.
    pub(super) fn ask(&mut self, engine: &Arc<dyn Engine>, image: String, identity: Identity) {
        if let Some(pull) = self.by_image.get_mut(&image) {
            pull.waiting.insert(identity);
            return;
        }
        self.started += 1;
        let number = self.started;
        let (wanted, given_up) = oneshot::channel::<()>();
        info!(image, "fetching");
        let pull = Pull { number, waiting: BTreeSet::from([identity]), _wanted: wanted };
        self.by_image.insert(image.clone(), pull);
        let (slots, engine) = (Arc::clone(&self.slots), Arc::clone(engine));
        let events = self.events.clone();
        self.spawner.spawn("image", async move {
            let fetch = async {
                let _slot = slots.acquire().await;
                engine.pull(&image).await
            };
            let outcome = tokio::select! {
                biased;
                // Nothing is ever sent: this ends as its other side is dropped.
                _ = given_up => return debug!(image, "given up: nobody waits for it any more"),
                outcome = without_panic("image", fetch) => outcome,
            };
            // A panic is a bug in what is done for this image, and hurts those who wait for it alone.
            let outcome = outcome.unwrap_or_else(|_logged| {
                error!(image, "fetching an image panicked, which is a bug");
                Err(EngineError::unknown("fetching the image panicked, which is a bug"))
            });
            // Nobody listens when the agent ends.
            let _stopping = events.send(Event::Pulled(Pulled { image, number, outcome })).await;
        });
    }

    /// Those who waited for what was fetched.
    pub(super) fn done(&mut self, pulled: &Pulled) -> BTreeSet<Identity> {
        match self.by_image.get(&pulled.image) {
            Some(pull) if pull.number == pulled.number => {
                let pull = self.by_image.remove(&pulled.image);
                pull.map(|pull| pull.waiting).unwrap_or_default()
            }
            Some(_) | None => BTreeSet::new(),
        }
    }

    /// Gives up what nobody waits for any more.
    pub(super) fn keep(&mut self, waits: impl Fn(&Identity) -> bool) {
        self.by_image.retain(|_, pull| {
            pull.waiting.retain(&waits);
            !pull.waiting.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use base::{Tasks, panics};

    use super::super::broken::Broken;
    use super::*;

    #[tokio::test]
    async fn a_fetch_that_panics_is_counted_and_answered_to_all_who_wait() {
        let (tasks, before) = (Tasks::new("test"), panics());
        let (events, mut news) = mpsc::channel(1);
        let mut pulls = Pulls::new(tasks.spawner(), events);
        let engine: Arc<dyn Engine> = Arc::new(Broken);
        let identity = |task| Identity::new("default", task, "0af3", 1).unwrap();
        for task in ["t-0", "t-1"] {
            pulls.ask(&engine, "x".to_owned(), identity(task));
        }
        let Some(Event::Pulled(pulled)) = news.recv().await else { panic!("it is not answered") };
        assert!(matches!(pulled.outcome, Err(EngineError::Unknown { .. })), "{pulled:?}");
        assert!(panics() > before);
        assert_eq!(pulls.done(&pulled), BTreeSet::from(["t-0", "t-1"].map(identity)));
    }
}
