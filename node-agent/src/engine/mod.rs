//! What containers run in: the few things a container engine must do, behind one trait.
//!
//! # Invariants
//!
//! * An engine speaks for one node of one cluster ([`Scope`]) and neither lists nor touches what
//!   another scope started, even where both share one Docker Engine.
//! * Every operation may be repeated: creating twice makes one container, and signalling or
//!   removing what has ended is no error. So an answer that was lost is asked for again.
//! * What an engine says is read from the containers themselves, never from its own memory: an
//!   agent that restarts finds what runs, and what ended meanwhile with its exit code.
//! * Calls about different containers may run at the same time; of those about one, the caller
//!   waits for the first before it makes the next.
//! * Events are only a reason to look. What happened is what [`Engine::list`] and
//!   [`Engine::inspect`] say.

pub mod conformance;
mod container;
pub mod docker;
mod error;
mod exec;
mod log_copy;
mod log_files;
pub(crate) mod log_lines;
mod log_segments;
mod log_store;
mod log_tail;
pub mod logs;
mod probe;
pub mod process;
pub mod sim;
mod spec;
mod usage;

use std::fmt::Debug;
use std::time::Duration;

use api::exec::ExecRequest;
use api::template::ProbeKind;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::watch;

pub use container::{
    Container, ContainerState, Identity, InvalidIdentity, LABEL_ATTEMPT, LABEL_CLUSTER,
    LABEL_CONTAINER, LABEL_NAMESPACE, LABEL_NODE, LABEL_RESTART, LABEL_TASK, LABEL_UID, MAIN,
    NodeFacts, Scope,
};
pub use error::{EngineError, Reason};
pub use exec::{Exec, ExecControl};
pub use log_store::LogStore;
pub use logs::{LOG_BYTES_MAX, LogEvent, LogLine, LogOptions, LogStream};
pub use probe::{HttpRequest, ProbeAction, Reach, Simulated, Socket};
pub use spec::{
    ContainerSpec, HostSettings, LogLimits, Mount, MountSource, Port, Protocol, PullPolicy,
    Resources, Signal, UnknownSignal,
};
pub(crate) use usage::HostMemory;
pub use usage::{Usage, Used};

/// Names that [`Engine::images`] returns at most: enough for scoring, small enough to report.
pub const IMAGES_MAX: usize = 1_000;

/// How long logs of removed containers are kept where their template does not say.
pub const LOGS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Something in an engine may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// Look at this container.
    Changed(Identity),
    /// Events may have been missed: look at everything.
    Missed,
}

/// That a container was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// It was there before this call: an earlier call whose answer was lost, or a former agent.
    pub adopted: bool,
    /// The digest of its image, where that was asked for and a registry knows it.
    pub digest: Option<Box<str>>,
}

/// Where an engine tells how much of an image it has fetched, in percent; nothing before that is
/// known.
#[derive(Debug, Default)]
pub struct PullProgress(watch::Sender<Option<u8>>);

impl PullProgress {
    /// One whose latest value can be watched.
    pub fn watched() -> (Self, watch::Receiver<Option<u8>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    /// Tells it.
    pub fn tell(&self, percent: Option<u8>) {
        self.0.send_if_modified(|before| std::mem::replace(before, percent) != percent);
    }
}

/// An answer of an engine, when it comes.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// Runs containers on this node.
pub trait Engine: Send + Sync + Debug {
    /// What this node is.
    fn info(&self) -> Answer<'_, NodeFacts>;

    /// Every container of this scope that was not removed, ended ones too, sorted by identity. One of
    /// which not even the name can be read has another name here, with its own uid and attempt.
    fn list(&self) -> Answer<'_, Vec<Container>>;

    /// What [`Engine::list`] says of one container, at the price of one; nothing where it does not
    /// list it.
    fn inspect<'a>(&'a self, identity: &'a Identity) -> Answer<'a, Option<ContainerState>>;

    /// Creates a container and starts it, or finds the one that already has this identity.
    /// Nothing is left behind by `Refused`; after `Unknown` ask again or list. After `NeedsImage`
    /// have the image fetched, which may take long, and ask again.
    fn create_and_start<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, Started>;

    /// Fetches an image and tells meanwhile how far it is; dropping the answer gives that up. `Refused`
    /// where it cannot be had.
    fn pull<'a>(&'a self, image: &'a str, progress: &'a PullProgress) -> Answer<'a, ()>;

    /// Sends a signal to the container's main process (of the process engine: to its group).
    /// Does nothing to one that has ended.
    fn signal<'a>(&'a self, identity: &'a Identity, signal: Signal) -> Answer<'a, ()>;

    /// Ends a container at once. Does nothing to one that has ended.
    fn kill<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()> {
        self.signal(identity, Signal::KILL)
    }

    /// Removes a container, killing it first where it runs. Its logs are kept.
    fn remove<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()>;

    /// What a container wrote, also after its removal. `Gone` where nothing was kept. A stream that
    /// follows ends when the container has ended and all was told.
    fn logs<'a>(&'a self, identity: &'a Identity, options: LogOptions) -> Answer<'a, LogStream>;

    /// Deletes kept logs of removed containers whose time is over at `now`, and the oldest ones where
    /// all of them together are too large.
    fn prune_logs(&self, now: Timestamp) -> Answer<'_, ()>;

    /// What the machine and the running containers of this scope use. A container that ends
    /// meanwhile is left out.
    fn usage(&self) -> Answer<'_, Usage>;

    /// Runs a command in a running container, where the engine can. `Refused` says why not.
    fn exec<'a>(&'a self, identity: &'a Identity, request: &'a ExecRequest) -> Answer<'a, Exec>;

    /// How the ports of a running container are reached. `Gone` where it does not run.
    fn reach<'a>(&'a self, identity: &'a Identity, kind: ProbeKind) -> Answer<'a, Reach>;

    /// Says when to look. Never ends; an engine that went away is dialled again.
    fn events(&self) -> BoxStream<'static, EngineEvent>;

    /// Names of images that are present, at most [`IMAGES_MAX`], sorted.
    fn images(&self) -> Answer<'_, Vec<String>>;
}
