//! Pulls images: each once for all attempts that wait for it, and only while any of them waits.
//!
//! # Invariants
//!
//! * A pull takes no slot of a start: slow images only delay those that need them.
//! * At most [`PULLS_MAX`] images are pulled at the same time; others wait in a queue.
//! * A pull that nobody waits for any more is cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base::{Spawner, without_panic};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::sleep;
use tracing::{debug, error, info};

use super::Event;
use crate::engine::{Engine, EngineError, Identity, PullProgress};

/// Most images that are pulled at the same time: enough to use all of a node's bandwidth.
const PULLS_MAX: usize = 4;

/// How often it is told how far a pull has come: each time is a report of every task that waits.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// By how many percent it has come further when it is told again.
const PROGRESS_STEP: u8 = 5;

/// How far a pull has come.
#[derive(Debug)]
pub(super) struct Pulling {
    image: String,
    number: u64,
    pub(super) percent: u8,
}

/// The result of a pull.
#[derive(Debug)]
pub(super) struct Pulled {
    image: String,
    /// Distinguishes this pull from an earlier, cancelled one of the same image.
    number: u64,
    pub(super) outcome: Result<(), EngineError>,
}

/// Pulls images.
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
    /// Dropped with this, which cancels the pull.
    _wanted: oneshot::Sender<()>,
}

impl Pulls {
    pub(super) fn new(spawner: Spawner, events: mpsc::Sender<Event>) -> Self {
        let slots = Arc::new(Semaphore::new(PULLS_MAX));
        Self { spawner, events, slots, by_image: BTreeMap::new(), started: 0 }
    }

    /// Has an image pulled for `identity`, unless that is in progress.
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
            let (progress, seen) = PullProgress::watched();
            let fetch = async {
                let _slot = slots.acquire().await;
                engine.pull(&image, &progress).await
            };
            let outcome = tokio::select! {
                biased;
                // Nothing is ever sent: the receiver resolves when the sender is dropped.
                _ = given_up => return debug!(image, "cancelled: no task waits for this image any more"),
                outcome = without_panic("image", fetch) => outcome,
                never = tell(seen, (&image, number), &events) => match never {},
            };
            // A panic is a bug in handling this image. It must not affect attempts that do not wait
            // for it.
            let outcome = outcome.unwrap_or_else(|_logged| {
                error!(image, "pulling an image panicked, which is a bug");
                Err(EngineError::unknown("pulling the image panicked, which is a bug"))
            });
            // The receiver is closed when the agent ends.
            let _stopping = events.send(Event::Pulled(Pulled { image, number, outcome })).await;
        });
    }

    /// The attempts that wait for this pull, and its image.
    pub(super) fn waiting(&self, pulling: &Pulling) -> Option<(&str, &BTreeSet<Identity>)> {
        let (image, pull) = self.by_image.get_key_value(&pulling.image)?;
        (pull.number == pulling.number).then_some((image, &pull.waiting))
    }

    /// The attempts that waited for this pull.
    pub(super) fn done(&mut self, pulled: &Pulled) -> BTreeSet<Identity> {
        match self.by_image.get(&pulled.image) {
            Some(pull) if pull.number == pulled.number => {
                let pull = self.by_image.remove(&pulled.image);
                pull.map(|pull| pull.waiting).unwrap_or_default()
            }
            Some(_) | None => BTreeSet::new(),
        }
    }

    /// Cancels the pulls that nobody waits for any more.
    pub(super) fn keep(&mut self, waits: impl Fn(&Identity) -> bool) {
        self.by_image.retain(|_, pull| {
            pull.waiting.retain(&waits);
            !pull.waiting.is_empty()
        });
    }
}

/// Tells now and then how far a pull has come.
async fn tell(
    seen: watch::Receiver<Option<u8>>,
    (image, number): (&str, u64),
    events: &mpsc::Sender<Event>,
) -> Infallible {
    let mut told = None;
    loop {
        sleep(PROGRESS_INTERVAL).await;
        let now = seen.borrow().map(|percent| percent - percent % PROGRESS_STEP);
        if let Some(percent) = now.filter(|_| now != told) {
            told = now;
            let pulling = Pulling { image: image.to_owned(), number, percent };
            // The receiver is closed when the agent ends.
            let _stopping = events.send(Event::Pulling(pulling)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use base::{Clock, Tasks, Timestamp, panics};
    use tokio::time::Instant;

    use super::super::broken::Broken;
    use super::*;
    use crate::engine::Scope;
    use crate::engine::sim::SimMachine;

    const FETCH: Duration = Duration::from_secs(10);

    struct World {
        _tasks: Tasks,
        engine: Arc<dyn Engine>,
        pulls: Pulls,
        news: mpsc::Receiver<Event>,
    }

    impl World {
        /// A machine without images: pulling one takes [`FETCH`], or longer if it is slow.
        fn new(images: &[&str]) -> Self {
            let machine = SimMachine::new(Clock::simulated(Timestamp::UNIX_EPOCH), 1, 1);
            for image in images {
                machine.make_slow(image, if image.contains("slow") { 360 * FETCH } else { FETCH });
            }
            let engine = Arc::new(machine.engine(Scope::new("c", "n").unwrap()));
            let (tasks, (events, news)) = (Tasks::new("test"), mpsc::channel(100));
            let pulls = Pulls::new(tasks.spawner(), events);
            Self { _tasks: tasks, engine, pulls, news }
        }

        fn ask(&mut self, image: &str, task: &str) {
            self.pulls.ask(&self.engine, image.to_owned(), identity(task));
        }

        async fn next(&mut self) -> Pulled {
            loop {
                match self.news.recv().await {
                    Some(Event::Pulled(pulled)) => return pulled,
                    Some(Event::Pulling(_)) => (),
                    other => panic!("{other:?}"),
                }
            }
        }

        fn is_done(&mut self) -> bool {
            while let Ok(event) = self.news.try_recv() {
                if matches!(event, Event::Pulled(_)) {
                    return true;
                }
            }
            false
        }
    }

    fn identity(task: &str) -> Identity {
        Identity::new("default", task, "0a", 1).unwrap()
    }

    #[tokio::test]
    async fn a_fetch_that_panics_is_counted_and_answered_to_all_who_wait() {
        let (tasks, before) = (Tasks::new("test"), panics());
        let (events, mut news) = mpsc::channel(1);
        let mut pulls = Pulls::new(tasks.spawner(), events);
        let engine: Arc<dyn Engine> = Arc::new(Broken::default());
        for task in ["t-0", "t-1"] {
            pulls.ask(&engine, "x".to_owned(), identity(task));
        }
        let Some(Event::Pulled(pulled)) = news.recv().await else { panic!("it is not answered") };
        assert!(matches!(pulled.outcome, Err(EngineError::Unknown { .. })), "{pulled:?}");
        assert!(panics() > before);
        assert_eq!(pulls.done(&pulled), BTreeSet::from(["t-0", "t-1"].map(identity)));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_fetched_at_the_same_time_and_the_others_wait_in_line() {
        let images = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let mut world = World::new(&images);
        images.iter().for_each(|image| world.ask(image, image));
        let (began, mut seconds) = (Instant::now(), Vec::new());
        for _ in images {
            assert_eq!(world.next().await.outcome, Ok(()));
            seconds.push(began.elapsed().as_secs());
        }
        assert_eq!(seconds, [10, 10, 10, 10, 20, 20, 20, 20, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_is_fetched_once_for_all_that_wait_for_it() {
        let mut world = World::new(&["a"]);
        world.ask("a", "first");
        sleep(FETCH / 2).await;
        world.ask("a", "second");
        let pulled = world.next().await;
        let waited = world.pulls.done(&pulled);
        assert_eq!(waited, BTreeSet::from([identity("first"), identity("second")]));
        sleep(10 * FETCH).await;
        assert!(!world.is_done(), "there was one fetch");
    }

    #[tokio::test(start_paused = true)]
    async fn how_far_a_fetch_has_come_is_told_to_those_who_wait_until_it_is_given_up() {
        let mut world = World::new(&["slow"]);
        world.ask("slow", "first");
        let mut percents = Vec::new();
        for _ in 0..3 {
            let Some(Event::Pulling(pulling)) = world.news.recv().await else { panic!() };
            let (image, waiting) = world.pulls.waiting(&pulling).unwrap();
            assert_eq!((image, waiting), ("slow", &BTreeSet::from([identity("first")])));
            percents.push(pulling.percent);
        }
        assert_eq!(percents, [10, 20, 30]);
        let Some(Event::Pulling(late)) = world.news.recv().await else { panic!() };
        world.pulls.keep(|_| false);
        world.ask("slow", "second");
        assert_eq!(world.pulls.waiting(&late), None, "it is of the fetch before");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_given_up_and_leaves_its_place() {
        let slow = ["slow-1", "slow-2", "slow-3", "slow-4"];
        let mut world = World::new(&[&slow[..], &["quick"]].concat());
        slow.iter().for_each(|image| world.ask(image, image));
        world.ask("quick", "quick");
        sleep(FETCH).await;
        assert!(!world.is_done(), "all places are taken");
        let began = Instant::now();
        world.pulls.keep(|it| it.task() == "quick" || it.task() == "slow-1");
        assert_eq!(world.next().await.image, "quick");
        assert_eq!(began.elapsed(), FETCH);
        assert_eq!(world.next().await.image, "slow-1", "the others were given up");
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_of_a_fetch_that_was_given_up_is_not_the_next_ones() {
        let mut world = World::new(&["a"]);
        world.ask("a", "first");
        // Its result is on its way when the pull is cancelled.
        let late = world.next().await;
        world.pulls.keep(|_| false);
        world.ask("a", "second");
        assert_eq!(world.pulls.done(&late), BTreeSet::new());
        let pulled = world.next().await;
        assert_eq!(world.pulls.done(&pulled), BTreeSet::from([identity("second")]));
    }
}
