//! What this node knows of one attempt of a task: its binding, how far it has come, and what the
//! apiserver has not been told yet. The journal keeps this across restarts of the agent.
//!
//! # Invariants
//!
//! * An attempt is written to the journal as [`Progress::Starting`] before its container is
//!   created. One that is [`Progress::Ended`] is never started again.
//! * A message is kept until the apiserver has acknowledged it or refuses it for good.
//! * A field that a newer agent added is passed over when an attempt is read from the journal: a
//!   field that must not be passed over needs another version of the journal's form. A word that
//!   is not known, such as another [`Progress`], is an error.

use std::collections::BTreeMap;
use std::time::Duration;

use api::amounts::Amounts;
use api::restart::Restart;
use api::room::HostPort;
use api::task::report::Report;
use api::task::{LastExit, ReportState};
use api::template::Port;
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::engine::{Identity, Signal};
use crate::health::{Health, Probing};

/// How long a container has to end if its template is not known any more.
const UNKNOWN_GRACE: Duration = Duration::from_secs(10);

/// One attempt of a task on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its container, and the task that it belongs to. A restart in place gives it the identity of
    /// its next container.
    pub identity: Identity,
    /// Number of the binding; 0 for a container that was found and that no task wants.
    pub binding: u32,
    /// Resources that it holds.
    #[serde(default)]
    pub requests: Amounts,
    /// Its node ports, by name.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// For node ports that the template asks for by number: protocol and address. A port that is
    /// not here is held with both protocols on all addresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed_ports: BTreeMap<String, HostPort>,
    /// Numbers of the node's graphics processors that it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u32>,
    /// Digest of the image that its containers run, where it stays up and a registry knows the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Box<str>>,
    /// How it has to be stopped.
    #[serde(default)]
    pub manner: Manner,
    /// How it is restarted in place; `None` for an attempt that ends with its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<Box<InPlace>>,
    /// What the probes of its present container have decided.
    #[serde(default, skip_serializing_if = "Health::is_unprobed")]
    pub health: Health,
    /// How far it has come.
    pub progress: Progress,
    /// What the apiserver has not acknowledged. A newer message replaces an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsent: Option<Message>,
    /// What is known to this process alone and is not in the journal.
    #[serde(skip)]
    pub session: Session,
}

/// How an attempt has to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manner {
    /// The signal that asks it to end.
    pub signal: String,
    /// How long it then has to end, in milliseconds.
    pub grace_millis: u64,
    /// Its time limit, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_millis: Option<u64>,
    /// How long it is not ready before it gets that signal, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drain_millis: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How an attempt is restarted in place, and what came of its containers so far. Times are on the
/// agent's clock, if nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InPlace {
    /// What its template says.
    pub rule: Restart,
    /// Whether no other node may run it, so that it is never given up here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_pinned: bool,
    /// How many times in a row it has ended, or could not be started, since a run that was long
    /// enough to count as a success.
    #[serde(default)]
    pub in_a_row: u32,
    /// How long its last runs lasted, in milliseconds, the latest last. At most as many as decide
    /// whether it is flapping.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs_millis: Vec<u64>,
    /// Since when it has not stayed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// When its last container that ended had started, on the engine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_started: Option<Timestamp>,
    /// How that container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
}

/// How far an attempt has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Progress {
    /// Its container is being created, or has been: only the engine knows.
    Starting {
        /// When the start was decided.
        since: Timestamp,
    },
    /// Its container ended, or could not be started, and is started again in place after a pause.
    /// Its identity is that of the container to be started.
    BackOff {
        /// When the pause began.
        since: Timestamp,
        /// How long it is, in milliseconds.
        wait_millis: u64,
        /// When it is over, on the wall clock. For reports alone.
        until: Timestamp,
        /// Why it waits, in one word.
        reason: String,
        /// Why its start failed, if that is what happened last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// It was seen running.
    Running {
        /// When its container started.
        started: Timestamp,
        /// When this agent first saw it running. The time limit counts from then.
        seen: Timestamp,
    },
    /// It is being stopped.
    Stopping {
        /// When its container had started.
        started: Option<Timestamp>,
        /// When the stop was decided, on the agent's clock.
        since: Timestamp,
        /// The same moment on the engine's clock.
        asked: Timestamp,
        /// Why.
        why: Why,
        /// How long the stop signal waits after that, in milliseconds, so that the task gets no new
        /// work and can finish what it has.
        #[serde(default, skip_serializing_if = "is_zero")]
        drain_millis: u64,
        /// When the engine had delivered the stop signal; the grace period counts from then. If
        /// engine or agent were away for a while, the container still has all of its grace period.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivered: Option<Timestamp>,
    },
    /// Its end was written to the journal. All that is left is to remove its container.
    Ended,
    /// It was returned to the scheduler, because it does not fit.
    Refused,
}

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Its time limit was exceeded.
    TimedOut,
    /// A task with a higher priority needs its resources.
    Preempted,
    /// A stop was requested.
    Asked,
    /// No task wants it on this node any more.
    Unwanted,
    /// One of its probes has failed for good.
    Unhealthy,
}

/// A message to the apiserver about an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Tells this message from the one that replaced it while it was being sent.
    pub number: u64,
    /// What is said.
    pub says: Content,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// An observation.
    Report(#[serde(deserialize_with = "known_fields")] Box<Report>),
    /// The binding does not fit.
    Refuse(String),
}

/// Reads a report without the fields that a newer agent added. The type itself refuses them, since
/// an apiserver must not accept what it would not act on.
fn known_fields<'de, D: Deserializer<'de>>(source: D) -> Result<Box<Report>, D::Error> {
    let mut report = Map::deserialize(source)?;
    report.retain(|field, _| Report::FIELDS.contains(&field.as_str()));
    Report::deserialize(Value::Object(report)).map(Box::new).map_err(D::Error::custom)
}

/// What this process knows of an attempt. A restart of the agent begins with nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// How many times in a row the engine could not deliver the stop signal.
    pub signal_failures: u32,
    /// How many times in a row the engine could not start it.
    pub start_failures: u32,
    /// The image that it waits for, if it does.
    pub wanted_image: Option<String>,
    /// Whether its image has been pulled.
    pub is_fetched: bool,
    /// Whether a start may have begun.
    pub begun: Begun,
    /// What delays its start or its stop.
    pub trouble: Option<String>,
    /// Whether the apiserver was told that it is being started.
    pub told_starting: bool,
    /// The delay that the apiserver was told last.
    pub told_trouble: Option<String>,
    /// Of an attempt that is restarted in place or probed: the state in which the apiserver was told
    /// of its present pause or run, and whether it was ready.
    pub told: Option<(ReportState, bool)>,
    /// How the probes of its container stand.
    pub probing: Probing,
    /// What the apiserver was told that its probes say; `None` if this process has told nothing yet.
    pub told_words: Option<Option<String>>,
    /// When something else that its probes say may be told.
    pub words_due: Option<Timestamp>,
    /// How long that had to wait the last time.
    pub words_wait: Duration,
    /// Whether it needs other ports, because something that is not a task holds one of those it was
    /// given from the node's range.
    pub wants_ports: bool,
    /// How many times it was given other ports.
    pub port_tries: u32,
    /// What is damaged in the engine's records of it, if anything is.
    pub damage: Option<String>,
    /// It was killed. It is not killed again before this time.
    pub kill_again_at: Option<Timestamp>,
}

/// Whether the start of an attempt may have begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begun {
    /// The engine's answer to a start is not known, for example because an earlier agent asked.
    #[default]
    Perhaps,
    /// This agent decided on the first start, and the engine has answered to every start so far
    /// that nothing was done.
    No,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            signal: Signal::TERM.name().to_owned(),
            grace_millis: millis(UNKNOWN_GRACE),
            timeout_millis: None,
            drain_millis: 0,
        }
    }
}

impl Manner {
    /// How long it has to end after the stop signal.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_millis)
    }

    /// Its time limit.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_millis.map(Duration::from_millis)
    }

    /// The stop signal; TERM if the template names a signal that this machine does not have.
    pub fn signal(&self) -> Signal {
        self.signal.parse().unwrap_or(Signal::TERM)
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Attempt {
    /// Whether the journal's records of both are equal. What only this process knows is not
    /// compared, so that a change of it does not cause a write.
    pub fn is_written_as(&self, other: &Self) -> bool {
        let Self {
            identity,
            binding,
            requests,
            ports,
            fixed_ports,
            gpus,
            image_digest,
            manner,
            in_place,
            health,
            progress,
            unsent,
            session: _,
        } = self;
        (identity, binding, requests, ports)
            == (&other.identity, &other.binding, &other.requests, &other.ports)
            && (fixed_ports, gpus, manner) == (&other.fixed_ports, &other.gpus, &other.manner)
            && image_digest == &other.image_digest
            && (in_place, health) == (&other.in_place, &other.health)
            && (progress, unsent) == (&other.progress, &other.unsent)
    }

    /// An attempt of which only the identity is known.
    pub fn found(identity: Identity, progress: Progress) -> Self {
        Self {
            identity,
            binding: 0,
            requests: Amounts::new(),
            ports: BTreeMap::new(),
            fixed_ports: BTreeMap::new(),
            gpus: Vec::new(),
            image_digest: None,
            manner: Manner::default(),
            in_place: None,
            health: Health::Unprobed,
            progress,
            unsent: None,
            session: Session::default(),
        }
    }

    /// The attempt as an agent sees it that starts at `now`. Times in the future are replaced by
    /// `now`: the clock was set back, perhaps by hours, and waits must not last for that long.
    #[must_use]
    pub(crate) fn loaded_at(mut self, now: Timestamp) -> Self {
        let clamp = |time: &mut Timestamp| *time = now.min(*time);
        if let Some(in_place) = &mut self.in_place {
            in_place.down_since.iter_mut().for_each(clamp);
        }
        match &mut self.progress {
            Progress::Starting { since } | Progress::BackOff { since, .. } => clamp(since),
            Progress::Running { seen, .. } => clamp(seen),
            Progress::Stopping { since, delivered, .. } => {
                clamp(since);
                delivered.iter_mut().for_each(clamp);
            }
            Progress::Ended | Progress::Refused => (),
        }
        self
    }

    /// Whether it holds its resources and ports.
    pub fn holds(&self) -> bool {
        match self.progress {
            Progress::Starting { .. }
            | Progress::BackOff { .. }
            | Progress::Running { .. }
            | Progress::Stopping { .. } => true,
            Progress::Ended | Progress::Refused => false,
        }
    }

    /// The node ports that it has been given so far.
    pub fn host_ports(&self) -> impl Iterator<Item = HostPort> {
        self.ports.iter().map(|(name, number)| {
            let fixed = self.fixed_ports.get(name).copied();
            fixed.unwrap_or_else(|| HostPort::whole(*number))
        })
    }

    /// Stores protocol and address of the ports that the template asks for by number.
    pub(crate) fn name_fixed_ports(&mut self, ports: &[Port]) {
        let fixed = |port: &Port| Some((port.name.clone(), HostPort::fixed(port)?));
        self.fixed_ports = ports.iter().filter_map(fixed).collect();
    }

    /// Whether its container was seen running and is not being stopped.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.progress, Progress::Running { .. })
    }

    /// Whether it cannot be started before its image has been pulled.
    pub(crate) fn waits_for_image(&self) -> bool {
        self.session.wanted_image.is_some() && matches!(self.progress, Progress::Starting { .. })
    }

    /// Whether it is started for the first time after its last container ended, so that this one
    /// may not have let go of its ports yet.
    pub(crate) fn may_be_held_up_by_its_last(&self) -> bool {
        self.identity.restart() > 0 && self.session.start_failures == 0
    }

    /// Sets the message to send. An older one that was not acknowledged is dropped.
    pub fn say(&mut self, number: u64, says: Content) {
        self.unsent = Some(Message { number, says });
    }
}
