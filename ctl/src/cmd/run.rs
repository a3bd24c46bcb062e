//! `hctl run`: starts a run of a workflow.

use std::collections::BTreeMap;

use api::workflow::check_params;
use api::{Kind as _, KindId, Violation, Workflow};
use serde_json::json;

use super::show;
use super::wait::wait_for;
use crate::args::Run;
use crate::connection::{Connection, deadline};
use crate::failure::{Code, Failure};
use crate::goal::Goal;
use crate::target::{self, Target};
use crate::waiting::Waited;

pub(super) async fn run(connection: &Connection, args: Run) -> Result<(), Failure> {
    let workflow = target::only_one(&args.workflow, Some(KindId::Workflow))?;
    if workflow.kind != KindId::Workflow {
        let message = format!("{workflow} is no workflow");
        return Err(Failure::usage(message).hint("hctl run workflow/NAME"));
    }
    let metadata = match &args.name {
        Some(name) => json!({ "name": name }),
        None => json!({ "generateName": format!("{}-", workflow.name) }),
    };
    let mut params: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in args.params {
        if params.insert(key.clone(), value).is_some() {
            return Err(Failure::usage(format!("--param {key} is given twice")));
        }
    }
    let object = json!({
        "apiVersion": KindId::WorkflowRun.api_version(),
        "kind": KindId::WorkflowRun.info().kind,
        "metadata": metadata,
        "spec": { "workflow": workflow.name, "params": params },
    });
    // A run of a workflow that is not there would wait for it, and one that gives it other
    // parameters than it has would fail.
    let found: Workflow = connection.get(&workflow).await?;
    if found.is_deleting() {
        let message = format!("{workflow} is being deleted: it starts no run any more");
        return Err(Failure::new(message)
            .code(Code::Conflict)
            .hint("apply it again once it is gone"));
    }
    parameters_fit(&found, &params)?;
    let place = (KindId::WorkflowRun, connection.namespace.as_str());
    let created = connection.create(place, &object, "").await;
    let created = created.map_err(|error| connection.failure(&error))?;
    let name = created["metadata"]["name"].as_str().unwrap_or_default();
    let target = Target::new(KindId::WorkflowRun, name);
    let goal = Goal::Succeeded;
    let waited = Waited::new(target.clone(), connection.namespace.clone(), goal).of(&created);
    show::done(connection.format, &target, "created", created)?;
    if args.wait {
        wait_for(connection, vec![waited], goal, deadline(args.timeout)).await?;
    }
    Ok(())
}

/// Whether a workflow takes these parameters.
fn parameters_fit(workflow: &Workflow, given: &BTreeMap<String, String>) -> Result<(), Failure> {
    let Err(violations) = check_params(&workflow.spec, given) else { return Ok(()) };
    let one = |it: &Violation| it.to_string().replacen("spec.params.", "--param ", 1);
    let all: Vec<String> = violations.iter().map(one).collect();
    Err(Failure::usage(all.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_gives_the_parameters_that_the_workflow_takes() {
        let workflow: Workflow = serde_json::from_value(json!({
            "metadata": {"name": "w"},
            "spec": {"params": [{"name": "date"}, {"name": "word", "default": "x"}], "jobs": []},
        }))
        .unwrap();
        let check = |keys: &[&str]| {
            let given = keys.iter().map(|key| ((*key).to_owned(), String::new())).collect();
            parameters_fit(&workflow, &given).err().map(|it| it.message).unwrap_or_default()
        };
        assert_eq!(check(&["date"]), "");
        assert_eq!(check(&["date", "word"]), "");
        let missing = "--param date: a value is required (it has no default: give date=VALUE)";
        assert_eq!(check(&[]), missing);
        let unknown =
            "--param wird: the workflow has no parameter of this name (did you mean word?)";
        assert_eq!(check(&["date", "wird"]), unknown);
    }
}
