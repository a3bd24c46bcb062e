//! The agent's own view of its node, for people on the host: it can be asked for while the apiserver
//! is away, over a socket in the state directory that only the agent's user may open.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{ErrorChain, Tasks, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Agent, Event};
use crate::attempt::{Attempt, Progress};
use crate::engine::{ContainerState, Identity};

/// The socket's file in the state directory.
pub const VIEW_SOCKET: &str = "view.sock";
/// How long one reader may take. The next one waits for it.
const READER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after a connection could not be accepted.
const ACCEPT_WAIT: Duration = Duration::from_secs(1);

/// What an agent knows of its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalView {
    /// Name of the node.
    pub node: String,
    /// Process of the agent.
    pub pid: u32,
    /// The cluster that it works for; absent if none has answered yet.
    pub cluster: Option<String>,
    /// When the agent started.
    pub started_at: Timestamp,
    /// When a heartbeat that the apiserver acknowledged was sent last.
    pub last_contact: Option<Timestamp>,
    /// Whether the node lease is this agent's, as far as it knows.
    pub has_lease: bool,
    /// Why it takes no new tasks.
    pub problem: Option<String>,
    /// Number of reports that the apiserver has not acknowledged.
    pub unsent: usize,
    /// The attempts of tasks on this node.
    pub tasks: Vec<LocalTask>,
}

/// An attempt of a task, as its agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalTask {
    /// Namespace of the task.
    pub namespace: String,
    /// Name of the task.
    pub name: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Number of restarts in place.
    pub restarts: u32,
    /// How far it has come.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What the engine says of its container.
    pub container: String,
    /// Its node ports, such as `http=20001`.
    pub ports: Vec<String>,
    /// Why, where there is something to say.
    pub why: String,
}

impl LocalTask {
    fn of(attempt: &Attempt, container: Option<&ContainerState>) -> Self {
        let (state, since, why) = stand(&attempt.progress);
        let identity: &Identity = &attempt.identity;
        Self {
            namespace: identity.namespace().to_owned(),
            name: identity.task().to_owned(),
            attempt: identity.attempt(),
            restarts: identity.restart(),
            state: state.to_owned(),
            since,
            container: container_words(container),
            ports: attempt.ports.iter().map(|(name, port)| format!("{name}={port}")).collect(),
            why,
        }
    }
}

/// How far an attempt has come: in a word, since when, and why.
fn stand(progress: &Progress) -> (&'static str, Option<Timestamp>, String) {
    match progress {
        Progress::Starting { since } => ("Starting", Some(*since), String::new()),
        Progress::BackOff { since, reason, message, .. } => {
            let message = message.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            ("BackOff", Some(*since), format!("{reason}{message}"))
        }
        Progress::Running { seen, .. } => ("Running", Some(*seen), String::new()),
        Progress::Stopping { since, why, .. } => ("Stopping", Some(*since), format!("{why:?}")),
        Progress::Ended => ("Ended", None, String::new()),
        Progress::Refused => ("Refused", None, String::new()),
    }
}

fn container_words(container: Option<&ContainerState>) -> String {
    match container {
        None => "-".to_owned(),
        Some(ContainerState::Created) => "created".to_owned(),
        Some(ContainerState::Running { .. }) => "running".to_owned(),
        Some(ContainerState::Exited { code, .. }) => format!("exit={code}"),
        Some(ContainerState::Unreadable { .. }) => "unreadable".to_owned(),
    }
}

impl Agent {
    /// What this agent knows now.
    pub(super) fn local_view(&self) -> LocalView {
        let containers = self.engine_view.seen_of(|| self.ledger.attempts().keys());
        let of = |(identity, attempt): (&Identity, &Attempt)| {
            LocalTask::of(attempt, containers.get(identity))
        };
        LocalView {
            node: self.config.name.clone(),
            pid: std::process::id(),
            cluster: self.owner.cluster.as_ref().map(ToString::to_string),
            started_at: self.began.1,
            last_contact: *self.last_contact.borrow(),
            has_lease: *self.has_lease.borrow(),
            problem: self.publishing.problem().map(str::to_owned),
            unsent: self.ledger.unsent(),
            tasks: self.ledger.attempts().iter().map(of).collect(),
        }
    }
}

/// Serves the socket, if one is named.
pub(super) fn offer(path: Option<PathBuf>, tasks: &Tasks, events: mpsc::Sender<Event>) {
    if let Some(path) = path {
        tasks.spawn("local view", serve(path, events));
    }
}

/// Answers whoever opens the socket with the agent's view as JSON. Never ends; without the socket
/// the agent works all the same.
async fn serve(path: PathBuf, events: mpsc::Sender<Event>) {
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            return warn!(%error, path = %path.display(), "heliox agent status will not work");
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match timeout(READER_TIMEOUT, answer(stream, &events)).await {
                Ok(Ok(())) => (),
                Ok(Err(error)) => debug!(error = %ErrorChain(&error), "a reader went away"),
                Err(_elapsed) => debug!("a reader took too long"),
            },
            Err(error) => {
                warn!(%error, "cannot accept a connection for the local view");
                tokio::time::sleep(ACCEPT_WAIT).await;
            }
        }
    }
}

/// A socket that only this user may open. One that a former agent left is replaced: the directory's
/// lock says that it is gone.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(mut stream: UnixStream, events: &mpsc::Sender<Event>) -> io::Result<()> {
    let (asks, answered) = oneshot::channel();
    let gone = || io::Error::other("the agent ends");
    events.send(Event::Viewed(asks)).await.map_err(|_| gone())?;
    let view = answered.await.map_err(|_| gone())?;
    stream.write_all(&serde_json::to_vec(&view)?).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn view() -> LocalView {
        LocalView {
            node: "n1".to_owned(),
            pid: 7,
            cluster: None,
            started_at: Timestamp::UNIX_EPOCH,
            last_contact: None,
            has_lease: false,
            problem: None,
            unsent: 0,
            tasks: Vec::new(),
        }
    }

    #[tokio::test]
    async fn whoever_opens_the_socket_is_told_and_nobody_else_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(VIEW_SOCKET);
        std::fs::write(&path, "left by a former agent").unwrap();
        let tasks = Tasks::new("test");
        let (events, mut news) = mpsc::channel(8);
        tasks.spawn("view", serve(path.clone(), events));
        tasks.spawn("agent", async move {
            while let Some(event) = news.recv().await {
                let Event::Viewed(asks) = event else { panic!("{event:?}") };
                let _gone = asks.send(view());
            }
        });
        let mut stream = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(serde_json::from_str::<LocalView>(&text).unwrap(), view());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
