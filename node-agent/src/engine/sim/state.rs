//! The containers of a simulated machine. Nothing waits here: the time is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use api::template::ProbeKind;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Fault;
use super::history::{ContainerKey, History, HistoryKind};
use super::program::{Lifetime, Program, SimHealth};
use crate::engine::logs::{LogLine, Output};
use crate::engine::{
    Container, ContainerSpec, ContainerState, EngineError, Identity, LOGS_KEPT, Resources, Scope,
    Signal, Simulated, Started, Usage, Used,
};

const SIGSEGV: i32 = 11;

#[derive(Debug)]
struct Running {
    since: Timestamp,
    /// The same moment on the machine's other clock.
    began: Instant,
    health: SimHealth,
    /// When it ends by itself, on both clocks, with its result.
    end: Option<(Instant, End)>,
    ignores_term: bool,
    /// The usage that it reports: what it may use.
    resources: Resources,
}

#[derive(Debug, Clone, Copy)]
struct End {
    at: Timestamp,
    code: i32,
    signal: Option<i32>,
}

#[derive(Debug)]
enum Life {
    Running(Box<Running>),
    Ended { since: Timestamp, end: End },
}

#[derive(Debug)]
struct Subscriber {
    scope: Scope,
    /// Containers that have changed since the subscriber last asked, each once. An event only says
    /// when to look.
    changed: BTreeSet<Identity>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    containers: BTreeMap<ContainerKey, Life>,
    /// Future ends.
    ends: BTreeSet<(Instant, ContainerKey)>,
    /// Logs of containers that wrote something, including removed ones.
    logs: BTreeMap<ContainerKey, Vec<LogLine>>,
    images: BTreeSet<(Scope, String)>,
    /// Images that have to be pulled before use, and how long that takes.
    pub(super) slow_images: BTreeMap<String, Duration>,
    subscribers: BTreeMap<u64, Subscriber>,
    subscribed: u64,
    pub(super) is_listing_broken: bool,
    pub(super) faults: VecDeque<Fault>,
    pub(super) history: History,
}

impl State {
    /// Ends the containers whose time is over at `now`.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some((due, _)) = self.ends.first()
            && *due <= now
            && let Some((_, key)) = self.ends.pop_first()
        {
            let end = match self.containers.get(&key) {
                Some(Life::Running(running)) => running.end.map(|(_, end)| end),
                Some(Life::Ended { .. }) | None => None,
            };
            let Some(end) = end else { continue };
            self.history.add(&key, HistoryKind::Ended { code: end.code });
            self.end(&key, end);
        }
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(due, _)| *due)
    }

    pub(super) fn start(
        &mut self,
        key: ContainerKey,
        program: Program,
        spec: &ContainerSpec,
        now: Timestamp,
    ) -> Started {
        if self.containers.contains_key(&key) {
            return Started { adopted: true, digest: None };
        }
        let lines = [(Output::Stdout, &program.stdout), (Output::Stderr, &program.stderr)]
            .into_iter()
            .flat_map(|(output, texts)| texts.iter().map(move |text| (output, text)))
            .map(|(output, text)| LogLine {
                output,
                time: now,
                bytes: Bytes::from(format!("{text}\n")),
            })
            .collect::<Vec<_>>();
        if !lines.is_empty() {
            self.logs.insert(key.clone(), lines);
        }
        if !spec.image.is_empty() {
            self.images.insert((key.0.clone(), spec.image.clone()));
        }
        let end = match program.duration {
            Lifetime::Forever => None,
            Lifetime::For(duration) => {
                let passes = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
                let at = now.saturating_add(passes).unwrap_or(Timestamp::MAX);
                // A duration that the clock cannot represent means for ever.
                Instant::now().checked_add(duration).map(|due| (due, outcome(&program, spec, at)))
            }
        };
        if let Some((due, _)) = end {
            self.ends.insert((due, key.clone()));
        }
        let running = Running {
            since: now,
            began: Instant::now(),
            health: program.health,
            end,
            ignores_term: program.ignore_term,
            resources: spec.resources.clone(),
        };
        self.history.add(&key, HistoryKind::started(spec));
        self.tell(&key);
        self.containers.insert(key, Life::Running(Box::new(running)));
        self.settle(Instant::now());
        Started { adopted: false, digest: None }
    }

    pub(super) fn signal(
        &mut self,
        key: &ContainerKey,
        signal: Signal,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let running = match self.containers.get(key) {
            None => return Err(EngineError::Gone),
            Some(Life::Ended { .. }) => return Ok(()),
            Some(Life::Running(running)) => running,
        };
        if running.ignores_term && signal != Signal::KILL {
            return Ok(());
        }
        let number = signal.number();
        self.history.add(key, HistoryKind::Stopped);
        self.end(key, End { at: now, code: 128 + number, signal: Some(number) });
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &ContainerKey) -> Result<(), EngineError> {
        match self.containers.remove(key) {
            None => Err(EngineError::Gone),
            Some(Life::Running(running)) => {
                if let Some((due, _)) = running.end {
                    self.ends.remove(&(due, key.clone()));
                }
                self.history.add(key, HistoryKind::Stopped);
                self.tell(key);
                Ok(())
            }
            Some(Life::Ended { .. }) => {
                self.tell(key);
                Ok(())
            }
        }
    }

    pub(super) fn list(&self, scope: &Scope) -> Vec<Container> {
        self.containers
            .iter()
            .filter(|((of, _), _)| of == scope)
            .map(|((_, identity), life)| Container {
                identity: identity.clone(),
                state: life.state(),
            })
            .collect()
    }

    pub(super) fn inspect(&self, key: &ContainerKey) -> Option<ContainerState> {
        self.containers.get(key).map(Life::state)
    }

    /// The usage that running containers report.
    pub(super) fn usage(&self, scope: &Scope, now: Timestamp) -> Usage {
        let mut machine = Used { at: Instant::now(), cpu_nanos: 0, memory_bytes: 0 };
        let mut containers = Vec::new();
        for ((of, identity), life) in &self.containers {
            let Life::Running(running) = life else { continue };
            let used = running.used(now, machine.at);
            machine.cpu_nanos = machine.cpu_nanos.saturating_add(used.cpu_nanos);
            machine.memory_bytes = machine.memory_bytes.saturating_add(used.memory_bytes);
            if of == scope {
                containers.push((identity.clone(), used));
            }
        }
        Usage { machine, containers }
    }

    pub(super) fn running(&self) -> Vec<ContainerKey> {
        self.containers
            .iter()
            .filter(|(_, life)| matches!(life, Life::Running(_)))
            .map(|(key, _)| key.clone())
            .collect()
    }

    pub(super) fn is_running(&self, key: &ContainerKey) -> bool {
        matches!(self.containers.get(key), Some(Life::Running(_)))
    }

    /// What a probe of a running container finds.
    pub(super) fn probe(
        &self,
        key: &ContainerKey,
        kind: ProbeKind,
        now: Instant,
    ) -> Option<Simulated> {
        match self.containers.get(key)? {
            Life::Running(it) => Some(it.health.answer(kind, now.duration_since(it.began))),
            Life::Ended { .. } => None,
        }
    }

    /// The log of a container; `Gone` if it does not exist and has written nothing.
    pub(super) fn logs(&self, key: &ContainerKey) -> Result<Vec<LogLine>, EngineError> {
        match self.logs.get(key) {
            Some(lines) => Ok(lines.clone()),
            None if self.containers.contains_key(key) => Ok(Vec::new()),
            None => Err(EngineError::Gone),
        }
    }

    pub(super) fn prune_logs(&mut self, scope: &Scope, now: Timestamp) {
        let Ok(before) = now.saturating_sub(LOGS_KEPT) else { return };
        let containers = &self.containers;
        self.logs.retain(|key, lines| {
            key.0 != *scope
                || containers.contains_key(key)
                || lines.last().is_some_and(|line| line.time >= before)
        });
    }

    pub(super) fn images(&self, scope: &Scope) -> Vec<String> {
        self.images.iter().filter(|(of, _)| of == scope).map(|(_, image)| image.clone()).collect()
    }

    pub(super) fn needs_image(&self, scope: &Scope, image: &str) -> bool {
        self.slow_images.contains_key(image)
            && !self.images.contains(&(scope.clone(), image.to_owned()))
    }

    pub(super) fn add_image(&mut self, scope: &Scope, image: &str) {
        self.images.insert((scope.clone(), image.to_owned()));
    }

    pub(super) fn subscribe(&mut self, scope: Scope) -> u64 {
        self.subscribed += 1;
        self.subscribers.insert(self.subscribed, Subscriber { scope, changed: BTreeSet::new() });
        self.subscribed
    }

    pub(super) fn unsubscribe(&mut self, id: u64) {
        self.subscribers.remove(&id);
    }

    pub(super) fn listeners(&self) -> usize {
        self.subscribers.len()
    }

    pub(super) fn next_event(&mut self, id: u64) -> Option<Identity> {
        self.subscribers.get_mut(&id)?.changed.pop_first()
    }

    pub(super) fn clear(&mut self) {
        self.containers.keys().for_each(|key| self.history.add(key, HistoryKind::Lost));
        self.containers.clear();
        self.ends.clear();
        self.logs.clear();
        self.images.clear();
    }

    fn end(&mut self, key: &ContainerKey, end: End) {
        let Some(life) = self.containers.get_mut(key) else {
            return;
        };
        if let Life::Running(running) = life {
            if let Some((due, _)) = running.end {
                self.ends.remove(&(due, key.clone()));
            }
            *life = Life::Ended { since: running.since, end };
            self.tell(key);
        }
    }

    fn tell(&mut self, (scope, identity): &ContainerKey) {
        for subscriber in self.subscribers.values_mut().filter(|of| of.scope == *scope) {
            subscriber.changed.insert(identity.clone());
        }
    }
}

impl Running {
    /// All of what it requested, all the time.
    fn used(&self, now: Timestamp, at: Instant) -> Used {
        let lived = u64::try_from(now.duration_since(self.since).as_nanos()).unwrap_or_default();
        let millis = self.resources.cpu_request_millis.unwrap_or_default();
        let cpu_nanos = (lived / 1000).saturating_mul(millis);
        let memory_bytes = self.resources.memory_limit_bytes.unwrap_or_default();
        Used { at, cpu_nanos, memory_bytes }
    }
}

impl Life {
    fn state(&self) -> ContainerState {
        match self {
            Self::Running(running) => ContainerState::Running { since: running.since },
            Self::Ended { since, end } => ContainerState::Exited {
                started: Some(*since),
                at: end.at,
                code: end.code,
                signal: end.signal,
                oom_killed: false,
                is_unseen: false,
                message: None,
            },
        }
    }
}

fn outcome(program: &Program, spec: &ContainerSpec, at: Timestamp) -> End {
    // A restart in place is one more try, as another attempt is.
    if spec.identity.attempt().saturating_add(spec.identity.restart()) <= program.crash {
        End { at, code: 128 + SIGSEGV, signal: Some(SIGSEGV) }
    } else {
        End { at, code: program.exit, signal: None }
    }
}
