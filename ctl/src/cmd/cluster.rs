//! `hctl cluster` and `hctl cluster confirm`.

use std::io::{BufRead as _, IsTerminal as _};

use api::Timestamp;
use api::cluster::{Cluster, ClusterInfo, Confirmation};
use api::kind::{GROUP, VERSION};
use api::table::age;
use http::Method;
use serde_json::json;

use crate::args::{self, ClusterCommand};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::format::Format;
use crate::output::Columns;
use crate::{document, terminal};

/// How many characters of a cluster's id a person has to type.
const SHORT_ID: usize = 8;

pub(super) async fn cluster(connection: &Connection, args: args::Cluster) -> Result<(), Failure> {
    let path = format!("/apis/{GROUP}/{VERSION}/cluster");
    let info: ClusterInfo = connection.ask(Method::GET, &path, None).await?;
    let Some(ClusterCommand::Confirm { yes }) = args.what else {
        return show(connection, &info);
    };
    if info.confirmed {
        terminal::note("the cluster is already confirmed");
        return show(connection, &info);
    }
    if !yes {
        ask_person(connection, &info)?;
    }
    let body = json!(Confirmation { cluster: info.cluster });
    let path = format!("{path}/confirm");
    let info: ClusterInfo = connection.ask(Method::POST, &path, Some(&body)).await?;
    show(connection, &info)
}

fn show(connection: &Connection, info: &ClusterInfo) -> Result<(), Failure> {
    match connection.format {
        Format::Table | Format::Wide => terminal::print(&text(info, connection.clock.now())),
        Format::Name => terminal::print_line(&info.cluster.id),
        Format::Json => terminal::print(&document::json_text(&json!(info))?),
        Format::Yaml => terminal::print(&document::yaml(&json!(info))?),
    }
}

/// The cluster as text for people.
fn text(info: &ClusterInfo, now: Timestamp) -> String {
    let ago = |at: Timestamp| format!("{at} ({} ago)", age(Some(at), now));
    let epoch = match info.backup_taken_at {
        Some(taken) => format!("{}, restored from a backup of {}", info.cluster.epoch, ago(taken)),
        None => info.cluster.epoch.to_string(),
    };
    let confirmed = match (info.confirmed, info.backup_taken_at) {
        (true, Some(_)) => "yes",
        (true, None) => "yes (never restored)",
        (false, _) => "no: agents start and stop nothing until you run `hctl cluster confirm`",
    };
    let ClusterInfo { nodes, heard, waiting, .. } = info;
    let nodes = format!("{nodes} ({heard} connected, {waiting} waiting for confirmation)");
    let rows = [
        ["ID".to_owned(), info.cluster.id.clone()],
        ["EPOCH".to_owned(), epoch],
        ["SINCE".to_owned(), info.since.map_or_else(|| "-".to_owned(), ago)],
        ["CONFIRMED".to_owned(), confirmed.to_owned()],
        ["NODES".to_owned(), nodes],
    ];
    Columns::default().lines(rows.iter().map(|row| row.as_slice()))
}

/// What a person types to confirm a cluster.
fn word(cluster: &Cluster) -> String {
    let short: String = cluster.id.chars().take(SHORT_ID).collect();
    format!("{short}/{}", cluster.epoch)
}

fn ask_person(connection: &Connection, info: &ClusterInfo) -> Result<(), Failure> {
    let word = word(&info.cluster);
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("cannot ask for confirmation: stdin is not a terminal").hint(
            format!("check with hctl cluster; add --yes to confirm {word} without being asked"),
        ));
    }
    terminal::note(&text(info, connection.clock.now()));
    terminal::note(
        "Agents will continue the tasks that this cluster knows, and stop those that were started \
         after the backup.",
    );
    if info.heard < info.nodes {
        let silent = info.nodes - info.heard;
        terminal::note(&format!(
            "{silent} nodes are not connected: their tasks will be started elsewhere."
        ));
    }
    terminal::note(&format!("Type {word} to confirm:"));
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed)?;
    if typed.trim() == word {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{:?} does not match {word:?}; nothing was changed",
            typed.trim()
        )))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn info(confirmed: bool) -> ClusterInfo {
        let id = "0b5d0c1e-6f0e-4a53-9a9a-000000000001".to_owned();
        ClusterInfo {
            cluster: Cluster { id, epoch: 2, restore: "r".to_owned() },
            since: Some(Timestamp::from_second(7_200).unwrap()),
            backup_taken_at: Some(Timestamp::UNIX_EPOCH),
            confirmed,
            nodes: 3,
            waiting: 2,
            heard: 2,
        }
    }

    #[test]
    fn a_restored_cluster_says_what_it_waits_for() {
        let shown = text(&info(false), Timestamp::from_second(10_800).unwrap());
        expect![[r#"
            ID         0b5d0c1e-6f0e-4a53-9a9a-000000000001
            EPOCH      2, restored from a backup of 1970-01-01T00:00:00Z (3h00m ago)
            SINCE      1970-01-01T02:00:00Z (1h00m ago)
            CONFIRMED  no: agents start and stop nothing until you run `hctl cluster confirm`
            NODES      3 (2 connected, 2 waiting for confirmation)
        "#]]
        .assert_eq(&shown);
        assert_eq!(word(&info(false).cluster), "0b5d0c1e/2");
    }
}
