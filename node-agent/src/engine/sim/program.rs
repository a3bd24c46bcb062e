//! What a simulated container does, as its arguments say.

use std::time::Duration;

use jiff::SignedDuration;

use crate::engine::{ContainerSpec, EngineError, Reason};

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
    /// `stdout=TEXT`, any number of times: lines that it writes when it starts.
    pub stdout: Vec<String>,
    /// `stderr=TEXT`.
    pub stderr: Vec<String>,
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
            "duration" => {
                let duration: SignedDuration = value.parse().ok()?;
                self.duration = Lifetime::For(Duration::try_from(duration).ok()?);
            }
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
