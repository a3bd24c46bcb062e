//! Feeds the snapshot from a watch, decides, and sends the decisions.
//!
//! # Invariants
//!
//! * Only the leader decides, and each leader begins with a list that it reads after it won: that
//!   list shows every binding that an earlier leader could still have written.
//! * A binding is sent again until its result is known. Its promise stands until then, and until
//!   the watch shows the binding.
//! * Updates and results are taken in before the next decision.

mod send;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use api::batch::{BATCH_OPS_MAX, Op};
use api::object::ObjectKey;
use api::task::transition::TaskChange;
use api::{KindId, Timestamp};
use base::{Clock, Health, PartFailure, Rng, Stop, Tasks};
use client::Client;
use jiff::SignedDuration;
use runtime::{Any, Parsed, Reflector, Update, reflector};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::class::ClassId;
use crate::metrics::{Metrics, Outcome};
use crate::plan::{Limits, explain, place};
use crate::snapshot::{Change, Snapshot};

use send::{Answer, Answered, Became, Sender};

/// The component that elects a leader for this work.
pub const COMPONENT: &str = "scheduler";
/// What the scheduler watches.
const KINDS: [KindId; 4] = [KindId::Node, KindId::PartitionSet, KindId::TaskTemplate, KindId::Task];
/// Most batches of bindings in progress: enough to decide the next ones while the store makes the
/// earlier ones durable.
const BATCHES_MAX: usize = 8;
/// Most updates and results that wait to be taken in.
const QUEUE_MAX: usize = 16;
/// How often reasons are written: while much is going on they change with every decision.
const REASONS_PERIOD: Duration = Duration::from_secs(1);
/// Most tasks of a class that are told why they wait; the reason is the same for all.
const TOLD_TASKS_MAX: usize = 100;
/// How long a refused binding is not decided again, unless the watch shows that the task has
/// changed.
const REFUSED_WAIT: SignedDuration = SignedDuration::from_millis(200);
/// The same for a binding that can never be stored, so that the log is not flooded.
const INVALID_WAIT: SignedDuration = SignedDuration::from_secs(60);

/// What a scheduler needs from its surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster.
    pub client: Client,
    /// Tells when delayed tasks are due.
    pub clock: Clock,
    /// For its identity and for back-off.
    pub rng: Rng,
    /// Where it reports what does not work.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
    /// Parsed tasks that are shared with other parts of this process.
    pub parsed: Parsed,
}

/// Stands for election, decides while it leads, and stands again, until it is stopped or a part
/// fails.
pub async fn run(config: Config, stop: Stop) -> Result<(), PartFailure> {
    let Config { client, clock, rng, .. } = &config;
    let term = |leader, tasks: &Tasks| Term::new(&config, leader, tasks).run();
    runtime::lead((client, COMPONENT), clock.clone(), (rng, &config.health), &stop, term).await
}

/// The work during one term as leader.
#[derive(Debug)]
struct Term {
    clock: Clock,
    metrics: Metrics,
    snapshot: Snapshot,
    news: mpsc::Receiver<Update>,
    answers: mpsc::Receiver<Answer>,
    sender: Sender,
    /// Whether the first list was read.
    is_ready: bool,
    /// Number of batches that are not answered completely.
    batches: usize,
    /// Whether the last decision left tasks that could be placed.
    more: bool,
    /// When the first delayed task is due.
    wake_at: Option<Timestamp>,
    /// Classes whose tasks have not been told yet why they wait.
    untold: BTreeSet<ClassId>,
    /// When reasons may be written again.
    tell_at: Instant,
}

/// What a turn of the loop begins with.
#[derive(Debug)]
enum Event {
    News(Update),
    Answer(Answer),
    /// It is time to decide or to tell reasons.
    Due,
}

/// Whether the term continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Deposed,
}

impl Term {
    fn new(config: &Config, leader: Client, tasks: &Tasks) -> Self {
        let (news_in, news) = mpsc::channel(QUEUE_MAX);
        let (answers_in, answers) = mpsc::channel(QUEUE_MAX);
        let rng = config.rng.fork("scheduler");
        let mut reflector = Reflector::new(leader.clone(), &KINDS, "", rng.clone())
            .shown_in(rng.clone(), &config.health)
            .sharing(config.parsed.clone());
        // In a task of its own, because a reflector that is dropped while it waits loses its watch.
        tasks.spawn_part("scheduler-watch", async move {
            while news_in.send(reflector.next().await).await.is_ok() {}
        });
        Self {
            clock: config.clock.clone(),
            metrics: config.metrics.clone(),
            snapshot: Snapshot::new(),
            news,
            answers,
            sender: Sender::new(leader, (rng, config.health.clone()), tasks.spawner(), answers_in),
            is_ready: false,
            batches: 0,
            more: false,
            wake_at: None,
            untold: BTreeSet::new(),
            tell_at: Instant::now(),
        }
    }

    /// Decides until another process leads.
    async fn run(mut self) {
        loop {
            let event = self.next_event().await;
            if self.on_event(event) == Next::Deposed {
                info!("another process is the leader now");
                return;
            }
            if self.is_ready {
                self.decide();
                self.tell();
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let due = self.due();
        tokio::select! {
            biased;
            // A closed channel means that the sending part has failed, which ends the term.
            Some(answer) = self.answers.recv() => Event::Answer(answer),
            Some(update) = self.news.recv() => Event::News(update),
            () = wait_until(due) => Event::Due,
        }
    }

    /// When there is something to do even if no event arrives.
    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.more && self.batches < BATCHES_MAX {
            return Some(now);
        }
        let tell_at = (!self.untold.is_empty()).then_some(self.tell_at);
        let wake_at = self.wake_at.map(|at| {
            let wait = at.duration_since(self.clock.now());
            now + Duration::try_from(wait).unwrap_or(Duration::ZERO)
        });
        [tell_at, wake_at].into_iter().flatten().min()
    }

    /// Takes in an event, and all others that are ready.
    fn on_event(&mut self, event: Event) -> Next {
        let mut next = match event {
            Event::News(update) => self.on_news(update),
            Event::Answer(answer) => self.on_answer(answer),
            Event::Due => Next::GoOn,
        };
        while next == Next::GoOn {
            next = if let Ok(answer) = self.answers.try_recv() {
                self.on_answer(answer)
            } else if let Ok(update) = self.news.try_recv() {
                self.on_news(update)
            } else {
                break;
            };
        }
        next
    }

    fn on_news(&mut self, update: Update) -> Next {
        match update {
            Update::Reset { objects, .. } => {
                self.snapshot.reset(objects.into_iter().filter_map(upsert).collect());
                self.is_ready = true;
            }
            Update::Changes { changes, .. } => {
                for change in changes.into_iter().filter_map(change) {
                    self.snapshot.apply(change);
                }
            }
        }
        Next::GoOn
    }

    fn on_answer(&mut self, answer: Answer) -> Next {
        for Answered { task, attempt, became } in answer.bindings {
            let outcome = match became {
                // The promise stands until the watch shows the binding.
                Became::Bound => Outcome::Bound,
                Became::Refused(message) => {
                    debug!(%task, attempt, message, "binding refused");
                    self.put_back(&task, attempt, REFUSED_WAIT);
                    Outcome::Refused
                }
                Became::Impossible(message) => {
                    warn!(%task, attempt, message, "binding is not possible");
                    self.put_back(&task, attempt, INVALID_WAIT);
                    Outcome::Invalid
                }
                Became::Deposed => return Next::Deposed,
            };
            self.metrics.answered(outcome);
        }
        if answer.is_last {
            self.batches -= 1;
        }
        Next::GoOn
    }

    fn put_back(&mut self, task: &ObjectKey, attempt: u32, wait: SignedDuration) {
        let retry_at = self.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.snapshot.put_back(task, attempt, retry_at);
    }

    /// Decides one batch if it can be sent.
    fn decide(&mut self) {
        if self.batches >= BATCHES_MAX {
            self.more = true;
            return;
        }
        let started = Instant::now();
        let limits = Limits { now: self.clock.now(), bindings_max: BATCH_OPS_MAX };
        let plan = place(&mut self.snapshot, &limits);
        self.metrics.decided(started.elapsed());
        self.metrics.waiting(self.snapshot.pending(), self.snapshot.parked());
        (self.more, self.wake_at) = (plan.more, plan.wake_at);
        self.untold.extend(plan.waiting);
        if !plan.bindings.is_empty() {
            debug!(bindings = plan.bindings.len(), more = plan.more, "decided");
            self.batches += 1;
            self.sender.bind(&plan.bindings);
        }
    }

    /// Tells tasks why they wait, if they were not told the same before.
    fn tell(&mut self) {
        if self.untold.is_empty() || Instant::now() < self.tell_at {
            return;
        }
        self.tell_at = Instant::now() + REASONS_PERIOD;
        let mut ops = Vec::new();
        while ops.len() + TOLD_TASKS_MAX <= BATCH_OPS_MAX
            && let Some(class) = self.untold.pop_first()
        {
            // A node may have become free since; then the class is about to be placed.
            let explanation = explain(&self.snapshot, class).filter(|why| !why.fits());
            let Some(message) = explanation.map(|why| why.to_string()) else { continue };
            let tasks = self.snapshot.waiting_tasks(class).take(TOLD_TASKS_MAX);
            let untold = tasks.filter(|task| {
                let told = task.spec.unschedulable.as_ref();
                !told.is_some_and(|told| {
                    told.attempt == task.spec.attempt && told.message == message
                })
            });
            ops.extend(untold.map(|task| {
                Op::task(task, TaskChange::Unschedulable { message: message.clone() })
            }));
        }
        if !ops.is_empty() {
            self.sender.tell(ops);
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The change of the snapshot for an object; nothing for kinds that it does not need.
fn upsert(object: Any) -> Option<Change> {
    if let Any::Node(node) = object {
        Some(Change::Node(node))
    } else if let Any::Task(task) = object {
        Some(Change::Task(task))
    } else if let Any::TaskTemplate(template) = object {
        Some(Change::TaskTemplate(template))
    } else if let Any::PartitionSet(set) = object {
        Some(Change::PartitionSet(set))
    } else {
        None
    }
}

/// The change of the snapshot for a deleted object.
fn gone(kind: KindId, key: ObjectKey) -> Option<Change> {
    if kind == KindId::Node {
        Some(Change::NodeGone(key.name))
    } else if kind == KindId::Task {
        Some(Change::TaskGone(key))
    } else if kind == KindId::TaskTemplate {
        Some(Change::TaskTemplateGone(key))
    } else if kind == KindId::PartitionSet {
        Some(Change::PartitionSetGone(key))
    } else {
        None
    }
}

fn change(change: reflector::Change) -> Option<Change> {
    match change {
        reflector::Change::Upsert(object) => upsert(object),
        reflector::Change::Remove(kind, key) => gone(kind, key),
    }
}
