//! The connections that agents dialled and that were turned round: here we ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Spawner;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioTimer;
use tracing::{debug, info};

/// A connection on which nothing is heard is asked for a sign of life so often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long an agent may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Agents by node.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Guards the map; held to look up, put or take one connection.
    agents: Mutex<BTreeMap<String, Agent>>,
    spawner: Spawner,
}

/// A way to ask one agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    sender: http2::SendRequest<Empty<Bytes>>,
    /// Tells a connection from the one that replaced it.
    id: Arc<()>,
}

/// An agent that did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("ask over the connection")]
    Broken(#[from] hyper::Error),
    #[error("no answer within 10 s")]
    TimedOut,
}

impl Agent {
    /// Asks, and waits for the beginning of the answer.
    pub(crate) async fn ask(
        mut self,
        request: Request<Empty<Bytes>>,
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
        Self { agents: Mutex::default(), spawner }
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<String, Agent>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A way to ask the agent of a node.
    pub(crate) fn of(&self, node: &str) -> Option<Agent> {
        self.agents().get(node).cloned()
    }

    /// Keeps a connection until it breaks.
    pub(crate) async fn serve(&self, node: &str, upgraded: Upgraded) {
        let executor = TaskExecutor(self.spawner.clone());
        let handshake = http2::Builder::new(executor)
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
        let id = Arc::new(());
        self.agents().insert(node.to_owned(), Agent { sender, id: Arc::clone(&id) });
        info!(node, "agent connected");
        let ended = connection.await;
        let mut agents = self.agents();
        if agents.get(node).is_some_and(|agent| Arc::ptr_eq(&agent.id, &id)) {
            agents.remove(node);
        }
        drop(agents);
        debug!(node, ?ended, "agent disconnected");
    }
}
