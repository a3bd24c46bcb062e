//! Sends a transaction, and finds out what happened to it.
//!
//! # Invariants
//!
//! * An answer that says done or refused is reliable. If a transaction got no answer (a time-out, a
//!   lost leader, a broken connection), a barrier is put, and the history up to it is read. A group
//!   whose write id is found there has happened, and the others are sent again under the same id.
//! * If etcd is full, its answer means that nothing is in progress any more. The history is then
//!   read without a barrier, which could not be put.
//! * It ends by the deadline. Outcomes that are not known by then are reported as unknown.
//!
//! Two cases are not covered. First, a member may delay a try for longer than the search takes, and
//! commit it then. Because of what the group expects, it can only happen a second time if somebody
//! has undone the first meanwhile; a group that expects nothing writes the same values again.
//! Second, somebody may delete everything that the write which filled etcd had put, before we look
//! for it: that write is then taken for a refused one.

use base::Backoff;
use etcd_client::{Client, GetOptions, Txn, TxnOp, TxnOpResponse};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, info, warn};

use crate::etcd::Remote;
use crate::etcd::doubt::{History, Verdict};
use crate::etcd::format::{Decoded, revision};
use crate::etcd::members::{CALL_TIMEOUT, MESSAGE_BYTES_MAX, Trouble};
use crate::etcd::transaction::{Answer, Form, Named, build, read_answer};
use crate::etcd::watch::Stream;
use crate::{Change, Outcome, Revision};

/// Logs what was in a transaction, to find out what is slow.
fn tell(groups: &[Named], outcomes: &[Outcome]) {
    let refused: Vec<&Outcome> =
        outcomes.iter().filter(|it| matches!(it, Outcome::Refused { .. })).collect();
    debug!(
        groups = groups.len(),
        writes = groups.iter().map(|named| named.group.writes.len()).sum::<usize>(),
        refused = refused.len(),
        first = %groups[0].group.writes.first().map_or("", |write| &write.key),
        why = ?refused.first(), // Keys and revisions: no value can be shown.
        "a transaction was committed"
    );
}

/// Whether a group put something, which means that etcd is not full. (A full etcd still accepts
/// deletes.)
fn took_room((named, outcome): (&Named, &Outcome)) -> bool {
    outcome.is_done() && named.group.puts()
}

/// How sending ended for a group.
#[derive(Debug)]
pub(crate) enum Ending {
    Outcome(Outcome),
    /// etcd refuses the transaction because of one of its groups: send this one alone.
    Alone(Named),
}

/// What to do after a try.
enum Next {
    End(Vec<Ending>),
    /// It may have happened, or may still happen.
    Doubt,
    /// It may have happened, but will not happen any more: etcd is full.
    Full,
    /// It has not happened.
    Again,
    /// It has not happened, because a group was refused. Find out which one.
    Conflict,
}

impl Remote {
    /// Sends `groups`, which planning has combined, and returns how each of them ended.
    pub(crate) async fn send(&self, groups: Vec<Named>, deadline: Instant) -> Vec<Ending> {
        let mut backoff = self.members.backoff();
        let mut endings: Vec<Option<Ending>> = Vec::new();
        endings.resize_with(groups.len(), || None);
        let mut form = Form::first(&groups);
        let mut left: Vec<(usize, Named)> = groups.into_iter().enumerate().collect();
        let mut doubted_since = None;
        while !left.is_empty() && Instant::now() < deadline {
            if let Some(since) = doubted_since {
                let bound = Bound::Barrier;
                if self.settle((since, bound), &mut left, &mut endings, deadline).await {
                    doubted_since = None;
                } else {
                    wait(&mut backoff, deadline).await;
                }
                continue;
            }
            let seen = self.members.seen();
            let (places, groups): (Vec<usize>, Vec<Named>) = left.drain(..).unzip();
            match self.send_once(groups, form, deadline).await {
                (_, Next::End(ends)) => {
                    for (place, ending) in places.into_iter().zip(ends) {
                        endings[place] = Some(ending);
                    }
                }
                (groups, Next::Conflict) => {
                    left = places.into_iter().zip(groups).collect();
                    form = Form::Each;
                }
                (groups, Next::Full) => {
                    left = places.into_iter().zip(groups).collect();
                    let bound = Bound::Newest;
                    if self.settle((seen, bound), &mut left, &mut endings, deadline).await {
                        let is_mixed = left.iter().any(|(_, named)| named.group.puts());
                        for (place, named) in left.drain(..) {
                            // It only deletes, and was refused because of the others.
                            endings[place] = Some(if is_mixed && !named.group.puts() {
                                Ending::Alone(named)
                            } else {
                                Ending::Outcome(Outcome::Full(Trouble::Full.to_string()))
                            });
                        }
                    }
                    break;
                }
                (groups, next) => {
                    left = places.into_iter().zip(groups).collect();
                    doubted_since = matches!(next, Next::Doubt).then_some(seen);
                    wait(&mut backoff, deadline).await;
                }
            }
        }
        let known = |ending: Option<Ending>| ending.unwrap_or(Ending::Outcome(Outcome::Unknown));
        endings.into_iter().map(known).collect()
    }

    /// Tries once. Returns the groups unless it was the last try.
    async fn send_once(
        &self,
        groups: Vec<Named>,
        form: Form,
        deadline: Instant,
    ) -> (Vec<Named>, Next) {
        let transaction = build(&groups, form, &self.keys);
        let calling = self.members.call(|client| commit(client, transaction));
        let trouble = match timeout_at(deadline, calling).await {
            Ok(Ok(answer)) => {
                return match self
                    .members
                    .learn(answer.header())
                    .map_err(|trouble| trouble.to_string())
                    .and_then(|_| {
                        let read = read_answer(answer.0, &groups, form, &self.keys);
                        read.map_err(|it| it.to_string())
                    }) {
                    Ok(Answer::Conflict) => (groups, Next::Conflict),
                    Ok(Answer::Ended(outcomes)) => {
                        if groups.iter().zip(&outcomes).any(took_room) {
                            self.members.tell_full(false);
                        }
                        tell(&groups, &outcomes);
                        let ends = outcomes.into_iter().map(Ending::Outcome).collect();
                        (Vec::new(), Next::End(ends))
                    }
                    Err(why) => {
                        error!(error = %why, "a transaction's answer cannot be read");
                        let unknown = groups.iter().map(|_| Ending::Outcome(Outcome::Unknown));
                        let ends = unknown.collect();
                        (groups, Next::End(ends))
                    }
                };
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::Lost("the deadline passed".to_owned()),
        };
        match trouble {
            Trouble::Invalid(_) | Trouble::NoLease if groups.len() > 1 => {
                info!(groups = groups.len(), error = %trouble, "a transaction is split");
                (Vec::new(), Next::End(groups.into_iter().map(Ending::Alone).collect()))
            }
            Trouble::Invalid(_) | Trouble::NoLease => {
                let ends = groups.iter().map(|named| Ending::Outcome(invalid(named, &trouble)));
                let ends = ends.collect();
                (groups, Next::End(ends))
            }
            Trouble::Forbidden(why) => {
                error!(error = %why, "etcd forbids this client to write");
                let ends = groups.iter().map(|_| Ending::Outcome(Outcome::Unknown)).collect();
                (groups, Next::End(ends))
            }
            Trouble::LoggedOut(_) => (groups, Next::Again),
            Trouble::Full => {
                self.members.tell_full(true);
                (groups, Next::Full)
            }
            Trouble::Lost(_) | Trouble::TooLong(_) | Trouble::Compacted | Trouble::Future => {
                info!(groups = groups.len(), error = %trouble, "a transaction is in doubt");
                (groups, Next::Doubt)
            }
        }
    }

    /// Finds out what happened to groups that may have happened after `since`, and keeps those that
    /// have not. Returns whether this was possible.
    async fn settle(
        &self,
        (since, bound): (Revision, Bound),
        left: &mut Vec<(usize, Named)>,
        endings: &mut [Option<Ending>],
        deadline: Instant,
    ) -> bool {
        let until = deadline.min(Instant::now() + 2 * CALL_TIMEOUT);
        let history = match timeout_at(until, self.history((since, bound), left)).await {
            Ok(Ok(history)) => history,
            Ok(Err(Trouble::Compacted)) => {
                warn!(%since, "the history that tells what happened is compacted");
                left.clear();
                return true;
            }
            Ok(Err(trouble)) => {
                info!(error = %trouble, "what became of a transaction is still in doubt");
                return false;
            }
            Err(_) => return false,
        };
        let judged = left.drain(..).map(|(place, named)| (place, history.judge(&named), named));
        let mut again = Vec::new();
        for (place, verdict, named) in judged {
            match verdict {
                Verdict::Ended(outcome) => endings[place] = Some(Ending::Outcome(outcome)),
                Verdict::NotHappened => again.push((place, named)),
            }
        }
        *left = again;
        true
    }

    /// The revision up to which the history shows what happened to `groups`.
    async fn put_bound(
        &self,
        bound: Bound,
        groups: &[(usize, Named)],
    ) -> Result<Revision, Trouble> {
        match bound {
            Bound::Barrier => {
                let barrier = self.keys.barrier();
                let put = |mut client: Client| async move { client.put(barrier, "", None).await };
                self.members.learn(self.members.call(put).await?.header())
            }
            Bound::Newest => {
                let keys_only = Some(GetOptions::new().with_keys_only());
                let writes = groups.iter().flat_map(|(_, named)| &named.group.writes);
                let reads = writes
                    .map(|write| TxnOp::get(self.keys.stored(&write.key), keys_only.clone()))
                    .collect::<Vec<_>>();
                let read = |client| commit(client, Txn::new().and_then(reads));
                let answer = self.members.call(read).await?;
                self.members.learn(answer.header())?;
                let newest = answer.op_responses().into_iter().flat_map(|read| match read {
                    TxnOpResponse::Get(found) => {
                        found.kvs().iter().map(etcd_client::KeyValue::mod_revision).collect()
                    }
                    TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => {
                        Vec::new()
                    }
                });
                Ok(newest.max().map_or(Revision::default(), revision))
            }
        }
    }

    /// What happened after `since`, up to now, to the keys that `groups` write.
    async fn history(
        &self,
        (since, bound): (Revision, Bound),
        groups: &[(usize, Named)],
    ) -> Result<History, Trouble> {
        let now = self.put_bound(bound, groups).await?;
        if now <= since {
            return match bound {
                // A store whose revision has gone back is a different one.
                Bound::Barrier => Err(Trouble::Compacted),
                // Nobody has put any of the keys.
                Bound::Newest => Ok(History::default()),
            };
        }
        let written =
            groups.iter().flat_map(|(_, named)| &named.group.writes).map(|write| &write.key);
        let range = self.keys.range_around(written);
        let turn = self.members.turn().await;
        let mut stream = Stream::open(self, turn, range, Revision(since.0 + 1)).await?;
        let mut history = History::default();
        let mut reached = since;
        // A long answer comes in fragments, which may split a revision.
        let mut more = false;
        while reached < now || more {
            let answer = stream.next().await?;
            more = answer.fragment;
            for event in answer.events {
                let Some(pair) = event.kv else {
                    continue;
                };
                let at = revision(pair.mod_revision);
                reached = reached.max(at);
                let Some(key) = self.keys.key(&pair.key) else {
                    continue;
                };
                if event.r#type != 0 {
                    history.delete(key);
                } else if let Some(Decoded { record, id: Some(id) }) = self.keys.decode(pair) {
                    history.put(id, key, at, record.position);
                }
            }
        }
        Ok(history)
    }
}

/// Up to where the history shows what happened to a transaction.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// A write of our own: whatever was sent before it comes before it.
    Barrier,
    /// The last put of any of the keys, when nothing is in progress any more.
    Newest,
}

async fn commit(
    client: Client,
    transaction: Txn,
) -> Result<etcd_client::TxnResponse, etcd_client::Error> {
    let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    kv.txn(transaction).await
}

/// The outcome of a group that etcd refuses by itself.
fn invalid(Named { group, .. }: &Named, trouble: &Trouble) -> Outcome {
    let lease = group.writes.iter().find_map(|write| match write.change {
        Change::Put { lease, .. } => lease,
        Change::Delete => None,
    });
    match (trouble, lease) {
        (Trouble::NoLease, Some(lease)) => {
            Outcome::Invalid(format!("node lease {} is not there", lease.0))
        }
        (trouble, _) => Outcome::Invalid(trouble.to_string()),
    }
}

async fn wait(backoff: &mut Backoff, deadline: Instant) {
    tokio::time::sleep_until(deadline.min(Instant::now() + backoff.next_wait())).await;
}
