//! A process that cannot do its work ends with one clear sentence and code 1, or says what it waits
//! for: it never waits in silence.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use client::{Client, Servers, http_transport};
use e2e::fleet::program;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Far more than any of these takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

fn heliox(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("heliox"));
    command.args(arguments).env("HELIOX_LOG", "info").env_remove("HELIOX_SERVER");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn agent<'a>(dir: &'a Path, server: &'a str, more: &[&'a str]) -> Command {
    let state_dir = dir.to_str().unwrap();
    let arguments = ["agent", "--name=n1", "--runtime=sim", "--state-dir", state_dir, "--server"];
    let arguments = arguments.into_iter().chain([server]);
    heliox(&arguments.chain(more.iter().copied()).collect::<Vec<_>>())
}

/// What it says before it ends with code 1.
async fn last_words(mut command: Command) -> String {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends by itself").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// Waits for a line that says all of `parts`.
async fn says(child: &mut Child, parts: &[&str]) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = String::new();
    let found = timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
            seen = format!("{seen}{line}\n");
        }
        panic!("it ended, and no line says {parts:?}:\n{seen}");
    });
    found.await.unwrap_or_else(|_| panic!("no line says {parts:?}"))
}

#[tokio::test]
async fn an_agent_whose_journal_is_damaged_ends_and_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("journal.log"), "x\n").unwrap();
    let said = last_words(agent(dir.path(), NOBODY, &[])).await;
    for part in ["error: ", "journal.log is damaged", "Its containers keep running", "byte 0"] {
        assert!(said.contains(part), "{said}");
    }
}

/// Makes ConfigMaps until one is not taken; how many were.
async fn fill(client: &Client) -> usize {
    let mut taken = 0;
    loop {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("c{taken}") },
            "data": { "x": "y".repeat(900_000) },
        });
        let body = Some(("application/json", object.to_string().into_bytes()));
        if client.json::<Value>(Method::POST, CONFIG_MAPS, body).await.is_err() {
            return taken;
        }
        taken += 1;
    }
}

/// A client of the server that says where it serves, and the rest of what it says.
async fn serving(server: &mut Child) -> (Client, Lines<BufReader<ChildStderr>>) {
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let told = timeout(PATIENCE, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it serves");
            if let Some((_, address)) = line.split_once("serving address=") {
                return address.split_whitespace().next().unwrap().to_owned();
            }
        }
    });
    let url = format!("http://{}", told.await.expect("it says where it serves"));
    (Client::new(http_transport(&Servers::parse(&url, 0).unwrap())), lines)
}

#[tokio::test]
async fn a_server_whose_disk_is_full_ends_and_says_what_to_do_and_keeps_what_it_answered() {
    let data = TempDir::new().unwrap();
    let arguments = ["server", "--listen=127.0.0.1:0", "--data-dir", data.path().to_str().unwrap()];
    // No file of this process may grow beyond some MiB: that is its full disk.
    let mut small = Command::new("sh");
    small.args(["-c", "trap '' XFSZ; ulimit -f 32768; exec \"$0\" \"$@\""]);
    small.arg(program("heliox")).args(arguments).env("HELIOX_LOG", "info");
    let piped = small.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = piped.kill_on_drop(true).spawn().unwrap();
    let (client, mut lines) = serving(&mut server).await;
    let taken = timeout(PATIENCE, fill(&client)).await.expect("its disk is full some time");
    let ended = timeout(PATIENCE, async {
        let mut said = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            said = format!("{said}{line}\n");
        }
        (server.wait().await.unwrap().code(), said)
    });
    let (code, said) = ended.await.expect("it ends by itself");
    assert_eq!(code, Some(1), "{said}");
    for part in
        ["error: this process cannot continue and exits", "If its disk is full, free some space"]
    {
        assert!(said.contains(part), "{said}");
    }
    let mut server = heliox(&arguments).spawn().unwrap();
    let (client, _lines) = serving(&mut server).await;
    let list = client.json::<Value>(Method::GET, CONFIG_MAPS, None).await.unwrap();
    assert!(taken > 0 && list["items"].as_array().unwrap().len() >= taken, "{taken} were answered");
}

#[tokio::test]
async fn a_second_process_on_one_directory_is_told_who_has_it() {
    let (state, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = || {
        let data = data.path().to_str().unwrap();
        heliox(&["server", "--listen=127.0.0.1:0", "--data-dir", data])
    };
    let mut first = server().spawn().unwrap();
    says(&mut first, &["serving"]).await;
    let said = last_words(server()).await;
    let holder = format!("is in use by process {}", first.id().unwrap());
    assert!(said.contains(&holder) && said.contains("--data-dir"), "{said}");

    let mut first = agent(state.path(), NOBODY, &[]).spawn().unwrap();
    says(&mut first, &["agent started"]).await;
    let said = last_words(agent(state.path(), NOBODY, &[])).await;
    let holder = format!("is in use by process {}", first.id().unwrap());
    assert!(said.contains(&holder) && said.contains("--state-dir"), "{said}");
}

#[tokio::test]
async fn an_agent_with_wrong_flags_starts_nothing_and_says_all_of_them() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let said = last_words(agent(&state, "https://a", &["--label", "Zone=A b"])).await;
    for part in ["2 flags are wrong", "https is not supported yet", "--label \"Zone=A b\": "] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!state.exists(), "nothing was made");
}

#[tokio::test]
async fn who_waits_for_a_server_says_so_at_once() {
    let dir = TempDir::new().unwrap();
    let mut waiting = agent(dir.path(), NOBODY, &[]).spawn().unwrap();
    let line = says(&mut waiting, &["WARN", "getting the node lease"]).await;
    assert!(line.contains("Connection refused"), "{line}");
    let mut waiting = heliox(&["scheduler", "--server", NOBODY]).spawn().unwrap();
    says(&mut waiting, &["WARN", "trying to become the leader", "Connection refused"]).await;
}
