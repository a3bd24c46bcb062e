//! What this node knows of one attempt of a task: what it promised, how far it came, and what it
//! has still to say about it. The journal keeps these over restarts.
//!
//! # Invariants
//!
//! * An attempt is written down as [`Progress::Starting`] before its container is made. One that
//!   is [`Progress::Ended`] is never started again.
//! * What is to be said is kept until the apiserver has heard it or will not hear it any more.

use std::collections::BTreeMap;
use std::time::Duration;

use api::amounts::Amounts;
use api::room::HostPort;
use api::task::transition::Report;
use api::template::Port;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{Identity, Signal};

/// How long a container may take to end when nothing says otherwise: one whose template is not
/// known any more.
const UNKNOWN_GRACE: Duration = Duration::from_secs(10);

/// One attempt of a task on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attempt {
    /// Which.
    pub identity: Identity,
    /// The number of its binding; 0 for a container that was found and that nobody wants.
    pub binding: u32,
    /// What it takes of the node.
    #[serde(default)]
    pub requests: Amounts,
    /// Its host ports, by name.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// What of a host port the template names, by name; one that is not here has its number whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed_ports: BTreeMap<String, HostPort>,
    /// How it is stopped.
    #[serde(default)]
    pub manner: Manner,
    /// How far it came.
    pub progress: Progress,
    /// What the apiserver has not acknowledged. A newer word replaces an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsent: Option<Word>,
    /// What only this process knows.
    #[serde(skip)]
    pub session: Session,
}

/// How an attempt is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manner {
    /// What asks it to end.
    pub signal: String,
    /// How long it then has, in milliseconds.
    pub grace_millis: u64,
    /// How long it may run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_millis: Option<u64>,
}

/// How far an attempt came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Progress {
    /// Its container is being made, or was: only a look tells.
    Starting {
        /// When that was decided.
        since: Timestamp,
    },
    /// It was seen running.
    Running {
        /// When its container started.
        started: Timestamp,
        /// When this agent first saw it: what its time-out counts from.
        seen: Timestamp,
    },
    /// It is being stopped.
    Stopping {
        /// When its container had started.
        started: Option<Timestamp>,
        /// When that was decided.
        since: Timestamp,
        /// The same as the engine's clock has it.
        asked: Timestamp,
        /// Why.
        why: Why,
        /// When the engine had delivered the signal that asks it to end: what its grace counts
        /// from. An engine or an agent that is away for longer than the grace takes nothing of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivered: Option<Timestamp>,
    },
    /// Its end was written down: nothing but tidying is left.
    Ended,
    /// It was given back, since it does not fit.
    Refused,
}

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Its time is up.
    TimedOut,
    /// A task of higher priority needs the place.
    Preempted,
    /// It was asked for.
    Asked,
    /// No task wants it here any more.
    Unwanted,
}

/// Something to say to the apiserver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Word {
    /// Tells this word from the one that replaced it while it was on its way.
    pub number: u64,
    /// What is said.
    pub says: Says,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Says {
    /// What was seen.
    Report(Box<Report>),
    /// The binding does not fit.
    Refuse(String),
}

/// What one process of the agent knows of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// So often the engine answered that it could not deliver the signal that asks it to end.
    pub signal_failures: u32,
    /// So often the engine answered that it could not start it.
    pub start_failures: u32,
    /// The image that it waits for.
    pub wanted_image: Option<String>,
    /// Its image was fetched.
    pub is_fetched: bool,
    /// Whether its start may have begun.
    pub begun: Begun,
    /// Why it is not started yet.
    pub trouble: Option<String>,
    /// That it is being started was said.
    pub told_starting: bool,
    /// What was then said of the trouble.
    pub told_trouble: Option<String>,
    /// Something else holds a port that it was given from the node's range: it is to get others.
    pub wants_ports: bool,
    /// So often it got others.
    pub port_tries: u32,
    /// How what the engine knows of it is damaged, if it is: the trouble says so.
    pub damage: Option<String>,
    /// It was killed, and is not killed again before.
    pub kill_again_at: Option<Timestamp>,
}

/// Whether the start of an attempt may have begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begun {
    /// The engine's answer to a start is not known, such as to one of an agent before this one.
    #[default]
    Perhaps,
    /// This agent decided the first start, and to each that it asked for the engine has answered that
    /// nothing was done.
    No,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            signal: Signal::TERM.name().to_owned(),
            grace_millis: millis(UNKNOWN_GRACE),
            timeout_millis: None,
        }
    }
}

impl Manner {
    /// How long it has to end.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_millis)
    }

    /// How long it may run.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_millis.map(Duration::from_millis)
    }

    /// What asks it to end: TERM where the template's word is no signal here.
    pub fn signal(&self) -> Signal {
        self.signal.parse().unwrap_or(Signal::TERM)
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Attempt {
    /// Whether the journal says the same of both. What only this process knows is not in it.
    pub fn is_written_as(&self, other: &Self) -> bool {
        let Self {
            identity,
            binding,
            requests,
            ports,
            fixed_ports,
            manner,
            progress,
            unsent,
            session: _,
        } = self;
        (identity, binding, requests, ports)
            == (&other.identity, &other.binding, &other.requests, &other.ports)
            && (fixed_ports, manner) == (&other.fixed_ports, &other.manner)
            && (progress, unsent) == (&other.progress, &other.unsent)
    }

    /// An attempt of which nothing but its identity is known.
    pub fn found(identity: Identity, progress: Progress) -> Self {
        Self {
            identity,
            binding: 0,
            requests: Amounts::new(),
            ports: BTreeMap::new(),
            fixed_ports: BTreeMap::new(),
            manner: Manner::default(),
            progress,
            unsent: None,
            session: Session::default(),
        }
    }

    /// As it is known to an agent that starts at `now`. What was written down later was so before
    /// somebody set the clock back, perhaps by hours: its waits count from now instead.
    #[must_use]
    pub(crate) fn loaded_at(mut self, now: Timestamp) -> Self {
        let clamp = |time: &mut Timestamp| *time = now.min(*time);
        match &mut self.progress {
            Progress::Starting { since } => clamp(since),
            Progress::Running { seen, .. } => clamp(seen),
            Progress::Stopping { since, delivered, .. } => {
                clamp(since);
                delivered.iter_mut().for_each(clamp);
            }
            Progress::Ended | Progress::Refused => (),
        }
        self
    }

    /// Whether it takes its resources and ports.
    pub fn holds(&self) -> bool {
        match self.progress {
            Progress::Starting { .. } | Progress::Running { .. } | Progress::Stopping { .. } => {
                true
            }
            Progress::Ended | Progress::Refused => false,
        }
    }

    /// Its host ports, as far as it has them.
    pub fn host_ports(&self) -> impl Iterator<Item = HostPort> {
        self.ports.iter().map(|(name, number)| {
            let fixed = self.fixed_ports.get(name).copied();
            fixed.unwrap_or_else(|| HostPort::whole(*number))
        })
    }

    /// Takes over what the template says of the ports that it names.
    pub(crate) fn name_fixed_ports(&mut self, ports: &[Port]) {
        let fixed = |port: &Port| Some((port.name.clone(), HostPort::fixed(port)?));
        self.fixed_ports = ports.iter().filter_map(fixed).collect();
    }

    /// Whether it cannot be started before its image is there.
    pub(crate) fn waits_for_image(&self) -> bool {
        self.session.wanted_image.is_some() && matches!(self.progress, Progress::Starting { .. })
    }

    /// Says something: what was said before and not heard is void.
    pub fn say(&mut self, number: u64, says: Says) {
        self.unsent = Some(Word { number, says });
    }
}
