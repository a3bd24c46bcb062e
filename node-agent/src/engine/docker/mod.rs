//! Containers in a Docker Engine (API 1.41 or newer), which several agents may share.
//!
//! Labels are the truth about what is ours: every operation finds containers by them ([`find`]),
//! so that one of another cluster or node is never touched, and one of ours that somebody renamed
//! is not lost.
//! Exits come by the event stream; what is true is asked for. The state directory holds only the
//! logs of removed containers.

pub mod busybox;
mod classify;
mod create;
mod events;
mod exec;
mod find;
mod group_watch;
mod logs;
mod memory;
mod observe;
mod oom;
mod short;
mod terminal;
mod usage;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use api::exec::ExecRequest;
use base::{Clock, ErrorChain};
use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    ListImagesOptions, RemoveContainerOptionsBuilder,
};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use self::classify::{Stage, classify, is_conflict, is_missing};
use self::events::Rechecks;
use self::find::{Found, Ids};
use self::memory::{Ended, Memory};
use self::oom::Verdict;
use super::{
    Answer, Container, ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, Exec,
    IMAGES_MAX, Identity, LABEL_CLUSTER, LABEL_NODE, LogOptions, LogStore, LogStream, NodeFacts,
    PullPolicy, Reason, Scope, Signal, Started, Usage,
};

/// How long the engine may take over one call. Starting a container on a loaded machine takes
/// seconds; nothing here waits for a container.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long fetching an image may take.
const PULL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// How often a container is looked at again whose end is known, but not what ended it.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Containers that are inspected at the same time.
const INSPECTS_MAX: usize = 16;

/// Which engine, and for whom.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// For which node it speaks.
    pub scope: Scope,
    /// The engine's socket: a path, or `unix://` and a path. Podman's serves as well.
    pub socket: String,
    /// Where logs of removed containers are kept; made where it is missing.
    pub state_dir: PathBuf,
    /// The node's address that ports without a `hostIP` are bound to; Docker binds to all.
    pub default_host_ip: Option<IpAddr>,
    /// Tells the time.
    pub clock: Clock,
}

/// Runs containers in a Docker Engine.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    docker: Docker,
    config: DockerConfig,
    logs: LogStore,
    ids: Ids,
    memory: Memory,
    rechecks: Rechecks,
    /// That logs cannot be read as files was said.
    has_told_of_logs: Arc<AtomicBool>,
}

/// Dials a Docker Engine and agrees on the API version. Its message says what to do where no
/// engine answers.
pub async fn connect(socket: &str) -> Result<Docker, EngineError> {
    let unreachable = |error: bollard::errors::Error| {
        EngineError::unavailable(format!(
            "no Docker Engine answers at {socket} (on Debian: install docker.io and start \
             dockerd): {}",
            ErrorChain(&error)
        ))
    };
    let docker =
        Docker::connect_with_unix(socket, CALL_TIMEOUT.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(unreachable)?;
    match timeout(CALL_TIMEOUT, docker.negotiate_version()).await {
        Ok(negotiated) => negotiated.map_err(unreachable),
        Err(_) => Err(EngineError::unavailable(format!("the engine at {socket} does not answer"))),
    }
}

impl DockerEngine {
    /// Dials the engine.
    pub async fn connect(config: DockerConfig) -> Result<Self, EngineError> {
        let docker = connect(&config.socket).await?;
        let logs = LogStore::open(&config.state_dir.join("logs"))
            .map_err(|error: io::Error| EngineError::unavailable(error.to_string()))?;
        let memory = Memory::new(Path::new(CGROUPS));
        let (ids, rechecks) = (Ids::default(), Rechecks::default());
        let has_told_of_logs = Arc::default();
        Ok(Self { docker, config, logs, ids, memory, rechecks, has_told_of_logs })
    }

    /// One call, which must not change anything: its failure is no news.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        match timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| classify(&error, Stage::Ask)),
            Err(_) => Err(EngineError::unavailable("the engine did not answer in time")),
        }
    }

    /// One call that changes something.
    async fn act<T>(
        &self,
        stage: Stage,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        match timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| classify(&error, stage)),
            Err(_) => Err(EngineError::unknown("the engine did not answer in time")),
        }
    }

    /// What a container of ours does. One that has ended still runs, as far as we say, until it is
    /// known whether its memory ended it.
    async fn see(
        &self,
        identity: &Identity,
        inspected: &ContainerInspectResponse,
    ) -> Option<ContainerState> {
        let mut state = observe::state(inspected)?;
        let Some(id) = inspected.id.as_deref() else { return Some(state) };
        let is_limited = observe::has_memory_limit(inspected);
        match &mut state {
            ContainerState::Created | ContainerState::Unreadable { .. } => (),
            ContainerState::Running { .. } => {
                if is_limited && let Some(pid) = observe::pid(inspected) {
                    self.memory.watch_running(id, pid);
                }
            }
            ContainerState::Exited { started, code, oom_killed, .. } => {
                let ended = Ended { code: *code, is_limited, engine_says_so: *oom_killed };
                let since = started.unwrap_or(Timestamp::UNIX_EPOCH);
                match self.judge(id, ended, since).await {
                    Verdict::OomKilled => *oom_killed = true,
                    Verdict::Other => *oom_killed = false,
                    Verdict::Wait => {
                        let again = Instant::now() + RECHECK_INTERVAL;
                        self.rechecks.add(identity.clone(), again);
                        state = ContainerState::Running { since };
                    }
                }
            }
        }
        Some(state)
    }

    async fn judge(&self, id: &str, ended: Ended, since: Timestamp) -> Verdict {
        let verdict = self.memory.judge(id, ended, Instant::now());
        if verdict != Verdict::Wait || self.memory.is_watched(id) {
            return verdict;
        }
        let when = (since, self.config.clock.now());
        if !events::remembers_oom(&self.docker, id, when).await {
            return verdict;
        }
        self.memory.judge(id, Ended { engine_says_so: true, ..ended }, Instant::now())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Started, EngineError> {
        if let Some(found) = self.find_made(&spec.identity).await? {
            return self.adopt(&found, spec).await;
        }
        if spec.pull_policy == PullPolicy::Always {
            return Err(EngineError::NeedsImage);
        }
        let id = match self.create(spec).await {
            // The image is missing: the only thing that a create does not find.
            Err(error) if is_missing(&error) => {
                if spec.pull_policy == PullPolicy::Never {
                    let message = format!("image {}: not present on this node", spec.image);
                    return Err(EngineError::refused(Reason::ImagePull, message));
                }
                return Err(EngineError::NeedsImage);
            }
            Err(error) if is_conflict(&error) => {
                let found = self.find_by_name(&spec.identity).await?;
                return self.adopt(&found, spec).await;
            }
            created => {
                created.map_err(|error| create::explain(classify(&error, Stage::Create), spec))?
            }
        };
        self.ids.add(&spec.identity, &id);
        self.start_made(&id, spec).await?;
        Ok(Started { adopted: false })
    }

    /// Takes over a container that was made by an earlier call, which may not have started it.
    async fn adopt(&self, found: &Found, spec: &ContainerSpec) -> Result<Started, EngineError> {
        if observe::state(&found.inspected) == Some(ContainerState::Created) {
            self.start_made(&found.id, spec).await?;
        }
        Ok(Started { adopted: true })
    }

    /// Starts a container that was made. Nothing is left of one that cannot be started.
    async fn start_made(&self, id: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
        let started = self.start_watched(id, spec).await;
        if matches!(started, Err(EngineError::Refused { .. })) {
            self.delete(id).await?;
        }
        started
    }

    /// Starts a container, and watches its memory from its first moment where that is limited.
    async fn start_watched(&self, id: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
        let mut start = pin!(self.act(Stage::Start, self.docker.start_container(id, None)));
        if spec.resources.memory_limit_bytes.is_none() {
            return start.await;
        }
        tokio::select! {
            biased;
            started = &mut start => started,
            () = self.memory.watch_start(id) => start.await,
        }
    }

    /// The call's own error, for it decides what comes next.
    async fn create(&self, spec: &ContainerSpec) -> Result<String, bollard::errors::Error> {
        let name = self.config.scope.container_name(&spec.identity);
        let body = create::body(spec, &self.config.scope, self.config.default_host_ip);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        match timeout(CALL_TIMEOUT, self.docker.create_container(Some(options), body)).await {
            Ok(created) => created.map(|created| created.id),
            Err(_) => Err(bollard::errors::Error::RequestTimeoutError),
        }
    }

    async fn fetch(&self, image: &str) -> Result<(), EngineError> {
        // Without a tag Docker fetches every tag there is.
        let has_tag = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let from = if has_tag { image.to_owned() } else { format!("{image}:latest") };
        let options = CreateImageOptionsBuilder::new().from_image(&from).build();
        let pull = self.docker.create_image(Some(options), None, None);
        let failed = |message: String| {
            EngineError::refused(Reason::ImagePull, format!("image {image}: {message}"))
        };
        match timeout(PULL_TIMEOUT, pull.try_for_each(|_| future::ready(Ok(())))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => match classify(&error, Stage::Ask) {
                // The engine went away.
                lost @ EngineError::Unavailable { .. } => Err(lost),
                EngineError::Refused { .. }
                | EngineError::NeedsImage
                | EngineError::Failed { .. }
                | EngineError::Unknown { .. }
                | EngineError::Gone => Err(failed(classify::message(&error))),
            },
            Err(_) => {
                let minutes = PULL_TIMEOUT.as_secs() / 60;
                Err(failed(format!("not fetched within {minutes} minutes")))
            }
        }
    }

    async fn send(&self, identity: &Identity, signal: Signal) -> Result<(), EngineError> {
        for found in self.find(identity).await? {
            self.send_to(&found.id, signal).await?;
        }
        Ok(())
    }

    async fn send_to(&self, id: &str, signal: Signal) -> Result<(), EngineError> {
        if signal == Signal::KILL {
            self.memory.killing(id);
        }
        let options = KillContainerOptionsBuilder::new().signal(signal.name()).build();
        let kill = self.docker.kill_container(id, Some(options));
        match timeout(CALL_TIMEOUT, kill).await {
            Ok(Ok(())) => Ok(()),
            // It is not running.
            Ok(Err(error)) if is_conflict(&error) => Ok(()),
            Ok(Err(error)) => Err(classify(&error, Stage::Act)),
            Err(_) => Err(EngineError::unknown("the engine did not answer in time")),
        }
    }

    async fn remove_ours(&self, identity: &Identity) -> Result<(), EngineError> {
        let found = self.find(identity).await?;
        // The logs of the one that was made first are kept: it is removed last.
        for found in found.iter().rev() {
            self.remove_found(identity, found).await?;
        }
        Ok(())
    }

    async fn remove_found(&self, identity: &Identity, found: &Found) -> Result<(), EngineError> {
        match observe::state(&found.inspected) {
            Some(ContainerState::Running { .. }) => self.end(identity, &found.id).await?,
            Some(
                ContainerState::Created
                | ContainerState::Exited { .. }
                | ContainerState::Unreadable { .. },
            )
            | None => (),
        }
        self.keep_log(identity, found).await;
        self.delete(&found.id).await
    }

    /// Kills a container and waits for its end, so that its log is whole.
    async fn end(&self, identity: &Identity, id: &str) -> Result<(), EngineError> {
        // Listening begins before the kill: an end in between is heard, too.
        let mut ended = self.docker.wait_container(id, None);
        let kill = async {
            self.send_to(id, Signal::KILL).await?;
            // An exit code other than 0 is an error to this stream; either way it has ended.
            let _ = ended.next().await;
            Ok(())
        };
        match timeout(CALL_TIMEOUT, kill).await {
            Ok(ended) => ended,
            Err(_) => Err(EngineError::unavailable(format!("cannot kill {identity}"))),
        }
    }

    async fn delete(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.act(Stage::Act, self.docker.remove_container(id, Some(options))).await {
            // Somebody else has done it.
            Ok(()) | Err(EngineError::Gone) => {
                self.memory.forget(id);
                self.ids.remove(id);
                Ok(())
            }
            other => other,
        }
    }

    async fn facts(&self) -> Result<NodeFacts, EngineError> {
        let info = self.ask(self.docker.info()).await?;
        Ok(NodeFacts {
            engine: "docker".to_owned(),
            engine_version: info.server_version.unwrap_or_default(),
            os: info.os_type.unwrap_or_default(),
            arch: info.architecture.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(0),
            memory_bytes: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        })
    }

    async fn image_names(&self) -> Result<Vec<String>, EngineError> {
        let images = self.ask(self.docker.list_images(None::<ListImagesOptions>)).await?;
        let mut names: Vec<String> = images
            .into_iter()
            .flat_map(|image| image.repo_tags)
            .filter(|name| name != "<none>:<none>")
            .collect();
        names.sort();
        names.truncate(IMAGES_MAX);
        Ok(names)
    }
}

impl Engine for DockerEngine {
    fn info(&self) -> Answer<'_, NodeFacts> {
        self.facts().boxed()
    }

    fn list(&self) -> Answer<'_, Vec<Container>> {
        self.list_ours().boxed()
    }

    fn inspect<'a>(&'a self, identity: &'a Identity) -> Answer<'a, Option<ContainerState>> {
        async move {
            match self.find(identity).await {
                Ok(found) => Ok(self.see_all(identity, &found).await),
                Err(EngineError::Gone) => Ok(None),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn create_and_start<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, Started> {
        async move {
            create::check(spec)?;
            self.start(spec).await
        }
        .boxed()
    }

    fn pull<'a>(&'a self, image: &'a str) -> Answer<'a, ()> {
        self.fetch(image).boxed()
    }

    fn signal<'a>(&'a self, identity: &'a Identity, signal: Signal) -> Answer<'a, ()> {
        self.send(identity, signal).boxed()
    }

    fn remove<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()> {
        self.remove_ours(identity).boxed()
    }

    fn logs<'a>(&'a self, identity: &'a Identity, options: LogOptions) -> Answer<'a, LogStream> {
        self.read_logs(identity, options).boxed()
    }

    fn prune_logs(&self, before: Timestamp) -> Answer<'_, ()> {
        // Nothing here is in use: what is there was copied from a container on its removal.
        let logs = self.logs.clone();
        async move {
            let pruned = base::blocking("logs", move || logs.prune(before, |_| false)).await;
            pruned
                .map_err(io::Error::other)
                .and_then(|pruned| pruned)
                .map_err(|error| EngineError::unavailable(error.to_string()))
        }
        .boxed()
    }

    fn usage(&self) -> Answer<'_, Usage> {
        self.usage_of_ours().boxed()
    }

    fn exec<'a>(&'a self, identity: &'a Identity, request: &'a ExecRequest) -> Answer<'a, Exec> {
        self.run_beside(identity, request).boxed()
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        let (scope, clock) = (self.config.scope.clone(), self.config.clock.clone());
        let told = events::watch(self.docker.clone(), scope, clock);
        stream::select(told, self.rechecks.events()).boxed()
    }

    fn images(&self) -> Answer<'_, Vec<String>> {
        self.image_names().boxed()
    }
}

/// What containers of ours are filtered by.
fn ours(scope: &Scope) -> Vec<String> {
    vec![format!("{LABEL_CLUSTER}={}", scope.cluster()), format!("{LABEL_NODE}={}", scope.node())]
}
