//! An operation that is repeated until it works, and that reports its failures.
//!
//! # Invariants
//!
//! * No failure is silent: the first one is logged as a warning, and while it keeps failing further
//!   warnings follow at growing intervals, at least once a minute.
//! * [`Health`] shows the failure while it lasts, whatever other operations with the same name do.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::health::Actor;
use crate::{Backoff, ErrorChain, Health};

/// The time between the first and the second warning. Each further one takes twice as long.
const SAY_AGAIN_MIN: Duration = Duration::from_secs(5);
/// Longest time between two warnings.
const SAY_AGAIN_MAX: Duration = Duration::from_secs(60);

/// An operation that is repeated until it works.
#[derive(Debug)]
pub struct Retry {
    /// A description of the operation for people.
    what: &'static str,
    backoff: Backoff,
    health: Health,
    /// Distinguishes this operation from others with the same name.
    actor: Actor,
    is_needed: bool,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    failures: u32,
    say_at: Instant,
    pause: Duration,
}

impl Retry {
    /// An operation without which the process cannot do its work.
    pub fn new(what: &'static str, backoff: Backoff, health: &Health) -> Self {
        Self::of(what, backoff, (health, true))
    }

    /// An operation whose failure does not prevent the process from working.
    pub fn aside(what: &'static str, backoff: Backoff, health: &Health) -> Self {
        Self::of(what, backoff, (health, false))
    }

    fn of(what: &'static str, backoff: Backoff, (health, is_needed): (&Health, bool)) -> Self {
        let (health, actor) = (health.clone(), health.actor());
        Self { what, backoff, health, actor, is_needed, failing: None }
    }

    /// Notes a failure and logs it if it is time. Returns how long to wait before the next try.
    pub fn failed(&mut self, error: &(dyn Error + 'static)) -> Duration {
        self.failed_because(&ErrorChain(error).to_string())
    }

    /// The same with a sentence in place of an error.
    pub fn failed_because(&mut self, why: &str) -> Duration {
        self.health.fail((self.actor, self.what), why, self.is_needed);
        let now = Instant::now();
        let failing = self.failing.get_or_insert(Failing {
            since: now,
            failures: 0,
            say_at: now,
            pause: SAY_AGAIN_MIN,
        });
        failing.failures = failing.failures.saturating_add(1);
        if failing.say_at <= now {
            failing.say_at = now + failing.pause;
            failing.pause = (failing.pause * 2).min(SAY_AGAIN_MAX);
            let (failures, lasts) = (failing.failures, now - failing.since);
            warn!(what = self.what, error = why, failures, ?lasts, "failed; trying again");
        }
        self.backoff.next_wait()
    }

    /// Notes a success.
    pub fn worked(&mut self) {
        self.backoff.reset();
        if let Some(failing) = self.failing.take() {
            self.health.succeed((self.actor, self.what));
            let (failures, lasted) = (failing.failures, failing.since.elapsed());
            info!(what = self.what, failures, ?lasted, "works again");
        }
    }

    /// Number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failing.as_ref().map_or(0, |failing| failing.failures)
    }
}

/// An operation that is given up, for example by a leader whose term is over, does not count as
/// failing.
impl Drop for Retry {
    fn drop(&mut self) {
        if self.failing.is_some() {
            self.health.succeed((self.actor, self.what));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;
    use crate::Rng;

    /// Counts the warnings that are logged.
    #[derive(Default)]
    struct Warnings {
        began: Option<Instant>,
        at: Arc<Mutex<Vec<u64>>>,
    }

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            struct Nothing;
            impl Visit for Nothing {
                fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
            }
            event.record(&mut Nothing);
            self.at.lock().unwrap().push(self.began.unwrap().elapsed().as_secs());
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_ever_is_said_at_once_and_then_at_least_once_a_minute() {
        let warnings = Warnings { began: Some(Instant::now()), ..Warnings::default() };
        let at = Arc::clone(&warnings.at);
        let _says = tracing::subscriber::set_default(warnings);
        let health = Health::default();
        let wait = Duration::from_secs(1);
        let mut retry = Retry::new("lease", Backoff::new(wait, wait, Rng::seeded(1)), &health);
        for _ in 0..200 {
            retry.failed(&io::Error::other("refused"));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(*at.lock().unwrap(), [0, 5, 15, 35, 75, 135, 195]);
        assert_eq!(health.problems()[0].why, "refused");
        retry.worked();
        assert_eq!(health.problems(), []);
        retry.failed(&io::Error::other("refused"));
        assert_eq!(at.lock().unwrap().last(), Some(&200), "a first failure is said at once");
        drop(retry);
        assert_eq!(health.problems(), [], "who gave up does not fail any more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_aside_shows_that_it_fails_and_the_process_is_ready() {
        let health = Health::default();
        let wait = Duration::from_secs(1);
        let mut retry = Retry::aside("images", Backoff::new(wait, wait, Rng::seeded(1)), &health);
        retry.failed_because("no registry");
        assert_eq!(health.problems(), []);
        assert!(health.tallies()[0].is_failing);
    }

    #[test]
    fn two_of_one_name_do_not_speak_for_each_other() {
        let health = Health::default();
        let wait = Duration::from_secs(1);
        let retry = || Retry::new("watching", Backoff::new(wait, wait, Rng::seeded(1)), &health);
        let (mut first, mut second) = (retry(), retry());
        first.failed_because("refused");
        second.failed_because("too late");
        second.worked();
        let why = |health: &Health| health.problems().into_iter().map(|it| it.why).collect();
        let seen: Vec<String> = why(&health);
        assert_eq!(seen, ["refused"], "the first one fails as before");
        second.failed_because("too late");
        drop(second);
        let seen: Vec<String> = why(&health);
        assert_eq!(seen, ["refused"]);
        first.worked();
        let seen: Vec<String> = why(&health);
        assert_eq!(seen, [""; 0]);
    }
}
