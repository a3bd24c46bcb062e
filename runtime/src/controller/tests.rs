//! When keys are reconciled, and how what a plan asks for travels.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use api::batch::Op;
use api::job::{JobSpec, Target};
use api::{Job, Kind as _, ObjectKey, PartitionSet};
use base::{Tasks, panics};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::*;
use crate::reflector::Change;

fn context(tasks: &Tasks) -> WorkerContext {
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let (rng, deposed) = (Rng::seeded(1), Deposed::default());
    WorkerContext { spawner: tasks.spawner(), rng, clock, deposed }
}

fn start<C: Controller>(controller: C, workers: usize, tasks: &Tasks) -> Queue<C::Key> {
    let (controller, context) = (Arc::new(controller), context(tasks));
    let queue = Queue::new(context.clock.clone());
    for _ in 0..workers {
        let worker = work(Arc::clone(&controller), queue.clone(), context.clone());
        tasks.spawn_part("worker", worker);
    }
    queue
}

/// Tells of its looks; the first one at key 1 panics.
struct Fragile {
    looks: mpsc::UnboundedSender<u32>,
    has_panicked: AtomicBool,
}

impl Controller for Fragile {
    type Key = u32;

    const NAME: &'static str = "fragile";

    fn keys(_: Option<&Any>, _: Option<&Any>, _: &Snapshot) -> Vec<u32> {
        Vec::new()
    }

    async fn reconcile(&self, key: &u32) -> Result<Requeue, ReconcileError> {
        self.looks.send(*key).unwrap();
        assert!(*key != 1 || self.has_panicked.swap(true, Ordering::Relaxed), "on purpose");
        Ok(Requeue::Gone)
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_panics_is_counted_and_made_again_and_holds_up_no_other() {
    let (tasks, before) = (Tasks::new("test"), panics());
    let (looks, mut looked) = mpsc::unbounded_channel();
    let queue = start(Fragile { looks, has_panicked: AtomicBool::new(false) }, 1, &tasks);
    queue.add(1);
    queue.add(2);
    for expected in [1, 2, 1] {
        assert_eq!(looked.recv().await, Some(expected));
    }
    assert!(panics() > before);
    assert!(!tasks.stop_signal().is_requested(), "the worker goes on");
}

/// Takes its time for each key, and comes back to it in every way that there is.
#[derive(Default)]
struct Slow {
    /// How often each key was begun.
    begun: Mutex<BTreeMap<u32, u32>>,
    now: Mutex<Vec<u32>>,
    twice: AtomicBool,
}

impl Controller for Arc<Slow> {
    type Key = u32;

    const NAME: &'static str = "slow";

    fn keys(_: Option<&Any>, _: Option<&Any>, _: &Snapshot) -> Vec<u32> {
        Vec::new()
    }

    async fn reconcile(&self, key: &u32) -> Result<Requeue, ReconcileError> {
        let times = {
            let mut begun = self.begun.lock().unwrap();
            let times = begun.entry(*key).or_default();
            *times += 1;
            *times
        };
        let is_there = {
            let mut now = self.now.lock().unwrap();
            now.push(*key);
            now.iter().filter(|it| *it == key).count() > 1
        };
        self.twice.fetch_or(is_there, Ordering::Relaxed);
        sleep(Duration::from_millis(70)).await;
        let mut now = self.now.lock().unwrap();
        let place = now.iter().position(|it| it == key).unwrap();
        now.remove(place);
        match times % 4 {
            0 => Ok(Requeue::After(Duration::ZERO)),
            1 => Ok(Requeue::At(Timestamp::UNIX_EPOCH)),
            2 => Err(ReconcileError::Again("on purpose".to_owned())),
            _ => Ok(Requeue::OnChange),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_key_is_worked_on_twice_at_once_whether_an_event_a_timer_or_a_retry_brings_it() {
    let (tasks, slow) = (Tasks::new("test"), Arc::<Slow>::default());
    let queue = start(Arc::clone(&slow), 4, &tasks);
    for event in 0..2_000 {
        queue.add(event % 3);
        queue.add_at(event % 3, Due::after(Duration::from_millis(50)));
        sleep(Duration::from_millis(7)).await;
    }
    assert!(!slow.twice.load(Ordering::Relaxed), "two workers had one key");
    let begun = slow.begun.lock().unwrap().clone();
    assert_eq!(begun.len(), 3);
    assert!(begun.values().all(|times| *times > 100), "none is kept waiting: {begun:?}");
}

/// Answers with what a test says, and notes when it was asked.
struct Answering {
    answer: Requeue,
    looks: mpsc::UnboundedSender<Duration>,
    start: Instant,
}

impl Controller for Answering {
    type Key = u32;

    const NAME: &'static str = "answering";

    fn keys(_: Option<&Any>, _: Option<&Any>, _: &Snapshot) -> Vec<u32> {
        Vec::new()
    }

    async fn reconcile(&self, _: &u32) -> Result<Requeue, ReconcileError> {
        let _test_ends = self.looks.send(self.start.elapsed());
        Ok(self.answer)
    }
}

/// The seconds in which a key with this answer is looked at within so many.
async fn looks(answer: Requeue, seconds: u64) -> Vec<u64> {
    let tasks = Tasks::new("test");
    let (looks, mut looked) = mpsc::unbounded_channel();
    let queue = start(Answering { answer, looks, start: Instant::now() }, 2, &tasks);
    queue.add(1);
    sleep(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
    let mut seconds = Vec::new();
    while let Ok(at) = looked.try_recv() {
        seconds.push(at.as_secs());
    }
    seconds
}

#[tokio::test(start_paused = true)]
async fn what_has_something_left_to_do_is_looked_at_each_minute_and_what_is_at_rest_each_hour() {
    const TWO_HOURS: u64 = 7200;
    assert_eq!(looks(Requeue::OnChange, TWO_HOURS).await.len(), 120);
    let after = Requeue::After(Duration::from_secs(30));
    assert_eq!(looks(after, TWO_HOURS).await.len(), 240);
    assert_eq!(looks(Requeue::Gone, TWO_HOURS).await, [0]);
    let at_rest = looks(Requeue::AtRest, TWO_HOURS).await;
    assert_eq!(at_rest.len(), 2, "an event that was lost is not lost for good: {at_rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_time_is_kept_by_what_is_at_rest_too() {
    let second = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(looks(Requeue::AtRestUntil(second(1800)), 1800).await, [0]);
    assert_eq!(looks(Requeue::AtRestUntil(second(1800)), 1801).await[..2], [0, 1800]);
    assert_eq!(looks(Requeue::At(second(90)), 91).await[..3], [0, 60, 90]);
    let of_the_past = looks(Requeue::At(second(0)), 10).await;
    assert_eq!(of_the_past.len(), 100, "it does not take a processor");
}

/// Keeps jobs; a set that changes concerns those that target it.
struct Mapped(mpsc::UnboundedSender<String>);

impl Controller for Mapped {
    type Key = String;

    const NAME: &'static str = "mapped";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<String> {
        let Some(Any::PartitionSet(set)) = now.or(before) else { return Vec::new() };
        snapshot.jobs_targeting(&set.key()).map(|job| job.name().to_owned()).collect()
    }

    async fn reconcile(&self, key: &String) -> Result<Requeue, ReconcileError> {
        self.0.send(key.clone()).unwrap();
        Ok(Requeue::Gone)
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_finds_related_objects_as_they_are_with_it() {
    let tasks = Tasks::new("test");
    let (looks, mut looked) = mpsc::unbounded_channel();
    let mut feed = Feed::new(Cache::default());
    feed.add(Mapped(looks), 1, &context(&tasks));
    let job = |name: &str, set: &str| {
        let target = Target { partition_set: set.to_owned(), ..Target::default() };
        let spec = JobSpec { target: Some(target), ..JobSpec::default() };
        Any::Job(Arc::new(Job::new("default", name, spec)))
    };
    let set = Any::PartitionSet(Arc::new(PartitionSet::new("default", "s", Default::default())));
    let version = ResourceVersion::after(1);
    // The job comes after the set in the list, and with the set in the same news.
    let objects = vec![set.clone(), job("a", "s"), job("b", "other")];
    feed.take_in(Update::Reset { objects, version });
    assert_eq!(looked.recv().await.as_deref(), Some("a"));
    let changes = vec![Change::Upsert(job("c", "s")), Change::Upsert(set)];
    feed.take_in(Update::Changes { changes, version });
    assert_eq!(looked.recv().await.as_deref(), Some("a"));
    assert_eq!(looked.recv().await.as_deref(), Some("c"));
}

fn group(bytes: usize) -> Group {
    Op::Remove { key: ObjectKey::new("default", "a"), uid: "x".repeat(bytes) }.into()
}

#[test]
fn batches_are_cut_by_operations_and_by_bytes() {
    let lengths = |groups: Vec<Group>| {
        let all = batches(groups);
        let fits = |batch: &Batch| json_bytes(batch) <= BATCH_BYTES_MAX || batch.groups.len() == 1;
        assert!(all.iter().all(fits));
        all.iter().map(|batch| batch.groups.len()).collect::<Vec<_>>()
    };
    assert_eq!(lengths(vec![group(1); BATCH_OPS_MAX + 1]), [BATCH_OPS_MAX, 1]);
    assert_eq!(lengths(vec![group(BATCH_BYTES_MAX / 4); 5]), [3, 2]);
    assert_eq!(lengths(vec![group(BATCH_BYTES_MAX), group(1)]), [1, 1]);
    assert_eq!(lengths(Vec::new()), [0; 0]);
}
