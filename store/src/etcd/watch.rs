//! Watches. Each has its own connection, and resumes by itself when it breaks.
//! A watch is read in the task that asks for its next events; what is not read yet stays in etcd.
//!
//! # Invariants
//!
//! * A revision is returned as a whole. etcd may split long answers anywhere, so the last revision
//!   of a fragment is kept until more has come.
//! * etcd is asked to watch from one revision before the first one that is needed. So it refuses
//!   the watch if that was compacted. etcd may lose a delete at the very revision of a compaction,
//!   but such a delete has then been returned already.
//! * A watch reaches every revision that was handed out to callers, even if the change is to a key
//!   that it does not show ([`barrier`](super::barrier)).
//! * Values that another program has put are reported like any other, and end nothing.

use std::sync::Arc;

use base::Backoff;
use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{Client, Error, WatchOptions, WatchStream};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::etcd::Remote;
use crate::etcd::barrier::{Barrier, Stuck};
use crate::etcd::format::{Decoded, Keyspace, revision, signed};
use crate::etcd::members::{CALL_TIMEOUT, MESSAGE_BYTES_MAX, READ_PATIENCE, Trouble};
use crate::etcd::read::foreign;
use crate::{Event, Key, ReadError, Record, Revision, Watch, WatchProgress};

/// etcd's number for a delete.
const DELETE: i32 = 1;

/// A stream of answers, with its connection.
pub(crate) struct Stream {
    stream: WatchStream,
    _client: Client,
}

impl Stream {
    /// Opens a watch of a range at the `turn`th member.
    pub(crate) async fn open(
        etcd: &Remote,
        turn: usize,
        range: (Vec<u8>, Vec<u8>),
        from: Revision,
    ) -> Result<Self, Trouble> {
        let from = signed(from.0).ok_or(Trouble::Future)?;
        let client = etcd.members.own_client(turn).await?;
        let options = WatchOptions::new()
            .with_range(range.1)
            .with_start_revision(from.max(1))
            .with_fragment();
        let mut watcher = client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opening = watcher.watch(range.0, Some(options));
        let stream = timeout(CALL_TIMEOUT, opening)
            .await
            .map_err(|_| Trouble::Lost("the watch does not open".to_owned()))?
            .map_err(|error| Trouble::Lost(error.to_string()))?;
        Ok(Self { stream, _client: client })
    }

    /// The next answer. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<PbWatchResponse, Trouble> {
        match self.stream.message().await {
            Ok(Some(answer)) if answer.compact_revision() > 0 => Err(Trouble::Compacted),
            Ok(Some(answer)) if answer.canceled() => {
                Err(Trouble::Lost(format!("etcd ended the watch: {}", answer.cancel_reason())))
            }
            Ok(Some(answer)) => Ok(answer.0),
            Ok(None) => Err(Trouble::Lost("the watch ended".to_owned())),
            Err(Error::GRpcStatus(status)) => Err(Trouble::Lost(status.message().to_owned())),
            Err(error) => Err(Trouble::Lost(error.to_string())),
        }
    }
}

/// A watch, over as many streams as needed.
pub(crate) struct EtcdWatch {
    etcd: Arc<Remote>,
    range: (Vec<u8>, Vec<u8>),
    prefix: Key,
    joiner: Joiner,
    barrier: Barrier,
    stream: Option<Stream>,
    turn: usize,
    backoff: Backoff,
    failing_since: Option<Instant>,
}

impl EtcdWatch {
    /// Opens the first stream.
    pub(crate) async fn open(
        etcd: &Arc<Remote>,
        prefix: &str,
        from: Revision,
    ) -> Result<Self, ReadError> {
        let prefix = Key::from(prefix);
        let mut watch = Self {
            etcd: Arc::clone(etcd),
            // The barriers are in this range.
            range: etcd.keys.range_around([&prefix].into_iter()),
            joiner: Joiner::new(Arc::clone(&etcd.keys), Key::clone(&prefix), from),
            prefix,
            barrier: Barrier::new(etcd),
            stream: None,
            turn: etcd.members.turn().await,
            backoff: etcd.members.backoff(),
            failing_since: None,
        };
        while watch.stream.is_none() {
            watch.resume().await?;
        }
        Ok(watch)
    }

    async fn advance(&mut self) -> Result<WatchProgress, ReadError> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.resume().await?;
                continue;
            };
            let reached = self.joiner.reached();
            let answer = tokio::select! {
                biased;
                answer = stream.next() => answer,
                stuck = self.barrier.stuck(&self.etcd, reached) => match stuck {
                    Stuck::Silent => Err(Trouble::Lost("the watch shows nothing".to_owned())),
                    Stuck::NoBarrier(trouble) => return Err(no_barrier(&trouble)),
                },
            };
            match answer {
                Ok(answer) => {
                    let news = self.joiner.take(answer);
                    self.barrier.reached(news.reached);
                    if news.reached > reached {
                        self.working();
                        return Ok(news);
                    }
                }
                Err(Trouble::Compacted) => {
                    let oldest = self.etcd.read_oldest().await?;
                    return Err(ReadError::Compacted { asked: self.joiner.next, oldest });
                }
                Err(trouble) => {
                    let (prefix, next) = (&self.prefix, self.joiner.next);
                    info!(%prefix, %next, error = %trouble, "a watch was cut off; resuming");
                    self.stream = None;
                    self.joiner.cut();
                    self.barrier.restart();
                    self.turn += 1;
                }
            }
        }
    }

    /// Tries once to open a stream where the last one ended.
    async fn resume(&mut self) -> Result<(), ReadError> {
        self.wait_between_tries().await?;
        let next = self.joiner.next;
        self.etcd.check_kept(next).await?;
        let from = Revision(next.0.saturating_sub(1));
        match Stream::open(&self.etcd, self.turn, self.range.clone(), from).await {
            Ok(stream) => {
                self.stream = Some(stream);
                self.working();
            }
            Err(trouble) => {
                debug!(error = %trouble, "a watch does not open");
                self.turn += 1;
            }
        }
        Ok(())
    }

    fn working(&mut self) {
        self.backoff.reset();
        self.failing_since = None;
    }

    /// The first try is made at once. Returns an error if it has been tried for long enough.
    async fn wait_between_tries(&mut self) -> Result<(), ReadError> {
        let Some(since) = self.failing_since else {
            self.failing_since = Some(Instant::now());
            return Ok(());
        };
        if since.elapsed() > READ_PATIENCE {
            return Err(ReadError::Unavailable("no etcd member serves the watch".to_owned()));
        }
        tokio::time::sleep(self.backoff.next_wait()).await;
        Ok(())
    }
}

impl Watch for EtcdWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchProgress, ReadError>> {
        self.advance().boxed()
    }
}

/// Other programs write to this etcd, and nothing shows whether the watch has seen all changes of
/// ours.
fn no_barrier(trouble: &Trouble) -> ReadError {
    ReadError::Unavailable(format!(
        "cannot confirm that all changes were seen: cannot write under /heliox/store/: {trouble}"
    ))
}

/// Joins answers into whole revisions. It has no side effects.
#[derive(Debug)]
struct Joiner {
    keys: Arc<Keyspace>,
    prefix: Key,
    /// The first revision that has not been returned.
    next: Revision,
    /// Events of one revision, which may not be complete.
    held: Vec<PbEvent>,
}

impl Joiner {
    fn new(keys: Arc<Keyspace>, prefix: Key, next: Revision) -> Self {
        Self { keys, prefix, next, held: Vec::new() }
    }

    /// The last revision that was returned.
    fn reached(&self) -> Revision {
        Revision(self.next.0.saturating_sub(1))
    }

    /// The stream ended. The incomplete revision will come again.
    fn cut(&mut self) {
        self.held.clear();
    }

    /// Takes an answer, and returns what is complete now.
    fn take(&mut self, answer: PbWatchResponse) -> WatchProgress {
        let mut whole = std::mem::take(&mut self.held);
        whole.extend(answer.events.into_iter().filter(|event| at(event) >= self.next));
        if answer.fragment
            && let Some(last) = whole.last().map(at)
        {
            self.held = whole.split_off(whole.partition_point(|event| at(event) < last));
        }
        if let Some(last) = whole.last() {
            self.next = Revision(at(last).0 + 1);
        }
        let mut news = WatchProgress { events: Vec::new(), reached: self.reached() };
        let mut last = None;
        for event in whole.into_iter().filter_map(|event| read_event(&self.keys, event)) {
            // An event without a position gets the one after the event before it.
            let follows = last.filter(|(at, _)| *at == event.revision);
            let position = event.position.unwrap_or(follows.map_or(0, |(_, place)| place + 1));
            last = Some((event.revision, position));
            if event.key.starts_with(&*self.prefix) {
                news.events.push(event.at(position));
            }
        }
        news
    }
}

/// The revision of an event; 0 for an invalid one.
fn at(event: &PbEvent) -> Revision {
    event.kv.as_ref().map_or(Revision::default(), |pair| revision(pair.mod_revision))
}

/// The content of an event.
struct DecodedEvent {
    revision: Revision,
    /// `None` for a delete, which cannot carry a position, and for a write of another program.
    position: Option<u32>,
    key: Key,
    now: Option<Record>,
}

impl DecodedEvent {
    fn at(self, position: u32) -> Event {
        let Self { revision, key, now, .. } = self;
        let now = now.map(|record| Record { position, ..record });
        Event { revision, position, key, now }
    }
}

/// Reads an event; `None` if callers cannot use its key.
fn read_event(keys: &Keyspace, event: PbEvent) -> Option<DecodedEvent> {
    let pair = event.kv?;
    let key = keys.key(&pair.key)?;
    let revision = revision(pair.mod_revision);
    if event.r#type == DELETE {
        return Some(DecodedEvent { revision, position: None, key, now: None });
    }
    let Decoded { record, id } = keys.decode(pair)?;
    if id.is_none() {
        warn!("{}", foreign(&key));
    }
    let position = id.map(|_| record.position);
    Some(DecodedEvent { revision, position, key, now: Some(record) })
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbKeyValue;

    use super::*;
    use crate::etcd::format::{WriteId, encode};

    fn joiner(next: u64) -> Joiner {
        Joiner::new(Arc::new(Keyspace::new(String::new())), "/a".into(), Revision(next))
    }

    /// An answer with events of `revisions`, at positions 0, 1 and so on.
    fn answer(revisions: &[i64], fragment: bool) -> PbWatchResponse {
        let events = revisions.iter().enumerate().map(|(index, revision)| {
            let position = u32::try_from(index).unwrap();
            let kv = PbKeyValue {
                key: b"/a".to_vec(),
                value: encode(b"x", position, WriteId(1)),
                create_revision: *revision,
                mod_revision: *revision,
                ..PbKeyValue::default()
            };
            PbEvent { kv: Some(kv), ..PbEvent::default() }
        });
        PbWatchResponse { events: events.collect(), fragment, ..PbWatchResponse::default() }
    }

    fn taken(joiner: &mut Joiner, answer: PbWatchResponse) -> Vec<u64> {
        joiner.take(answer).events.iter().map(|event| event.revision.0).collect()
    }

    #[test]
    fn a_fragment_ends_with_a_whole_revision() {
        let mut joiner = joiner(1);
        assert_eq!(taken(&mut joiner, answer(&[3, 4, 4], true)), [3]);
        assert_eq!(taken(&mut joiner, answer(&[4, 4], true)), [0; 0]);
        assert_eq!(taken(&mut joiner, answer(&[4, 5], false)), [4, 4, 4, 4, 4, 5]);
        assert_eq!(taken(&mut joiner, answer(&[6], false)), [6]);
    }

    #[test]
    fn what_was_given_out_or_held_back_before_a_cut_comes_once() {
        let mut joiner = joiner(3);
        assert_eq!(taken(&mut joiner, answer(&[2, 3, 4, 4], true)), [3]);
        joiner.cut();
        assert_eq!(joiner.next, Revision(4));
        assert_eq!(taken(&mut joiner, answer(&[3, 4, 4, 4], false)), [4, 4, 4]);
        assert_eq!(taken(&mut joiner, answer(&[], false)), [0; 0]);
    }

    #[test]
    fn a_delete_has_the_place_after_the_event_before_it() {
        let mut joiner = joiner(1);
        let mut both = answer(&[3, 3, 3, 4], false);
        for index in [1, 3] {
            both.events[index].r#type = DELETE;
        }
        let events = joiner.take(both).events;
        let places: Vec<_> =
            events.iter().map(|event| (event.revision.0, event.position)).collect();
        assert_eq!(places, [(3, 0), (3, 1), (3, 2), (4, 0)]);
    }
}
