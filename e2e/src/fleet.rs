//! A server and agents as real processes, stopped by pid when the test ends.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::node::NodePhase;
use api::{Job, Node, Task};
use client::{Client, ListOptions, Listing, Servers, http_transport};
use node_agent::engine::docker;
use tempfile::TempDir;

/// How long a state is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server and its agents.
#[derive(Debug)]
pub struct Fleet {
    dir: TempDir,
    port: u16,
    runtime: &'static str,
    server: Option<Child>,
    agents: Vec<(String, Option<Child>)>,
}

/// A program of the same build as this one: beside it, or above the directory of tests.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let places = this.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    let found = places.into_iter().find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run `make test`, which builds it"))
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Fleet {
    /// Starts a server and agents, `node-1` and so on.
    pub async fn start(runtime: &'static str, agents: usize) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let mut fleet = Self { dir, port, runtime, server: None, agents: Vec::new() };
        fleet.start_server().await;
        for number in 1..=agents {
            let node = format!("node-{number}");
            fleet.agents.push((node.clone(), None));
            fleet.start_agent(&node);
        }
        fleet.all_nodes_are_ready().await;
        fleet
    }

    async fn all_nodes_are_ready(&self) {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let nodes = self.client().api::<Node>("").list(&ListOptions::default()).await;
            let ready = |nodes: &Listing<Node>| {
                nodes.items.iter().filter(|node| node.phase() == NodePhase::Ready).count()
            };
            if nodes.as_ref().is_ok_and(|nodes| ready(nodes) == self.agents.len()) {
                return;
            }
            let late = tokio::time::Instant::now() >= until;
            assert!(!late, "not all nodes are ready: {nodes:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where its processes keep what they keep.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self, name: &str) -> Stdio {
        let path = self.dir.path().join(format!("{name}.log"));
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().into()
    }

    /// Starts it, and waits until it answers.
    pub async fn start_server(&mut self) {
        let child = Command::new(program("heliox"))
            .args(["server", "--listen", &format!("127.0.0.1:{}", self.port), "--data-dir"])
            .arg(self.dir.path().join("server"))
            .stderr(self.log("server"))
            .spawn()
            .unwrap();
        self.server = Some(child);
        self.wait_for("the server answers", |_| true).await;
    }

    /// Starts the agent of a node.
    pub fn start_agent(&mut self, node: &str) {
        let (index, name) = (self.index(node), node.to_owned());
        let first = 21_000 + 100 * index;
        let child = Command::new(program("heliox"))
            .args(["agent", "--server", &self.url(), "--name", &name])
            .args(["--runtime", self.runtime, "--port-range", &format!("{first}-{}", first + 99)])
            .arg("--state-dir")
            .arg(self.dir.path().join(&name))
            .stderr(self.log(&name))
            .spawn()
            .unwrap();
        self.agents[index].1 = Some(child);
    }

    /// `kill -9`.
    pub fn kill_server(&mut self) {
        kill(&mut self.server);
    }

    /// `kill -9`.
    pub fn kill_agent(&mut self, node: &str) {
        let index = self.index(node);
        kill(&mut self.agents[index].1);
    }

    fn index(&self, node: &str) -> usize {
        self.agents.iter().position(|(name, _)| name == node).unwrap()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Resident memory of the server and of an agent, in KiB.
    pub fn memory_kib(&self) -> (u64, u64) {
        let agent = self.agents.first().and_then(|(_, agent)| agent.as_ref());
        (resident_kib(self.server.as_ref()), resident_kib(agent))
    }

    /// A client of its server.
    pub fn client(&self) -> Client {
        Client::new(http_transport(&Servers::parse(&self.url(), 0).unwrap()))
    }

    /// Runs `hctl` and says what it printed; it must succeed.
    pub async fn hctl(&self, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(program("hctl"));
        let output = command.args(["--server", &self.url()]).args(args).output().await.unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "hctl {args:?}: {out}{err}\n{}", self.logs());
        out.into_owned()
    }

    /// Makes a job.
    pub async fn create(&self, job: &Job) {
        self.client().api::<Job>("default").create(job).await.unwrap();
    }

    /// Waits until `holds` of the tasks there are; says what it saw last, otherwise.
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&[Task]) -> bool) -> Vec<Task> {
        let client = self.client();
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let tasks = client.api::<Task>("default").list(&ListOptions::default()).await;
            if let Ok(tasks) = &tasks
                && holds(&tasks.items)
            {
                return tasks.items.clone();
            }
            let late = tokio::time::Instant::now() >= until;
            assert!(!late, "still not: {what}; {tasks:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `what`, such as `job/x`, has succeeded; the tasks there are then.
    pub async fn succeeds(&self, what: &str) -> Vec<Task> {
        self.hctl(&["wait", what, "--for=succeeded", "--timeout", "120s"]).await;
        self.wait_for("the server answers", |_| true).await
    }

    fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "log") {
                all.push_str(&format!("-- {}\n", path.display()));
                all.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
        all
    }
}

/// Waits until something of this machine is so.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < until, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
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

fn resident_kib(process: Option<&Child>) -> u64 {
    let status = process.map(|process| format!("/proc/{}/status", process.id()));
    let status = status.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Fleet {
    /// Removes what agents left in the Docker Engine.
    fn remove_containers(&self) {
        let log = std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        let Some(cluster) = log.split("cluster=\"").nth(1).and_then(|text| text.split('"').next())
        else {
            return;
        };
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
        for (_, agent) in &mut self.agents {
            kill(agent);
        }
        kill(&mut self.server);
        if self.runtime == "docker" {
            self.remove_containers();
        }
    }
}
