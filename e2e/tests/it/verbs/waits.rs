//! Waiting ends as soon as the answer is certain.

use std::time::Duration;

use e2e::dev::{Dev, Said};
use e2e::fleet::until_async;

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

/// Waits for a long time, while `meanwhile` is done; how it ended. That it does not take the long
/// time is seen by this test's own end.
async fn meanwhile(dev: &Dev, wait: &str, meanwhile: &str) -> Said {
    let mut waiting = dev.command(&words(wait));
    let waiting = waiting
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    dev.done(&words(meanwhile)).await;
    let output = tokio::time::timeout(Duration::from_secs(60), waiting.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("hctl {wait}: no end")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or(-1);
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn a_wait_ends_when_what_it_waits_for_can_no_longer_happen() {
    let dev = Dev::start().await;
    let jobs: String = ["a", "b", "c"].iter().map(|name| LONG.replace("NAME", name)).collect();
    dev.apply(&format!("{jobs}{BY_HAND}")).await;
    run(&dev, "task/a-0 task/b-0 task/c-0").await;

    // It is deleted, and another of its name would be another one.
    let said = meanwhile(&dev, "wait job/a --timeout 10m", "delete job/a --wait").await;
    assert_eq!(said.code, 3, "{said:?}");
    // Of several, each is told, and the end comes when all are certain.
    let said = meanwhile(&dev, "wait job/b job/c job/d --timeout 10m", "cancel job/b job/c").await;
    assert_eq!(said.code, 3, "{said:?}");
    for told in [
        "job/b is not succeeded and will not be: Cancelled",
        "job/c is not succeeded and will not be: Cancelled",
        "job/d is not there",
        "3 of 3 objects are not succeeded",
    ] {
        assert!(said.err.contains(told), "{said:?}");
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
