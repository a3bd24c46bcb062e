//! `heliox dev` as a real process, and `hctl` as its user.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::fleet::{program, until_async};

/// How long a state is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// `heliox dev`, stopped when this is dropped.
#[derive(Debug)]
pub struct Dev {
    process: Child,
    dir: TempDir,
    url: String,
}

/// What a run of `hctl` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it ended.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it told the person.
    pub err: String,
}

impl Dev {
    /// Starts it, and waits until its node takes tasks.
    pub async fn start() -> Self {
        Self::start_with(&["--runtime", "process"], 1).await
    }

    /// Starts it with these flags, in memory and on a port of its own, and waits until its `nodes`
    /// nodes take tasks.
    pub async fn start_with(flags: &[&str], nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(log_of(dir.path())).unwrap();
        let words = ["dev", "--in-memory", "--listen", "127.0.0.1:0"];
        let process = Command::new(program("heliox"))
            .args(words)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut dev = Self { process, dir, url: String::new() };
        dev.url = dev.says_where_it_is().await;
        // Nodes come by themselves, a moment after the server.
        let names: Vec<String> = (1..=nodes).map(|number| format!("node/node-{number}")).collect();
        let mut ready = vec!["wait", "--for", "ready", "--timeout", "60s"];
        ready.extend(names.iter().map(String::as_str));
        until_async("the nodes take tasks", async || dev.hctl(&ready).await.code == 0).await;
        dev
    }

    /// It says so once it serves.
    async fn says_where_it_is(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let said = log.split("HELIOX_SERVER=").nth(1).and_then(|rest| rest.split_once('\n'));
            if let Some((url, _)) = said {
                return url.trim().to_owned();
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "{ended:?}: {log}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where its API is served.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A directory of its own, for manifests.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_of(self.dir.path())).unwrap_or_default()
    }

    /// A line of a shell in `dir`, in which `hctl` and `heliox` are ours.
    pub fn shell(&self, line: &str, dir: &Path) -> tokio::process::Command {
        let programs = program("hctl");
        let programs = programs.parent().map(Path::to_owned).unwrap_or_default();
        let others = std::env::var("PATH").unwrap_or_default();
        let mut command = tokio::process::Command::new("sh");
        command
            .args(["-c", line])
            .env("PATH", format!("{}:{others}", programs.display()))
            .env("HELIOX_SERVER", &self.url)
            .env_remove("HELIOX_NAMESPACE")
            .env("NO_COLOR", "1")
            .current_dir(dir)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// What a command came to, however it ends.
    pub async fn said(&self, mut command: tokio::process::Command) -> Said {
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{command:?} has no end")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Said { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// `hctl` with these arguments, to be run.
    pub fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program("hctl"));
        command
            .args(args)
            .env("HELIOX_SERVER", &self.url)
            .env_remove("HELIOX_NAMESPACE")
            .env("NO_COLOR", "1")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs `hctl`, however it ends.
    pub async fn hctl(&self, args: &[&str]) -> Said {
        self.said(self.command(args)).await
    }

    /// Runs `hctl`, which must succeed, and says what it printed.
    pub async fn done(&self, args: &[&str]) -> String {
        let said = self.hctl(args).await;
        assert_eq!(said.code, 0, "hctl {args:?}: {said:?}\n{}", self.log());
        said.out
    }

    /// Applies a manifest.
    pub async fn apply(&self, manifest: &str) -> String {
        let file = self.dir.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.done(&["apply", "-f", file.to_str().unwrap()]).await
    }
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join("dev.log")
}

impl Drop for Dev {
    fn drop(&mut self) {
        // As a person ends it: it ends its tasks then. It may have ended before.
        let pid = self.process.id().to_string();
        let _ended_before = Command::new("kill").args(["-TERM", &pid]).status();
        let _ended = self.process.wait();
    }
}
