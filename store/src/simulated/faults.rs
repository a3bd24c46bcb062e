//! Faults of the simulated store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Rng;
use tokio::sync::watch;

/// Why a group is answered with [`Outcome::Unknown`](crate::Outcome::Unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It was tried as usual, and the answer was lost.
    AnswerLost,
    /// It never arrived.
    RequestLost,
    /// It is tried after this much virtual time.
    Late(Duration),
}

/// Controls the faults of a simulated store. Clones control the same store.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Guards the faults for one read or change.
    plan: Arc<Mutex<FaultPlan>>,
    signal: watch::Sender<Signal>,
}

/// What open watches have to notice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signal {
    /// How many times all watches were cut.
    pub(crate) cuts: u64,
    /// Whether reads fail.
    pub(crate) reads_fail: bool,
}

#[derive(Debug, Default)]
struct FaultPlan {
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

    /// The next `count` groups have this fault, before any random ones.
    pub fn next_groups(&self, count: usize, fault: Fault) {
        self.with(|plan| plan.next.extend(std::iter::repeat_n(fault, count)));
    }

    /// From now on `per_mille` of a thousand groups have a fault, each kind with the same
    /// probability; late ones are delayed by at most `late_max`.
    pub fn at_random(&self, rng: Rng, per_mille: u64, late_max: Duration) {
        self.with(|plan| plan.random = Some(Random { rng, per_mille, late_max }));
    }

    /// From now on every answer is delayed by at most `max` of virtual time. The request itself is
    /// carried out first.
    pub fn delay_answers(&self, rng: Rng, max: Duration) {
        self.with(|plan| plan.delays = Some((rng, max)));
    }

    /// Makes reads, watches and everything about node leases fail as unavailable, or work again.
    pub fn fail_reads(&self, fail: bool) {
        self.signal.send_modify(|signal| signal.reads_fail = fail);
    }

    /// Makes the store full, or not: puts and grants of node leases are refused. Deletes and
    /// renewals still work, as in etcd.
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

    /// Ends all faults. Delayed groups still come.
    pub fn heal(&self) {
        self.with(|plan| *plan = FaultPlan::default());
        self.fail_reads(false);
    }

    /// The fault of the next group, if it has one.
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

    /// The delay of the next answer.
    pub(crate) fn draw_delay(&self) -> Duration {
        self.with(|plan| plan.delays.as_ref().map(|(rng, max)| below(rng, *max)))
            .unwrap_or_default()
    }

    pub(crate) fn signal(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    fn with<T>(&self, act: impl FnOnce(&mut FaultPlan) -> T) -> T {
        act(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn below(rng: &Rng, max: Duration) -> Duration {
    let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX - 1);
    Duration::from_millis(rng.below(max_ms + 1))
}
