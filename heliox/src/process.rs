//! What every process of ours begins and ends with.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use base::Tasks;
use futures_util::future::select_all;
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long parts that end by themselves (a leader resigns, a writer finishes) are waited for.
pub const GRACE: Duration = Duration::from_secs(1);
/// How long an agent may take to finish what it does to containers: it stops waiting by itself before.
pub const AGENT_GRACE: Duration = Duration::from_secs(15);
/// How long the store may take to finish what was asked of it: what was answered is on disk already.
pub const STORE_GRACE: Duration = Duration::from_secs(10);

/// What this process makes is readable by its user alone: stores, journals and logs hold secrets.
pub fn make_private() {
    umask(Mode::from_bits_truncate(0o077));
}

/// Logs to stderr: `HELIOX_LOG` or `RUST_LOG` say how much, `default` where neither does.
///
/// # Errors
/// One of them is no filter: without this it would be passed over, and a log that somebody asked for
/// be missing.
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

/// The filter that the first of these variables names that says anything.
fn filter(variables: [(&'static str, Option<String>); 2], default: &str) -> Result<EnvFilter> {
    let said = |(name, text): (&'static str, Option<String>)| text.map(|text| (name, text));
    let mut said = variables.into_iter().filter_map(said).filter(|(_, text)| !text.is_empty());
    let Some((name, text)) = said.next() else { return Ok(EnvFilter::new(default)) };
    EnvFilter::builder()
        .parse(&text)
        .with_context(|| format!("invalid {name} {text:?}; write for example info,store=debug"))
}

/// The signals that ask a process to end: TERM, INT from a terminal, and HUP where the terminal goes
/// and nobody (such as `nohup`) said that it may.
#[derive(Debug)]
pub struct EndSignals {
    term: Signal,
    int: Signal,
    hup: Option<Signal>,
}

impl EndSignals {
    /// From here on these signals end the process only once [`EndSignals::received`] was heard.
    pub fn listen() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hup = (!ignores_hup(&status)).then(|| signal(SignalKind::hangup())).transpose();
        Ok(Self {
            term: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            int: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            hup: hup.context("cannot listen for SIGHUP")?,
        })
    }

    /// Waits for one of them. Cancel-safe.
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

/// Whether a process whose status in `/proc` this is was told to ignore SIGHUP.
fn ignores_hup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// Waits until the process is asked to end, or until a part of one of `groups` has failed: then its
/// work cannot go on, and the process ends with an error rather than live on without that part.
pub async fn asked_to_end(groups: &[&Tasks]) -> Result<()> {
    asked_by(&mut EndSignals::listen()?, groups).await
}

/// The same, of signals that are listened for already.
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

/// The host's name, in lower case as names of nodes are.
pub fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read the host name; name the node with --name")?;
    Ok(name.trim().to_ascii_lowercase())
}

/// Where a node's agent keeps its state where nothing is said: for root under `/var/lib`, else
/// under the home directory.
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
