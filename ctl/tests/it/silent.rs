//! What is said of tasks on a node that is not heard, and of what is made again once it is deleted.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::server::{Server, nothing};

const JOBS: &str = "/apis/heliox.dev/v1/namespaces/default/jobs";
const TASKS: &str = "/apis/heliox.dev/v1/namespaces/default/tasks";

/// The last attempt of each task in time: long ago, so that `silent for` has days.
const AT: &str = "2026-01-01T00:00:00Z";

fn owner(kind: &str, name: &str) -> Value {
    json!([{ "apiVersion": "heliox.dev/v1", "kind": kind, "name": name, "uid": name,
             "controller": true }])
}

/// Run `w-1` with the job `w-1-load`, whose task 0 is lost with `node-b`, and whose task 1 was replaced.
async fn server() -> Server {
    let server = Server::start(nothing).await;
    for (name, status) in [
        ("node-a", json!({ "readySince": AT })),
        ("node-b", json!({ "readySince": AT, "silentSince": AT, "lost": AT })),
    ] {
        let path = format!("/apis/heliox.dev/v1/nodes/{name}");
        server.put(&path, json!({ "metadata": { "name": name }, "spec": {}, "status": status }));
    }
    let running = json!({ "phase": "Running", "observedGeneration": 1, "total": 2, "run": 1 });
    server.put(
        "/apis/heliox.dev/v1/namespaces/default/workflowruns/w-1",
        json!({ "metadata": { "name": "w-1", "generation": 1 }, "spec": { "workflow": "w" },
                "status": running }),
    );
    for name in ["w-1-load", "w-1-sum"] {
        let metadata = json!({ "name": name, "generation": 1, "uid": name,
                               "ownerReferences": owner("WorkflowRun", "w-1") });
        let spec = json!({ "template": { "image": "x" } });
        server.put(
            &format!("{JOBS}/{name}"),
            json!({ "metadata": metadata, "spec": spec, "status": running }),
        );
    }
    let past = json!([{ "attempt": 1, "run": 1, "phase": "Lost", "nodeName": "node-b",
                        "startedAt": AT, "finishedAt": AT }]);
    let loss = json!({ "attempt": 1, "since": AT, "replaceable": true });
    for (index, attempt, node, loss, past) in
        [(0, 1, "node-b", loss, json!([])), (1, 2, "node-a", Value::Null, past)]
    {
        let labels = json!({ "heliox.dev/job": "w-1-load", "heliox.dev/run": "w-1" });
        let name = format!("w-1-load-{index}");
        let binding = json!({ "node": node, "attempt": attempt, "number": attempt, "at": AT });
        let task = json!({
            "metadata": { "name": name, "namespace": "default", "labels": labels, "uid": name,
                          "ownerReferences": owner("Job", "w-1-load") },
            "spec": { "template": "t", "index": index, "count": 2, "run": 1, "attempt": attempt,
                      "binding": binding },
            "status": { "attempt": attempt, "binding": attempt, "state": "Running", "startedAt": AT,
                        "loss": loss, "attempts": past },
        });
        server.put(&format!("{TASKS}/{name}"), task);
    }
    server
}

const STOPPED: &str = "on node-b, which is silent; it is stopped when the node is back";

#[tokio::test]
async fn a_log_on_a_silent_node_is_missed_by_its_name() {
    let server = server().await;
    let one = server.run("logs w-1-load-0").await;
    assert_eq!(one.code, 1, "{one:?}");
    assert!(
        one.err.starts_with(
            "error: the log of w-1-load-0 attempt 1 cannot be read: node-b has been silent for "
        ),
        "{one:?}"
    );
    assert!(
        one.err.contains("; it can be read once the node is back\nhint: attempt 2 "),
        "{one:?}"
    );
    let many = server.run("logs job/w-1-load").await;
    assert!(
        many.err.contains("the log of w-1-load-0 attempt 1 cannot be read: node-b has"),
        "{many:?}"
    );
    assert!(many.err.contains("w-1-load-1 attempt 2: "), "the others are asked: {many:?}");
    let before = server.run("logs w-1-load-1 --previous").await;
    assert!(before.err.contains("the log of w-1-load-1 attempt 1 cannot be read"), "{before:?}");
    let instead = "hint: attempt 2 runs on node-a instead: hctl logs w-1-load-1\n";
    assert!(before.err.ends_with(instead), "{before:?}");
}

#[tokio::test]
async fn a_command_in_a_lost_task_is_refused_before_its_node_is_asked() {
    let server = server().await;
    let said = server.run("exec w-1-load-0 -- ls").await;
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("it is Lost: node silent for "), "{said:?}");
    let asked = server.reads();
    assert!(!asked.iter().any(|path| path.ends_with("/exec")), "{asked:?}");
}

#[tokio::test]
async fn a_log_that_is_followed_says_which_node_is_silent() {
    let server = server().await;
    let mut command = server.hctl("logs -f w-1-load-0");
    let mut following = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stderr.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let expected = "the log of w-1-load-0 attempt 1 cannot be read: node-b has been silent for ";
    assert!(first.starts_with(expected), "{first}");
    following.kill().await.unwrap();
}

#[tokio::test]
async fn what_may_go_on_after_it_was_stopped_is_told() {
    for line in ["cancel job/w-1-load", "cancel run/w-1", "suspend run/w-1"] {
        let said = server().await.run(line).await;
        let expected = format!(
            "task/w-1-load-0 may still run {STOPPED}\ntask/w-1-load-1 attempt 1 may still run {STOPPED}\n"
        );
        assert_eq!((said.code, said.err), (0, expected), "{line}");
    }
    let said = server().await.run("cancel job/w-1-load -o json").await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "programs read objects");
    let said = server().await.run("cordon node-b").await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "nothing is stopped");
}

#[tokio::test]
async fn what_may_go_on_after_it_was_deleted_is_told() {
    let said = server().await.run("delete node node-b").await;
    let expected = "task/w-1-load-0, task/w-1-load-1 may still run on the host of node-b, which is \
                    silent: if its agent comes back, it stops them; if it never will, make sure that the \
                    host is off\n";
    assert_eq!((said.code, said.err.as_str()), (0, expected));
    let said = server().await.run("delete node node-a").await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let said = server().await.run("delete run w-1").await;
    assert!(said.err.contains(&format!("task/w-1-load-0 may still run {STOPPED}")), "{said:?}");
}

/// The tasks of a job that is deleted without them are stopped by nobody when the node is back.
#[tokio::test]
async fn what_was_not_deleted_is_not_said_to_end() {
    let said = server().await.run("delete job w-1-load --cascade orphan").await;
    assert!(said.code == 0 && !said.err.contains("may still run"), "{said:?}");
}

#[tokio::test]
async fn that_a_deleted_job_of_a_run_is_made_again_is_told() {
    let again =
        |what: &str| format!("run/w-1 makes {what} again; hctl cancel run/w-1 stops the run\n");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("job.yaml");
    let manifest = "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: w-1-sum}\n\
                    spec: {template: {image: x}}\n";
    std::fs::write(&file, manifest).unwrap();
    for (line, what) in [
        ("delete job w-1-sum", "job/w-1-sum"),
        ("delete jobs --all", "2 jobs"),
        ("delete jobs -l a=b", "2 jobs"),
        (&format!("delete -f {}", file.display()), "job/w-1-sum"),
    ] {
        let said = server().await.run(line).await;
        assert!(said.err.ends_with(&again(what)), "{line}: {said:?}");
    }
    let said = server().await.run("delete task w-1-load-1").await;
    let expected =
        "job/w-1-load makes task/w-1-load-1 again; hctl cancel job/w-1-load stops the job\n";
    assert!(said.err.ends_with(expected), "{said:?}");
    let said = server().await.run("delete run/w-1 job/w-1-sum").await;
    assert!(!said.err.contains("again"), "the run is gone, too: {said:?}");
}

/// As it is told it is typed: without the namespace it would stop another one's run.
#[tokio::test]
async fn commands_in_notes_name_the_namespace_that_was_named() {
    let server = Server::start(nothing).await;
    let runs = "/apis/heliox.dev/v1/namespaces/team/workflowruns/w-1";
    let running = json!({ "phase": "Running", "observedGeneration": 1 });
    server.put(
        runs,
        json!({ "metadata": { "name": "w-1", "namespace": "team" }, "spec": { "workflow": "w" },
                "status": running }),
    );
    server.put(
        "/apis/heliox.dev/v1/namespaces/team/jobs/w-1-a",
        json!({ "metadata": { "name": "w-1-a", "namespace": "team", "uid": "a",
                              "ownerReferences": owner("WorkflowRun", "w-1") },
                "spec": { "template": { "image": "x" } }, "status": running }),
    );
    let said = server.run("-n team delete job w-1-a").await;
    let expected = "run/w-1 makes job/w-1-a again; hctl -n team cancel run/w-1 stops the run\n";
    assert!(said.err.ends_with(expected), "{said:?}");
}

#[tokio::test]
async fn what_may_still_run_on_a_silent_node_is_described() {
    let server = server().await;
    let said = server.run("describe node/node-b").await;
    let section = said.out.split("May still run here, until the node is back:\n").nth(1);
    let rows: Vec<Vec<&str>> = section
        .unwrap_or_else(|| panic!("{said:?}"))
        .lines()
        .skip(1)
        .take(2)
        .map(|line| line.split_whitespace().take(5).collect())
        .collect();
    assert_eq!(rows[0][..3], ["default/w-1-load-0", "1", "Lost"]);
    assert_eq!(rows[1], ["default/w-1-load-1", "1", "Running", "on", "node-a"]);
    let said = server.run("describe node/node-a").await;
    assert!(!said.out.contains("May still run"), "{said:?}");
}
