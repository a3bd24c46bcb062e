//! `heliox agent status`: shows what the agent on this host knows, also while no apiserver answers.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base::Timestamp;
use node_agent::{LocalView, VIEW_SOCKET};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::args::AgentStatusArgs;
use crate::process;

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Asks the agent, and prints what it says.
#[expect(clippy::print_stdout, reason = "the answer that was asked for")]
pub async fn run(args: AgentStatusArgs, now: Timestamp) -> Result<()> {
    let dir = match (args.state_dir, args.name) {
        (Some(dir), _) => dir,
        (None, Some(name)) => process::default_state_dir(&name),
        (None, None) => process::default_state_dir(&process::host_name()?),
    };
    let path = dir.join(VIEW_SOCKET);
    let asked = timeout(PATIENCE, ask(&path)).await;
    let Ok(asked) = asked else { bail!("the agent does not answer within {PATIENCE:?}") };
    let text = asked.with_context(|| {
        format!(
            "no agent answers at {}: name the directory of its state with --state-dir, and use the \
             same user",
            path.display()
        )
    })?;
    if args.json {
        println!("{text}");
        return Ok(());
    }
    let view: LocalView = serde_json::from_str(&text).context("cannot read the agent's answer")?;
    print!("{}", shown(&view, now));
    Ok(())
}

async fn ask(path: &std::path::Path) -> std::io::Result<String> {
    let stream = UnixStream::connect(path).await?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
    Ok(text)
}

/// The view as text.
fn shown(view: &LocalView, now: Timestamp) -> String {
    let ago = |at: Timestamp| format!("{} ago", api::table::span(at, now));
    let contact = match (view.last_contact, view.has_lease) {
        (None, _) => "never".to_owned(),
        (Some(at), true) => ago(at),
        (Some(at), false) => format!("{}; another agent has this node's name", ago(at)),
    };
    let mut lines = vec![
        format!("Node:          {}", view.node),
        format!("Agent:         process {}, started {}", view.pid, ago(view.started_at)),
        format!("Cluster:       {}", view.cluster.as_deref().unwrap_or("-")),
        format!("Last contact:  {contact}"),
        format!("Not yet told:  {} reports", view.unsent),
    ];
    lines.extend(view.problem.iter().map(|problem| format!("Problem:       {problem}")));
    let headings = ["TASK", "ATTEMPT", "RESTARTS", "STATE", "SINCE", "CONTAINER", "PORTS", "WHY"];
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let rows = view.tasks.iter().map(|task| {
        [
            format!("{}/{}", task.namespace, task.name),
            task.attempt.to_string(),
            task.restarts.to_string(),
            task.state.clone(),
            dash(task.since.map(|at| api::table::span(at, now)).unwrap_or_default()),
            task.container.clone(),
            dash(task.ports.join(",")),
            task.why.clone(),
        ]
    });
    let rows: Vec<[String; 8]> = std::iter::once(headings.map(str::to_owned)).chain(rows).collect();
    if view.tasks.is_empty() {
        lines.push("No tasks.".to_owned());
    } else {
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let line = |row: &[String; 8]| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        lines.extend(rows.iter().map(line));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use node_agent::LocalTask;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_agent_says_what_it_knows() {
        let task = LocalTask {
            namespace: "shop".to_owned(),
            name: "web-1-0".to_owned(),
            attempt: 1,
            restarts: 2,
            state: "BackOff".to_owned(),
            since: Some(at(95)),
            container: "exit=3".to_owned(),
            ports: vec!["http=20001".to_owned()],
            why: "Flapping".to_owned(),
        };
        let view = LocalView {
            node: "n1".to_owned(),
            pid: 7,
            cluster: Some("abc".to_owned()),
            started_at: at(0),
            last_contact: Some(at(70)),
            has_lease: true,
            problem: Some("the disk is full".to_owned()),
            unsent: 3,
            tasks: vec![task],
        };
        expect_test::expect![[r#"
            Node:          n1
            Agent:         process 7, started 100s ago
            Cluster:       abc
            Last contact:  30s ago
            Not yet told:  3 reports
            Problem:       the disk is full
            TASK          ATTEMPT  RESTARTS  STATE    SINCE  CONTAINER  PORTS       WHY
            shop/web-1-0  1        2         BackOff  5s     exit=3     http=20001  Flapping
        "#]]
        .assert_eq(&shown(&view, at(100)));
    }
}
