//! What a simulated container does, as its arguments say.

use std::time::Duration;

use api::template::ProbeKind;
use jiff::SignedDuration;

use crate::engine::{ContainerSpec, EngineError, Reason, Simulated};

/// Parsed from the `key=value` words of a container's command and arguments. Other words are
/// ignored, so that a manifest for Docker can be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// `duration=5s`: how long it runs. `duration=forever`: until it is stopped.
    pub duration: Lifetime,
    /// `exit=3`: its exit code.
    pub exit: i32,
    /// `crash=2`: attempts 1 and 2 end with SIGSEGV; later ones do not. Of an attempt that is
    /// restarted in place each restart counts like another attempt.
    pub crash: u32,
    /// `ignore-term=true`: only KILL ends it early.
    pub ignore_term: bool,
    /// How it answers probes.
    pub health: SimHealth,
    /// `stdout=TEXT`, any number of times: lines that it writes when it starts.
    pub stdout: Vec<String>,
    /// `stderr=TEXT`.
    pub stderr: Vec<String>,
}

/// How a program answers probes. All times count from the start of its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimHealth {
    /// `ready=5s`: from then on startup and readiness probes succeed. Default: from the start.
    pub ready: Duration,
    /// `unready=10s`: from then on readiness probes fail.
    pub unready: Option<Duration>,
    /// `flap=3s`: readiness probes succeed for this long and then fail for as long, in turn.
    pub flap: Option<Duration>,
    /// `unhealthy=10s`: from then on liveness probes fail.
    pub unhealthy: Option<Duration>,
    /// `hang=10s`: from then on no probe has an answer.
    pub hang: Option<Duration>,
}

impl SimHealth {
    /// What a probe finds after the container has run for `age`.
    pub fn answer(&self, kind: ProbeKind, age: Duration) -> Simulated {
        let has_come = |time: Option<Duration>| time.is_some_and(|time| age >= time);
        let is_down = self.flap.is_some_and(|flap| {
            let flap = flap.as_millis().max(1);
            (age.as_millis() / flap) % 2 == 1
        });
        let fails = match kind {
            ProbeKind::Startup => age < self.ready,
            ProbeKind::Readiness => age < self.ready || has_come(self.unready) || is_down,
            ProbeKind::Liveness => has_come(self.unhealthy),
        };
        if has_come(self.hang) {
            return Simulated::Hangs;
        }
        if fails { Simulated::Fails("simulated".to_owned()) } else { Simulated::Passes }
    }
}

/// How long a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// For this long.
    For(Duration),
    /// Until it is stopped.
    Forever,
}

impl Default for Lifetime {
    fn default() -> Self {
        Self::For(Duration::ZERO)
    }
}

impl Program {
    /// Parses a container's program. A known key with an invalid value is refused.
    pub fn parse(spec: &ContainerSpec) -> Result<Self, EngineError> {
        let mut program = Self::default();
        for word in spec.command.iter().chain(&spec.args) {
            if let Some((key, value)) = word.split_once('=') {
                program.set(key, value).ok_or_else(|| {
                    let message = format!("the sim runtime cannot read {word:?}");
                    EngineError::refused(Reason::CannotRun, message)
                })?;
            }
        }
        Ok(program)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "duration" if value == "forever" => self.duration = Lifetime::Forever,
            "duration" => self.duration = Lifetime::For(time(value)?),
            "ready" => self.health.ready = time(value)?,
            "unready" => self.health.unready = Some(time(value)?),
            "flap" => self.health.flap = Some(time(value)?),
            "unhealthy" => self.health.unhealthy = Some(time(value)?),
            "hang" => self.health.hang = Some(time(value)?),
            "exit" => self.exit = value.parse().ok().filter(|code| (0..=255).contains(code))?,
            "crash" => self.crash = value.parse().ok()?,
            "ignore-term" => self.ignore_term = value.parse().ok()?,
            "stdout" => self.stdout.push(value.to_owned()),
            "stderr" => self.stderr.push(value.to_owned()),
            _ => (),
        }
        Some(())
    }
}

fn time(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}
