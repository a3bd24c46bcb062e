//! `hctl describe`: reads an object with its related objects and prints everything about it.

use api::core::{Event, Secret};
use api::{
    Job, KindId, Node, PartitionSet, Service, Task, Timestamp, Workflow, WorkflowRun, labels,
};
use serde_json::Value;

use super::each::Failures;
use super::events;
use crate::connection::Connection;
use crate::describe::Sheet;
use crate::failure::Failure;
use crate::format::Format;
use crate::target::{self, Target};
use crate::{deletion, describe, document, silence, terminal};

pub(super) async fn describe(connection: &Connection, words: &[String]) -> Result<(), Failure> {
    if connection.format != Format::Table {
        let word = words.join(" ");
        let message = "describe prints text: it has no other output format";
        return Err(
            Failure::usage(message).hint(format!("hctl get {word} -o yaml (or json, name)"))
        );
    }
    let (mut failures, mut is_first) = (Failures::default(), true);
    for target in target::several(words)? {
        match whole(connection, &target).await {
            Ok(sheet) => {
                let gap = if is_first { "" } else { "\n" };
                is_first = false;
                let text = sheet.on(terminal::paper().width);
                terminal::print(&format!("{gap}{text}"))?;
            }
            Err(failure) => failures.add(Err(failure))?,
        }
    }
    failures.end()
}

/// Everything about an object, with its events at the end.
async fn whole(connection: &Connection, target: &Target) -> Result<Sheet, Failure> {
    let now = connection.clock.now();
    let object: Value = connection.get(target).await?;
    let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
    let waits_for = deletion::waits_for(&object);
    let mut sheet = sheet(connection, target, object, now).await?;
    sheet.append(describe::deletion(waits_for.as_deref()));
    let (mut happened, _) = connection.list::<Event>(&events::of(connection, target)).await?;
    describe::events::retain_of(uid.as_deref(), &mut happened);
    sheet.append(describe::events::section(target, happened, now));
    sheet.name_namespace(connection.named_namespace.as_deref());
    Ok(sheet)
}

async fn sheet(
    connection: &Connection,
    target: &Target,
    object: Value,
    now: Timestamp,
) -> Result<Sheet, Failure> {
    Ok(match target.kind {
        KindId::Job => {
            let job: Job = connection.typed(object)?;
            let tasks = tasks(connection, &labels::selector(labels::JOB, &target.name), "").await?;
            describe::job::text(&job, &tasks, now)
        }
        KindId::Service => {
            let service: Service = connection.typed(object)?;
            let selector = labels::selector(labels::SERVICE, &target.name);
            let tasks = tasks(connection, &selector, "").await?;
            describe::service::text(&service, &tasks, now)
        }
        KindId::WorkflowRun => describe::run::text(&connection.typed::<WorkflowRun>(object)?, now),
        KindId::Workflow => {
            let workflow: Workflow = connection.typed(object)?;
            let fields = format!("spec.workflow={}", target.name);
            let query = connection.query(KindId::WorkflowRun, String::new(), fields);
            let (runs, _) = connection.list::<WorkflowRun>(&query).await?;
            describe::workflow::text(&workflow, &runs, now)
        }
        KindId::Task => describe::task::text(&connection.typed::<Task>(object)?, now),
        KindId::Node => {
            let node: Node = connection.typed(object)?;
            let everywhere = connection.within("");
            // Tasks that were replaced while the node was silent are on other nodes now.
            let fields = match node.is_silent() {
                true => String::new(),
                false => format!("spec.nodeName={}", target.name),
            };
            let tasks = everywhere.query(KindId::Task, String::new(), fields);
            let is_here = |task: &Task| {
                task.takes_resources_on() == Some(target.name.as_str())
                    || !silence::stragglers([task], std::slice::from_ref(&node)).is_empty()
            };
            let (tasks, _) = everywhere.list_some(&tasks, is_here).await?;
            let templates =
                connection.within("").query(KindId::TaskTemplate, String::new(), String::new());
            let (templates, _) = connection.list(&templates).await?;
            describe::node::text(&node, &tasks, &templates, now)
        }
        KindId::PartitionSet => {
            let set: PartitionSet = connection.typed(object)?;
            let tasks = tasks(&connection.within(""), "", "").await?;
            describe::partition_set::text(&set, &tasks, now)
        }
        KindId::Secret => describe::secret::text(&connection.typed::<Secret>(object)?, now),
        KindId::Namespace
        | KindId::ConfigMap
        | KindId::Event
        | KindId::Lease
        | KindId::NodeLease
        | KindId::CompletionChunk
        | KindId::TaskTemplate => {
            Sheet::verbatim(&document::yaml(&document::without_noise(object))?)
        }
    })
}

async fn tasks(connection: &Connection, labels: &str, fields: &str) -> Result<Vec<Task>, Failure> {
    let query = connection.query(KindId::Task, labels.to_owned(), fields.to_owned());
    connection.list(&query).await.map(|(tasks, _)| tasks)
}
