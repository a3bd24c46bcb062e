//! Logs, commands and figures of a node, asked of an apiserver that its agent is not connected to.

use std::ffi::OsString;
use std::sync::Arc;

use api::task::TaskPhase;
use api::{Kind as _, Task};
use apiserver::Peers;
use base::{Clock, Health, Rng, Tasks};
use client::{Client, ListOptions, Servers, http_transport};
use e2e::fleet::program;
use heliox::control_plane::{self, Common};
use heliox::node::Engines;
use heliox::serve;
use node_agent::engine::Engine;
use node_agent::engine::process::{ProcessConfig, ProcessEngine};
use node_agent::{Config, Journal, OpenEngine, Outside};
use prometheus::Registry;
use store::{Simulated, Store};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Duration, Instant, sleep};

/// How long a state is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two apiservers over one store; the one node's agent is connected to the first, and everybody else
/// asks the second.
struct Pair {
    second: String,
    engines: Engines,
    _dir: TempDir,
    tasks: Tasks,
}

async fn apiserver(store: &Simulated, tasks: &Tasks, all: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let common = Common::of_machine().unwrap();
    let store: Arc<dyn Store> = Arc::new(store.clone());
    let parts = (store, Some(Peers::over_tcp(&url)));
    let plane = match all {
        true => control_plane::start(parts, &common, tasks).await.unwrap(),
        false => control_plane::start_apiserver(parts, &common, tasks).await.unwrap(),
    };
    tasks.spawn_part("http", serve::serve(listener, plane.router, tasks.spawner()));
    url
}

impl Pair {
    async fn start() -> Self {
        let (store, tasks, dir) =
            (Simulated::new(), Tasks::new("pair"), tempfile::tempdir().unwrap());
        let first = apiserver(&store, &tasks, true).await;
        let second = apiserver(&store, &tasks, false).await;
        let servers = Servers::parse(&first, 0).unwrap();
        let state_dir = dir.path().to_owned();
        let engines = Engines::default();
        let opened = engines.clone();
        let open_engine: OpenEngine = Arc::new(move |scope| {
            let shim = vec![program("heliox").into_os_string(), OsString::from("shim")].into();
            let state_dir = state_dir.clone();
            let config = ProcessConfig { scope, state_dir, shim, clock: Clock::system() };
            let engine: Arc<dyn Engine> = Arc::new(ProcessEngine::open(config).unwrap());
            opened.put(Arc::clone(&engine));
            Box::pin(async move { Ok(engine) })
        });
        let config = Config {
            name: "n1".to_owned(),
            labels: std::collections::BTreeMap::new(),
            taints: Vec::new(),
            host: node_agent::Host::default(),
            view_socket: None,
            capacity: api::amounts::Amounts::new(),
            port_range: (22_000, 22_099),
            address: "127.0.0.1".to_owned(),
            journal: Journal::in_memory(),
            dial: Some(client::dial_tcp(&servers)),
            accept_cluster: false,
            added: node_agent::Added::default(),
        };
        let outside = Outside {
            client: Client::new(http_transport(&servers)),
            open_engine,
            clock: Clock::system(),
            rng: Rng::from_machine(),
            health: Health::default(),
        };
        let stop = tasks.stop_signal();
        tasks.spawn_part("agent", async move {
            node_agent::run(config, outside, &Registry::new(), stop).await
        });
        Self { second, engines, _dir: dir, tasks }
    }

    /// Ends the agent, and what it runs: a task outlives its agent.
    async fn end(self) {
        self.tasks.stop_within(Duration::ZERO).await;
        self.engines.empty().await;
    }

    /// Starts a job of one task, and waits until that runs.
    async fn run(&self, script: &str) {
        let job = serde_json::from_value(serde_json::json!({
            "apiVersion": "heliox.dev/v1", "kind": "Job",
            "metadata": { "name": "j", "namespace": "default" },
            "spec": { "count": 1, "template": {
                "image": "none", "command": ["sh", "-c"], "args": [script],
                "terminationGracePeriodSeconds": 1,
            } },
        }));
        let client = Client::new(http_transport(&Servers::parse(&self.second, 0).unwrap()));
        client.api::<api::Job>("default").create(&job.unwrap()).await.unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let tasks = client.api::<Task>("default").list(&ListOptions::default()).await.unwrap();
            if tasks.items.iter().any(|task| task.phase() == TaskPhase::Running) {
                return;
            }
            let names: Vec<_> = tasks.items.iter().map(|it| (it.name(), it.phase())).collect();
            assert!(Instant::now() < until, "it does not run: {names:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn hctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("hctl"));
        command.args(["--server", &self.second]).args(args).kill_on_drop(true);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        command
    }

    /// Runs `hctl`; what it printed and its exit code, once it succeeds in reaching the agent: who
    /// holds its connection is told a moment after it has come.
    async fn say(&self, args: &[&str]) -> (String, String, i32) {
        let until = Instant::now() + PATIENCE;
        loop {
            let output = self.hctl(args).output().await.unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let said = (text(&output.stdout), text(&output.stderr), output.status.code().unwrap());
            if !said.1.contains("not connected to any apiserver") {
                return said;
            }
            assert!(Instant::now() < until, "{said:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn line(of: &mut Child) -> String {
    let mut line = String::new();
    let stdout = of.stdout.as_mut().unwrap();
    let read = BufReader::with_capacity(1, stdout);
    let mut read = read;
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await.unwrap().unwrap();
    line
}

#[tokio::test]
async fn logs_commands_and_figures_come_through_any_apiserver() {
    let pair = Pair::start().await;
    pair.run("echo hello; while :; do sleep 0.1; test -e go && { echo more; rm go; }; done").await;
    let said = pair.say(&["logs", "j-0"]).await;
    assert_eq!(said, ("hello\n".to_owned(), String::new(), 0));
    let mut following = pair.hctl(&["logs", "-f", "j-0"]).spawn().unwrap();
    assert_eq!(line(&mut following).await, "hello\n");
    let said = pair.say(&["exec", "j-0", "--", "sh", "-c", "touch go; echo $HELIOX_TASK; exit 9"]);
    let (out, err, code) = said.await;
    assert_eq!((out.as_str(), code), ("j-0\n", 9), "{err}");
    assert_eq!(line(&mut following).await, "more\n");
    let refused = pair.say(&["exec", "-t", "j-0", "--", "true"]).await;
    assert!(refused.1.contains("no terminals"), "{refused:?}");
    let top = pair.say(&["top", "tasks"]).await;
    assert!(top.0.contains("j-0") && top.0.contains("Mi"), "{top:?}");
    let top = pair.say(&["top", "nodes"]).await;
    assert!(top.0.contains('%'), "{top:?}");
    pair.end().await;
}

#[tokio::test]
async fn a_command_has_ended_although_its_child_holds_its_output() {
    let pair = Pair::start().await;
    pair.run("sleep 1000").await;
    let script = "sleep 1000 & echo $!; exit 4";
    let said = pair.say(&["exec", "j-0", "--", "sh", "-c", script]).await;
    let child = said.0.trim();
    assert!(child.parse::<i32>().is_ok() && said.2 == 4, "{said:?}");
    // What a command leaves behind is the user's to end.
    let ended = pair.say(&["exec", "j-0", "--", "sh", "-c", &format!("kill {child}")]).await;
    assert_eq!(ended.2, 0, "{ended:?}");
}

#[tokio::test]
async fn a_command_reads_what_hctl_reads_and_ends_when_that_is_gone() {
    let pair = Pair::start().await;
    pair.run("sleep 1000").await;
    pair.say(&["logs", "j-0"]).await;
    let mut cat = pair.hctl(&["exec", "-i", "j-0", "--", "cat"]).spawn().unwrap();
    let mut input = cat.stdin.take().unwrap();
    input.write_all(b"one\n").await.unwrap();
    assert_eq!(line(&mut cat).await, "one\n", "it need not end first");
    let sent = vec![b'x'; 4 << 20];
    let written = async {
        input.write_all(&sent).await.unwrap();
        drop(input);
    };
    let (output, ()) = tokio::join!(cat.wait_with_output(), written);
    let output = output.unwrap();
    assert!(output.status.success() && output.stdout == sent, "{:?}", output.status);
    let script = "echo $$; exec sleep 1000";
    let mut left = pair.hctl(&["exec", "j-0", "--", "sh", "-c", script]).spawn().unwrap();
    let pid = line(&mut left).await;
    let process = format!("/proc/{}", pid.trim());
    assert!(std::path::Path::new(&process).exists());
    left.kill().await.unwrap();
    e2e::fleet::until("the command is ended", || !std::path::Path::new(&process).exists()).await;
    pair.end().await;
}
