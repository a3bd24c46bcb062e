//! The only place that spawns tasks: each has a name, an owner and an end.
//!
//! A **part** is a task that a component needs, for example the one that writes the store. An
//! **awaited** task is one whose result somebody waits for, for example one that sends reports: it
//! may end, but if it panicked, its component would wait for ever. Every other task concerns one
//! thing, such as a connection or a request.
//!
//! # Invariants
//!
//! * A task never outlives its [`Tasks`]: dropping the owner aborts the tasks that are still
//!   running. In a simulation that is how a component crashes.
//! * If a part ends without being asked to (it returned, failed or panicked), or if an awaited task
//!   panics, the whole group is asked to stop, and [`Tasks::failure`] says which task it was and
//!   why. A component of which one half is missing is worse than none, because nobody notices.
//! * A panic of any other task ends that task alone. It is logged and counted ([`panics`]).

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error};

/// An error that ends a part.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Number of task panics since the process began.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Number of task panics in this process. Each is a bug, so it is shown as a metric.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Owner of a group of tasks.
#[derive(Debug)]
pub struct Tasks {
    name: &'static str,
    group: Group,
    /// Guards the set for one insertion or poll.
    set: Arc<Mutex<JoinSet<&'static str>>>,
}

/// Spawns tasks into a [`Tasks`] without owning it. After the owner is gone it spawns nothing.
#[derive(Debug, Clone)]
pub struct Spawner {
    group: Group,
    set: Weak<Mutex<JoinSet<&'static str>>>,
}

/// What the tasks of a group share.
#[derive(Debug, Clone)]
struct Group {
    stop: CancellationToken,
    /// The first part that ended without being asked to.
    failure: watch::Sender<Option<PartFailure>>,
}

/// Tells a task that it has to stop.
#[derive(Debug, Clone)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Resolves when the task has to stop.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Whether it has to stop.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// A part ended without being asked to, so its component cannot do its work any more.
#[derive(Debug, Clone)]
pub struct PartFailure {
    part: &'static str,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    Returned,
    Failed(Arc<dyn Error + Send + Sync>),
    Panicked(String),
}

impl PartFailure {
    /// The name of the part that ended.
    pub fn part(&self) -> &'static str {
        self.part
    }
}

impl fmt::Display for PartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part;
        match &self.how {
            How::Returned => write!(f, "{part} ended unexpectedly"),
            How::Failed(_) => write!(f, "{part} failed"),
            How::Panicked(message) => write!(f, "{part} panicked, which is a bug: {message}"),
        }
    }
}

impl Error for PartFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.how {
            How::Failed(error) => Some(&**error),
            How::Returned | How::Panicked(_) => None,
        }
    }
}

/// What a part may return: nothing, or an error that says why it cannot continue.
pub trait PartEnd: Send {
    /// The error, if there is one.
    fn error(self) -> Option<BoxError>;
}

impl PartEnd for () {
    fn error(self) -> Option<BoxError> {
        None
    }
}

impl<E: Into<BoxError> + Send> PartEnd for Result<(), E> {
    fn error(self) -> Option<BoxError> {
        self.err().map(Into::into)
    }
}

impl Group {
    /// A part has ended. If the group is stopping, that was requested.
    fn part_ended(&self, part: &'static str, how: How) {
        if self.stop.is_cancelled() {
            return;
        }
        self.failure.send_modify(|failure| {
            failure.get_or_insert(PartFailure { part, how });
        });
        self.stop.cancel();
    }
}

impl Tasks {
    /// An empty group.
    pub fn new(name: &'static str) -> Self {
        let group = Group { stop: CancellationToken::new(), failure: watch::Sender::new(None) };
        Self { name, group, set: Arc::default() }
    }

    /// A handle that spawns into this group.
    pub fn spawner(&self) -> Spawner {
        Spawner { group: self.group.clone(), set: Arc::downgrade(&self.set) }
    }

    /// Spawns a task that concerns one thing: see [`Spawner::spawn`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner().spawn(name, task);
    }

    /// Spawns a part: see [`Spawner::spawn_part`].
    pub fn spawn_part<E: PartEnd + 'static>(
        &self,
        name: &'static str,
        part: impl Future<Output = E> + Send + 'static,
    ) {
        self.spawner().spawn_part(name, part);
    }

    /// Resolves when a part has ended without being asked to. By then the others were asked to
    /// stop.
    pub fn failure(&self) -> impl Future<Output = PartFailure> + Send + use<> {
        let mut failure = self.group.failure.subscribe();
        async move {
            if let Ok(failed) = failure.wait_for(Option::is_some).await
                && let Some(failed) = &*failed
            {
                return failed.clone();
            }
            std::future::pending().await
        }
    }

    /// The signal that asks tasks of this group to stop.
    pub fn stop_signal(&self) -> Stop {
        Stop(self.group.stop.clone())
    }

    /// Asks every task to stop, without waiting.
    pub fn request_stop(&self) {
        self.group.stop.cancel();
    }

    /// Asks every task to stop and waits for their ends.
    pub async fn stop(self) {
        self.request_stop();
        while let Some(ended) = std::future::poll_fn(|context| {
            self.set.lock().unwrap_or_else(PoisonError::into_inner).poll_join_next(context)
        })
        .await
        {
            if let Ok(task) = ended {
                debug!(group = self.name, task, "task ended");
            }
        }
    }

    /// Asks every task to stop, waits for them for at most `grace`, and aborts the rest. Returns
    /// whether all have ended by themselves.
    pub async fn stop_within(self, grace: Duration) -> bool {
        tokio::time::timeout(grace, self.stop()).await.is_ok()
    }
}

impl Spawner {
    /// Spawns a task that concerns one thing. If the owner is gone or stopping, the task is
    /// dropped. Its panic affects nothing else.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let task = task.boxed();
        self.insert(name, async move {
            let _reported = without_panic(name, task).await;
        });
    }

    /// Spawns a part, which has to run until it is asked to stop. If it ends before, in whatever
    /// way, the group has failed. If the owner is gone or stopping, it is dropped.
    pub fn spawn_part<E: PartEnd + 'static>(
        &self,
        name: &'static str,
        part: impl Future<Output = E> + Send + 'static,
    ) {
        let (group, part) = (self.group.clone(), part.boxed());
        self.insert(name, async move {
            let how = match without_panic(name, part).await {
                Ok(ended) => ended.error().map_or(How::Returned, |error| How::Failed(error.into())),
                Err(message) => How::Panicked(message),
            };
            group.part_ended(name, how);
        });
    }

    /// Spawns a task that may end but must not panic, because somebody waits for its result: a
    /// panic fails the group. If the owner is gone or stopping, it is dropped.
    pub fn spawn_awaited(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (group, task) = (self.group.clone(), task.boxed());
        self.insert(name, async move {
            if let Err(message) = without_panic(name, task).await {
                group.part_ended(name, How::Panicked(message));
            }
        });
    }

    /// Adds a task. It is boxed before this, because each layer around a future holds it twice, as
    /// its argument and as what it awaits, and a part takes several kilobytes.
    fn insert(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let Some(set) = self.set.upgrade() else {
            return;
        };
        if self.group.stop.is_cancelled() {
            return;
        }
        let span = tracing::debug_span!("task", name);
        let named = async move {
            task.await;
            name
        };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        // Removes ended tasks, because nobody joins them before the group stops.
        while set.try_join_next().is_some() {}
        set.spawn(named.instrument(span));
    }

    /// The signal that asks tasks of this group to stop.
    pub fn stop_signal(&self) -> Stop {
        Stop(self.group.stop.clone())
    }
}

/// Runs a task, or other work that concerns one thing, such as a request. A panic is logged,
/// counted and returned.
///
/// # Errors
/// The message of the panic.
pub async fn without_panic<T>(
    name: &'static str,
    task: impl Future<Output = T>,
) -> Result<T, String> {
    let caught = AssertUnwindSafe(task).catch_unwind().await;
    caught.map_err(|panic| caught_panic(name, &*panic))
}

/// Runs work that may wait for the disk, in a thread where it blocks no task. A panic is logged,
/// counted and returned. Work that has begun is finished even if the caller stops waiting.
///
/// # Errors
/// The message of the panic, or that the process is ending.
pub async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let work = move || std::panic::catch_unwind(AssertUnwindSafe(work));
    match tokio::task::spawn_blocking(work).await {
        Ok(caught) => caught.map_err(|panic| caught_panic(name, &*panic)),
        Err(stopped) => Err(stopped.to_string()),
    }
}

/// Logs and counts a panic that was caught. Returns its message.
pub fn caught_panic(name: &'static str, panic: &(dyn Any + Send)) -> String {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let message = panic_message(panic);
    error!(task = name, message, "a task panicked, which is a bug");
    message
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it says nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::ErrorChain;

    #[tokio::test]
    async fn dropping_the_owner_ends_its_tasks() {
        let tasks = Tasks::new("test");
        let (alive, gone) = oneshot::channel::<()>();
        tasks.spawn("sleeper", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(tasks);
        assert!(gone.await.is_err(), "the sender was dropped with its task");
    }

    #[tokio::test]
    async fn a_part_that_ends_in_whatever_way_fails_its_group_at_once() {
        let broken = || Err::<(), BoxError>("the disk is gone".into());
        let said = |failure: PartFailure| ErrorChain(&failure).to_string();
        for (index, expected) in [
            "clock ended unexpectedly",
            "clock failed: the disk is gone",
            "clock panicked, which is a bug: on purpose",
        ]
        .into_iter()
        .enumerate()
        {
            let tasks = Tasks::new("test");
            let stop = tasks.stop_signal();
            match index {
                0 => tasks.spawn_part("clock", async {}),
                1 => tasks.spawn_part("clock", async move { broken() }),
                _ => tasks.spawn_part("clock", async move {
                    if index > 1 {
                        panic!("on purpose")
                    }
                }),
            }
            // The end of a task is noticed although nobody joins the tasks.
            assert_eq!(said(tasks.failure().await), expected);
            stop.requested().await;
        }
    }

    #[tokio::test]
    async fn a_part_that_was_asked_to_stop_has_not_failed() {
        let tasks = Tasks::new("test");
        let (stop, failure) = (tasks.stop_signal(), tasks.failure());
        tasks.spawn_part("polite", async move { stop.requested().await });
        tasks.stop().await;
        assert!(failure.now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_awaited_task_may_end_and_may_not_panic() {
        let tasks = Tasks::new("test");
        let (stop, failure) = (tasks.stop_signal(), tasks.failure());
        let (done, seen) = oneshot::channel();
        tasks.spawner().spawn_awaited("report", async move { done.send(()).unwrap() });
        seen.await.unwrap();
        tasks.spawner().spawn_awaited("report", async move { assert!(stop.is_requested()) });
        assert_eq!(failure.await.part(), "report");
    }

    #[tokio::test]
    async fn a_panic_in_a_task_about_one_thing_hurts_that_one_alone() {
        let tasks = Tasks::new("test");
        let before = panics();
        let (says, heard) = oneshot::channel::<()>();
        tasks.spawn("breaks", async move {
            let _says = says;
            panic!("on purpose");
        });
        assert!(heard.await.is_err(), "it is gone");
        let (done, seen) = oneshot::channel();
        tasks.spawn("works", async move { done.send(()).unwrap() });
        seen.await.unwrap();
        assert!(!tasks.stop_signal().is_requested());
        assert!(panics() > before);
    }

    #[tokio::test]
    async fn work_that_panics_beside_the_executor_is_counted_and_says_why() {
        let before = panics();
        let broken = blocking("breaks", move || assert!(before == u64::MAX, "on purpose")).await;
        assert_eq!(broken, Err("on purpose".to_owned()));
        assert!(panics() > before);
        assert_eq!(blocking("works", || 7).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_is_ended_after_the_grace() {
        let tasks = Tasks::new("test");
        let (alive, gone) = oneshot::channel::<()>();
        tasks.spawn("deaf", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(!tasks.stop_within(Duration::from_secs(5)).await);
        assert!(gone.await.is_err());
    }

    #[tokio::test]
    async fn stop_waits_for_the_end() {
        let tasks = Tasks::new("test");
        let stop = tasks.stop_signal();
        let (done, seen) = oneshot::channel();
        tasks.spawn("polite", async move {
            stop.requested().await;
            done.send(()).unwrap();
        });
        tasks.stop().await;
        seen.await.unwrap();
    }
}
