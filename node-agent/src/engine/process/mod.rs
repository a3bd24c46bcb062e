//! Tasks as plain processes of the node, for development and for hosts without Docker.
//!
//! Each task has a shim ([`shim`]) that outlives the agent; the agent knows of tasks by
//! their files alone ([`dir`]). With its main process a task ends, and all that this has begun. Where
//! a shim is killed, the agent ends its task ([`dir::end_orphaned`]). What it does not do: images are
//! ignored, resource limits and `readOnly` are not enforced, ports are not mapped (the process listens
//! where it is told to). A mount that would need a mount is refused, and so is what a program would
//! miss, or run unsafely without ([`host`]).

pub(crate) mod dir;
mod events;
mod exec;
mod host;
mod ports;
mod program;
mod usage;

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::exec::ExecRequest;
use api::template::ProbeKind;
use base::{Clock, ErrorChain};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, future};
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use self::dir::{Found, Seen, ShimAnswer, TaskDir, TaskSpec, end_orphaned, is_damage, look};
pub use self::program::ShimProgram;
use super::log_segments::LogFiles;
use super::log_store::read_files;
use super::logs::room_of;
use super::{
    Answer, Container, ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, Exec,
    Identity, LogOptions, LogStore, LogStream, Mount, MountSource, NodeFacts, PullProgress, Reach,
    Reason, Scope, Signal, Started, Usage,
};
use shim::private::{self, remove_if_there};

/// What a task finds as PATH where its environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a shim may take to start its command. Far above what a loaded machine needs.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a killed task may take to be gone.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a killed task is looked at.
const REMOVE_INTERVAL: Duration = Duration::from_millis(10);

/// How often a reader of a log looks whether its shim has gone.
const SHIM_INTERVAL: Duration = Duration::from_millis(100);

/// Where the engine keeps its files and how it starts shims.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// For which node it speaks.
    pub scope: Scope,
    /// Its own folder; made where it is missing. One engine at a time.
    pub state_dir: PathBuf,
    /// The program that is the shim.
    pub shim: ShimProgram,
    /// Tells the time.
    pub clock: Clock,
}

/// Runs tasks as processes.
#[derive(Debug, Clone)]
pub struct ProcessEngine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ProcessConfig,
    tasks: PathBuf,
    exits: PathBuf,
    logs: LogStore,
    /// Guards the ending of tasks whose shims are gone.
    ending: Mutex<()>,
}

/// What creating found.
enum Prepared {
    Adopted,
    New { dir: TaskDir, lock: File },
}

impl ProcessEngine {
    /// Opens the state directory and clears what a former agent left half-made.
    pub fn open(mut config: ProcessConfig) -> io::Result<Self> {
        private::state_folder(&config.state_dir)?;
        config.state_dir = config.state_dir.canonicalize()?;
        let tasks = config.state_dir.join("tasks");
        let exits = config.state_dir.join("exits");
        private::folder(&tasks)?;
        private::folder(&exits)?;
        let logs = LogStore::open(&config.state_dir.join("logs"))?;
        let inner = Inner { config, tasks, exits, logs, ending: Mutex::default() };
        inner.clear_leftovers()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs file operations off the executor: they may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let inner = Arc::clone(&self.inner);
        base::blocking("process engine", move || work(&inner))
            .await
            .map_err(EngineError::unknown)?
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Started, EngineError> {
        let wanted = spec.clone();
        let prepared = self.blocking(move |inner| inner.prepare(&wanted)).await?;
        let Prepared::New { dir, lock } = prepared else {
            return Ok(Started { adopted: true, digest: None });
        };
        let refusal = match self.run_shim(&dir, lock).await {
            Ok(ShimAnswer::Started) => return Ok(Started { adopted: false, digest: None }),
            Ok(ShimAnswer::Refused(message)) => EngineError::refused(Reason::CannotRun, message),
            Ok(ShimAnswer::Failed(message)) => EngineError::unavailable(message),
            Err(error) => error,
        };
        // After `Unknown` the shim may be at work.
        if !matches!(refusal, EngineError::Unknown { .. }) {
            let identity = spec.identity.clone();
            self.blocking(move |inner| inner.delete(&identity)).await?;
        }
        Err(refusal)
    }

    async fn run_shim(&self, dir: &TaskDir, lock: File) -> Result<ShimAnswer, EngineError> {
        let mut shim = self.spawn_shim(dir, lock)?;
        let Some(answer) = shim.stdout.take() else {
            return Err(EngineError::unknown("the shim has no output"));
        };
        let mut line = String::new();
        match timeout(START_TIMEOUT, BufReader::new(answer).read_line(&mut line)).await {
            Err(_) => Err(EngineError::unknown("the shim did not answer in time")),
            Ok(Err(error)) => Err(EngineError::unknown(error.to_string())),
            Ok(Ok(_)) => match serde_json::from_str(&line) {
                Ok(answer) => Ok(answer),
                Err(_) => {
                    end_started(&shim).await?;
                    let message = format!("the shim exited without an answer ({line:?})");
                    // Where it came to start the program, the next look tells how that ended.
                    let dir = dir.clone();
                    let has_come =
                        move |_: &Inner| Ok(dir.shim().map_or(true, |shim| shim.is_some()));
                    Err(if self.blocking(has_come).await? {
                        EngineError::unknown(message)
                    } else {
                        EngineError::failed(message)
                    })
                }
            },
        }
    }

    fn spawn_shim(&self, dir: &TaskDir, lock: File) -> Result<Child, EngineError> {
        let (program, args) = self
            .inner
            .config
            .shim
            .words
            .split_first()
            .ok_or_else(|| EngineError::unavailable("no shim is configured"))?;
        Command::new(program)
            .args(args)
            .arg(&dir.0)
            // The shim's from here on, without a moment in which nobody holds it.
            .stdin(lock)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| {
                EngineError::unavailable(format!("cannot start the shim {program:?}: {error}"))
            })
    }

    async fn remove_task(&self, identity: &Identity) -> Result<(), EngineError> {
        let removed = async {
            loop {
                let asked = identity.clone();
                if self.blocking(move |inner| inner.remove(&asked)).await? {
                    return Ok(());
                }
                sleep(REMOVE_INTERVAL).await;
            }
        };
        timeout(REMOVE_TIMEOUT, removed)
            .await
            .unwrap_or_else(|_| Err(EngineError::unavailable(format!("cannot kill {identity}"))))
    }
}

impl Engine for ProcessEngine {
    fn info(&self) -> Answer<'_, NodeFacts> {
        self.blocking(|_| facts().map_err(|error| failed(&error))).boxed()
    }

    fn list(&self) -> Answer<'_, Vec<Container>> {
        self.blocking(Inner::list).boxed()
    }

    fn inspect<'a>(&'a self, identity: &'a Identity) -> Answer<'a, Option<ContainerState>> {
        let identity = identity.clone();
        self.blocking(move |inner| inner.state(&identity)).boxed()
    }

    fn create_and_start<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, Started> {
        self.start(spec).boxed()
    }

    fn pull<'a>(&'a self, _: &'a str, _: &'a PullProgress) -> Answer<'a, ()> {
        // It takes no images.
        async { Ok(()) }.boxed()
    }

    fn signal<'a>(&'a self, identity: &'a Identity, signal: Signal) -> Answer<'a, ()> {
        let identity = identity.clone();
        self.blocking(move |inner| inner.signal(&identity, signal)).boxed()
    }

    fn remove<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()> {
        self.remove_task(identity).boxed()
    }

    fn logs<'a>(&'a self, identity: &'a Identity, options: LogOptions) -> Answer<'a, LogStream> {
        let dir = self.inner.dir(identity);
        let (engine, of) = (self.clone(), identity.clone());
        let end = async move {
            // A shim that cannot be asked for is taken for gone: the reader must end some time.
            while dir.has_shim().unwrap_or(false) {
                sleep(SHIM_INTERVAL).await;
            }
            // Where the shim was killed, this marks the end of the log.
            let _told = engine.blocking(move |inner| inner.look(&of)).await;
        };
        let files = LogFiles::at(vec![self.inner.logs.path(identity)]);
        read_files(files, options, end.boxed()).boxed()
    }

    fn prune_logs(&self, now: Timestamp) -> Answer<'_, ()> {
        self.blocking(move |inner| {
            let is_kept = |stem: &str| inner.tasks.join(stem).exists();
            inner.logs.prune(now, is_kept).map_err(|error| failed(&error))
        })
        .boxed()
    }

    fn usage(&self) -> Answer<'_, Usage> {
        self.blocking(Inner::usage).boxed()
    }

    fn exec<'a>(&'a self, identity: &'a Identity, request: &'a ExecRequest) -> Answer<'a, Exec> {
        self.run_beside(identity, request).boxed()
    }

    fn reach<'a>(&'a self, _: &'a Identity, _: ProbeKind) -> Answer<'a, Reach> {
        future::ready(Ok(Reach::Node)).boxed()
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        let inner = Arc::clone(&self.inner);
        events::watch(&self.inner.exits, &self.inner.tasks, move |stem| {
            TaskDir(inner.tasks.join(stem)).spec().ok().flatten().map(|spec| spec.identity)
        })
    }

    fn images(&self) -> Answer<'_, Vec<String>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

impl Inner {
    fn dir(&self, identity: &Identity) -> TaskDir {
        TaskDir(self.tasks.join(identity.file_stem()))
    }

    fn exit(&self, identity: &Identity) -> PathBuf {
        self.exits.join(identity.file_stem())
    }

    /// What runs under this identity; `Gone` where nothing of this scope does.
    fn look(&self, identity: &Identity) -> Result<Seen, EngineError> {
        self.seen(identity).map_err(|error| failed(&error))?.ok_or(EngineError::Gone)
    }

    /// What it does; nothing where nothing of this scope runs under this identity.
    fn state(&self, identity: &Identity) -> Result<Option<ContainerState>, EngineError> {
        match self.seen(identity) {
            Ok(seen) => Ok(seen.map(Seen::state)),
            Err(error) if is_damage(&error) => Ok(Some(unreadable(&error))),
            Err(error) => Err(failed(&error)),
        }
    }

    fn seen(&self, identity: &Identity) -> io::Result<Option<Seen>> {
        let dir = self.dir(identity);
        match dir.spec()? {
            Some(spec) if self.is_ours(&spec) && spec.identity == *identity => {
                self.look_in(&dir, &spec).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    fn look_in(&self, dir: &TaskDir, spec: &TaskSpec) -> io::Result<Seen> {
        if let Found::Said(seen) = look(dir, &spec.exit)? {
            return Ok(seen);
        }
        let _one = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have seen to it meanwhile.
        match look(dir, &spec.exit)? {
            Found::Said(seen) => Ok(seen),
            Found::Orphaned(run) => Ok(end_orphaned(spec, run, self.config.clock.now())),
        }
    }

    fn is_ours(&self, spec: &TaskSpec) -> bool {
        spec.cluster == self.config.scope.cluster() && spec.node == self.config.scope.node()
    }

    fn list(&self) -> Result<Vec<Container>, EngineError> {
        let mut containers = Vec::new();
        for entry in std::fs::read_dir(&self.tasks).map_err(|error| failed(&error))? {
            let dir = TaskDir(entry.map_err(|error| failed(&error))?.path());
            if is_leftover(&dir.0) {
                continue;
            }
            containers.extend(self.listed(&dir)?);
        }
        containers.sort_by(|a, b| a.identity.cmp(&b.identity));
        Ok(containers)
    }

    /// What a task's directory holds; nothing where that is not of this scope, or is removed while it
    /// is read. One that is damaged keeps no other from being listed.
    fn listed(&self, dir: &TaskDir) -> Result<Option<Container>, EngineError> {
        let identity = match dir.spec() {
            Ok(Some(spec)) if self.is_ours(&spec) => spec.identity,
            Ok(_) => return Ok(None),
            Err(error) => {
                let stem = dir.0.file_name().and_then(|name| name.to_str());
                return match stem.and_then(Identity::of_file_stem) {
                    Some(identity) if is_damage(&error) => {
                        Ok(Some(Container { identity, state: unreadable(&error) }))
                    }
                    // Nobody knows which one it is, and it may run.
                    Some(_) | None => Err(failed(&error)),
                };
            }
        };
        let state = self.state(&identity)?;
        Ok(state.map(|state| Container { identity, state }))
    }

    fn prepare(&self, spec: &ContainerSpec) -> Result<Prepared, EngineError> {
        match self.look(&spec.identity) {
            Ok(Seen::Abandoned) => self.delete(&spec.identity)?,
            Ok(Seen::Starting | Seen::Running(_) | Seen::Ended(_)) => return Ok(Prepared::Adopted),
            Err(EngineError::Gone) => (),
            Err(error) => return Err(error),
        }
        check(spec)?;
        let dir = self.dir(&spec.identity);
        let new = TaskDir(self.tasks.join(format!(".new-{}", spec.identity.file_stem())));
        let made = self.fill(&new, &dir, spec).map_err(|error| {
            // What there is of it takes the room that others need. If it stays, the next try removes it.
            let _stays = remove_all_if_there(&new.0);
            failed(&io::Error::new(
                error.kind(),
                format!("cannot create {}: {error}", dir.0.display()),
            ))
        })?;
        Ok(Prepared::New { dir, lock: made })
    }

    /// Makes the task's directory under another name and moves it into place.
    fn fill(&self, new: &TaskDir, dir: &TaskDir, spec: &ContainerSpec) -> io::Result<File> {
        remove_all_if_there(&new.0)?;
        private::folder(&new.0.join("work"))?;
        let work = dir.0.join("work");
        let mut env = vec![
            ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
            ("HOME".to_owned(), work.to_string_lossy().into_owned()),
        ];
        env.extend(spec.env.iter().cloned());
        new.write_spec(&TaskSpec {
            cluster: self.config.scope.cluster().to_owned(),
            node: self.config.scope.node().to_owned(),
            identity: spec.identity.clone(),
            argv: spec.command.iter().chain(&spec.args).cloned().collect(),
            env,
            working_dir: spec.working_dir.as_ref().map_or(work, PathBuf::from),
            log: self.logs.path(&spec.identity),
            log_bytes_max: spec.logs.bytes_max,
            exit: self.exit(&spec.identity),
        })?;
        if let Some(keep) = spec.logs.keep {
            self.logs.keep_for(&spec.identity, keep)?;
        }
        let lock = new.lock()?;
        std::fs::rename(&new.0, &dir.0)?;
        Ok(lock)
    }

    fn signal(&self, identity: &Identity, signal: Signal) -> Result<(), EngineError> {
        match self.look(identity)? {
            Seen::Running(run) => run.signal(signal.as_nix()).map_err(|error| failed(&error)),
            Seen::Starting | Seen::Abandoned | Seen::Ended(_) => Ok(()),
        }
    }

    /// Kills a task, and deletes its files once nothing of it is there any more, its shim included.
    /// Whether that was done: it may take a moment to end.
    fn remove(&self, identity: &Identity) -> Result<bool, EngineError> {
        match self.look(identity)? {
            Seen::Running(run) => {
                run.signal(Signal::KILL.as_nix()).map_err(|error| failed(&error))?;
                Ok(false)
            }
            Seen::Starting => Ok(false),
            Seen::Ended(_) | Seen::Abandoned => {
                if self.dir(identity).has_shim().map_err(|error| failed(&error))? {
                    return Ok(false);
                }
                self.delete(identity).map(|()| true)
            }
        }
    }

    /// Deletes a task's files but its log. From the rename on it is not listed any more.
    fn delete(&self, identity: &Identity) -> Result<(), EngineError> {
        let gone = self.tasks.join(format!(".gone-{}", identity.file_stem()));
        let delete = || {
            remove_all_if_there(&gone)?;
            std::fs::rename(&self.dir(identity).0, &gone)?;
            remove_if_there(&self.exit(identity))?;
            remove_if_there(&dir::beside(&self.exit(identity)))?;
            // Left by a shim that was killed.
            remove_if_there(&room_of(&self.logs.path(identity)))?;
            remove_all_if_there(&gone)
        };
        delete().map_err(|error| failed(&error))
    }

    fn clear_leftovers(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.tasks)? {
            let path = entry?.path();
            if is_leftover(&path) {
                remove_all_if_there(&path)?;
            }
        }
        for entry in std::fs::read_dir(&self.exits)? {
            let entry = entry?;
            let path = entry.path();
            // A task's room for its exit has the same stem: its shim may be writing it now.
            let is_kept = path.file_stem().is_some_and(|stem| self.tasks.join(stem).exists());
            if !is_kept {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }
}

/// Ends what a shim has started that was killed before it answered: its files say nothing of that. The
/// shim was not waited for, so its number is still its own.
async fn end_started(shim: &Child) -> Result<(), EngineError> {
    let Some(pid) = shim.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
    let ended = base::blocking("process engine", move || shim::table::end_session(pid));
    match ended.await.map_err(EngineError::unknown)? {
        Ok(left) if left.is_empty() => Ok(()),
        Ok(left) => Err(EngineError::unknown(dir::not_permitted(&left))),
        Err(error) => Err(EngineError::unknown(ErrorChain(&error).to_string())),
    }
}

/// Refuses what processes cannot have.
fn check(spec: &ContainerSpec) -> Result<(), EngineError> {
    if spec.command.is_empty() && spec.args.is_empty() {
        let message =
            "command: required by the process runtime, which has no image to take one from";
        return Err(EngineError::refused(Reason::CannotRun, message));
    }
    if let Some(dir) = spec.working_dir.as_ref().filter(|dir| !Path::new(dir).is_dir()) {
        let message = format!("workingDir {dir}: no such directory on this node");
        return Err(EngineError::refused(Reason::CannotRun, message));
    }
    host::check(&spec.host)?;
    spec.ports.iter().try_for_each(ports::check)?;
    spec.mounts.iter().try_for_each(check_mount)
}

fn check_mount(mount: &Mount) -> Result<(), EngineError> {
    let path = mount.path.display();
    let refused = |message: String| Err(EngineError::refused(Reason::Mount, message));
    match &mount.source {
        MountSource::Tmpfs { .. } => {
            refused(format!("mount {path}: the process runtime does not support tmpfs"))
        }
        MountSource::Volume { .. } => {
            refused(format!("mount {path}: the process runtime has no volumes; write a hostPath"))
        }
        MountSource::HostPath { host_path, .. } if *host_path != mount.path => refused(format!(
            "mount {path}: the process runtime cannot mount {} there; make path and hostPath the \
             same",
            host_path.display()
        )),
        MountSource::HostPath { create: false, .. } if !mount.path.exists() => {
            refused(format!("mount {path}: hostPath does not exist on this node"))
        }
        MountSource::HostPath { .. } => match make_shared(&mount.path) {
            Err(error) if !mount.path.exists() => refused(format!("mount {path}: {error}")),
            // It may be a file.
            Ok(()) | Err(_) => Ok(()),
        },
    }
}

/// Makes a folder that is the user's and not ours: everybody may read it, as one that Docker makes,
/// whatever this process's umask.
fn make_shared(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    for folder in missing.into_iter().rev() {
        std::fs::create_dir(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn is_leftover(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn remove_all_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unreadable(error: &io::Error) -> ContainerState {
    ContainerState::Unreadable { why: ErrorChain(error).to_string() }
}

fn failed(error: &io::Error) -> EngineError {
    EngineError::unavailable(ErrorChain(error).to_string())
}

fn facts() -> io::Result<NodeFacts> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let memory_kib: Option<u64> = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    Ok(NodeFacts {
        engine: "process".to_owned(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        kernel: kernel.trim().to_owned(),
        cpus: u32::try_from(std::thread::available_parallelism()?.get()).unwrap_or(u32::MAX),
        memory_bytes: memory_kib.unwrap_or(0).saturating_mul(1024),
    })
}
