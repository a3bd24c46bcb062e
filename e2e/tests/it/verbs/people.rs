//! What helps people who type: watching several kinds, what a change does to a run, room at a terminal.

use std::process::Stdio;
use std::time::Duration;

use e2e::dev::Dev;
use e2e::fleet::until_async;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

const LONG: &str = "
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: load}
spec: {template: {image: busybox, command: [sleep, '600'], terminationGracePeriodSeconds: 1}}
";

/// Reads lines until each of `wanted` came, which is the first two words of one.
async fn heard(lines: &mut Lines<BufReader<ChildStdout>>, wanted: [&str; 2]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    while !wanted.iter().all(|it| seen.iter().any(|line| line == it)) {
        let line = timeout(PATIENCE, lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{seen:?}")).unwrap().expect("it goes on");
        seen.push(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    }
    seen
}

#[tokio::test]
async fn several_kinds_are_watched_in_one_table() {
    let dev = Dev::start().await;
    let mut watching = dev.command(&["get", "jobs,tasks", "--watch"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    dev.apply(LONG).await;
    let seen = heard(&mut lines, ["job/load Running", "task/load-0 Running"]).await;
    assert_eq!(seen[0], "NAME STATUS");
    dev.done(&["delete", "job/load", "--wait", "--timeout", "60s"]).await;
    heard(&mut lines, ["job/load Deleted", "task/load-0 Deleted"]).await;
}

/// Starts the job, and waits until its task runs.
async fn run(dev: &Dev) {
    dev.apply(LONG).await;
    let ready = ["wait", "task/load-0", "--for", "ready", "--timeout", "60s"];
    until_async("the task runs", async || dev.hctl(&ready).await.code == 0).await;
    until_async("the job has counted it", async || active(dev).await == 1).await;
}

async fn active(dev: &Dev) -> u64 {
    let job = dev.done(&["get", "job/load", "-o", "json"]).await;
    serde_json::from_str::<Value>(&job).unwrap()["status"]["active"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn a_job_that_is_changed_while_it_runs_says_what_becomes_of_its_run() {
    let dev = Dev::start().await;
    run(&dev).await;
    let said = dev.apply(&LONG.replace("600", "601")).await;
    assert_eq!(said, "job/load configured: run 2 replaces run 1; 1 running task is stopped\n");
    let told = async || dev.done(&["events", "job/load"]).await.contains("RunReplaced");
    until_async("there is an event", told).await;
    run(&dev).await;
    let said = dev.hctl(&["logs", "job/load", "--run", "7"]).await;
    assert_eq!(said.err.lines().next(), Some("error: load-0 has no attempt of run 7"));
}

#[tokio::test]
async fn a_job_that_is_scaled_down_while_it_runs_says_how_many_tasks_that_stops() {
    let dev = Dev::start().await;
    let of = |count: u32| LONG.replace("spec: {", &format!("spec: {{count: {count}, "));
    dev.apply(&of(3)).await;
    until_async("the tasks run", async || active(&dev).await == 3).await;
    let said = dev.apply(&of(1)).await;
    let expected = "scaled down from 3 to 1 task; 2 running tasks are stopped";
    assert_eq!(said, format!("job/load configured: {expected}\n"));
    let told = async || dev.done(&["events", "job/load"]).await.contains(expected);
    until_async("there is an event", told).await;
    let why = "stopped: job load was scaled down to 1 task";
    let stopped = async || dev.done(&["describe", "task/load-2"]).await.contains(why);
    until_async("its task says why it was stopped", stopped).await;
}

const FLOW: &str = "
apiVersion: heliox.dev/v1
kind: Workflow
metadata: {name: flow}
spec: {jobs: [{name: a, template: {image: busybox, command: ['true']}}]}
";

#[tokio::test]
async fn a_copy_of_a_runs_job_does_not_go_with_the_run() {
    let dev = Dev::start().await;
    dev.apply(FLOW).await;
    dev.done(&["wait", "workflow/flow", "--timeout", "60s"]).await;
    let original = dev.done(&["get", "job/flow-1-a", "-o", "yaml"]).await;
    assert!(original.contains("ownerReferences:"), "{original}");
    assert_eq!(dev.apply(&original).await, "job/flow-1-a unchanged\n");
    let copy = original.replace("name: flow-1-a", "name: mine");
    assert_eq!(dev.apply(&copy).await, "job/mine created\n");
    assert_eq!(dev.apply(&copy).await, "job/mine unchanged\n");
    let mine = dev.done(&["get", "job/mine", "-o", "yaml"]).await;
    assert!(!mine.contains("ownerReferences:") && !mine.contains("heliox.dev/run:"), "{mine}");
    let kept = dev.done(&["get", "job/flow-1-a", "-o", "yaml"]).await;
    assert!(kept.contains("ownerReferences:"), "{kept}");
}

/// What a command prints on a terminal of 80 columns.
async fn on_a_terminal(dev: &Dev, line: &str) -> String {
    let hctl = e2e::fleet::program("hctl");
    let typed = format!("stty cols 80 rows 24; exec {} {line}", hctl.display());
    let script = tokio::process::Command::new("script")
        .args(["-qec", &typed, "/dev/null"])
        .env("HELIOX_SERVER", dev.url())
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output();
    let output = timeout(PATIENCE, script).await.expect("it ends").unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn at_a_terminal_reasons_have_room_and_a_wait_shows_how_far_it_has_come() {
    let dev = Dev::start().await;
    let fails = LONG.replace("sleep, '600'", "no-such-program").replace("load", "a-longer-name");
    // It stays as it is for as long as this looks at it.
    let patient = "spec: {retry: {backoff: {initial: 1h}}, ";
    dev.apply(&fails.replace("spec: {", patient)).await;
    let tried = async || dev.done(&["get", "tasks"]).await.contains("CannotRun");
    until_async("its task cannot run", tried).await;
    let table = on_a_terminal(&dev, "get tasks").await;
    assert!(table.lines().all(|line| line.trim_end().chars().count() <= 80 + 20), "{table:?}");
    assert!(table.contains("attempt 1 on node-1"), "why it failed has no room: {table}");
    assert!(!table.contains("PORTS"), "a column with nothing in it takes the room: {table}");
    let shown = on_a_terminal(&dev, "wait job/a-longer-name --timeout 1s").await;
    let lines: Vec<&str> = shown.split("\r\u{1b}[K").collect();
    assert!(lines[1].starts_with("job/a-longer-name: "), "{shown:?}");
    assert!(lines.last().unwrap().contains("timed out waiting"), "it makes room: {shown:?}");
}

/// A job with an image of a name that no terminal of 80 columns has room for, beside the rest.
fn long_image() -> String {
    format!("registry.example.com:5000/{}/busybox:1.36.1-with-a-long-tag", "team/".repeat(8))
}

#[tokio::test]
async fn all_columns_are_shown_uncut_wherever_they_are_printed() {
    let dev = Dev::start().await;
    let fails = LONG.replace("sleep, '600'", "no-such-program").replace("busybox", &long_image());
    dev.apply(&fails.replace("spec: {", "spec: {retry: {maxAttempts: 1}, ")).await;
    dev.done(&["wait", "job/load", "--for", "failed", "--timeout", "60s"]).await;
    let why = "No such file or directory (os error 2)";
    let piped = dev.done(&["get", "jobs", "-o", "wide"]).await;
    let at_a_terminal = on_a_terminal(&dev, "get jobs -o wide").await;
    for table in [&piped, &at_a_terminal] {
        let words: Vec<&str> = table.split_whitespace().collect();
        assert!(words.contains(&long_image().as_str()), "{table}");
        assert!(words.join(" ").contains(why), "{table}");
        assert!(!table.contains("..."), "{table}");
    }
    // At a terminal a row that does not fit goes on below itself; in a pipe it stays one line.
    assert!(piped.lines().any(|line| line.ends_with(why)), "{piped}");
    let is_too_long = |line: &&str| line.trim().chars().count() > 80 && line.trim().contains(' ');
    assert_eq!(at_a_terminal.lines().find(is_too_long), None, "{at_a_terminal}");
    // Without -o wide a terminal's line is cut, and shows where; a pipe's is not.
    let cut = on_a_terminal(&dev, "get jobs").await;
    assert!(cut.lines().any(|line| line.trim_end().ends_with("...")), "{cut}");
    assert!(!cut.contains(why), "{cut}");
    assert!(dev.done(&["get", "jobs"]).await.contains(why));
}

#[tokio::test]
async fn what_is_described_is_folded_at_a_terminal_alone() {
    let dev = Dev::start().await;
    let fails = LONG.replace("sleep, '600'", "no-such-program").replace("busybox", &long_image());
    dev.apply(&fails.replace("spec: {", "spec: {retry: {maxAttempts: 1}, ")).await;
    dev.done(&["wait", "job/load", "--for", "failed", "--timeout", "60s"]).await;
    let shown = on_a_terminal(&dev, "describe task load-0").await;
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let why = lines.iter().position(|line| line.starts_with("Why: ")).expect("it says why");
    assert!(lines[why + 1].starts_with("          "), "it hangs below its beginning: {shown}");
    let is_too_long = |line: &&&str| line.chars().count() > 80;
    assert_eq!(lines.iter().find(is_too_long), None, "{shown}");
    // A word that is longer than a line is whole.
    let shown = on_a_terminal(&dev, "describe job load").await;
    assert!(shown.contains(&long_image()), "{shown}");
    let piped = dev.done(&["describe", "task", "load-0"]).await;
    let why = piped.lines().find(|line| line.starts_with("Why: ")).expect("it says why");
    assert!(why.ends_with("No such file or directory (os error 2)"), "{piped}");
}
