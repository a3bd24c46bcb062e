//! A control plane and agents as real processes, stopped when their owner is dropped.

mod plan;
mod process;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use api::node::NodePhase;
use api::{Job, Node, Task};
use client::{Client, ListOptions, Listing, Servers, http_transport};
use node_agent::engine::docker;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub use plan::{ControlPlane, Shape};
use process::Process;

/// How long a state is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of each log that a failure shows: the last ones.
const LOG_LINES_SHOWN: usize = 40;

/// A control plane and its agents. Its processes have names: `server`, or `apiserver-1`,
/// `scheduler-1`, `controllers-1`; `etcd-1`; `node-1` for an agent; each from 1 on.
#[derive(Debug)]
pub struct Fleet {
    /// Dropped before the directory that they write to.
    processes: BTreeMap<String, Process>,
    dir: TempDir,
    shape: Shape,
    /// Where the API is served.
    urls: Vec<String>,
    /// Where etcd is, if there is one.
    etcd: String,
}

/// A program of the same build as this one: beside it, or above the directory of tests.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let places = this.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    let found = places.into_iter().find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run `make test`, which builds it"))
}

impl Fleet {
    /// Starts everything and waits until all nodes are ready.
    pub async fn start(shape: Shape) -> Self {
        let mut fleet = Self::prepare(shape);
        fleet.run_all().await;
        fleet
    }

    /// A fleet of which nothing runs yet. What is called `node-1` in its directory is the first
    /// agent's.
    pub fn prepare(shape: Shape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan::FleetPlan { processes, urls, etcd } = plan::plan(&shape, dir.path());
        Self { processes, dir, shape, urls, etcd }
    }

    /// Starts everything and waits until all nodes are ready.
    pub async fn run_all(&mut self) {
        // Those that listen on ports chosen before come first: others could be given these ports.
        let mut stages: [Vec<String>; 3] = Default::default();
        for name in self.processes.keys() {
            let stage = match name.as_str() {
                name if name.starts_with("etcd") => 0,
                name if name.contains("server") => 1,
                _ => 2,
            };
            stages[stage].push(name.clone());
        }
        for names in stages {
            names.iter().for_each(|name| self.process_mut(name).run());
            for name in names {
                self.listens(&name).await;
            }
        }
        self.all_nodes_are_ready().await;
    }

    /// Waits until a process listens where it was told to.
    async fn listens(&mut self, name: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.process_mut(name).listens() {
            assert!(Instant::now() < until, "{name} does not listen");
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn all_nodes_are_ready(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let nodes = self.client().api::<Node>("").list(&ListOptions::default()).await;
            let ready = |nodes: &Listing<Node>| {
                nodes.items.iter().filter(|node| node.phase() == NodePhase::Ready).count()
            };
            if nodes.as_ref().is_ok_and(|nodes| ready(nodes) == self.shape.agents) {
                return;
            }
            let late = Instant::now() >= until;
            assert!(!late, "not all nodes are ready: {nodes:#?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where its processes keep what they keep.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn process(&self, name: &str) -> &Process {
        self.processes.get(name).unwrap_or_else(|| panic!("{name} is no process of the fleet"))
    }

    fn process_mut(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).unwrap_or_else(|| panic!("{name} is no process of the fleet"))
    }

    /// Starts a process (again), if it does not run, and waits until it listens where it was told to.
    pub async fn run(&mut self, name: &str) {
        self.process_mut(name).run();
        self.listens(name).await;
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) {
        self.process_mut(name).kill();
    }

    /// The process that leads, of those whose names begin with `part`: the one that said so last.
    /// Waits until there is one that leads in a later term than `after`, and says in which.
    pub async fn leader(&self, part: &str, after: u64) -> (String, u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let candidates = self.processes.keys().filter(|name| name.starts_with(part));
            let terms = candidates.filter_map(|name| Some((self.term(name)?, name.clone())));
            if let Some((term, name)) = terms.max().filter(|(term, _)| *term > after) {
                return (name, term);
            }
            assert!(Instant::now() < until, "no {part} leads");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The last term in which a process said that it leads.
    fn term(&self, name: &str) -> Option<u64> {
        let log = self.log(name);
        let line = log.lines().rev().find(|line| line.contains(" leading component="))?;
        line.split("term=").nth(1)?.trim().parse().ok()
    }

    /// Everything that a process has logged.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Stops a process in the middle of what it does, for [`Fleet::wake`] to let it go on.
    pub fn suspend(&self, name: &str) {
        self.process(name).signal("STOP");
    }

    /// Lets a suspended process go on.
    pub fn wake(&self, name: &str) {
        self.process(name).signal("CONT");
    }

    /// Resident memory of a process, in KiB.
    pub fn memory_kib(&self, name: &str) -> u64 {
        self.process(name).resident_kib()
    }

    /// Processor time that all processes together have used, in milliseconds.
    pub fn cpu_millis(&self) -> u64 {
        self.processes.values().map(|process| process.cpu_ticks() * 10).sum()
    }

    /// Processor time that one process has used, in milliseconds.
    pub fn cpu_millis_of(&self, name: &str) -> u64 {
        self.process(name).cpu_ticks() * 10
    }

    /// The same with that of processes that they have started and that have ended, such as tasks.
    pub fn cpu_of_all_millis(&self) -> u64 {
        self.processes.values().map(|process| process.cpu_ticks_with_children() * 10).sum()
    }

    /// A client of all its apiservers: it asks one, and the next when that does not answer.
    pub fn client(&self) -> Client {
        self.client_of(&self.urls.join(","))
    }

    /// A client of one of its apiservers, counted from 0.
    pub fn client_at(&self, apiserver: usize) -> Client {
        self.client_of(&self.urls[apiserver])
    }

    /// Where its apiservers are, as `--server` takes it.
    pub fn url(&self) -> String {
        self.urls.join(",")
    }

    /// Where its etcd is, as `--etcd` takes it.
    pub fn etcd_url(&self) -> String {
        self.etcd.clone()
    }

    fn client_of(&self, urls: &str) -> Client {
        Client::new(http_transport(&Servers::parse(urls, 0).unwrap()))
    }

    /// Runs `hctl` and says what it printed; it must succeed.
    pub async fn hctl(&self, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(program("hctl"));
        let output =
            command.args(["--server", &self.urls.join(",")]).args(args).output().await.unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "hctl {args:?}: {out}{err}");
        out.into_owned()
    }

    /// Makes a job.
    pub async fn create(&self, job: &Job) {
        self.client().api::<Job>("default").create(job).await.unwrap();
    }

    /// Waits until `holds` of the tasks there are; says what it saw last, otherwise.
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&[Task]) -> bool) -> Vec<Task> {
        let client = self.client();
        let until = Instant::now() + PATIENCE;
        loop {
            let tasks = client.api::<Task>("default").list(&ListOptions::default()).await;
            if let Ok(tasks) = &tasks
                && holds(&tasks.items)
            {
                return tasks.items.clone();
            }
            let late = Instant::now() >= until;
            assert!(!late, "still not: {what}; {tasks:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `what`, such as `job/x`, has succeeded; the tasks there are then.
    pub async fn succeeds(&self, what: &str) -> Vec<Task> {
        self.hctl(&["wait", what, "--for=succeeded", "--timeout", "120s"]).await;
        self.wait_for("the server answers", |_| true).await
    }

    /// The ends of all logs.
    fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "log") {
                all.push_str(&format!("-- {}\n", path.display()));
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let hidden = log.lines().count().saturating_sub(LOG_LINES_SHOWN);
                for line in log.lines().skip(hidden) {
                    all.push_str(line);
                    all.push('\n');
                }
            }
        }
        all
    }
}

/// Waits until something of this machine is so.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "still not: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until something that is asked for is so.
pub async fn until_async(what: &str, holds: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "still not: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Makes the image `<name>:<tag>` of this machine's static busybox.
pub async fn import_image(name: &str, tag: &str) {
    let docker = docker::connect("/var/run/docker.sock")
        .await
        .unwrap_or_else(|error| panic!("{error}: `make test` installs and starts it as root"));
    docker::busybox::import(&docker, name, tag).await.unwrap();
}

/// Removes the one container of a task by force, as a machine that burns down would.
pub fn remove_container(uid: &str) {
    let docker = |args: &[&str]| Command::new("docker").args(args).output().unwrap();
    let list = docker(&["ps", "-aq", "--filter", &format!("label=heliox.dev/uid={uid}")]);
    let ids = String::from_utf8(list.stdout).unwrap();
    assert_eq!(ids.lines().count(), 1, "one container for {uid}");
    assert!(docker(&["rm", "-f", ids.trim()]).status.success());
}

impl Fleet {
    /// Which cluster it is, as its server logs it.
    pub fn cluster(&self) -> Option<String> {
        let logs = ["server.log", "apiserver-1.log"].map(|name| self.dir.path().join(name));
        let log = logs.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
        let cluster = log.split("cluster=\"").nth(1)?.split('"').next()?;
        Some(cluster.to_owned())
    }

    /// Removes what agents left in the Docker Engine.
    fn remove_containers(&self) {
        let Some(cluster) = self.cluster() else { return };
        let label = format!("label=heliox.dev/cluster={cluster}");
        let docker = |args: &[&str]| Command::new("docker").args(args).output();
        let Ok(found) = docker(&["ps", "-aq", "--filter", &label]) else { return };
        let ids = String::from_utf8_lossy(&found.stdout).into_owned();
        let args: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.split_whitespace()).collect();
        let _best_effort = docker(&args);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whatever a test waited for in vain: what the processes said may tell why.
            let _best_effort = writeln!(std::io::stderr(), "{}", self.logs());
        }
        self.processes.values_mut().for_each(Process::kill);
        if self.shape.runtime == "docker" {
            self.remove_containers();
        }
    }
}
