//! The reconcile loop around a decision: it takes a key, reads the cache, and writes.

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::Timestamp;
use api::batch::{BATCH_OPS_MAX, Batch, Group, GroupResult};
use api::resource_version::ResourceVersion;
use api::size::{BATCH_BYTES_MAX, json_bytes};
use api::status::{Mistake, Why};
use base::{Backoff, Clock, ErrorChain, Rng, Spawner, without_panic};
use client::{Client, Error};
use futures_util::{StreamExt as _, stream};
use tracing::{debug, error, warn};

use crate::any::Any;
use crate::cache::{Cache, Snapshot};
use crate::queue::{Due, Queue};
use crate::reflector::{Reflector, Update};

/// A key that still has work to do is reconciled again after this time at the latest, whatever the
/// events. This makes up for events for which [`Controller::keys`] did not return the key.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// A key at rest is reconciled again after between this time and twice this time, for the same
/// reason. With that, 10,000 finished jobs cost two reconciles a second and not 167. The random
/// part spreads keys that were all first seen when this process became the leader.
const REST_LOOK: Duration = Duration::from_secs(3600);
/// A key that asks for a wall clock time that has passed is reconciled again after this time. The
/// time may have passed just now, but a plan that always asks for a time in the past must not keep
/// a processor busy.
const PAST_LOOK: Duration = Duration::from_millis(100);
/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// This many failures of a key in a row are no coincidence. By then, the wait is at its longest.
const STUCK_FAILURES: u32 = 12;

/// When to reconcile a key again. An event that concerns the key always brings it back earlier. If
/// such an event goes unnoticed, only time is lost, because every object is reconciled now and
/// then: see [`FULL_LOOK`] and [`REST_LOOK`]. (The watch ensures that the cache itself misses
/// nothing. If the watch was broken for too long, everything is listed again and counts as
/// changed.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// When something that it depends on changes.
    OnChange,
    /// Also after this time.
    After(Duration),
    /// Also at this wall clock time, even if the clock is set meanwhile.
    At(Timestamp),
    /// When something that it depends on changes. There is nothing left to do, so a finished object
    /// costs almost nothing from now on.
    AtRest,
    /// The same, until this wall clock time.
    AtRestUntil(Timestamp),
    /// Only when something changes: the object is gone.
    Gone,
}

impl Requeue {
    /// When the key is due again. `now` is the time, and `share` a random number below a thousand.
    fn due(self, now: Timestamp, share: u32) -> Due {
        let rest = || Due::after(REST_LOOK + REST_LOOK / 1000 * share);
        let at = |time: Timestamp, latest: Due| {
            if time > now { latest.or_at(time) } else { Due::after(PAST_LOOK) }
        };
        match self {
            Requeue::OnChange => Due::after(FULL_LOOK),
            Requeue::After(wait) => Due::after(wait.min(FULL_LOOK)),
            Requeue::At(time) => at(time, Due::after(FULL_LOOK)),
            Requeue::AtRest => rest(),
            Requeue::AtRestUntil(time) => at(time, rest()),
            Requeue::Gone => Due::default(),
        }
    }
}

/// Why a reconcile failed, by what the loop does next.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Reconcile again soon: facts have changed, the server could not be reached, or the answer was
    /// lost.
    #[error("{0}")]
    Again(String),
    /// Another process is the leader now, so the component stops.
    #[error("another process is the leader now")]
    Deposed,
}

/// Reconciles keys. It decides nothing itself: it builds a view, plans, and writes.
/// A worker needs only the key, and no two workers have the same key at the same time. So a
/// controller has its own form of key for each thing that it writes, and `keys` returns those that
/// an event concerns. A reconcile must not write what belongs to other keys, since their own
/// workers may be busy with them.
pub trait Controller: Send + Sync + 'static {
    /// What is reconciled.
    type Key: Ord + Clone + Debug + Send + Sync + 'static;

    /// The name for logs.
    const NAME: &'static str;

    /// The keys that an event concerns. The object was `before` and is `now`; either may be `None`.
    /// `snapshot` includes this change and all earlier ones, for finding related objects.
    /// This is called while the cache is locked. It has no `self`, so that it cannot use the cache
    /// in another way than through `snapshot`, and wait for its own lock.
    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<Self::Key>;

    /// Reconciles one key.
    fn reconcile(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Requeue, ReconcileError>> + Send;
}

/// What workers need.
#[derive(Debug, Clone)]
pub struct WorkerContext {
    /// Spawns the workers.
    pub spawner: Spawner,
    /// For back-off.
    pub rng: Rng,
    /// For the times at which keys are to be reconciled again.
    pub clock: Clock,
    /// Notified when a write is refused because another process is the leader.
    pub deposed: Deposed,
}

/// Notifies that this process is no longer the leader.
#[derive(Debug, Clone, Default)]
pub struct Deposed(Arc<tokio::sync::Notify>);

impl Deposed {
    /// Sends the notification.
    pub fn tell(&self) {
        self.0.notify_one();
    }

    /// Waits for the notification.
    pub async fn told(&self) {
        self.0.notified().await;
    }
}

/// Called for each change of the cache.
type Listener = Box<dyn Fn(Option<&Any>, Option<&Any>, &Snapshot) + Send>;

/// Feeds a cache, and the queues of the controllers that read it.
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
    /// Makes a feed for `cache`.
    pub fn new(cache: Cache) -> Self {
        Self { cache, listeners: Vec::new() }
    }

    /// Runs a controller on this feed, with this number of workers.
    pub fn add<C: Controller>(&mut self, controller: C, workers: usize, context: &WorkerContext) {
        let (controller, queue) = (Arc::new(controller), Queue::new(context.clock.clone()));
        let heard = queue.clone();
        self.listeners.push(Box::new(move |before, now, snapshot| {
            for key in C::keys(before, now, snapshot) {
                heard.add(key);
            }
        }));
        for _ in 0..workers {
            let worker = work(Arc::clone(&controller), queue.clone(), context.clone());
            context.spawner.spawn_part(C::NAME, worker);
        }
    }

    /// Follows the watch, for ever.
    pub async fn run(self, mut reflector: Reflector) {
        loop {
            let update = reflector.next().await;
            self.take_in(update);
        }
    }

    fn take_in(&self, update: Update) {
        self.cache.apply(update, |before, now, snapshot| {
            for listener in &self.listeners {
                listener(before, now, snapshot);
            }
        });
    }
}

async fn work<C: Controller>(controller: Arc<C>, queue: Queue<C::Key>, context: WorkerContext) {
    let rng = context.rng.fork(C::NAME);
    loop {
        let key = queue.next().await;
        // A bug with one key must not stop the work on all others.
        let looked = without_panic(C::NAME, controller.reconcile(&key)).await;
        let due = match looked {
            Ok(Ok(requeue)) => {
                queue.succeeded(&key);
                let share = u32::try_from(rng.below(1000)).unwrap_or_default();
                requeue.due(context.clock.now(), share)
            }
            Ok(Err(ReconcileError::Again(why))) => {
                let failures = queue.failed(&key);
                // A single failure usually means that facts have changed. After this many, the wait
                // is at its longest, half a minute, and each failure is logged, so that a stuck key
                // is noticed.
                if failures >= STUCK_FAILURES {
                    warn!(controller = C::NAME, ?key, failures, why, "failed; trying again");
                } else {
                    debug!(controller = C::NAME, ?key, failures, why, "looking again");
                }
                Due::after(wait_after(failures, &rng))
            }
            Ok(Err(ReconcileError::Deposed)) => {
                context.deposed.tell();
                Due::default()
            }
            Err(_logged) => {
                let failures = queue.failed(&key);
                error!(controller = C::NAME, ?key, failures, "reconciling a key panicked");
                Due::after(wait_after(failures, &rng))
            }
        };
        // Before the key is released, because another worker may take it right after.
        queue.add_at(key.clone(), due);
        queue.done(&key);
    }
}

/// 10 ms, doubled with each failure in a row.
fn wait_after(failures: u32, rng: &Rng) -> Duration {
    let initial = Duration::from_millis(10).saturating_mul(1 << failures.min(16));
    Backoff::new(initial.min(RETRY_MAX), RETRY_MAX, rng.clone()).next_wait()
}

/// How many batches of a plan are sent at the same time: groups are independent.
const BATCHES_AT_ONCE: usize = 4;

/// The size of a batch without its groups.
const FRAME_BYTES: usize = 64;

/// Writes groups, in batches within the bound, and returns when the cache has seen them.
///
/// Returns the groups that can never be written, as positions in `groups`, each with the reason. If
/// another group was refused, the result is [`ReconcileError::Again`], after all groups were tried.
pub async fn write(
    client: &Client,
    cache: &Cache,
    groups: Vec<Group>,
) -> Result<Vec<(usize, String)>, ReconcileError> {
    let (mut invalid, mut again) = (Vec::new(), None);
    // The answers arrive in the order of the batches, and the batches have the order of the groups.
    let mut first = 0;
    let mut seen = ResourceVersion::default();
    let send = |batch: Batch| async move {
        let answer = client.batch(&batch).await;
        // Nothing of such a batch was done. Any other refusal, also one for a mistake, would be the
        // same the second time.
        let is_unknown = matches!(
            &answer,
            Err(Error::Refused(refusal)) if refusal.why == Why::Mistaken(Mistake::Operation)
        );
        let earlier: Vec<Option<Group>> = match is_unknown {
            true => batch.groups.iter().map(Group::for_earlier_versions).collect(),
            false => Vec::new(),
        };
        if earlier.iter().all(Option::is_none) {
            return (batch.groups.len(), answer);
        }
        // During an upgrade, the request may reach an apiserver that does not know these operations.
        let groups = batch.groups.into_iter().zip(earlier);
        let groups = groups.map(|(group, earlier)| earlier.unwrap_or(group)).collect();
        let batch = Batch { groups };
        let answer = client.batch(&batch).await;
        (batch.groups.len(), answer)
    };
    let mut answers = stream::iter(batches(groups)).map(send).buffered(BATCHES_AT_ONCE);
    while let Some((count, answer)) = answers.next().await {
        let places = first..first + count;
        first = places.end;
        let answer = match answer {
            Ok(answer) => answer,
            // One group alone is too much for any batch: it can never be written.
            Err(Error::Refused(refusal)) if refusal.why == Why::TooLarge && count == 1 => {
                invalid.push((places.start, refusal.message));
                continue;
            }
            Err(Error::Refused(refusal)) => {
                return Err(as_a_whole(refusal.why, refusal.message));
            }
            Err(error @ (Error::Unavailable(_) | Error::Unknown(_))) => {
                return Err(ReconcileError::Again(ErrorChain(&error).to_string()));
            }
            Err(error @ Error::Malformed(_)) => {
                return Err(as_a_whole(Why::Internal, ErrorChain(&error).to_string()));
            }
        };
        for (place, result) in places.zip(answer.results) {
            let GroupResult::Refused { why, message } = result else { continue };
            match why {
                // It would be refused each time.
                Why::Mistaken(_) | Why::Invalid | Why::TooLarge => invalid.push((place, message)),
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
        let (ops, bytes) = (group.count(), json_bytes(&group) + 1);
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
