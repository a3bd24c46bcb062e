//! What goes wrong on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Rng;
use tokio::sync::watch;

/// Why a group is answered by [`Outcome::Unknown`](crate::Outcome::Unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It was tried as usual; the answer was lost.
    AnswerLost,
    /// It never arrived.
    RequestLost,
    /// It is tried after so much (virtual) time.
    Late(Duration),
}

/// Makes a simulated store misbehave. Clones steer the same store.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Guards the plan; held for one look or change.
    plan: Arc<Mutex<Plan>>,
    signal: watch::Sender<Signal>,
}

/// What open watches must hear of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signal {
    /// How many times all watches were cut.
    pub(crate) cuts: u64,
    /// Whether nothing can be read.
    pub(crate) reads_fail: bool,
}

#[derive(Debug, Default)]
struct Plan {
    next: VecDeque<Fault>,
    random: Option<Random>,
    delays: Option<(Rng, Duration)>,
    full: bool,
}

#[derive(Debug)]
struct Random {
    rng: Rng,
    per_mille: u64,
    late_max: Duration,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self { plan: Arc::default(), signal: watch::Sender::default() }
    }

    /// The next `count` groups end this way, before any at random.
    pub fn next_groups(&self, count: usize, fault: Fault) {
        self.with(|plan| plan.next.extend(std::iter::repeat_n(fault, count)));
    }

    /// `per_mille` of a thousand groups go wrong from now on, in each of the three ways alike;
    /// late ones by at most `late_max`.
    pub fn at_random(&self, rng: Rng, per_mille: u64, late_max: Duration) {
        self.with(|plan| plan.random = Some(Random { rng, per_mille, late_max }));
    }

    /// Every answer takes up to `max` of (virtual) time from now on. What was asked happens first.
    pub fn delay_answers(&self, rng: Rng, max: Duration) {
        self.with(|plan| plan.delays = Some((rng, max)));
    }

    /// From now on (or no longer) nothing can be read: reads, watches and all about node leases
    /// are unavailable.
    pub fn fail_reads(&self, fail: bool) {
        self.signal.send_modify(|signal| signal.reads_fail = fail);
    }

    /// From now on (or no longer) there is no room: what puts something, and grants of node leases,
    /// are refused. Deletes and renewals go on, as in etcd.
    pub fn fill(&self, full: bool) {
        self.with(|plan| plan.full = full);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.with(|plan| plan.full)
    }

    /// Ends every open watch.
    pub fn cut_watches(&self) {
        self.signal.send_modify(|signal| signal.cuts += 1);
    }

    /// Nothing goes wrong from now on. Groups that are late still come.
    pub fn heal(&self) {
        self.with(|plan| *plan = Plan::default());
        self.fail_reads(false);
    }

    /// What becomes of the next group.
    pub(crate) fn draw(&self) -> Option<Fault> {
        self.with(|plan| {
            plan.next.pop_front().or_else(|| {
                let Random { rng, per_mille, late_max } = plan.random.as_ref()?;
                rng.chance(*per_mille).then(|| match rng.below(3) {
                    0 => Fault::AnswerLost,
                    1 => Fault::RequestLost,
                    _ => Fault::Late(below(rng, *late_max)),
                })
            })
        })
    }

    /// How long the next answer takes.
    pub(crate) fn draw_delay(&self) -> Duration {
        self.with(|plan| plan.delays.as_ref().map(|(rng, max)| below(rng, *max)))
            .unwrap_or_default()
    }

    pub(crate) fn signal(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Plan) -> T) -> T {
        act(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn below(rng: &Rng, max: Duration) -> Duration {
    let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX - 1);
    Duration::from_millis(rng.below(max_ms + 1))
}
