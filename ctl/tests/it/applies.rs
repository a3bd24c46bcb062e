//! What `apply --wait` and `run --wait` wait for, and what they print of it.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::server::{Server, nothing};

const RUNS: &str = "/apis/heliox.dev/v1/namespaces/default/workflowruns";
const WORKFLOW: &str = "/apis/heliox.dev/v1/namespaces/default/workflows/w";

/// A run as a controller makes it, or by hand, which has ended with this phase.
fn run(name: &str, workflow: &Value, is_own: bool, phase: &str) -> Value {
    let typed: api::Workflow = serde_json::from_value(workflow.clone()).unwrap();
    let revision = api::workflow::revision(&typed.spec);
    let number = name.rsplit('-').next();
    let labels = match is_own {
        true => json!({ "heliox.dev/revision": revision, "heliox.dev/run-number": number }),
        false => json!({}),
    };
    let owner = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow", "name": "w",
        "uid": workflow["metadata"]["uid"], "controller": true,
    });
    json!({
        "metadata": {
            "name": name, "generation": 1, "labels": labels, "ownerReferences": [owner],
            "annotations": {
                "heliox.dev/workflow-generation": workflow["metadata"]["generation"].to_string(),
            },
        },
        "spec": { "workflow": "w" },
        "status": { "phase": phase, "observedGeneration": 1, "revision": revision },
    })
}

/// The controllers as far as these tests need them: a workflow starts a run by itself for each
/// revision, which fails where the workflow's timeout is 3h, and runs for ever where it is 5h or
/// 6h.
fn controllers(object: &mut Value) -> Vec<(String, Value)> {
    let generation = object["metadata"]["generation"].clone();
    if object["kind"] == "WorkflowRun" {
        object["status"] = json!({ "phase": "Failed", "observedGeneration": generation });
        return Vec::new();
    }
    if object["kind"] != "Workflow" {
        return Vec::new();
    }
    object["status"]["observedGeneration"] = generation.clone();
    let typed: api::Workflow = serde_json::from_value(object.clone()).unwrap();
    let revision = api::workflow::revision(&typed.spec);
    if typed.status.revision == revision || typed.spec.suspend == Some(true) {
        return Vec::new();
    }
    object["status"] = json!({ "observedGeneration": generation, "revision": revision });
    if typed.spec.run_on_apply == Some(false) {
        return Vec::new();
    }
    let name = format!("w-{generation}");
    let phase = match object["spec"]["timeout"].as_str() {
        Some("3h") => "Failed",
        Some("5h" | "6h") => "Running",
        _ => "Succeeded",
    };
    let status = json!({
        "lastRun": name, "deployedRun": name, "lastRunNumber": generation, "phase": phase,
    });
    json_patch::merge(&mut object["status"], &status);
    vec![(format!("{RUNS}/{name}"), run(&name, object, true, phase))]
}

fn manifest(dir: &tempfile::TempDir, spec: &str) -> String {
    let file = dir.path().join("w.yaml");
    let text = format!(
        "apiVersion: heliox.dev/v1\nkind: Workflow\nmetadata: {{name: w}}\n\
         spec: {{{spec} jobs: [{{name: a, template: {{image: x}}}}]}}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn an_apply_waits_for_what_it_starts_and_not_for_what_somebody_ran() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "");
    let apply = format!("apply -f {file} --wait --timeout 5s");
    let said = server.run(&apply).await;
    assert_eq!((said.code, said.out.lines().last()), (0, Some("workflow/w succeeded")), "{said:?}");
    // What a person ran in between failed, or has not ended.
    for phase in ["Failed", "Running"] {
        let mut workflow = server.get(WORKFLOW);
        server.put(&format!("{RUNS}/w-9"), run("w-9", &workflow, false, phase));
        json_patch::merge(&mut workflow["status"], &json!({ "lastRun": "w-9", "phase": phase }));
        server.put(WORKFLOW, workflow);
        let said = server.run(&apply).await;
        assert_eq!(
            (said.code, said.out.lines().next()),
            (0, Some("workflow/w unchanged")),
            "{said:?}"
        );
        assert_eq!(said.out.lines().last(), Some("workflow/w succeeded"), "{said:?}");
    }
    // What is deployed failed, however often that is asked.
    manifest(&dir, "timeout: 3h,");
    for _ in 0..2 {
        let said = server.run(&apply).await;
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.err.contains("error: run/w-2 did not succeed: Failed"), "{said:?}");
    }
}

#[tokio::test]
async fn a_workflow_that_starts_no_run_by_itself_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "runOnApply: false,");
    let apply = format!("apply -f {file} --wait --timeout 5s");
    for word in ["created", "unchanged"] {
        let said = server.run(&apply).await;
        assert_eq!((said.code, said.out), (0, format!("workflow/w {word}\n")), "{}", said.err);
        let note = "nothing to wait for: workflow/w starts no run by itself\n";
        assert!(said.err.ends_with(note), "{}", said.err);
        // Its newest run is a person's.
        let mut workflow = server.get(WORKFLOW);
        workflow["status"] =
            json!({ "observedGeneration": 1, "lastRun": "w-1", "phase": "Failed" });
        server.put(WORKFLOW, workflow);
    }
}

#[tokio::test]
async fn an_apply_says_which_run_starts() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    for (spec, said) in [
        ("", "workflow/w created: run w-1 starts\n"),
        ("", "workflow/w unchanged\n"),
        ("timeout: 1h,", "workflow/w configured: run w-2 starts\n"),
        ("timeout: 1h, history: {failed: 3},", "workflow/w configured\n"),
        ("runOnApply: false,", "workflow/w configured\n"),
    ] {
        let file = manifest(&dir, spec);
        assert_eq!(server.run(&format!("apply -f {file}")).await.out, said, "{spec}");
        assert_eq!(server.run(&format!("apply -f {file} -o name")).await.out, "workflow/w\n");
    }
}

#[tokio::test]
async fn the_logs_of_a_run_that_starts_in_a_moment_are_followed() {
    let server = Server::start(nothing).await;
    let workflow = json!({
        "metadata": { "name": "w" }, "spec": { "jobs": [{ "name": "a" }] }, "status": { "lastRunNumber": 3 },
    });
    server.put(WORKFLOW, workflow);
    let mut following = server.hctl("logs -f run/w-4").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stderr.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap();
    let told = "workflow/w has not started run/w-4 yet; waiting 10s for it";
    assert_eq!(line.as_deref(), Some(told));
    let workflow = server.get(WORKFLOW);
    server.put(&format!("{RUNS}/w-4"), run("w-4", &workflow, true, "Succeeded"));
    assert_eq!(following.wait().await.unwrap().code(), Some(0));
    // One that was, or is of nothing, is not waited for.
    for name in ["w-3", "other-1", "by-name"] {
        let said = server.run(&format!("logs -f run/{name}")).await;
        assert_eq!((said.code, said.err.contains("waiting")), (6, false), "{said:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_waited_for_is_one_document_and_one_name() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "");
    server.run(&format!("apply -f {file}")).await;
    let lines = [
        ("run w --wait", "run/w-2", 3, "Failed"),
        ("rerun run/w-2 --wait", "run/w-3", 3, "Failed"),
        (&format!("apply -f {file} --wait"), "workflow/w", 0, "Succeeded"),
    ];
    for (line, name, code, phase) in lines {
        let said = server.run(&format!("{line} -o json")).await;
        let document: Value = serde_json::from_str(&said.out)
            .unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"));
        assert_eq!(
            (said.code, document["status"]["phase"].as_str()),
            (code, Some(phase)),
            "{said:?}"
        );
        assert!(document["kind"].is_string(), "{document}");
        let name = format!("{}\n", name);
        server.forget(&format!("{RUNS}/{}", name.trim().trim_start_matches("run/")));
        let said = server.run(&format!("{line} -o name")).await;
        assert_eq!((said.code, said.out), (code, name), "{line}");
    }
}

/// Otherwise the next command would show a workflow that runs beside its run that has ended.
#[tokio::test]
async fn a_run_that_is_waited_for_has_ended_in_its_workflow_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "runOnApply: false,");
    server.run(&format!("apply -f {file}")).await;
    let mut workflow = server.get(WORKFLOW);
    json_patch::merge(&mut workflow["status"], &json!({ "lastRun": "w-1", "phase": "Running" }));
    server.put(WORKFLOW, workflow.clone());
    let looks = || server.reads().iter().filter(|path| *path == WORKFLOW).count();
    let before = looks();
    let mut child = server.hctl("run w --wait").stderr(Stdio::null()).spawn().unwrap();
    // It reads the workflow once to begin with. The run has ended as soon as it was made.
    while looks() < before + 3 {
        assert_eq!(child.try_wait().unwrap(), None, "the workflow shows the run as it was");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    workflow["status"]["phase"] = "Failed".into();
    server.put(WORKFLOW, workflow);
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
}

/// Who has no time to wait still learns what was started.
#[tokio::test]
async fn a_document_comes_also_where_nothing_is_certain_yet() {
    let server = Server::start(nothing).await;
    let workflow = json!({
        "metadata": { "name": "w", "generation": 1 }, "spec": { "jobs": [{ "name": "a" }] },
    });
    server.put(WORKFLOW, workflow);
    let said = server.run("run w --wait --timeout 0s -o json").await;
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, document["metadata"]["name"].as_str()), (4, Some("w-1")), "{said:?}");
}

/// An apply that waits for the run w-1, which goes on.
async fn waiting(server: &Server, file: &str) -> Child {
    let line = format!("apply -f {file} --wait --timeout 60s");
    let mut command = server.hctl(&line);
    let mut waiting = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.as_mut().unwrap()).lines();
    let line = lines.next_line().await.unwrap();
    assert_eq!(line.as_deref(), Some("workflow/w: Running"));
    waiting
}

/// How it fails in the end.
async fn fails(waiting: Child, why: &str) {
    let output = waiting.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("error: run/w-1 did not succeed: {why}")), "{said}");
}

#[tokio::test]
async fn a_run_that_is_deleted_while_it_is_waited_for_has_not_succeeded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "timeout: 5h,");
    let waiting = waiting(&server, &file).await;
    server.delete(&format!("{RUNS}/w-1"));
    server.put(WORKFLOW, server.get(WORKFLOW));
    fails(waiting, "it was deleted; before: Running").await;
}

#[tokio::test]
async fn what_somebody_else_applies_meanwhile_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let waiting = waiting(&server, &manifest(&dir, "timeout: 5h,")).await;
    let said = server.run(&format!("apply -f {} --wait", manifest(&dir, ""))).await;
    assert_eq!((said.code, said.out.lines().last()), (0, Some("workflow/w succeeded")), "{said:?}");
    let mut own = server.get(&format!("{RUNS}/w-1"));
    own["status"]["phase"] = "Failed".into();
    server.put(&format!("{RUNS}/w-1"), own);
    fails(waiting, "Failed").await;
}

/// The workflow does not change then: it shows another run.
#[tokio::test]
async fn the_end_of_a_run_is_seen_though_its_workflow_shows_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "timeout: 5h,");
    server.run(&format!("apply -f {file}")).await;
    let mut workflow = server.get(WORKFLOW);
    server.put(&format!("{RUNS}/w-9"), run("w-9", &workflow, false, "Running"));
    workflow["status"]["lastRun"] = "w-9".into();
    server.put(WORKFLOW, workflow);
    let waiting = waiting(&server, &file).await;
    let mut own = server.get(&format!("{RUNS}/w-1"));
    own["status"]["phase"] = "Failed".into();
    server.put(&format!("{RUNS}/w-1"), own);
    fails(waiting, "Failed").await;
}

#[tokio::test]
async fn an_apply_that_was_replaced_before_it_had_a_run_fails() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(nothing).await;
    let file = manifest(&dir, "");
    let line = format!("apply -f {file} --wait --timeout 60s -o name");
    let mut waiting =
        server.hctl(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    server.is_watched().await;
    let mut workflow = server.get(WORKFLOW);
    workflow["metadata"]["generation"] = 2.into();
    workflow["spec"]["timeout"] = "1h".into();
    let theirs = run("w-1", &workflow, true, "Succeeded");
    controllers(&mut workflow);
    server.put(&format!("{RUNS}/w-1"), theirs);
    server.put(WORKFLOW, workflow);
    let told = lines.next_line().await.unwrap().unwrap();
    let why = "another change replaced what was applied before that had a run";
    assert_eq!(told, format!("error: workflow/w did not succeed: {why}"));
    assert_eq!(waiting.wait().await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_workflow_that_is_resumed_says_which_run_starts() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "suspend: true,");
    assert_eq!(server.run(&format!("apply -f {file}")).await.out, "workflow/w created\n");
    let said = server.run("resume workflow/w").await;
    assert_eq!(said.out, "workflow/w resumed: run w-2 starts\n", "{said:?}");
    server.run("suspend workflow/w").await;
    assert_eq!(server.run("resume workflow/w").await.out, "workflow/w resumed\n", "it has run");
}

#[tokio::test]
async fn a_wait_prints_the_document_of_what_failed() {
    let server = Server::start(nothing).await;
    let failed = json!({ "metadata": { "name": "a" }, "status": { "phase": "Failed" } });
    server.put("/apis/heliox.dev/v1/namespaces/default/jobs/a", failed);
    let said = server.run("wait job/a -o json").await;
    let document: Value = serde_json::from_str(&said.out).unwrap();
    let printed = (said.code, document["kind"].as_str(), document["status"]["phase"].as_str());
    assert_eq!(printed, (3, Some("Job"), Some("Failed")), "{said:?}");
}

/// The document is the workflow's, whose controller says a moment later how its run ended. The exit
/// code is the run's also where that moment is not there.
#[tokio::test]
async fn a_run_that_ended_in_time_decides_though_its_workflow_does_not_say_so_yet() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(controllers).await;
    let file = manifest(&dir, "timeout: 5h,");
    server.run(&format!("apply -f {file}")).await;
    for (phase, code) in [("Failed", 3), ("Succeeded", 0)] {
        let mut own = server.get(&format!("{RUNS}/w-1"));
        own["status"]["phase"] = phase.into();
        server.put(&format!("{RUNS}/w-1"), own);
        let said = server.run(&format!("apply -f {file} --wait --timeout 0s -o json")).await;
        let document: Value = serde_json::from_str(&said.out).unwrap();
        let told = (said.code, document["status"]["phase"].as_str());
        assert_eq!(told, (code, Some("Running")), "{said:?}");
    }
}

/// As a run that is started: with a name of its own where it is given one.
#[tokio::test]
async fn a_run_that_is_started_anew_may_be_named() {
    let server = Server::start(nothing).await;
    let all = "/apis/heliox.dev/v1/namespaces/default";
    server.put(
        &format!("{all}/workflows/w"),
        json!({ "metadata": { "name": "w" }, "spec": { "jobs": [] } }),
    );
    server.put(
        &format!("{all}/workflowruns/w-1"),
        json!({ "metadata": { "name": "w-1" }, "spec": { "workflow": "w" } }),
    );
    let said = server.run("rerun run/w-1 --name again").await;
    assert_eq!((said.code, said.out.as_str()), (0, "run/again created\n"), "{said:?}");
    assert_eq!(server.get(&format!("{all}/workflowruns/again"))["spec"]["workflow"], "w");
}
