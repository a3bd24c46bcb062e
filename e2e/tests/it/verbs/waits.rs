//! Waiting ends as soon as the answer is certain.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use e2e::dev::Dev;
use e2e::fleet::until_async;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// A job that goes on until it is ended.
const LONG: &str = "
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: NAME}
spec: {template: {image: busybox, command: [sleep, '600'], terminationGracePeriodSeconds: 1}}
---
";
/// A workflow that runs when a person says so.
const BY_HAND: &str = "
apiVersion: heliox.dev/v1
kind: Workflow
metadata: {name: by-hand}
spec: {runOnApply: false, jobs: [{name: a, template: {image: busybox, command: ['true']}}]}
";

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Awaits that tasks run, which their jobs are about to make.
async fn run(dev: &Dev, tasks: &str) {
    let line = format!("wait {tasks} --for ready --timeout 60s");
    until_async(tasks, async || dev.hctl(&words(&line)).await.code == 0).await;
}

/// Waits for a long time for jobs, of which `no-such` is not there: once that is said, all have been
/// looked at, and `meanwhile` is done. How it ended; that it does not take the long time is seen by
/// this test's own end.
async fn meanwhile(dev: &Dev, jobs: &str, meanwhile: &str) -> (i32, String) {
    let wait = format!("wait {jobs} job/no-such --timeout 10m");
    let mut waiting = dev.command(&words(&wait)).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let mut told = String::new();
    while !told.contains("job/no-such not found") {
        told.push_str(&lines.next_line().await.unwrap().expect("it says so"));
    }
    dev.done(&words(meanwhile)).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting.wait()).await;
    let ended = ended.unwrap_or_else(|_| panic!("hctl {wait}: no end")).unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        told.push_str(&format!("\n{line}"));
    }
    (ended.code().unwrap_or(-1), told)
}

#[tokio::test]
async fn a_wait_ends_when_what_it_waits_for_can_no_longer_happen() {
    let dev = Dev::start().await;
    let jobs: String = ["a", "b", "c"].iter().map(|name| LONG.replace("NAME", name)).collect();
    dev.apply(&format!("{jobs}{BY_HAND}")).await;
    run(&dev, "task/a-0 task/b-0 task/c-0").await;

    // It is deleted, and another of its name would be another one.
    let (code, told) = meanwhile(&dev, "job/a", "delete job/a --wait").await;
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("job/a did not succeed: "), "{told}");
    // Of several, each is told, and the end comes when all are certain.
    let (code, told) = meanwhile(&dev, "job/b job/c", "cancel job/b job/c").await;
    assert_eq!(code, 3, "{told}");
    for said in [
        "job/b did not succeed: Cancelled",
        "job/c did not succeed: Cancelled",
        "3 of 3 objects did not succeed",
    ] {
        assert!(told.contains(said), "{told}");
    }
    // A task of a job that gave up is not tried again.
    let said = dev.hctl(&words("wait task/b-0 --timeout 10m")).await;
    assert_eq!(said.code, 3, "{said:?}");
    // No run was started, and none starts by itself; then one is.
    let said = dev.hctl(&words("wait workflow/by-hand --timeout 10m")).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("hctl run workflow/by-hand"), "{said:?}");
    dev.done(&["run", "by-hand"]).await;
    assert_eq!(
        dev.done(&words("wait workflow/by-hand --timeout 60s")).await,
        "workflow/by-hand succeeded\n"
    );
}

#[tokio::test]
async fn deleting_waits_for_the_object_and_in_the_foreground_for_what_it_owns() {
    let dev = Dev::start().await;
    dev.apply(&LONG.replace("NAME", "a")).await;
    run(&dev, "task/a-0").await;
    let said = dev.done(&words("delete job/a --cascade foreground --wait --timeout 60s")).await;
    assert_eq!(said, "job/a deleted\n");
    let left = dev.done(&words("get jobs,tasks,tasktemplates -o name")).await;
    assert_eq!(left, "");
}

#[tokio::test]
async fn each_of_several_is_deleted_whatever_became_of_those_before_it() {
    let dev = Dev::start().await;
    let manifest: String = ["a", "b"].iter().map(|name| LONG.replace("NAME", name)).collect();
    dev.apply(&manifest).await;
    dev.done(&words("delete job/b --wait --timeout 60s")).await;
    let file = dev.dir().join("manifest.yaml");
    let said = dev.hctl(&["delete", "-f", file.to_str().unwrap(), "--wait"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "job/a deleted\n"), "{said:?}");
    assert!(said.err.contains("jobs \"b\" not found"), "{said:?}");
    dev.apply(&manifest).await;
    let said = dev.hctl(&words("delete job no-such a b --wait --timeout 60s")).await;
    assert_eq!((said.code, said.out.lines().count()), (6, 2), "{said:?}");
}

/// In a pipe, too, a person sees how far it has come.
#[tokio::test]
async fn a_wait_tells_each_change_of_phase_in_a_pipe() {
    let dev = Dev::start().await;
    let file = dev.dir().join("one.yaml");
    std::fs::write(&file, LONG.replace("NAME", "a")).unwrap();
    let mut applying = dev.command(&["apply", "-f", file.to_str().unwrap(), "--wait"]);
    let mut applying = applying.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(applying.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    while !told.iter().any(|line: &String| line.starts_with("job/a: Running")) {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("no more than {told:?}"));
        told.push(line.unwrap().expect("it goes on"));
    }
    let different: BTreeSet<&String> = told.iter().collect();
    assert_eq!(different.len(), told.len(), "a line for each phase: {told:?}");
    dev.done(&["cancel", "job/a"]).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), applying.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(3));
    // Who reads JSON is told nothing else.
    let said = dev.hctl(&words("wait job/a --for deleted --timeout 1s -o json")).await;
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    assert!(said.err.starts_with('{'), "{said:?}");
}
