//! The only place that spawns: named tasks with an owner and an end.
//!
//! # Invariants
//!
//! * A task never outlives its [`Tasks`]: dropping the owner aborts what still runs, which is how
//!   a simulation crashes a component.
//! * A task that panics stops its whole tree, and [`Tasks::run`] says which one it was: half of a
//!   component running on is worse than none.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error};

/// Owns a group of tasks.
#[derive(Debug)]
pub struct Tasks {
    name: &'static str,
    stop: CancellationToken,
    /// Guards the set for one insertion or one poll.
    set: Arc<Mutex<JoinSet<&'static str>>>,
}

/// Spawns into a [`Tasks`] without owning it. After the owner is gone it spawns nothing.
#[derive(Debug, Clone)]
pub struct Spawner {
    stop: CancellationToken,
    set: Weak<Mutex<JoinSet<&'static str>>>,
}

/// Tells a task that it is to stop.
#[derive(Debug, Clone)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Ends when the task is to stop; never before.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Whether it is to stop.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl Tasks {
    /// An empty group.
    pub fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), set: Arc::default() }
    }

    /// A handle that spawns here and can be given away.
    pub fn spawner(&self) -> Spawner {
        Spawner { stop: self.stop.clone(), set: Arc::downgrade(&self.set) }
    }

    /// Spawns a task.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner().spawn(name, task);
    }

    /// What tasks of this group wait on to end cleanly.
    pub fn stop_signal(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Asks every task to stop and does not wait.
    pub fn request_stop(&self) {
        self.stop.cancel();
    }

    /// Asks every task to stop and waits until all have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.run().await;
    }

    /// Asks every task to stop, waits for those that end by themselves, at most `grace`, and ends
    /// the others. Whether all had ended by themselves.
    pub async fn stop_within(self, grace: Duration) -> bool {
        tokio::time::timeout(grace, self.stop()).await.is_ok()
    }

    /// Runs until every task has ended; a panic stops the others and ends as an `Err` that names
    /// nothing but the group (the panic itself was printed).
    pub async fn run(&self) -> bool {
        let mut clean = true;
        while let Some(ended) = std::future::poll_fn(|context| {
            self.set.lock().unwrap_or_else(PoisonError::into_inner).poll_join_next(context)
        })
        .await
        {
            match ended {
                Ok(task) => debug!(group = self.name, task, "task ended"),
                Err(failed) if failed.is_cancelled() => (),
                Err(failed) => {
                    error!(group = self.name, error = %failed, "task panicked");
                    clean = false;
                    self.stop.cancel();
                }
            }
        }
        clean
    }
}

impl Spawner {
    /// Spawns a task, or drops it when the owner is gone or stopping.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let Some(set) = self.set.upgrade() else {
            return;
        };
        if self.stop.is_cancelled() {
            return;
        }
        let span = tracing::debug_span!("task", name);
        let named = async move {
            task.await;
            name
        };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        // Short-lived tasks of a group that nobody runs would pile up as results.
        while let Some(ended) = set.try_join_next() {
            if let Err(failed) = ended
                && failed.is_panic()
            {
                error!(error = %failed, "task panicked");
                self.stop.cancel();
            }
        }
        set.spawn(named.instrument(span));
    }

    /// What tasks of this group wait on to end cleanly.
    pub fn stop_signal(&self) -> Stop {
        Stop(self.stop.clone())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

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
    async fn a_panic_stops_the_whole_group() {
        let tasks = Tasks::new("test");
        let stop = tasks.stop_signal();
        tasks.spawn("waits", async move { stop.requested().await });
        tasks.spawn("breaks", async { panic!("on purpose") });
        assert!(!tasks.run().await);
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
