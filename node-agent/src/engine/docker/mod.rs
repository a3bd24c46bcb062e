//! Containers in a Docker Engine (API 1.41 or newer), which several agents may share.
//!
//! Labels decide which containers are ours: every operation finds containers by them ([`find`]), so
//! that a container of another cluster or node is never touched, and one of ours that somebody
//! renamed is not lost. Events only say when to look; the state is then inspected. The state
//! directory holds nothing but the logs of removed containers.

pub mod busybox;
mod classify;
mod create;
mod events;
mod exec;
mod find;
mod group_watch;
mod host;
mod logs;
mod memory;
mod observe;
mod oom;
mod pull;
mod reach;
mod registry_auth;
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
use api::template::ProbeKind;
use base::{Clock, ErrorChain};
use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListImagesOptions,
    RemoveContainerOptionsBuilder,
};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

pub use self::create::body as create_body;

use self::classify::{Stage, classify, is_conflict, is_missing};
use self::events::Rechecks;
use self::find::{Found, Ids};
use self::memory::{Ended, Memory};
use self::oom::Verdict;
use super::{
    Answer, Container, ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, Exec,
    IMAGES_MAX, Identity, LABEL_CLUSTER, LABEL_NODE, LogOptions, LogStore, LogStream, NodeFacts,
    PullPolicy, PullProgress, Reach, Reason, Scope, Signal, Started, Usage,
};

/// How long the engine may take for one call. On a loaded machine a start takes seconds. No call
/// waits for a container to end.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long pulling an image may take.
const PULL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// How often a container that has ended is checked again until the cause of its end is known.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Most containers that are inspected at the same time.
const INSPECTS_MAX: usize = 16;

/// Which engine to use, and for which node.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// For which node it speaks.
    pub scope: Scope,
    /// The engine's socket: a path, or `unix://` and a path. Podman's works as well.
    pub socket: String,
    /// Where logs of removed containers are kept. Created if it does not exist.
    pub state_dir: PathBuf,
    /// The address to which ports without `hostIP` are bound. Docker's own default is all
    /// addresses.
    pub default_host_ip: Option<IpAddr>,
    /// The host's credentials for registries, as `docker login` writes them. It need not exist.
    pub docker_config: Option<PathBuf>,
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
    /// Whether it was logged that log files cannot be read.
    has_told_of_logs: Arc<AtomicBool>,
}

/// Connects to a Docker Engine and negotiates the API version. If no engine answers, the error says
/// what to do.
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
    /// Connects to the engine.
    pub async fn connect(config: DockerConfig) -> Result<Self, EngineError> {
        let docker = connect(&config.socket).await?;
        let logs = LogStore::open(&config.state_dir.join("logs"))
            .map_err(|error: io::Error| EngineError::unavailable(error.to_string()))?;
        let memory = Memory::new(Path::new(CGROUPS));
        let (ids, rechecks) = (Ids::default(), Rechecks::default());
        let has_told_of_logs = Arc::default();
        Ok(Self { docker, config, logs, ids, memory, rechecks, has_told_of_logs })
    }

    /// Makes a call that changes nothing, so that it can simply be repeated after a failure.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        match timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| classify(&error, Stage::Ask)),
            Err(_) => Err(EngineError::unavailable("the engine did not answer in time")),
        }
    }

    /// Makes a call that changes something.
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

    /// The state of one of our containers. One that has ended is reported as running until it is
    /// known whether it ran out of memory.
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
            // The image is the only thing that a create can fail to find.
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
        // Asked while the container starts, which takes longer.
        let (started, digest) = tokio::join!(self.start_made(&id, spec), self.digest_of(spec));
        started.map(|()| Started { adopted: false, digest })
    }

    /// Takes over a container that an earlier call created and perhaps did not start.
    async fn adopt(&self, found: &Found, spec: &ContainerSpec) -> Result<Started, EngineError> {
        if observe::state(&found.inspected) == Some(ContainerState::Created) {
            self.start_made(&found.id, spec).await?;
        }
        Ok(Started { adopted: true, digest: self.digest_of(spec).await })
    }

    /// Starts a created container. If it cannot be started, it is removed.
    async fn start_made(&self, id: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
        let started = self.start_watched(id, spec).await;
        if matches!(started, Err(EngineError::Refused { .. })) {
            self.delete(id).await?;
        }
        started
    }

    /// Starts a container. If its memory is limited, the control group is watched from the first
    /// moment.
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

    /// Returns the client's own error, because the caller decides by it.
    async fn create(&self, spec: &ContainerSpec) -> Result<String, bollard::errors::Error> {
        let name = self.config.scope.container_name(&spec.identity);
        let mut body = create::body(spec, &self.config.scope, self.config.default_host_ip);
        if !spec.host.gpus.is_empty() && spec.host.runtime.is_none() {
            let info = self.docker.info().await?;
            let runtime = host::gpu_runtime(&info);
            body.host_config.iter_mut().for_each(|config| config.runtime.clone_from(&runtime));
        }
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        match timeout(CALL_TIMEOUT, self.docker.create_container(Some(options), body)).await {
            Ok(created) => created.map(|created| created.id),
            Err(_) => Err(bollard::errors::Error::RequestTimeoutError),
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
            // The container is not running.
            Ok(Err(error)) if is_conflict(&error) => Ok(()),
            Ok(Err(error)) => Err(classify(&error, Stage::Act)),
            Err(_) => Err(EngineError::unknown("the engine did not answer in time")),
        }
    }

    async fn remove_ours(&self, identity: &Identity) -> Result<(), EngineError> {
        let found = self.find(identity).await?;
        // In reverse order, so that the logs of the oldest one, which is removed last, are kept.
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

    /// Kills a container and waits for its end, so that its log is complete.
    async fn end(&self, identity: &Identity, id: &str) -> Result<(), EngineError> {
        // Wait first, then kill: an end between the two calls is noticed, too.
        let mut ended = self.docker.wait_container(id, None);
        let kill = async {
            self.send_to(id, Signal::KILL).await?;
            // The stream reports exit codes other than 0 as errors; in either case the container
            // has ended.
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
            // Somebody else has removed it.
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

    fn pull<'a>(&'a self, image: &'a str, progress: &'a PullProgress) -> Answer<'a, ()> {
        self.fetch(image, progress).boxed()
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

    fn prune_logs(&self, now: Timestamp) -> Answer<'_, ()> {
        // Nothing here is in use: all of it was copied when containers were removed.
        let logs = self.logs.clone();
        async move {
            let pruned = base::blocking("logs", move || logs.prune(now, |_| false)).await;
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

    fn reach<'a>(&'a self, identity: &'a Identity, _: ProbeKind) -> Answer<'a, Reach> {
        self.reach_of(identity).boxed()
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

/// The label filter for our containers.
fn ours(scope: &Scope) -> Vec<String> {
    vec![format!("{LABEL_CLUSTER}={}", scope.cluster()), format!("{LABEL_NODE}={}", scope.node())]
}
