//! The single task that writes. It takes groups as they come, and keeps a few transactions in
//! flight.
//! There is no timer: whenever a slot is free, a transaction is sent with every waiting group that
//! fits. So a single caller need not wait, and a thousand callers share transactions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::Stop;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::etcd::Remote;
use crate::etcd::format::{Keyspace, WriteId, signed};
use crate::etcd::plan::{Load, Waiting, expected, gather, waits_for};
use crate::etcd::send::Ending;
use crate::etcd::transaction::Named;
use crate::group::check_bounds;
use crate::{Change, Group, Outcome};

/// How many calls fit into the queue; further callers wait to enter it.
pub(crate) const QUEUE_CALLS_MAX: usize = 1024;
/// How many groups may wait for a transaction. Above this, no more calls are taken from the queue.
const WAITING_GROUPS_MAX: usize = 8192;
/// How many transactions are in flight at once: enough to keep etcd busy while answers travel, and
/// few enough for transactions to fill up.
const SLOTS: usize = 4;
/// How long a group is tried.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// A commit call, and where to send its outcomes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) groups: Vec<Group>,
    pub(crate) answer: oneshot::Sender<Vec<Outcome>>,
}

/// A group that is ready to be sent.
#[derive(Debug)]
struct Ready {
    place: OutcomeSlot,
    named: Named,
    load: Load,
    alone: bool,
    deadline: Instant,
}

/// Where the outcome of a group belongs.
#[derive(Debug, Clone, Copy)]
struct OutcomeSlot {
    call: u64,
    index: usize,
}

/// A call with groups that have not ended.
#[derive(Debug)]
struct Call {
    answer: oneshot::Sender<Vec<Outcome>>,
    deadline: Instant,
    outcomes: Vec<Option<Outcome>>,
    open: usize,
    /// The groups that wait for other groups of this call.
    held: BTreeMap<usize, Group>,
    /// For each group, how many others it waits for, and which ones wait for it.
    waits: Vec<usize>,
    waited_for: Vec<Vec<usize>>,
}

/// Everything that waits.
#[derive(Debug)]
struct Queue {
    /// Identifies this process among those that write.
    writer: u64,
    last_id: u64,
    last_call: u64,
    calls: BTreeMap<u64, Call>,
    ready: VecDeque<Ready>,
}

/// The result of a transaction.
type Sent = Vec<(OutcomeSlot, Instant, Ending)>;

/// Runs until it is told to stop or every handle is gone. What is in the queue by then is still
/// done. `writer` must not be the number of another process.
pub(crate) async fn run(
    remote: Arc<Remote>,
    writer: u64,
    mut requests: mpsc::Receiver<Request>,
    stop: Stop,
) {
    let mut queue =
        Queue { writer, last_id: 0, last_call: 0, calls: BTreeMap::new(), ready: VecDeque::new() };
    let mut sending: FuturesUnordered<BoxFuture<'static, Sent>> = FuturesUnordered::new();
    let mut received = Vec::new();
    let mut open = true;
    while open || !queue.calls.is_empty() {
        let takes = open && queue.ready.len() < WAITING_GROUPS_MAX;
        tokio::select! {
            biased;
            () = stop.requested(), if open && !requests.is_closed() => requests.close(),
            Some(sent) = sending.next(), if !sending.is_empty() => queue.end(sent),
            count = requests.recv_many(&mut received, QUEUE_CALLS_MAX), if takes => {
                open = count > 0;
                received.drain(..).for_each(|request| queue.add(request));
            }
        }
        while sending.len() < SLOTS {
            let Some(transaction) = queue.next(remote.members.is_full()) else {
                break;
            };
            sending.push(Box::pin(send(Arc::clone(&remote), transaction)));
        }
    }
}

async fn send(remote: Arc<Remote>, transaction: Vec<Ready>) -> Sent {
    // Groups that were combined have about the same deadline; a group that was split off has less
    // time.
    let deadline = transaction.iter().map(|ready| ready.deadline).max();
    let (places, groups): (Vec<_>, Vec<_>) =
        transaction.into_iter().map(|ready| ((ready.place, ready.deadline), ready.named)).unzip();
    let endings = remote.send(groups, deadline.unwrap_or_else(Instant::now)).await;
    places.into_iter().zip(endings).map(|((place, at), ending)| (place, at, ending)).collect()
}

impl Queue {
    fn add(&mut self, Request { groups, answer }: Request) {
        self.last_call += 1;
        let call = self.last_call;
        let waits_for = waits_for(&groups);
        let mut waited_for = vec![Vec::new(); groups.len()];
        for (index, before) in waits_for.iter().enumerate() {
            before.iter().for_each(|before| waited_for[*before].push(index));
        }
        let waits: Vec<usize> = waits_for.iter().map(|before| before.len()).collect();
        let free: Vec<usize> = (0..groups.len()).filter(|index| waits[*index] == 0).collect();
        let outcomes = vec![None; groups.len()];
        let deadline = Instant::now() + COMMIT_PATIENCE;
        let (open, held) = (groups.len(), groups.into_iter().enumerate().collect());
        let state = Call { answer, deadline, outcomes, open, held, waits, waited_for };
        self.calls.insert(call, state);
        if open == 0 {
            self.answer(call);
        }
        for index in free {
            self.make_ready(OutcomeSlot { call, index });
        }
    }

    /// A group no longer waits for others of its call.
    fn make_ready(&mut self, place: OutcomeSlot) {
        let Some(call) = self.calls.get_mut(&place.call) else {
            return;
        };
        let deadline = call.deadline;
        let Some(group) = call.held.remove(&place.index) else {
            return;
        };
        if let Err(reason) = check(&group) {
            return self.finish(place, Outcome::Invalid(reason));
        }
        self.last_id += 1;
        let id = WriteId(u128::from(self.writer) << 64 | u128::from(self.last_id));
        let load = Load::of(&group);
        let (alone, named) = (load.goes_alone(), Named { group, id });
        self.ready.push_back(Ready { place, named, load, alone, deadline });
    }

    fn finish(&mut self, place: OutcomeSlot, outcome: Outcome) {
        let Some(call) = self.calls.get_mut(&place.call) else {
            return;
        };
        call.outcomes[place.index] = Some(outcome);
        call.open -= 1;
        let mut freed = Vec::new();
        for index in std::mem::take(&mut call.waited_for[place.index]) {
            call.waits[index] -= 1;
            if call.waits[index] == 0 {
                freed.push(index);
            }
        }
        if call.open == 0 {
            self.answer(place.call);
        }
        for index in freed {
            self.make_ready(OutcomeSlot { call: place.call, index });
        }
    }

    fn answer(&mut self, call: u64) {
        if let Some(call) = self.calls.remove(&call) {
            let outcomes = call.outcomes.into_iter().map(|it| it.unwrap_or(Outcome::Unknown));
            // The caller may have stopped waiting.
            let _ = call.answer.send(outcomes.collect());
        }
    }

    /// A transaction has ended.
    fn end(&mut self, sent: Sent) {
        for (place, deadline, ending) in sent {
            match ending {
                Ending::Outcome(outcome) => self.finish(place, outcome),
                Ending::Alone(named) => {
                    let load = Load::of(&named.group);
                    self.ready.push_back(Ready { place, named, load, alone: true, deadline });
                }
            }
        }
    }

    /// The groups of the next transaction, if any are waiting.
    fn next(&mut self, is_full: bool) -> Option<Vec<Ready>> {
        self.give_up_late(Instant::now());
        let waiting = self.ready.iter().map(|ready| Waiting {
            group: &ready.named.group,
            load: ready.load,
            alone: ready.alone,
        });
        let chosen = gather(waiting, is_full);
        let last = *chosen.last()?;
        let mut transaction = Vec::with_capacity(chosen.len());
        let mut rest = Vec::new();
        let mut chosen = chosen.into_iter().peekable();
        for (place, ready) in self.ready.drain(..=last).enumerate() {
            if chosen.next_if_eq(&place).is_some() {
                transaction.push(ready);
            } else {
                rest.push(ready);
            }
        }
        rest.into_iter().rev().for_each(|ready| self.ready.push_front(ready));
        Some(transaction)
    }

    /// Gives up groups that have waited for too long. They have not happened.
    fn give_up_late(&mut self, now: Instant) {
        while let Some(late) = self.ready.pop_front_if(|ready| ready.deadline <= now) {
            self.finish(late.place, Outcome::Unknown);
        }
    }
}

/// Whether etcd could accept the group at all.
fn check(group: &Group) -> Result<(), String> {
    check_bounds(group)?;
    let mut keys =
        group.writes.iter().map(|write| &write.key).chain(expected(group).map(|it| it.0));
    if let Some(own) = keys.find(|key| Keyspace::is_own(key)) {
        return Err(format!("{own} is the store's own"));
    }
    for write in &group.writes {
        if let Change::Put { lease: Some(lease), .. } = write.change
            && signed(lease.0).is_none_or(|lease| lease == 0)
        {
            return Err(format!("node lease {} is not there", lease.0));
        }
    }
    Ok(())
}
