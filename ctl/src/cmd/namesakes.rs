//! If an object does not exist: looks for others with its name, or nearly its name.

use std::time::Duration;

use api::violation::nearest;
use api::{KindId, ObjectMeta};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::args::Command;
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::namesakes::{Found, Missing, Namesake, differ_in_numbers_alone, hint};
use crate::target::Target;
use crate::verb::Verb;

/// How long the search may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Kinds in which the name is searched.
const LOOKED_AT: [KindId; 10] = [
    KindId::Job,
    KindId::Service,
    KindId::Task,
    KindId::WorkflowRun,
    KindId::Workflow,
    KindId::PartitionSet,
    KindId::Node,
    KindId::ConfigMap,
    KindId::Secret,
    KindId::Namespace,
];

/// Kinds that a command accepts; all if it accepts any.
pub(super) fn taken_by(command: &Command) -> &'static [KindId] {
    match command {
        Command::Logs(_) => &[KindId::Task, KindId::Service, KindId::Job, KindId::WorkflowRun],
        Command::Exec(_) => &[KindId::Task, KindId::Service],
        Command::Evict { .. } | Command::Top(_) => &[KindId::Task],
        Command::Rerun(_) => &[KindId::Job, KindId::WorkflowRun],
        Command::Cancel { .. } => Verb::Cancel.kinds(),
        Command::Suspend { .. } => Verb::Suspend.kinds(),
        Command::Resume { .. } => Verb::Resume.kinds(),
        Command::Run(_) => &[KindId::Workflow],
        Command::Rollout(_) | Command::History(_) => &[KindId::Service],
        Command::Scale(_) => &[KindId::Service, KindId::Job],
        Command::Cordon { .. }
        | Command::Uncordon { .. }
        | Command::Drain(_)
        | Command::Taint(_) => &[KindId::Node],
        Command::Apply(_)
        | Command::Deploy(_)
        | Command::Get(_)
        | Command::Describe(_)
        | Command::Delete(_)
        | Command::Events(_)
        | Command::Wait(_)
        | Command::Label(_)
        | Command::Cluster(_)
        | Command::Debug(_)
        | Command::Version
        | Command::Completion { .. } => &LOOKED_AT,
    }
}

/// An object of a list, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

/// Adds what was probably meant to the failure, if an object does not exist or a name lacks its
/// kind.
pub(super) async fn explained(
    connection: &Connection,
    taken: &[KindId],
    mut failure: Failure,
) -> Failure {
    let Some(missing) = failure.missing.clone().filter(|_| !failure.is_last) else {
        return failure;
    };
    // The failure is certain already, and must not be delayed for long.
    let found = match &*missing {
        Missing::Object(target) => timeout(PATIENCE, look(connection, target)).await,
        Missing::Kind(name) => {
            timeout(PATIENCE, others(connection, name, None)).await.map(of_others)
        }
    };
    failure.hint = hint(&missing, taken, &found.unwrap_or_default()).or(failure.hint);
    failure
}

fn of_others(others: Vec<Namesake>) -> Found {
    Found { others, ..Found::default() }
}

/// Objects of other kinds than `but` with the name. If they cannot be read, the hint is shorter.
async fn others(connection: &Connection, name: &str, but: Option<KindId>) -> Vec<Namesake> {
    let kinds = LOOKED_AT.iter().filter(|kind| Some(**kind) != but);
    let found = kinds.map(|kind| async move {
        let target = Target::new(*kind, name);
        let object = connection.find::<Value>(&target).await.ok().flatten()?;
        let last_run = object["status"]["lastRun"].as_str().map(str::to_owned);
        Some(Namesake { target, last_run })
    });
    join_all(found).await.into_iter().flatten().collect()
}

/// What exists under the name or a similar one.
async fn look(connection: &Connection, missing: &Target) -> Found {
    let everywhere = Query {
        namespace: String::new(),
        ..connection.query(missing.kind, String::new(), format!("metadata.name={}", missing.name))
    };
    let here = connection.query(missing.kind, String::new(), String::new());
    let (others, elsewhere, here) = tokio::join!(
        others(connection, &missing.name, Some(missing.kind)),
        async {
            let is_namespaced = missing.kind.is_namespaced();
            if is_namespaced {
                connection.first_page::<Named>(&everywhere).await
            } else {
                Ok(vec![])
            }
        },
        connection.first_page::<Named>(&here),
    );
    let namespaces = elsewhere.unwrap_or_default().into_iter();
    let (here_now, namespaces): (Vec<String>, Vec<String>) = namespaces
        .filter_map(|it| it.metadata.namespace)
        .partition(|namespace| *namespace == connection.namespace);
    let names: Vec<String> =
        here.unwrap_or_default().into_iter().filter_map(|it| it.metadata.name).collect();
    let is_slip = |name: &&str| !differ_in_numbers_alone(name, &missing.name);
    Found {
        is_there: !here_now.is_empty(),
        others,
        namespaces,
        near: nearest(&missing.name, names.iter().map(String::as_str).filter(is_slip))
            .map(str::to_owned),
    }
}
