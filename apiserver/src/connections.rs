//! The connections that agents opened to this apiserver, over which this apiserver then sends
//! requests to them.
//!
//! # Invariants
//!
//! * A connection is replaced only by one that the same agent opened later. Connections of
//!   different agents never replace each other, even if two agents use the same node name.
//! * If several agents use the same node name, requests go to the one that also decides about the
//!   tasks of the node: the holder of the node lease.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use base::Spawner;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;
use tracing::{debug, info};

/// How often an idle connection is checked.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The maximum number of bytes in flight for an answer.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// The maximum number of bytes in flight for all answers of an agent.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// How long an agent may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of agents with the same node name that are connected at once: the one with
/// the node lease, one that was restarted and has no lease yet, and a few that were given this name
/// by mistake.
const AGENTS_OF_A_NAME_MAX: usize = 4;

/// The connected agents, by node.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Guards the map. Locked to look up, add or remove a connection. There is one connection for
    /// each start of an agent, the newest last.
    agents: Mutex<BTreeMap<String, Vec<Agent>>>,
    /// The number of connections that have been opened. Whoever reports connections wakes up when
    /// it grows.
    came: watch::Sender<u64>,
    spawner: Spawner,
}

/// Identifies a connection among those of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConnectionId {
    /// The start of the agent that opened it.
    pub(crate) boot_id: String,
    /// Its number within that start, counted from 1.
    pub(crate) number: u64,
}

/// A connection to an agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) id: ConnectionId,
    sender: http2::SendRequest<Body>,
    /// Distinguishes this connection from one that replaces it.
    unique: Arc<()>,
}

/// Why an agent did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the connection failed")]
    Broken(#[from] hyper::Error),
    #[error("no answer within 10 s")]
    TimedOut,
}

impl Agent {
    /// Sends a request, and waits for the beginning of the answer.
    pub(crate) async fn ask(
        mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, AskError> {
        let asked = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(AskError::TimedOut),
        }
    }
}

/// Runs the tasks of hyper as our own.
#[derive(Debug, Clone)]
struct TaskExecutor(Spawner);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskExecutor {
    fn execute(&self, task: F) {
        self.0.spawn("connection", task);
    }
}

impl Connections {
    pub(crate) fn new(spawner: Spawner) -> Self {
        Self { agents: Mutex::default(), came: watch::Sender::new(0), spawner }
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Agent>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to the agent of a node: the start that holds the node lease or, if none does,
    /// the newest.
    pub(crate) fn of(&self, node: &str, holder: Option<&str>) -> Option<Agent> {
        let agents = self.agents();
        let mut agents = agents.get(node)?.iter().rev();
        agents.find(|agent| holder.is_none_or(|holder| agent.id.boot_id == holder)).cloned()
    }

    /// The number of agents that are connected under the name of a node.
    pub(crate) fn count(&self, node: &str) -> usize {
        self.agents().get(node).map_or(0, Vec::len)
    }

    /// All connections, with their nodes.
    pub(crate) fn ids(&self) -> Vec<(String, ConnectionId)> {
        let agents = self.agents();
        let of_node = |(node, agents): (&String, &Vec<Agent>)| -> Vec<_> {
            agents.iter().map(|agent| (node.clone(), agent.id.clone())).collect()
        };
        agents.iter().flat_map(of_node).collect()
    }

    /// Notifies of new connections.
    pub(crate) fn came(&self) -> watch::Receiver<u64> {
        self.came.subscribe()
    }

    /// Sends no more requests over a connection, because the agent has opened another. Answers that
    /// are under way continue.
    pub(crate) fn leave(&self, node: &str, id: &ConnectionId) {
        self.forget(node, |agent| agent.id == *id);
    }

    fn forget(&self, node: &str, is_meant: impl Fn(&Agent) -> bool) {
        let mut agents = self.agents();
        let Some(of_node) = agents.get_mut(node) else { return };
        of_node.retain(|agent| !is_meant(agent));
        if of_node.is_empty() {
            agents.remove(node);
        }
    }

    /// Keeps a connection until it breaks.
    pub(crate) async fn serve(&self, node: &str, id: ConnectionId, upgraded: Upgraded) {
        let executor = TaskExecutor(self.spawner.clone());
        let handshake = http2::Builder::new(executor)
            // A reader of one answer that is slow should hold back only this answer.
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .handshake(upgraded)
            .await;
        let (sender, connection) = match handshake {
            Ok(pair) => pair,
            Err(error) => return debug!(node, %error, "the agent does not speak HTTP/2"),
        };
        let unique = Arc::new(());
        if !self.put(node, Agent { id, sender, unique: Arc::clone(&unique) }) {
            return debug!(node, "the agent has opened another connection since");
        }
        info!(node, "agent connected");
        let ended = connection.await;
        self.forget(node, |agent| Arc::ptr_eq(&agent.unique, &unique));
        debug!(node, ?ended, "agent disconnected");
    }

    /// Adds a connection, unless there is a newer one.
    fn put(&self, node: &str, agent: Agent) -> bool {
        let mut agents = self.agents();
        let of_node = agents.entry(node.to_owned()).or_default();
        let is_same_start = |there: &Agent| there.id.boot_id == agent.id.boot_id;
        if of_node.iter().any(|there| is_same_start(there) && there.id.number > agent.id.number) {
            return false;
        }
        of_node.retain(|there| !is_same_start(there));
        of_node.push(agent);
        let surplus = of_node.len().saturating_sub(AGENTS_OF_A_NAME_MAX);
        of_node.drain(..surplus);
        drop(agents);
        self.came.send_modify(|came| *came += 1);
        true
    }
}
