//! Feeds the snapshot from a watch, decides, and sends what was decided.
//!
//! # Invariants
//!
//! * Only the leader decides, and each leader on a list of its own, read after it won: it shows
//!   every binding that an earlier leader could still write.
//! * A binding is sent again until it is known what became of it; its promise stands until then, and
//!   until the watch shows the binding.
//! * News and answers are taken in before the next decision.

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

/// The component whose leader decides.
pub const COMPONENT: &str = "scheduler";
/// What the scheduler watches.
const KINDS: [KindId; 4] = [KindId::Node, KindId::PartitionSet, KindId::TaskTemplate, KindId::Task];
/// Batches of bindings that are on their way at once: enough that the next are decided while the
/// store makes the ones before durable.
const BATCHES_MAX: usize = 8;
/// Updates and answers that wait to be taken in.
const QUEUE_MAX: usize = 16;
/// How often reasons are written: they change with every decision while much is going on.
const REASONS_PERIOD: Duration = Duration::from_secs(1);
/// Tasks of a class that are told why they wait; all of them wait for the same reason.
const TOLD_TASKS_MAX: usize = 100;
/// A refused binding is not decided again for so long, unless the watch shows the task changed.
const REFUSED_WAIT: SignedDuration = SignedDuration::from_millis(200);
/// The same for one that can never happen: for who reads the log.
const INVALID_WAIT: SignedDuration = SignedDuration::from_secs(60);

/// What a scheduler needs of its surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster.
    pub client: Client,
    /// Tells when tasks that wait for a time are due.
    pub clock: Clock,
    /// For its identity and for back-off.
    pub rng: Rng,
    /// Where it shows what does not work.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
    /// Tasks that other parts of this process hold, too.
    pub parsed: Parsed,
}

/// Stands for election, decides while it leads, and stands again; until it is to stop or a part
/// fails.
pub async fn run(config: Config, stop: Stop) -> Result<(), PartFailure> {
    let Config { client, clock, rng, .. } = &config;
    let term = |leader, tasks: &Tasks| Term::new(&config, leader, tasks).run();
    runtime::lead((client, COMPONENT), clock.clone(), (rng, &config.health), &stop, term).await
}

/// The work of one leadership.
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
    /// Batches of bindings that are not answered wholly.
    batches: usize,
    /// Whether the last decision left something to decide.
    more: bool,
    /// When the first task's waiting time is over.
    wake_at: Option<Timestamp>,
    /// Classes whose tasks are to be told why they wait.
    untold: BTreeSet<ClassId>,
    /// When reasons may be written again.
    tell_at: Instant,
}

/// What a turn of the loop begins with.
#[derive(Debug)]
enum Event {
    News(Update),
    Answer(Answer),
    /// Something is to be decided or told.
    Due,
}

/// Whether the term goes on.
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
        // In a task of its own: a reflector that is dropped while it waits loses its watch.
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
            // A closed channel means that the part which feeds it has failed, which ends the term.
            Some(answer) = self.answers.recv() => Event::Answer(answer),
            Some(update) = self.news.recv() => Event::News(update),
            () = wait_until(due) => Event::Due,
        }
    }

    /// When there is something to do even if nothing is heard.
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

    /// Takes in an event and all that came with it.
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

    /// Decides one batch, if it can be sent.
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

    /// Tells tasks why they wait, those that were not told the same before.
    fn tell(&mut self) {
        if self.untold.is_empty() || Instant::now() < self.tell_at {
            return;
        }
        self.tell_at = Instant::now() + REASONS_PERIOD;
        let mut ops = Vec::new();
        while ops.len() + TOLD_TASKS_MAX <= BATCH_OPS_MAX
            && let Some(class) = self.untold.pop_first()
        {
            // Something may have become free since: then it is about to get a node.
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

/// What a snapshot is told of an object; nothing of kinds that it does not know.
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

/// The same of one that is gone.
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
