//! Completion, in the shells that people use: bash and zsh at a terminal, and fish.

use std::process::Stdio;
use std::time::Duration;

use e2e::dev::Dev;
use e2e::fleet::until_async;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A job that runs, one that has ended, and a workflow with parameters.
const MANIFEST: &str = "
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: load}
spec: {template: {image: busybox, command: [sleep, '600'], terminationGracePeriodSeconds: 1}}
---
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: ended}
spec: {template: {image: busybox, command: ['true']}}
---
apiVersion: heliox.dev/v1
kind: Workflow
metadata: {name: flow}
spec:
  runOnApply: false
  params: [{name: date}, {name: mode, default: fast, enum: [fast, full]}]
  jobs: [{name: a, template: {image: busybox, command: ['true']}}]
";

/// A cluster in which all that is applied has settled.
async fn settled() -> Dev {
    let dev = Dev::start().await;
    dev.apply(MANIFEST).await;
    for line in ["wait job/ended --timeout 60s", "wait task/load-0 --for ready --timeout 60s"] {
        let words: Vec<&str> = line.split(' ').collect();
        until_async(line, async || dev.hctl(&words).await.code == 0).await;
    }
    dev
}

/// A program that finds our programs and the cluster, and no settings of a person.
fn in_cluster(dev: &Dev, program: &str) -> Command {
    let ours = e2e::fleet::program("hctl");
    let path = format!("{}:/usr/bin:/bin", ours.parent().unwrap().display());
    let mut command = Command::new(program);
    command
        .env("PATH", path)
        .env("HOME", dev.dir())
        .env("TERM", "xterm")
        .env("HELIOX_SERVER", dev.url())
        .env_remove("HELIOX_NAMESPACE")
        .kill_on_drop(true);
    command
}

/// A shell at a terminal, at which somebody types.
struct Typist {
    shell: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    shown: String,
}

/// What a shell reads first: completion, and a key (control-O) that shows the line as it stands. The word
/// is in two parts, so that the echo of the definition is not taken for it.
const FOR_BASH: &str =
    r#"source <(hctl completion bash); bind -x '"\C-o": printf "LI""NE<%s>\n" "$READLINE_LINE"'"#;
const FOR_ZSH: &str = r#"autoload -Uz compinit; compinit -u -D; source <(hctl completion zsh); dump() { print -r -- "LI""NE<$BUFFER>" }; zle -N dump; bindkey '^O' dump"#;

impl Typist {
    async fn at(dev: &Dev, shell: &str, setup: &str) -> Self {
        let typed = format!("stty cols 200 rows 50; exec {shell}");
        let mut shell = in_cluster(dev, "script")
            .args(["-qec", &typed, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, screen) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let mut typist = Self { shell, keys, screen, shown: String::new() };
        typist.types(&format!("{setup}; echo set'' up\n")).await;
        typist.sees("set up").await;
        // The shell waits for a line once it shows this one.
        typist.types("\u{f}").await;
        typist.sees("LINE<>").await;
        typist
    }

    async fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
    }

    async fn sees(&mut self, text: &str) {
        while !self.shown.contains(text) {
            self.reads().await;
        }
    }

    async fn reads(&mut self) {
        let mut bytes = [0; 4096];
        let read = timeout(PATIENCE, self.screen.read(&mut bytes)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing after {:?}", self.shown)).unwrap();
        assert!(read > 0, "it ended after {:?}", self.shown);
        self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }

    /// The line as it is once TAB was pressed at its end.
    async fn tab(&mut self, line: &str) -> String {
        self.shown.clear();
        self.types(&format!("{line}\t\u{f}")).await;
        let shown =
            |screen: &str| Some(screen.split_once("LINE<")?.1.split_once('>')?.0.to_owned());
        let line = loop {
            match shown(&self.shown) {
                Some(line) => break line,
                None => self.reads().await,
            }
        };
        self.types("\u{15}").await;
        line
    }

    async fn leaves(mut self) {
        self.types("exit\n").await;
        timeout(PATIENCE, self.shell.wait()).await.expect("it ends").unwrap();
    }
}

/// Lines, and what TAB makes of them.
const COMPLETED: [(&str, &str); 17] = [
    ("hctl descr", "hctl describe "),
    ("hctl get jo", "hctl get jobs "),
    ("hctl get jobs,secr", "hctl get jobs,secrets "),
    ("hctl describe jo", "hctl describe job/"),
    ("hctl describe job lo", "hctl describe job load "),
    ("hctl cordon ", "hctl cordon node-1 "),
    // Only what runs can be asked to run a command, to be followed, or to be cancelled.
    ("hctl exec lo", "hctl exec load-0 "),
    ("hctl exec task/", "hctl exec task/load-0 "),
    ("hctl logs -f task/", "hctl logs -f task/load-0 "),
    ("hctl logs task/end", "hctl logs task/ended-0 "),
    ("hctl cancel job/", "hctl cancel job/load "),
    ("hctl rerun job/", "hctl rerun job/ended "),
    ("hctl get tasks --job load --run ", "hctl get tasks --job load --run 1 "),
    ("hctl run flow -p d", "hctl run flow -p date="),
    ("hctl run flow -p date=1 -p ", "hctl run flow -p date=1 -p mode="),
    ("hctl run flow -p mode=fu", "hctl run flow -p mode=full "),
    (
        "hctl get jobs --field-selector status.phase=Susp",
        "hctl get jobs --field-selector status.phase=Suspended ",
    ),
];

async fn completes(shell: &str, setup: &str) {
    let dev = settled().await;
    let mut typist = Typist::at(&dev, shell, setup).await;
    for (line, expected) in COMPLETED {
        let mut last = String::new();
        // hctl waits for a server for a second, which may be too short on a loaded machine.
        for _ in 0..10 {
            last = typist.tab(line).await;
            if last == expected {
                break;
            }
        }
        assert_eq!(last, expected, "{shell}: {:?}", typist.shown);
    }
    typist.leaves().await;
}

#[tokio::test]
async fn bash_completes_lines_at_a_terminal() {
    completes("bash --norc --noprofile -i", FOR_BASH).await;
}

#[tokio::test]
async fn zsh_completes_lines_at_a_terminal() {
    completes("zsh -f -i", FOR_ZSH).await;
}

/// What fish offers for a line, with what it says of each.
async fn offered(dev: &Dev, line: &str) -> String {
    let script = r#"hctl completion fish | source; complete -C "$argv[1]""#;
    let fish = in_cluster(dev, "fish").args(["--no-config", "-c", script, line]).output();
    let output = timeout(PATIENCE, fish).await.expect("fish ends").unwrap();
    assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let words = lines.lines().map(|line| line.split('\t').next().unwrap_or_default());
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn fish_offers_kinds_names_namespaces_fields_and_parameters() {
    let dev = settled().await;
    let offers = [
        ("hctl get jobs ", "ended load"),
        ("hctl logs -f ", "load-0 run/ job/ service/"),
        ("hctl cancel ", "run/ job/"),
        ("hctl get jobs -n heliox-sy", "heliox-system"),
        ("hctl -n heliox-system get leases sch", "scheduler"),
        ("hctl get tasks --job ", "ended load"),
        ("hctl get jobs --phase susp", "Suspended"),
        ("hctl get jobs --field-selector status.", "status.phase="),
        ("hctl get jobs --sh", "--show-labels"),
        ("hctl wait job/load --for d", "done deleted"),
        ("hctl run flow -p ", "date= mode="),
        ("hctl run workflow flow --param mode=", "mode=fast mode=full"),
    ];
    // What the other shells complete is the one word that is offered.
    let last_word = |line: &'static str| line.trim_end().rsplit(' ').next().unwrap_or_default();
    let completed = COMPLETED.into_iter().map(|(line, whole)| (line, last_word(whole)));
    for (line, expected) in offers.into_iter().chain(completed) {
        until_async(line, async || offered(&dev, line).await == expected).await;
    }
    // Nobody is there, which is not to hold up the shell.
    assert_eq!(offered(&dev, "hctl --server http://127.0.0.1:1 get jobs l").await, "");
}
