//! The loop around a decision: keys in, a look at the cache, writes out.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::batch::{BATCH_OPS_MAX, Batch, Group, GroupResult};
use api::resource_version::ResourceVersion;
use api::size::{BATCH_BYTES_MAX, json_bytes};
use api::status::Why;
use base::{Backoff, ErrorChain, Rng, Spawner, without_panic};
use client::{Client, Error};
use futures_util::{StreamExt as _, stream};
use tracing::{debug, error, warn};

use crate::any::Any;
use crate::cache::Cache;
use crate::queue::Queue;
use crate::reflector::Reflector;

/// A key is looked at again at the latest after this long, whatever events say: a full look finds
/// what an event missed.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// Waits after a failure grow up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// So many failures of one key in a row are no coincidence. The wait is at its longest by then.
const STUCK_FAILURES: u32 = 12;

/// When a key is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// When something it depends on changes.
    OnChange,
    /// Then, and after so long.
    After(Duration),
    /// Not before something changes: what it was about is gone.
    Gone,
}

/// Why a look at a key came to nothing: one variant for each thing the loop does next.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Look again soon: facts have changed, the server was not reached, or the answer was lost.
    #[error("{0}")]
    Again(String),
    /// The leader is another process by now: the component stops.
    #[error("another process is the leader now")]
    Deposed,
}

/// Looks at keys. Decides nothing itself: it builds a view, plans, and writes.
pub trait Controller: Send + Sync + 'static {
    /// What is looked at.
    type Key: Ord + Clone + Debug + Send + Sync + 'static;

    /// Its name, for logs.
    const NAME: &'static str;

    /// Keys that are to be looked at since an object was `before` and is `now`.
    fn keys(&self, before: Option<&Any>, now: Option<&Any>) -> Vec<Self::Key>;

    /// Looks at one key.
    fn reconcile(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Requeue, ReconcileError>> + Send;
}

/// Who works on keys, and what they have in common.
#[derive(Debug, Clone)]
pub struct Crew {
    /// Where workers are spawned.
    pub spawner: Spawner,
    /// For back-off.
    pub rng: Rng,
    /// Told when a write was refused since another process leads.
    pub deposed: Deposed,
}

/// Tells that this process does not lead any more.
#[derive(Debug, Clone, Default)]
pub struct Deposed(Arc<tokio::sync::Notify>);

impl Deposed {
    /// Tells it.
    pub fn tell(&self) {
        self.0.notify_one();
    }

    /// Waits until it was told.
    pub async fn told(&self) {
        self.0.notified().await;
    }
}

/// A listener for what a cache is told.
type Listener = Box<dyn Fn(Option<&Any>, Option<&Any>) + Send>;

/// Feeds a cache and the queues of the controllers that read it.
pub struct Feed {
    cache: Cache,
    listeners: Vec<Listener>,
}

impl Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed of `cache`.
    pub fn new(cache: Cache) -> Self {
        Self { cache, listeners: Vec::new() }
    }

    /// Runs a controller on what this feed brings: `workers` keys at a time.
    pub fn add<C: Controller>(&mut self, controller: C, workers: usize, crew: &Crew) {
        let (controller, queue) = (Arc::new(controller), Queue::<C::Key>::default());
        let (ear, heard) = (Arc::clone(&controller), queue.clone());
        self.listeners.push(Box::new(move |before, now| {
            for key in ear.keys(before, now) {
                heard.add(key);
            }
        }));
        for _ in 0..workers {
            let worker = work(Arc::clone(&controller), queue.clone(), crew.clone());
            crew.spawner.spawn_part(C::NAME, worker);
        }
    }

    /// Follows the watch for ever.
    pub async fn run(self, mut reflector: Reflector) {
        loop {
            let update = reflector.next().await;
            self.cache.apply(update, |before, now| {
                for listener in &self.listeners {
                    listener(before, now);
                }
            });
        }
    }
}

async fn work<C: Controller>(controller: Arc<C>, queue: Queue<C::Key>, crew: Crew) {
    let rng = crew.rng.fork(C::NAME);
    loop {
        let key = queue.next().await;
        // A bug in the look at one key must not stop the looks at all others.
        let looked = without_panic(C::NAME, controller.reconcile(&key)).await;
        queue.done(&key);
        match looked {
            Ok(Ok(requeue)) => {
                queue.succeeded(&key);
                match requeue {
                    Requeue::OnChange => queue.add_after(key, FULL_LOOK),
                    Requeue::After(wait) => queue.add_after(key, wait.min(FULL_LOOK)),
                    Requeue::Gone => (),
                }
            }
            Ok(Err(ReconcileError::Again(why))) => {
                let failures = queue.failed(&key);
                // One failure says that facts have changed. After so many the wait is at its longest,
                // half a minute, and each is said: nothing is stuck in silence.
                if failures >= STUCK_FAILURES {
                    warn!(controller = C::NAME, ?key, failures, why, "failed; trying again");
                } else {
                    debug!(controller = C::NAME, ?key, failures, why, "looking again");
                }
                queue.add_after(key, wait_after(failures, &rng));
            }
            Ok(Err(ReconcileError::Deposed)) => crew.deposed.tell(),
            Err(_logged) => {
                let failures = queue.failed(&key);
                error!(controller = C::NAME, ?key, failures, "reconciling a key panicked");
                queue.add_after(key, wait_after(failures, &rng));
            }
        }
    }
}

/// 10 ms, doubled with each failure in a row.
fn wait_after(failures: u32, rng: &Rng) -> Duration {
    let initial = Duration::from_millis(10).saturating_mul(1 << failures.min(16));
    Backoff::new(initial.min(RETRY_MAX), RETRY_MAX, rng.clone()).next_wait()
}

/// Batches of one plan that are on their way at once: groups are independent.
const BATCHES_AT_ONCE: usize = 4;

/// What a batch has beside its groups.
const FRAME_BYTES: usize = 64;

/// Writes groups, in batches within the bound, and returns when the cache has seen them.
///
/// A group that can never be written is given back to the caller with why; anything else that did not happen
/// ends in [`ReconcileError::Again`] after all groups were tried.
pub async fn write(
    client: &Client,
    cache: &Cache,
    groups: Vec<Group>,
) -> Result<Vec<(Group, String)>, ReconcileError> {
    let (mut invalid, mut again) = (Vec::new(), None);
    let mut seen = ResourceVersion::default();
    let send = |batch: Batch| async move {
        let answer = client.batch(&batch).await;
        (batch.groups, answer)
    };
    let mut answers = stream::iter(batches(groups)).map(send).buffered(BATCHES_AT_ONCE);
    while let Some((groups, answer)) = answers.next().await {
        let answer = match answer {
            Ok(answer) => answer,
            Err(Error::Refused(refusal)) => match (refusal.why, &groups[..]) {
                // One group alone is too much for any batch: it can never be written.
                (Why::TooLarge, [group]) => {
                    invalid.push((group.clone(), refusal.message));
                    continue;
                }
                (why, _) => return Err(as_a_whole(why, refusal.message)),
            },
            Err(error @ (Error::Unavailable(_) | Error::Unknown(_))) => {
                return Err(ReconcileError::Again(ErrorChain(&error).to_string()));
            }
            Err(error @ Error::Malformed(_)) => {
                return Err(as_a_whole(Why::Internal, ErrorChain(&error).to_string()));
            }
        };
        for (group, result) in groups.into_iter().zip(answer.results) {
            let GroupResult::Refused { why, message } = result else { continue };
            match why {
                // It would be refused each time.
                Why::Mistaken(_) | Why::Invalid | Why::TooLarge => invalid.push((group, message)),
                // Something is not, or may not be, as it was when this was planned; or it is so again
                // later. A look at what is there then decides.
                Why::Forbidden
                | Why::NotFound
                | Why::Exists
                | Why::Conflict
                | Why::Expired
                | Why::Contended
                | Why::Busy
                | Why::Unavailable
                | Why::Full
                | Why::Late
                | Why::Unknown
                | Why::Internal => again = Some(message),
                Why::Deposed => return Err(ReconcileError::Deposed),
            }
        }
        seen = seen.max(answer.resource_version);
    }
    cache.reached(seen).await;
    match again {
        Some(why) => Err(ReconcileError::Again(why)),
        None => Ok(invalid),
    }
}

/// What it means that a batch was refused as a whole.
fn as_a_whole(why: Why, message: String) -> ReconcileError {
    match why {
        Why::Busy | Why::Unavailable | Why::Full | Why::Late | Why::Unknown => {
            ReconcileError::Again(message)
        }
        Why::Deposed => ReconcileError::Deposed,
        // No plan of ours brings this about: somebody has to look.
        Why::Mistaken(_)
        | Why::Invalid
        | Why::TooLarge
        | Why::Forbidden
        | Why::NotFound
        | Why::Exists
        | Why::Conflict
        | Why::Contended
        | Why::Expired
        | Why::Internal => {
            warn!(message, "a batch was refused as a whole");
            ReconcileError::Again(message)
        }
    }
}

/// Cuts groups into batches within the bounds on operations and bytes. A group that is over them
/// alone travels alone: the apiserver says what is wrong with it.
fn batches(groups: Vec<Group>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let (mut ops_left, mut bytes_left) = (0, 0);
    for group in groups {
        let (ops, bytes) = (group.ops.len(), json_bytes(&group) + 1);
        if ops > ops_left || bytes > bytes_left {
            batches.push(Batch::default());
            (ops_left, bytes_left) = (BATCH_OPS_MAX, BATCH_BYTES_MAX - FRAME_BYTES);
        }
        ops_left = ops_left.saturating_sub(ops);
        bytes_left = bytes_left.saturating_sub(bytes);
        if let Some(batch) = batches.last_mut() {
            batch.groups.push(group);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use api::ObjectKey;
    use api::batch::Op;
    use base::{Tasks, panics};
    use tokio::sync::mpsc;

    use super::*;

    /// Tells of its looks; the first one at key 1 panics.
    struct Fragile {
        looks: mpsc::UnboundedSender<u32>,
        has_panicked: AtomicBool,
    }

    impl Controller for Fragile {
        type Key = u32;

        const NAME: &'static str = "fragile";

        fn keys(&self, _: Option<&Any>, _: Option<&Any>) -> Vec<u32> {
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
        let crew =
            Crew { spawner: tasks.spawner(), rng: Rng::seeded(1), deposed: Deposed::default() };
        let queue = Queue::default();
        queue.add(1);
        queue.add(2);
        let controller = Fragile { looks, has_panicked: AtomicBool::new(false) };
        tasks.spawn_part("worker", work(Arc::new(controller), queue, crew));
        for expected in [1, 2, 1] {
            assert_eq!(looked.recv().await, Some(expected));
        }
        assert!(panics() > before);
        assert!(!tasks.stop_signal().is_requested(), "the worker goes on");
    }

    fn group(bytes: usize) -> Group {
        Op::Remove { key: ObjectKey::new("default", "a"), uid: "x".repeat(bytes) }.into()
    }

    #[test]
    fn batches_are_cut_by_operations_and_by_bytes() {
        let lengths = |groups: Vec<Group>| {
            let all = batches(groups);
            let fits =
                |batch: &Batch| json_bytes(batch) <= BATCH_BYTES_MAX || batch.groups.len() == 1;
            assert!(all.iter().all(fits));
            all.iter().map(|batch| batch.groups.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(vec![group(1); BATCH_OPS_MAX + 1]), [BATCH_OPS_MAX, 1]);
        assert_eq!(lengths(vec![group(BATCH_BYTES_MAX / 4); 5]), [3, 2]);
        assert_eq!(lengths(vec![group(BATCH_BYTES_MAX), group(1)]), [1, 1]);
        assert_eq!(lengths(Vec::new()), [0; 0]);
    }
}
