//! Whoever reads what a command prints may go at any time. What changes something is finished all the same.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::server::{Said, Server, said};

fn manifest(names: &[&str]) -> String {
    let one = |name: &&str| {
        format!(
            "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {{name: {name}}}\n\
             spec: {{template: {{image: x}}}}\n---\n"
        )
    };
    names.iter().map(one).collect()
}

/// A job succeeds, unless its name says that it fails; a run does the same.
fn ends(object: &mut Value) -> Vec<(String, Value)> {
    let name = object["metadata"]["name"].as_str().unwrap();
    let phase = if name.contains("bad") { "Failed" } else { "Succeeded" };
    object["status"] =
        json!({ "phase": phase, "observedGeneration": object["metadata"]["generation"], "run": 1 });
    Vec::new()
}

async fn server() -> Server {
    let server = Server::start(ends).await;
    let running = json!({ "phase": "Running", "observedGeneration": 1 });
    for (plural, kind) in [("jobs", "Job"), ("workflowruns", "WorkflowRun")] {
        for name in ["old-1", "old-2", "old-3"] {
            let path = format!("/apis/heliox.dev/v1/namespaces/default/{plural}/{name}");
            let spec = json!({ "template": { "image": "x" }, "workflow": "w" });
            server.put(
                &path,
                json!({
                    "apiVersion": "heliox.dev/v1", "kind": kind, "spec": spec, "status": running,
                    "metadata": { "name": name, "generation": 1 },
                }),
            );
        }
    }
    for name in ["n1", "n2"] {
        let path = format!("/apis/heliox.dev/v1/nodes/{name}");
        server.put(&path, json!({ "metadata": { "name": name }, "spec": {} }));
        let path = format!("/apis/heliox.dev/v1/namespaces/default/tasks/{name}");
        server.put(&path, json!({ "metadata": { "name": name }, "spec": {}, "status": {} }));
        let path = format!("/apis/heliox.dev/v1/namespaces/default/workflows/{name}-bad");
        let spec = json!({ "jobs": [] });
        server.put(&path, json!({ "metadata": { "name": format!("{name}-bad") }, "spec": spec }));
    }
    server
}

/// Runs `hctl` with a stdout that nobody reads.
async fn unread(server: &Server, line: &str) -> Said {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = server.hctl(line);
    // Not `output`, which has a stdout of its own.
    let process = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    said(process.wait_with_output().await.unwrap())
}

#[tokio::test]
async fn what_changes_something_is_finished_although_nobody_reads_what_it_prints() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.yaml");
    std::fs::write(&file, manifest(&["new-1", "new-2", "new-bad"])).unwrap();
    let file = file.display().to_string();
    let lines = [
        (format!("apply -f {file}"), 3, 0),
        (format!("apply -f {file} --wait"), 3, 3),
        ("cancel job old-1 old-2 old-3".to_owned(), 3, 0),
        ("suspend run old-1 old-2".to_owned(), 2, 0),
        ("cordon n1 n2".to_owned(), 2, 0),
        ("run workflow n1-bad --wait".to_owned(), 1, 3),
        ("delete runs --all".to_owned(), 3, 0),
        ("delete jobs --all --wait".to_owned(), 3, 0),
        (format!("delete -f {file}"), 3, 0),
        ("delete job no-such old-1".to_owned(), 2, 6),
    ];
    for format in ["table", "json", "yaml", "name"] {
        for (line, writes, code) in &lines {
            let server = server().await;
            let said = unread(&server, &format!("-o {format} {line}")).await;
            let done = server.writes();
            assert_eq!((done.len(), said.code), (*writes, *code), "{line}: {done:?} {said:?}");
        }
    }
}

#[tokio::test]
async fn what_only_shows_ends_when_its_reader_goes_although_nothing_happens() {
    let server = server().await;
    for line in ["get jobs --watch", "get jobs --watch -o name", "get runs,jobs -w -o json"] {
        let mut following = server.hctl(line).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        assert!(lines.next_line().await.unwrap().is_some(), "{line}");
        drop(lines);
        assert!(following.wait().await.unwrap().success(), "{line}");
    }
}
