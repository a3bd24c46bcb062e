//! What is stored is for those who ask the API alone: it is in no log, and in no file that others read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use client::{Client, Servers, http_transport};
use e2e::fleet::program;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// Far more than any of this takes.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const JOBS: &str = "/apis/heliox.dev/v1/namespaces/default/jobs";
/// A password, and it as a Secret holds it.
const PASSWORD: &str = "hunter2-hunter2";
const ENCODED: &str = "aHVudGVyMi1odW50ZXIy";

async fn ask(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, u16> {
    let form =
        if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = Some((form, body.to_string().into_bytes()));
    client
        .json::<Value>(method, path, body)
        .await
        .map_err(|error| error.why().map_or(0, api::status::Why::code))
}

/// Writes secrets in every way that meets others who do, and some that are refused.
async fn write_secrets(client: &Client) {
    let secret = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "data": { "password": ENCODED },
        })
    };
    let made = ask(client, Method::POST, SECRETS, &secret("s")).await.unwrap();
    assert_eq!(ask(client, Method::POST, SECRETS, &secret("s")).await, Err(409));
    let path = format!("{SECRETS}/s");
    let patches = (0..10).map(|number| {
        let patch = json!({ "data": { format!("p{number}"): ENCODED } });
        let path = &path;
        async move { ask(client, Method::PATCH, path, &patch).await }
    });
    join_all(patches).await.into_iter().for_each(|patched| drop(patched.unwrap()));
    assert_eq!(ask(client, Method::PUT, &path, &made).await, Err(409), "it is stale");
    let mut odd = secret("odd");
    odd["data"]["password"] = format!("{PASSWORD} is not base64").into();
    odd["data"]["more"] = json!({ "password": PASSWORD });
    ask(client, Method::POST, SECRETS, &odd).await.unwrap_err();
    let job = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job", "metadata": { "name": "j" },
        "spec": { "template": {
            "image": "x", "env": [{ "name": "PASSWORD", "value": PASSWORD }],
        }},
    });
    ask(client, Method::POST, JOBS, &job).await.unwrap();
    ask(client, Method::DELETE, &path, &json!({})).await.unwrap();
}

/// Everything below a directory is its user's alone.
fn is_private(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let there = entry.metadata().unwrap();
        let mode = there.mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
        if there.is_dir() {
            is_private(&entry.path());
        }
    }
}

#[tokio::test]
async fn what_is_stored_is_neither_logged_nor_readable_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let mut server = Command::new(program("heliox"))
        .args(["server", "--listen=127.0.0.1:0", "--data-dir", data.to_str().unwrap()])
        .env("HELIOX_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    let said = || fs::read_to_string(&log).unwrap();
    let url = loop {
        let text = said();
        let rest = text.split_once("serving address=").map(|(_, rest)| rest);
        if let Some((address, _)) = rest.and_then(|rest| rest.split_once(' ')) {
            break format!("http://{address}");
        }
        assert!(Instant::now() < until, "{text}");
        sleep(Duration::from_millis(10)).await;
    };
    let client = Client::new(http_transport(&Servers::parse(&url, 0).unwrap()));
    timeout(PATIENCE, write_secrets(&client)).await.expect("it answers");
    // The controllers have seen all of it, too.
    let tasks = JOBS.replace("/jobs", "/tasks");
    while ask(&client, Method::GET, &format!("{tasks}/j-0"), &json!({})).await.is_err() {
        assert!(Instant::now() < until, "no task is made:\n{}", said());
        sleep(Duration::from_millis(10)).await;
    }
    is_private(&data);
    server.kill().await.unwrap();
    let text = said();
    assert!(text.contains("DEBUG"), "it logs at debug level: {text}");
    let as_numbers = |text: &str| format!("{:?}", text.as_bytes()).replace(['[', ']'], "");
    for hidden in [PASSWORD, ENCODED, &as_numbers(PASSWORD), &as_numbers(ENCODED)] {
        let line = text.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None);
    }
}
