//! The members of an etcd: which one is used, and what its errors mean.
//! One member is used for everything until it fails, and then the next one. (A channel that
//! balances over all members would keep sending calls to a dead one.)

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Backoff, ErrorChain, Rng};
use etcd_client::{Client, ConnectOptions, Error, ResponseHeader};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use tonic::Code;
use tracing::{debug, error, info};

use crate::etcd::format::revision;
use crate::{ReadError, Revision};

/// How long connecting may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection is checked.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long such a check may take.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call may take before another member is used. This is longer than a healthy member
/// needs on a busy machine, and longer than an election. (With etcd's own limit of 7 s, callers
/// would wait for answers that a dead leader can no longer give.)
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a read is tried, over all members.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(10);
/// The largest accepted answer, a bit over 128 MiB: the records that a whole group conflicts with
/// may be this large.
pub(crate) const MESSAGE_BYTES_MAX: usize = 136 * 1024 * 1024;
/// The wait between tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Why a call failed, by what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// The revision is compacted.
    #[error("the revision was compacted")]
    Compacted,
    /// The revision does not exist yet.
    #[error("the revision is in the future")]
    Future,
    /// The node lease does not exist. Nothing was done.
    #[error("the lease is not there")]
    NoLease,
    /// The call can never succeed. Nothing was done.
    #[error("etcd refused the request: {0}")]
    Invalid(String),
    /// The answer is too large.
    #[error("the answer is too long: {0}")]
    TooLong(String),
    /// Log in again. Nothing was done.
    #[error("etcd asks for a new login: {0}")]
    LoggedOut(String),
    /// An administrator has to act. Nothing was done.
    #[error("etcd refused this client: {0}")]
    Forbidden(String),
    /// Space has to be freed on all members, which [`room`](super::room) tries to do. etcd also
    /// gives this answer to the write that filled it, which did happen; no other such write did.
    #[error(
        "etcd is full: its database has reached --quota-backend-bytes; delete what you do not need \
         (deletes still work), or compact it, defragment every member and disarm the alarm \
         (docs/operations.md says how)"
    )]
    Full,
    /// Ask again, or ask another member. The call may have been carried out.
    #[error("{0}")]
    Lost(String),
}

impl Trouble {
    pub(crate) fn of(error: &Error) -> Self {
        if let Error::LeaseKeepAliveError(why) = error
            && why.contains("not found")
        {
            return Self::NoLease;
        }
        let Error::GRpcStatus(status) = error else {
            return Self::Lost(error.to_string());
        };
        let message = status.message();
        let says = |part: &str| message.contains(part);
        let why = || message.to_owned();
        match status.code() {
            Code::OutOfRange if says("compacted") => Self::Compacted,
            Code::OutOfRange if says("future revision") => Self::Future,
            Code::OutOfRange if says("message length too large") => Self::TooLong(why()),
            Code::InvalidArgument if says("authentication failed") || says("name is empty") => {
                Self::Forbidden(why())
            }
            Code::InvalidArgument if says("auth store") => Self::LoggedOut(why()),
            Code::InvalidArgument => Self::Invalid(why()),
            Code::ResourceExhausted if says("space exceeded") => Self::Full,
            Code::NotFound if says("lease") => Self::NoLease,
            Code::Unauthenticated => Self::LoggedOut(why()),
            Code::PermissionDenied | Code::FailedPrecondition => Self::Forbidden(why()),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Lost(match status.source() {
                Some(cause) => format!("{message}: {}", ErrorChain(cause)),
                None => why(),
            }),
        }
    }

    /// Whether another try may succeed.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::LoggedOut(_) | Self::Lost(_) => true,
            Self::Compacted
            | Self::Future
            | Self::NoLease
            | Self::Invalid(_)
            | Self::TooLong(_)
            | Self::Forbidden(_)
            | Self::Full => false,
        }
    }
}

impl From<Trouble> for ReadError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(trouble.to_string())
    }
}

/// The members.
pub(crate) struct Members {
    endpoints: Vec<String>,
    options: ConnectOptions,
    /// Locked while a connection is made, so that only one is made.
    current: Mutex<Current>,
    seen: AtomicU64,
    cluster: AtomicU64,
    /// Whether the last write was refused for lack of space. Reported once, not for each write.
    full: watch::Sender<bool>,
    rng: Rng,
}

struct Current {
    client: Option<Client>,
    /// How many times another member was chosen.
    turn: usize,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Members {
    pub(crate) fn new(endpoints: Vec<String>, options: ConnectOptions, rng: Rng) -> Self {
        let current = Mutex::new(Current { client: None, turn: 0 });
        let (seen, cluster) = (AtomicU64::new(0), AtomicU64::new(0));
        let full = watch::Sender::new(false);
        Self { endpoints, options, current, seen, cluster, full, rng }
    }

    /// The newest revision in any answer.
    pub(crate) fn seen(&self) -> Revision {
        Revision(self.seen.load(Ordering::SeqCst))
    }

    /// etcd's own id of the cluster; 0 before the first answer.
    pub(crate) fn cluster(&self) -> u64 {
        self.cluster.load(Ordering::SeqCst)
    }

    /// Learns from the header of an answer, and returns its revision.
    pub(crate) fn learn(&self, header: Option<&ResponseHeader>) -> Result<Revision, Trouble> {
        let header = header.ok_or_else(|| Trouble::Lost("an answer without header".to_owned()))?;
        let at = revision(header.revision());
        self.seen.fetch_max(at.0, Ordering::SeqCst);
        self.cluster.store(header.cluster_id(), Ordering::SeqCst);
        Ok(at)
    }

    /// Logs once that etcd accepts no writes, and once that it does again.
    pub(crate) fn tell_full(&self, full: bool) {
        let changed = self.full.send_if_modified(|was| std::mem::replace(was, full) != full);
        match full {
            true if changed => error!("{}", Trouble::Full),
            false if changed => info!("etcd accepts writes again"),
            true | false => (),
        }
    }

    /// Whether the last write was refused for lack of space.
    pub(crate) fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Notifies when etcd becomes full, or has space again.
    pub(crate) fn fullness(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    /// The number of known members.
    pub(crate) fn count(&self) -> usize {
        self.endpoints.len()
    }

    /// For waits that should differ between processes.
    pub(crate) fn rng(&self) -> &Rng {
        &self.rng
    }

    /// The waits between tries, which grow with their number.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(BACKOFF.0, BACKOFF.1, self.rng.clone())
    }

    /// A separate connection to the `turn`th member, for a stream.
    pub(crate) async fn own_client(&self, turn: usize) -> Result<Client, Trouble> {
        let endpoint = &self.endpoints[turn % self.endpoints.len()];
        let connecting = Box::pin(Client::connect([endpoint], Some(self.options.clone())));
        match timeout(CALL_TIMEOUT, connecting).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(Trouble::of(&error)),
            Err(_) => Err(Trouble::Lost(format!("{endpoint} does not answer"))),
        }
    }

    /// The member that is currently used.
    pub(crate) async fn turn(&self) -> usize {
        self.current.lock().await.turn
    }

    async fn client(&self) -> Result<(Client, usize), Trouble> {
        let mut current = self.current.lock().await;
        if let Some(client) = &current.client {
            return Ok((client.clone(), current.turn));
        }
        match self.own_client(current.turn).await {
            Ok(client) => {
                current.client = Some(client.clone());
                Ok((client, current.turn))
            }
            Err(trouble) => {
                current.turn += 1;
                Err(trouble)
            }
        }
    }

    /// Stops using a member, unless another call has done so.
    async fn leave(&self, turn: usize, trouble: &Trouble) {
        let mut current = self.current.lock().await;
        if current.turn == turn {
            current.client = None;
            current.turn += 1;
            let from = &self.endpoints[turn % self.endpoints.len()];
            let to = &self.endpoints[(turn + 1) % self.endpoints.len()];
            info!(%from, %to, error = %trouble, "asking another etcd member");
        }
    }

    /// Calls a member once.
    pub(crate) async fn call<T, F>(&self, ask: impl FnOnce(Client) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (client, turn) = self.client().await?;
        let trouble = match timeout(CALL_TIMEOUT, ask(client)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Trouble::of(&error),
            Err(_) => Trouble::Lost(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
        };
        if trouble.may_pass() {
            self.leave(turn, &trouble).await;
        }
        Err(trouble)
    }

    /// Calls until a member answers. Only for calls that may be carried out twice.
    pub(crate) async fn call_patiently<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + READ_PATIENCE;
        let mut backoff = self.backoff();
        loop {
            let trouble = match self.call(&ask).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let wait = backoff.next_wait();
            if !trouble.may_pass() || Instant::now() + wait >= deadline {
                return Err(trouble);
            }
            debug!(error = %trouble, "asking etcd again");
            tokio::time::sleep(wait).await;
        }
    }
}
