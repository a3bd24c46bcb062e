//! What `hctl logs -f` says where nothing is printed.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::server::{Server, nothing};

const JOBS: &str = "/apis/heliox.dev/v1/namespaces/default/jobs";
const TASKS: &str = "/apis/heliox.dev/v1/namespaces/default/tasks";

/// The job `nd`, for whose one task there is no node.
async fn server() -> Server {
    let server = Server::start(nothing).await;
    let status = json!({ "phase": "Pending", "observedGeneration": 1, "total": 1, "run": 1 });
    server.put(
        &format!("{JOBS}/nd"),
        json!({ "metadata": { "name": "nd", "generation": 1 },
                "spec": { "template": { "image": "x" } }, "status": status }),
    );
    let message = "0 of 1 nodes: 1 not node-9";
    server.put(
        &format!("{TASKS}/nd-0"),
        json!({ "metadata": { "name": "nd-0", "labels": { "heliox.dev/job": "nd" } },
                "spec": { "template": "t", "index": 0, "count": 1, "run": 1, "attempt": 1,
                          "unschedulable": { "attempt": 1, "message": message } } }),
    );
    server
}

#[tokio::test]
async fn what_cannot_start_says_why_and_that_it_was_deleted() {
    let server = server().await;
    let mut command = server.hctl("logs -f job/nd");
    let mut following = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stderr.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap();
    assert_eq!(first.as_deref(), Some("nd-0 is Pending: 0 of 1 nodes: 1 not node-9"));
    server.delete(&format!("{JOBS}/nd"));
    let last = lines.next_line().await.unwrap();
    assert_eq!(last.as_deref(), Some("error: job/nd was deleted before it had ended"));
    assert_eq!(following.wait().await.unwrap().code(), Some(6));
}
