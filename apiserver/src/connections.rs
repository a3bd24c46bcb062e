//! The connections that agents dialled and that were turned round: here we ask.
//!
//! # Invariants
//!
//! * A connection that an agent opened later is never displaced by one that it opened before, and
//!   none is by another agent's: two may call themselves by one name.
//! * Which of the agents of one name is asked is what decides of its tasks, too: the node lease.

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

/// A connection on which nothing is heard is asked for a sign of life so often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Bytes that are on their way of one answer.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Bytes that are on their way of all answers of an agent.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// How long an agent may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Agents of one name that are connected at once, at most: the one that has the node lease, one that
/// was started anew and has no lease yet, and others that a person should have named otherwise.
const AGENTS_OF_A_NAME_MAX: usize = 4;

/// Agents by node.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Guards the map; held to look up, put or take one connection. Of each start of an agent there
    /// is one, the one that came last at the end.
    agents: Mutex<BTreeMap<String, Vec<Agent>>>,
    /// Counts the connections that came: whoever tells of them looks when it grows.
    came: watch::Sender<u64>,
    spawner: Spawner,
}

/// Which of an agent's connections one is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConnectionId {
    /// Which start of the agent opened it.
    pub(crate) boot_id: String,
    /// Counted from 1 within that start.
    pub(crate) number: u64,
}

/// A way to ask one agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) id: ConnectionId,
    sender: http2::SendRequest<Body>,
    /// Tells a connection from the one that replaced it.
    unique: Arc<()>,
}

/// An agent that did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the connection failed")]
    Broken(#[from] hyper::Error),
    #[error("no answer within 10 s")]
    TimedOut,
}

impl Agent {
    /// Asks, and waits for the beginning of the answer.
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

/// Runs hyper's own tasks in ours.
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

    /// A way to ask the agent of a node: the start of it that has the node lease; where none has, the
    /// one that came last.
    pub(crate) fn of(&self, node: &str, holder: Option<&str>) -> Option<Agent> {
        let agents = self.agents();
        let mut agents = agents.get(node)?.iter().rev();
        agents.find(|agent| holder.is_none_or(|holder| agent.id.boot_id == holder)).cloned()
    }

    /// How many agents under a node's name are connected.
    pub(crate) fn count(&self, node: &str) -> usize {
        self.agents().get(node).map_or(0, Vec::len)
    }

    /// The connections that there are, with their nodes.
    pub(crate) fn ids(&self) -> Vec<(String, ConnectionId)> {
        let agents = self.agents();
        let of_node = |(node, agents): (&String, &Vec<Agent>)| -> Vec<_> {
            agents.iter().map(|agent| (node.clone(), agent.id.clone())).collect()
        };
        agents.iter().flat_map(of_node).collect()
    }

    /// News of connections that came.
    pub(crate) fn came(&self) -> watch::Receiver<u64> {
        self.came.subscribe()
    }

    /// Asks no more over a connection, since its agent has opened another one. What flows over it
    /// goes on.
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
            // Who reads an answer slowly holds back that one alone.
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

    /// Takes over a connection, unless there is a later one.
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
