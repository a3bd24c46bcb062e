//! Maintenance of nodes with real processes: labels, taints and drains as people ask for them, and
//! what an agent says while no apiserver answers.

use std::process::Command;

use e2e::dev::Dev;
use e2e::fleet::{Fleet, Shape, program, until, until_async};

const MANIFEST: &str = r#"
apiVersion: heliox.dev/v1
kind: Service
metadata: {name: web}
spec:
  replicas: 2
  template: {image: busybox, command: [sleep, "600"], terminationGracePeriodSeconds: 1}
---
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: long}
spec:
  count: 2
  maxPerNode: 1
  template: {image: busybox, command: [sleep, "600"], terminationGracePeriodSeconds: 1}
"#;

/// How many tasks that have not ended are on a node.
async fn on(dev: &Dev, node: &str) -> usize {
    let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    dev.done(&["get", "tasks", "-o", "name", "--field-selector", &fields]).await.lines().count()
}

#[tokio::test]
async fn a_drain_goes_on_when_hctl_is_killed_and_ends_when_the_node_is_uncordoned() {
    let dev = Dev::start_with(&["--runtime", "process", "--nodes", "3"], 3).await;
    dev.apply(MANIFEST).await;
    dev.done(&["wait", "service/web", "--for", "ready", "--timeout", "60s"]).await;
    let all_run = async || {
        let fields = "status.phase=Running";
        let lines = dev.done(&["get", "tasks", "-o", "name", "--field-selector", fields]).await;
        lines.lines().count() == 4
    };
    until_async("all run", all_run).await;
    // One that is killed at once, in whatever state.
    let mut hctl = dev.command(&["drain", "node-1"]).spawn().unwrap();
    let is_asked =
        async || dev.done(&["get", "node/node-1", "-o", "yaml"]).await.contains("drain:");
    until_async("the drain is asked for", is_asked).await;
    hctl.kill().await.unwrap();
    until_async("all have left", async || on(&dev, "node-1").await == 0).await;
    let drained = async || {
        let row = dev.done(&["get", "node/node-1", "--no-headers"]).await;
        row.contains("Cordoned") && row.contains("drained")
    };
    until_async("it is drained", drained).await;
    until_async("all run", all_run).await;
    // Who waits is told the end.
    let said = dev.hctl(&["drain", "node/node-2", "--timeout", "60s"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("node/node-2 drained: "), "{said:?}");
    assert_eq!(on(&dev, "node-2").await, 0);
    let said = dev.done(&["uncordon", "node-1", "node-2"]).await;
    assert_eq!(said.matches("uncordoned: it is not drained any more").count(), 2, "{said}");
    until_async("they take tasks", async || {
        let rows = dev.done(&["get", "nodes", "--no-headers"]).await;
        rows.matches(" Ready ").count() == 3
    })
    .await;
}

#[tokio::test]
async fn a_task_goes_where_labels_and_taints_let_it() {
    let dev = Dev::start_with(&["--runtime", "process", "--nodes", "2"], 2).await;
    dev.done(&["label", "node/node-1", "dedicated=gpu"]).await;
    dev.done(&["taint", "node-1", "dedicated=gpu:NoSchedule"]).await;
    let example = include_str!("../../../docs/examples/placement-tolerations.yaml");
    dev.apply(example).await;
    dev.done(&["wait", "job/on-gpu-nodes", "--timeout", "60s"]).await;
    let nodes = dev.done(&["get", "tasks", "-o", "yaml"]).await;
    assert!(nodes.contains("nodeName: node-1"), "{nodes}");
    // Without the toleration it waits, and says why.
    let other =
        example.replace("on-gpu-nodes", "keeps-off").lines().fold(String::new(), |text, line| {
            match line.contains("tolerations") {
                true => text,
                false => text + line + "\n",
            }
        });
    dev.apply(&other).await;
    until_async("it says why it waits", async || {
        let row = dev.done(&["get", "tasks", "--job", "keeps-off", "-o", "yaml"]).await;
        row.contains("1 taint dedicated=gpu")
    })
    .await;
    let row = dev.done(&["get", "node/node-1", "--no-headers"]).await;
    assert!(row.contains("dedicated=gpu:NoSch"), "{row}");
    dev.done(&["taint", "node-1", "dedicated-"]).await;
    dev.done(&["wait", "job/keeps-off", "--timeout", "60s"]).await;
}

#[tokio::test]
async fn an_agent_tells_people_on_its_host_what_it_knows_while_the_server_is_away() {
    let mut fleet = Fleet::start(Shape::small("process", 1)).await;
    let manifest = fleet.dir().join("web.yaml");
    std::fs::write(&manifest, MANIFEST).unwrap();
    fleet.hctl(&["apply", "-f", manifest.to_str().unwrap()]).await;
    fleet.hctl(&["wait", "service/web", "--for", "ready", "--timeout", "60s"]).await;
    fleet.kill("server");
    let dir = fleet.dir().join("node-1");
    let status = || {
        let output = Command::new(program("heliox"))
            .args(["agent", "status", "--state-dir", dir.to_str().unwrap()])
            .env_remove("HELIOX_SERVER")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let knows = |text: &str| {
        text.contains("Node:          node-1")
            && text.contains("Last contact:  ")
            && text.matches("default/web-1-").count() == 2
            && text.matches("running").count() >= 2
    };
    until("the agent tells what it knows", || knows(&status())).await;
    fleet.kill("node-1");
    let output = Command::new(program("heliox"))
        .args(["agent", "status", "--state-dir", dir.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no agent answers at"), "{said}");
    // The next one takes over what runs.
    fleet.run("server").await;
    fleet.run("node-1").await;
    fleet.hctl(&["delete", "service/web", "job/long", "--wait"]).await;
}
