//! One process of a fleet: how it is started, again and again, and what it takes.

use std::fs::OpenOptions;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process that is started, killed and started again with the same arguments.
#[derive(Debug)]
pub(super) struct Process {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    /// The port of this machine on which it listens, where that was chosen for it.
    port: Option<u16>,
    child: Option<Child>,
}

impl Process {
    /// What is to run, and where its log goes. It does not run yet.
    pub(super) fn new(program: PathBuf, args: Vec<String>, log: &Path, port: Option<u16>) -> Self {
        Self { program, args, log: log.to_owned(), port, child: None }
    }

    /// Whether it listens where it was told to. Panics if it has ended.
    pub(super) fn listens(&mut self) -> bool {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
        assert!(ended.is_none(), "{:?} ended; its log is {}", self.args, self.log.display());
        self.port.is_none_or(|port| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Starts it, if it does not run.
    pub(super) fn run(&mut self) {
        if self.child.is_some() {
            return;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{:?}: {error}", self.program)));
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, such as `STOP`.
    pub(super) fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let arguments = [format!("-{signal}"), child.id().to_string()];
        assert!(Command::new("kill").args(arguments).status().unwrap().success());
    }

    /// Its resident memory in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        let line = self.proc_file("status");
        let line = line.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or_default()
    }

    /// The processor time that it has used, in hundredths of a second (Linux's clock ticks).
    pub(super) fn cpu_ticks(&self) -> u64 {
        self.ticks(2)
    }

    /// The same, with that of those of its children that have ended.
    pub(super) fn cpu_ticks_with_children(&self) -> u64 {
        self.ticks(4)
    }

    fn ticks(&self, fields: usize) -> u64 {
        let stat = self.proc_file("stat");
        // After the program's name in parentheses: state is field 3, utime 14, stime 15, and the same of
        // children 16 and 17.
        let stat = stat.rsplit(')').next().unwrap_or_default();
        let ticks = stat.split_whitespace().skip(11).take(fields);
        ticks.filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    fn proc_file(&self, name: &str) -> String {
        let path = self.child.as_ref().map(|child| format!("/proc/{}/{name}", child.id()));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
