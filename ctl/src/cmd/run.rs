//! `hctl run`: starts a run of a workflow.

use std::collections::BTreeMap;

use api::KindId;
use serde_json::{Value, json};

use super::show;
use super::wait::wait_for;
use crate::args::Run;
use crate::connection::{Connection, deadline};
use crate::failure::Failure;
use crate::goal::Goal;
use crate::target::{self, Target};

pub(super) async fn run(connection: &Connection, args: Run) -> Result<(), Failure> {
    let workflow = target::one(&args.workflow, Some(KindId::Workflow))?;
    if workflow.kind != KindId::Workflow {
        let message = format!("{workflow} is no workflow");
        return Err(Failure::usage(message).hint("hctl run workflow/NAME"));
    }
    // A run of a workflow that is not there would wait for it.
    connection.get::<Value>(&workflow).await?;
    let metadata = match &args.name {
        Some(name) => json!({ "name": name }),
        None => json!({ "generateName": format!("{}-", workflow.name) }),
    };
    let params: BTreeMap<String, String> = args.params.into_iter().collect();
    let object = json!({
        "apiVersion": KindId::WorkflowRun.api_version(),
        "kind": KindId::WorkflowRun.info().kind,
        "metadata": metadata,
        "spec": { "workflow": workflow.name, "params": params },
    });
    let place = (KindId::WorkflowRun, connection.namespace.as_str());
    let created = connection.create(place, &object, "").await;
    let created = created.map_err(|error| connection.failure(&error))?;
    let name = created["metadata"]["name"].as_str().unwrap_or_default();
    let target = Target::new(KindId::WorkflowRun, name);
    show::done(connection.format, &target, "created", created)?;
    if args.wait {
        let place = (&target, connection.namespace.as_str());
        wait_for(connection, place, Goal::Succeeded, deadline(args.timeout)).await?;
    }
    Ok(())
}
