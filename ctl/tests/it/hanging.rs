//! A server that accepts connections and does not answer, as one that is stopped or hangs.

use std::net::TcpListener;
use std::process::Stdio;

use futures_util::future::join_all;
use tokio::process::Command;

use crate::server::{Said, Server, nothing, said};

const JOB: &str = "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: a}\n\
                   spec: {template: {image: x}}\n";

/// How `hctl` ends with a server whose connections nobody takes from the queue.
async fn told(line: &str) -> Said {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hctl"));
    command.env_remove("HELIOX_NAMESPACE").env("HELIOX_SERVER", &server).stdin(Stdio::null());
    let mut told = said(command.args(line.split(' ')).output().await.unwrap());
    told.err = told.err.replace(&server, "SERVER");
    told
}

/// The limit is for the whole command: a request that hangs is given up long before its own limit.
#[tokio::test]
async fn the_time_limit_of_a_command_holds_for_each_of_its_requests() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("job.yaml");
    std::fs::write(&file, JOB).unwrap();
    let apply = format!("apply -f {} --wait --timeout 1s", file.display());
    let lines = [
        &apply,
        "run w --wait --timeout 1s",
        "rerun run/w-1 --wait --timeout 1s",
        "rerun job/a --wait --timeout 1s",
        "delete job a --wait --timeout 1s",
    ];
    let expected = "error: the time is up: the server at SERVER accepts connections and does not \
                    answer\nhint: check whether it hangs or is stopped, or name another with \
                    --server or HELIOX_SERVER\n";
    for (line, told) in lines.iter().zip(join_all(lines.iter().map(|line| told(line))).await) {
        assert_eq!((told.code, told.err.as_str()), (4, expected), "{line}");
    }
}

#[tokio::test]
async fn who_waits_is_told_that_the_server_does_not_answer() {
    for line in ["wait job/a --timeout 0s", "wait job/a job/b --timeout 1s"] {
        let told = told(line).await;
        assert_eq!(told.code, 4, "{told:?}");
        let part = "SERVER has been lost for 3s (it accepts connections and does not answer)";
        assert!(told.err.contains(part), "{told:?}");
    }
}

/// Nobody knows whether a write was made that is not answered.
#[tokio::test]
async fn a_write_that_is_not_answered_in_time_may_have_been_made() {
    let server = Server::start(nothing).await;
    server.answer_no_write();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("job.yaml");
    std::fs::write(&file, JOB).unwrap();
    let told = server.run(&format!("apply -f {} --wait --timeout 1s", file.display())).await;
    assert_eq!(told.code, 4, "{told:?}");
    let part = "accepts connections and does not answer; the change may have been made\n\
                hint: look with hctl get before trying again";
    assert!(told.err.contains(part), "{told:?}");
}
