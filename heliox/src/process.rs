//! Beginning and end of every process of ours.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use base::Tasks;
use futures_util::future::select_all;
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long to wait for parts that end by themselves (a leader resigns, a writer finishes).
pub const GRACE: Duration = Duration::from_secs(1);
/// How long an agent may take to finish its actions on containers. It stops waiting by itself
/// before.
pub const AGENT_GRACE: Duration = Duration::from_secs(15);
/// How long the store may take to finish its requests. Answered writes are on disk already.
pub const STORE_GRACE: Duration = Duration::from_secs(10);

/// Makes new files of this process readable by its user only, because stores, journals and logs
/// contain secrets.
pub fn make_private() {
    umask(Mode::from_bits_truncate(0o077));
}

/// Logs to stderr. `HELIOX_LOG` or `RUST_LOG` set the filter; otherwise it is `default`.
///
/// # Errors
/// A variable holds no valid filter. If it were ignored, a log that somebody asked for would be
/// missing.
pub fn log(default: &str) -> Result<()> {
    let named = ["HELIOX_LOG", "RUST_LOG"].map(|name| (name, std::env::var(name).ok()));
    let filter = filter(named, default)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

/// The filter from the first variable that is set.
fn filter(variables: [(&'static str, Option<String>); 2], default: &str) -> Result<EnvFilter> {
    let said = |(name, text): (&'static str, Option<String>)| text.map(|text| (name, text));
    let mut said = variables.into_iter().filter_map(said).filter(|(_, text)| !text.is_empty());
    let Some((name, text)) = said.next() else { return Ok(EnvFilter::new(default)) };
    EnvFilter::builder()
        .parse(&text)
        .with_context(|| format!("invalid {name} {text:?}; write for example info,store=debug"))
}

/// The signals that ask a process to end: TERM, INT from a terminal, and HUP when the terminal is
/// closed, unless HUP was ignored from the start (`nohup`).
#[derive(Debug)]
pub struct EndSignals {
    term: Signal,
    int: Signal,
    hup: Option<Signal>,
}

impl EndSignals {
    /// From here on these signals do not end the process by themselves; [`EndSignals::received`]
    /// reports them.
    pub fn listen() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hup = (!ignores_hup(&status)).then(|| signal(SignalKind::hangup())).transpose();
        Ok(Self {
            term: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            int: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            hup: hup.context("cannot listen for SIGHUP")?,
        })
    }

    /// Waits for one of the signals. Cancel-safe.
    pub async fn received(&mut self) {
        let hangup = async {
            match &mut self.hup {
                Some(hup) => hup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.term.recv() => (),
            _ = self.int.recv() => (),
            _ = hangup => (),
        }
    }
}

/// Whether a process with this status in `/proc` was started with SIGHUP ignored.
fn ignores_hup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// Waits until the process is asked to end, or until a part of one of `groups` has failed: then the
/// process has to end with an error rather than go on without that part.
pub async fn asked_to_end(groups: &[&Tasks]) -> Result<()> {
    asked_by(&mut EndSignals::listen()?, groups).await
}

/// The same with signals that are already listened for.
pub async fn asked_by(signals: &mut EndSignals, groups: &[&Tasks]) -> Result<()> {
    let failures = groups.iter().map(|tasks| Box::pin(tasks.failure()));
    tokio::select! {
        biased;
        () = signals.received() => Ok(()),
        (failure, ..) = select_all(failures) => {
            Err(Error::new(failure).context("this process cannot continue and exits"))
        }
    }
}

/// The host name in lower case, as node names are.
pub fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read the host name; name the node with --name")?;
    Ok(name.trim().to_ascii_lowercase())
}

/// The default directory of a node's state: for root below `/var/lib`, otherwise below the home
/// directory.
pub fn default_state_dir(node: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home {
        Some(home) if home != *"/root" => home.join(".local/state/heliox/agent").join(node),
        _ => PathBuf::from("/var/lib/heliox/agent").join(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_outlive_its_terminal_is_not_ended_by_it() {
        assert!(ignores_hup("Name:\theliox\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hup("SigIgn:\t0000000000001006\n"));
        assert!(!ignores_hup(""));
    }

    #[test]
    fn a_filter_that_is_none_is_not_passed_over() {
        let filter = |ours: Option<&str>, other: Option<&str>| {
            let named = [("HELIOX_LOG", ours), ("RUST_LOG", other)];
            let named = named.map(|(name, text)| (name, text.map(str::to_owned)));
            filter(named, "info").map(|filter| filter.to_string())
        };
        assert_eq!(filter(None, Some("")).unwrap(), "info");
        assert_eq!(filter(None, Some("warn")).unwrap(), "warn");
        assert_eq!(filter(Some("debug"), Some("warn")).unwrap(), "debug");
        let refused = filter(Some("store=loud"), None).unwrap_err().to_string();
        assert!(refused.contains("HELIOX_LOG \"store=loud\""), "{refused}");
    }
}
