//! A process that cannot do its work ends with one clear sentence and code 1, or says what it waits
//! for: it never waits in silence.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use e2e::fleet::program;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Far more than any of these takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
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
    for part in ["error: ", "journal.log is damaged", "Its containers run on", "byte 0"] {
        assert!(said.contains(part), "{said}");
    }
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
    for part in ["2 flags are wrong", "https is not spoken yet", "--label \"Zone=A b\": "] {
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
    says(&mut waiting, &["WARN", "standing for election", "Connection refused"]).await;
}
