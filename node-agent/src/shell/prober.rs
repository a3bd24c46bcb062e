//! Makes probes of containers: each beside all others, and only while its container is wanted.
//!
//! # Invariants
//!
//! * A probe is answered within its time-out, whatever it waits for, and takes no place that another
//!   container's probe needs.
//! * There is one probe of each kind of a container at a time. A command or a name look-up that
//!   outlives its probe is not begun a second time before it has ended.
//! * A command whose probe is over is stopped, as far as the engine can.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::exec::ExecRequest;
use api::template::ProbeKind;
use base::{Spawner, without_panic};
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, error};

use super::Event;
use super::probe_net::{self, Target};
use crate::engine::{
    Engine, EngineError, Exec, ExecControl, Identity, ProbeAction, Reach, Simulated, Socket,
};
use crate::health::{FINDING_CHARS_MAX, Finding};
use crate::plan::ProbeOrder;

/// How long the engine may take to stop a command.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait for output that a command wrote before it ended.
const REST_TIMEOUT: Duration = Duration::from_millis(500);

/// The result of a probe.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) identity: Identity,
    pub(super) kind: ProbeKind,
    /// Tells this probe from an earlier one that was given up.
    number: u64,
    pub(super) finding: Finding,
    /// How the container was reached, to be remembered.
    reach: Option<Reach>,
}

/// Makes probes.
#[derive(Debug)]
pub(super) struct Prober {
    spawner: Spawner,
    events: mpsc::Sender<Event>,
    running: BTreeMap<(Identity, ProbeKind), Running>,
    /// How containers were reached the last time, until that fails.
    reached: BTreeMap<Identity, Reach>,
    started: u64,
}

#[derive(Debug, Default)]
struct Running {
    /// The probe in progress: its number, and what gives it up when it is dropped.
    probe: Option<(u64, oneshot::Sender<()>)>,
    /// Held by what an earlier probe has left running.
    rest: Weak<()>,
}

impl Prober {
    pub(super) fn new(spawner: Spawner, events: mpsc::Sender<Event>) -> Self {
        let (running, reached) = (BTreeMap::new(), BTreeMap::new());
        Self { spawner, events, running, reached, started: 0 }
    }

    /// Begins a probe, unless one of the same kind is in progress.
    pub(super) fn begin(&mut self, engine: &Arc<dyn Engine>, order: ProbeOrder) {
        let ProbeOrder { identity, kind, checks } = order;
        let Some(check) = checks.get(&kind).cloned() else { return };
        let running = self.running.entry((identity.clone(), kind)).or_default();
        if running.probe.is_some() {
            return;
        }
        self.started += 1;
        let number = self.started;
        let (wanted, given_up) = oneshot::channel::<()>();
        let is_held = running.rest.upgrade().is_some();
        let rest = Arc::new(());
        running.probe = Some((number, wanted));
        if !is_held {
            running.rest = Arc::downgrade(&rest);
        }
        let (limit, action) = (check.timeout, check.action);
        let probe = Probe {
            engine: Arc::clone(engine),
            spawner: self.spawner.clone(),
            identity: identity.clone(),
            kind,
            reach: self.reached.get(&identity).cloned(),
            rest,
        };
        let events = self.events.clone();
        self.spawner.spawn("probe", async move {
            let make = async {
                if is_held {
                    let why = "what an earlier probe has begun still runs".to_owned();
                    return (Finding::Failed(why), None);
                }
                match timeout(limit, probe.make(&action)).await {
                    Ok(made) => made,
                    Err(_) => {
                        let limit = api::duration::Duration::from(limit);
                        let what = subject(&action);
                        (Finding::Failed(format!("{what}no answer within {limit}")), None)
                    }
                }
            };
            let made = tokio::select! {
                biased;
                // Nothing is ever sent: the receiver resolves when the sender is dropped.
                _ = given_up => return debug!(%identity, "a probe is not wanted any more"),
                made = without_panic("probe", make) => made,
            };
            // A panic is a bug in this probe. It must not affect others, and it must be answered, or
            // the probe would never be made again.
            let (finding, reach) = made.unwrap_or_else(|_logged| {
                error!(%identity, "a probe panicked, which is a bug");
                (Finding::Unknown("the probe panicked, which is a bug".to_owned()), None)
            });
            let probed = Probed { identity, kind, number, finding, reach };
            // The receiver is closed when the agent ends.
            let _stopping = events.send(Event::Probed(probed)).await;
        });
    }

    /// Takes in a result. Returns whether the probe was not given up before.
    pub(super) fn done(&mut self, probed: &Probed) -> bool {
        let Some(running) = self.running.get_mut(&(probed.identity.clone(), probed.kind)) else {
            return false;
        };
        if running.probe.as_ref().is_none_or(|(number, _)| *number != probed.number) {
            return false;
        }
        running.probe = None;
        match &probed.reach {
            Some(reach) => drop(self.reached.insert(probed.identity.clone(), reach.clone())),
            // Its address may have changed.
            None => drop(self.reached.remove(&probed.identity)),
        }
        true
    }

    /// Gives up the probes of containers that are not wanted any more.
    pub(super) fn keep(&mut self, is_wanted: impl Fn(&Identity) -> bool) {
        self.running.retain(|(identity, _), running| {
            if is_wanted(identity) {
                return true;
            }
            running.probe = None;
            running.rest.strong_count() > 0
        });
        self.reached.retain(|identity, _| is_wanted(identity));
    }
}

/// What a finding begins with, so that people see what was asked.
fn subject(action: &ProbeAction) -> String {
    match action {
        ProbeAction::Http(request) => format!("GET {}: ", request.path),
        ProbeAction::Tcp(_) | ProbeAction::Exec(_) => String::new(),
    }
}

/// A probe that is being made.
struct Probe {
    engine: Arc<dyn Engine>,
    spawner: Spawner,
    identity: Identity,
    kind: ProbeKind,
    /// How the container was reached the last time.
    reach: Option<Reach>,
    /// Held by what this probe begins and cannot drop.
    rest: Arc<()>,
}

impl Probe {
    /// Makes it. Returns what it found, and how the container was reached, if that is worth keeping.
    async fn make(self, action: &ProbeAction) -> (Finding, Option<Reach>) {
        let reach = match self.reach.clone() {
            Some(reach) => reach,
            None => match self.engine.reach(&self.identity, self.kind).await {
                Ok(reach) => reach,
                Err(error) => return (Finding::Unknown(format!("cannot be made: {error}")), None),
            },
        };
        if let Reach::Simulated(simulated) = reach {
            return (answer(simulated).await, None);
        }
        let finding = match action {
            ProbeAction::Exec(command) => self.command(command.clone()).await,
            ProbeAction::Tcp(socket) => {
                let target = target(socket, &reach);
                finding(probe_net::connect(&self.spawner, &self.rest, target).await)
            }
            ProbeAction::Http(request) => {
                let target = target(&request.socket, &reach);
                let asked = probe_net::get(&self.spawner, &self.rest, target, request).await;
                finding(asked.map_err(|why| format!("GET {}{why}", request.path)))
            }
        };
        let stays = finding == Finding::Passed || matches!(action, ProbeAction::Exec(_));
        (finding, stays.then_some(reach))
    }

    /// Runs a command in the container. It is supervised by a task of its own, since the engine goes
    /// on with what this probe does not wait for any more.
    async fn command(self, command: Vec<String>) -> Finding {
        let (tell, told) = oneshot::channel();
        let (_wanted, given_up) = oneshot::channel();
        let Self { engine, spawner, identity, rest, .. } = self;
        spawner.spawn("probe command", async move {
            let request = ExecRequest { command, stdin: false, tty: false };
            supervise(engine, (&identity, &request), given_up, tell).await;
            drop(rest);
        });
        told.await.unwrap_or_else(|_| Finding::Unknown("the agent ends".to_owned()))
    }
}

async fn answer(simulated: Simulated) -> Finding {
    match simulated {
        Simulated::Passes => Finding::Passed,
        Simulated::Fails(why) => Finding::Failed(why),
        Simulated::Hangs => std::future::pending().await,
    }
}

fn finding(outcome: Result<(), String>) -> Finding {
    outcome.map_or_else(Finding::Failed, |()| Finding::Passed)
}

/// Where a probe connects to, from here.
fn target(socket: &Socket, reach: &Reach) -> Target {
    if let Some(host) = &socket.host {
        return Target::Host(host.clone(), socket.port);
    }
    let published = || match socket.published {
        Some((address, port)) => Target::on_node(address, port),
        None => Target::Nowhere,
    };
    match reach {
        Reach::Address(address) => Target::Address(*address, socket.port),
        Reach::Node => Target::on_node(None, socket.port),
        Reach::Published | Reach::Simulated(_) => published(),
    }
}

/// Runs a command until it has ended, and tells what it came to. If its probe gives it up before, it
/// is stopped.
async fn supervise(
    engine: Arc<dyn Engine>,
    (identity, request): (&Identity, &ExecRequest),
    given_up: oneshot::Receiver<()>,
    tell: oneshot::Sender<Finding>,
) {
    let exec = match engine.exec(identity, request).await {
        Ok(exec) => exec,
        Err(error) => {
            // If nobody waits for it, nothing has to be done.
            let _given_up = tell.send(not_begun(&error));
            return;
        }
    };
    let Exec { output, control, .. } = exec;
    let run = async {
        let (code, said) = tokio::join!(control.exit_code(), said(output, control.as_ref()));
        match code {
            Ok(0) => Finding::Passed,
            Ok(code) if said.is_empty() => Finding::Failed(format!("exit {code}")),
            Ok(code) => Finding::Failed(format!("exit {code}: {said}")),
            Err(error) => Finding::Unknown(format!("how its command ended is not known: {error}")),
        }
    };
    tokio::select! {
        biased;
        _ = given_up => (),
        finding = run => {
            let _given_up = tell.send(finding);
            return;
        }
    }
    if !matches!(timeout(STOP_TIMEOUT, control.stop()).await, Ok(Ok(()))) {
        debug!(%identity, "the command of a probe cannot be stopped");
    }
    // Until it has ended, another probe of this kind begins none.
    let _ended = control.exit_code().await;
}

/// Why a command was not begun. What an engine refuses fails; an engine that is away says nothing
/// about the container.
fn not_begun(error: &EngineError) -> Finding {
    match error {
        EngineError::Refused { message, .. } => Finding::Failed(message.clone()),
        EngineError::NeedsImage
        | EngineError::Failed { .. }
        | EngineError::Unavailable { .. }
        | EngineError::Unknown { .. }
        | EngineError::Gone => Finding::Unknown(format!("cannot be made: {error}")),
    }
}

/// The beginning of what a command writes, as one line. All of it is read, since a command whose
/// output is not read stops.
async fn said(
    mut output: futures_util::stream::BoxStream<
        'static,
        Result<(crate::engine::logs::Output, bytes::Bytes), EngineError>,
    >,
    control: &dyn ExecControl,
) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut take = |bytes: &[u8]| {
        let room = (4 * FINDING_CHARS_MAX).saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
    };
    let mut ended = control.exit_code();
    loop {
        tokio::select! {
            biased;
            read = output.next() => match read {
                Some(Ok((_, bytes))) => take(&bytes),
                Some(Err(_)) | None => break,
            },
            _ = &mut ended => {
                // A process that the command left behind may hold the output open.
                while let Ok(Some(Ok((_, bytes)))) = timeout(REST_TIMEOUT, output.next()).await {
                    take(&bytes);
                }
                break;
            }
        }
    }
    let text = String::from_utf8_lossy(&kept);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
