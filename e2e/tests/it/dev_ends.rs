//! Every way in which `heliox dev` ends: with code 0 only where a person asked a cluster that was
//! ready, and with nothing left of its folder and its tasks.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use api::Node;
use api::node::NodePhase;
use client::{Client, ListOptions, Servers, http_transport};
use e2e::fleet::{program, until_async};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Far more than any of these takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const GOOD: &str = "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  template:\n    \
                    image: busybox\n    command: [sleep, \"SECONDS\"]\n";

/// A folder for manifests, and one for what the system calls temporary.
struct Place {
    manifests: TempDir,
    temporary: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { manifests: TempDir::new().unwrap(), temporary: TempDir::new().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let file = self.manifests.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn dev(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("heliox"));
        let first = ["dev", "--runtime=process"];
        let has_listen = arguments.contains(&"--listen");
        let listen: &[&str] = if has_listen { &[] } else { &["--listen", "127.0.0.1:0"] };
        command.args(first).args(listen).args(arguments);
        command.env("TMPDIR", self.temporary.path()).env_remove("HELIOX_SERVER");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// That nothing is left, and what it said.
    fn is_left_clean(&self, ended: &Output) -> String {
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!said.contains("panicked"), "{said}");
        let left: Vec<_> = std::fs::read_dir(self.temporary.path())
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?} is left: {said}");
        said
    }

    /// What it says before it ends with code 1.
    async fn last_words(&self, arguments: &[&str]) -> String {
        let output = timeout(PATIENCE, self.dev(arguments).output()).await;
        let output = output.expect("it ends by itself").unwrap();
        let said = self.is_left_clean(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }
}

async fn signalled(child: Child, signal: &str) -> Output {
    let pid = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args([signal, &pid]).status().await.unwrap();
    assert!(sent.success());
    timeout(PATIENCE, child.wait_with_output()).await.expect("it ends when asked").unwrap()
}

/// Whether a process of this command line lives.
fn runs(command_line: &str) -> bool {
    let lives = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").trim() == command_line
    };
    std::fs::read_dir("/proc").unwrap().any(|process| lives(&process.unwrap().path()))
}

#[tokio::test]
async fn what_cannot_be_applied_is_said_before_anything_starts() {
    let place = Place::new();
    let bad = place.write("bad.yaml", &GOOD.replace("command", "comand"));
    let said = place.last_words(&["--apply", &bad]).await;
    let expected = format!("{bad}:7:5: spec.template.comand: unknown field");
    assert!(said.contains(&expected) && said.contains("did you mean command?"), "{said}");
    assert!(!said.contains("ready in"), "{said}");
    for (file, why) in [("none.yaml", "No such file"), ("-", "name a file or a directory")] {
        let said = place.last_words(&["--apply", file]).await;
        assert!(said.contains(&format!("--apply {file}: ")) && said.contains(why), "{said}");
    }
    let empty = place.write("empty.yaml", "# nothing\n");
    let said = place.last_words(&["--apply", &empty]).await;
    assert!(said.contains("there is no manifest"), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = Place::new().last_words(&["--listen", &address]).await;
    assert!(said.contains(&address) && said.contains("with --listen"), "{said}");
}

#[tokio::test]
async fn what_the_server_refuses_ends_what_was_applied_before() {
    let place = Place::new();
    let seconds = format!("1000{}", std::process::id());
    let good = place.write("good.yaml", &GOOD.replace("SECONDS", &seconds));
    let nowhere = GOOD.replace("{name: a}", "{name: a, namespace: nowhere}");
    let nowhere = place.write("nowhere.yaml", &nowhere);
    let said = place.last_words(&["--apply", &good, "--apply", &nowhere]).await;
    assert!(said.contains("namespaces \"nowhere\" not found"), "{said}");
    assert!(!runs(&format!("sleep {seconds}")), "its task was left");
}

#[tokio::test]
async fn asked_to_end_early_it_leaves_nothing() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let place = Place::new();
        let good = place.write("good.yaml", &GOOD.replace("SECONDS", "1"));
        let child = place.dev(&["--nodes=20", "--apply", &good]).spawn().unwrap();
        let begun = || std::fs::read_dir(place.temporary.path()).unwrap().next().is_some();
        until_async("it has begun", async || begun()).await;
        let ended = signalled(child, signal).await;
        let said = place.is_left_clean(&ended);
        // It may have been ready by then: an end that was asked for is a good one then.
        let is_early = said.contains("stopped before everything was ready");
        assert_eq!(ended.status.code(), Some(i32::from(is_early)), "{signal}: {said}");
    }
}

#[tokio::test]
async fn it_ends_with_its_terminal_and_its_tasks_with_it() {
    let place = Place::new();
    let seconds = format!("2000{}", std::process::id());
    let good = place.write("good.yaml", &GOOD.replace("SECONDS", &seconds));
    let child = place.dev(&["--apply", &good]).spawn().unwrap();
    let task = format!("sleep {seconds}");
    until_async("its task runs", async || runs(&task)).await;
    let ended = signalled(child, "-HUP").await;
    let said = place.is_left_clean(&ended);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(!runs(&task), "its task was left");
}

/// What it says that one can type now works now: all nodes are there, and take tasks.
#[tokio::test]
async fn once_it_says_that_it_is_ready_all_nodes_are() {
    const NODES: usize = 30;
    let place = Place::new();
    let mut child = place.dev(&[&format!("--nodes={NODES}")]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = loop {
        let line = timeout(PATIENCE, said.next_line()).await.expect("it is ready some time");
        let line = line.unwrap().expect("it runs");
        // Where that takes long, it says so before.
        if line.contains("ready in") {
            break line;
        }
    };
    let address = line.strip_prefix("heliox dev: ").and_then(|rest| rest.split(',').next());
    let servers = Servers::parse(address.unwrap(), 0).unwrap();
    let client = Client::new(http_transport(&servers));
    let nodes = client.api::<Node>("").list(&ListOptions::default()).await.unwrap().items;
    let ready = nodes.iter().filter(|node| node.phase() == NodePhase::Ready).count();
    assert_eq!(ready, NODES, "{line}");
    let ended = signalled(child, "-INT").await;
    assert_eq!(ended.status.code(), Some(0), "{said:?}");
}
