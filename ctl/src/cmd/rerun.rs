//! `hctl rerun`: runs a job again, or starts a run with the parameters of an earlier one.

use api::job::OnChange;
use api::{Job, Kind as _, KindId, Workflow, WorkflowRun};
use serde_json::{Value, json};

use super::run;
use crate::args::Rerun;
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::target::{self, Target};
use crate::terminal;

pub(super) async fn rerun(connection: &Connection, args: Rerun) -> Result<(), Failure> {
    run::no_parameters("rerun", &args.of)?;
    let target = target::only_one(&args.of, None)?;
    if target.kind == KindId::Job {
        if !args.params.is_empty() {
            return Err(Failure::usage("a job has no parameters")
                .hint("leave --param out, or change the job and apply it"));
        }
        if args.name.is_some() {
            return Err(Failure::usage(format!(
                "{target} runs again under its own name; each of its runs has a number"
            ))
            .hint(
                "leave --name out; a run of a workflow can be named: hctl rerun run/RUN --name NAME",
            ));
        }
        job(connection, &target, &args).await
    } else if target.kind == KindId::WorkflowRun {
        of_run(connection, &target, args).await
    } else {
        Err(cannot_run_again(&target))
    }
}

fn cannot_run_again(target: &Target) -> Failure {
    if target.kind == KindId::Workflow {
        Failure::usage(format!("{target} is not a run"))
            .hint(format!("start a run with hctl run {}", target.name))
    } else if target.kind == KindId::Task {
        Failure::usage("a single task cannot be run again").hint(
            "run its job again with hctl rerun job/JOB; to move a running task: hctl evict TASK",
        )
    } else {
        let plural = target.kind.info().plural;
        Failure::usage(format!("{plural} cannot be run again"))
            .hint("hctl rerun takes job/JOB and run/RUN")
    }
}

async fn job(connection: &Connection, target: &Target, args: &Rerun) -> Result<(), Failure> {
    let found: Job = connection.get(target).await?;
    may_run_again(target, &found)?;
    let number = found.status.run.saturating_add(1);
    // Of the version that was read: if two users ask at the same time, there is one new run.
    let patch = json!({
        "metadata": { "resourceVersion": found.metadata.resource_version },
        "spec": { "reruns": found.spec.reruns.saturating_add(1) },
    });
    let place = (target, connection.namespace.as_str());
    let changed: Value =
        connection.patch(place, &patch, "").await.map_err(|error| connection.failure(&error))?;
    let what = format!("runs again (run {number})");
    run::started(connection, target, (&what, changed), &args.until_end).await
}

/// Whether a job can run again.
fn may_run_again(target: &Target, job: &Job) -> Result<(), Failure> {
    let refuse = |why: &str| Failure::new(format!("{target} {why}")).code(Code::Conflict);
    if job.is_deleting() {
        return Err(refuse("is being deleted").hint("apply it again once it is gone"));
    }
    if let Some(owner) = job.controller() {
        if owner.kind == KindId::Service.info().kind {
            let hint = format!("to roll all tasks out again: hctl rollout restart {}", owner.name);
            return Err(refuse(&format!("belongs to service/{}", owner.name)).hint(hint));
        }
        let hint = format!("hctl rerun run/{}", owner.name);
        return Err(refuse(&format!("belongs to run/{}", owner.name)).hint(hint));
    }
    let is_seen = job.status.observed_generation >= job.generation();
    if !is_seen || !job.status.phase.is_final() {
        let hint =
            format!("wait for it with hctl wait {target}, or stop it with hctl cancel {target}");
        return Err(refuse("has not ended").hint(hint));
    }
    if job.spec.is_suspended() {
        let hint = format!("resume it first: hctl resume {target}");
        return Err(refuse("is suspended: another run would wait").hint(hint));
    }
    if job.spec.on_change() != OnChange::Rerun {
        let why = format!("does not run again: its onChange is {:?}", job.spec.on_change());
        return Err(refuse(&why).hint("set onChange: Rerun first"));
    }
    Ok(())
}

async fn of_run(connection: &Connection, target: &Target, args: Rerun) -> Result<(), Failure> {
    let before: WorkflowRun = connection.get(target).await?;
    let workflow = Target::new(KindId::Workflow, before.spec.workflow.as_str());
    let workflow: Workflow = connection.get(&workflow).await?;
    // All parameters of that run, because the workflow's defaults may have changed since.
    let ran_with = before.status.params;
    let mut params = if ran_with.is_empty() { before.spec.params } else { ran_with };
    let is_known = |name: &str| workflow.spec.params.iter().any(|param| param.name == name);
    params.retain(|name, _| {
        let keep = is_known(name);
        if !keep {
            terminal::note(&format!(
                "workflow/{} has no parameter {name} any more",
                workflow.name()
            ));
        }
        keep
    });
    params.extend(run::named_once(args.params)?);
    run::start(connection, &workflow, (args.name.as_deref(), params), &args.until_end).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: Value) -> Option<(u8, String)> {
        let mut job = json!({
            "metadata": { "name": "j", "generation": 1 },
            "spec": { "template": { "image": "x" } },
            "status": { "phase": "Failed", "observedGeneration": 1, "run": 1 },
        });
        json_patch::merge(&mut job, &change);
        let job: Job = serde_json::from_value(job).unwrap();
        let refused = may_run_again(&Target::new(KindId::Job, "j"), &job).err()?;
        Some((refused.code.number(), refused.message))
    }

    #[test]
    fn a_job_runs_again_once_it_has_ended() {
        assert_eq!(refusal(json!({})), None);
        let said = |why: &str| Some((Code::Conflict.number(), format!("job/j {why}")));
        assert_eq!(refusal(json!({ "status": { "phase": "Running" } })), said("has not ended"));
        assert_eq!(refusal(json!({ "metadata": { "generation": 2 } })), said("has not ended"));
        let held = refusal(json!({ "spec": { "suspend": true } }));
        assert_eq!(held, said("is suspended: another run would wait"));
        let held = refusal(json!({ "spec": { "onChange": "Ignore" } }));
        assert_eq!(held, said("does not run again: its onChange is Ignore"));
        let owner = json!({
            "apiVersion": "heliox.dev/v1", "kind": "WorkflowRun", "name": "w-1", "uid": "u",
            "controller": true,
        });
        let owned = refusal(json!({ "metadata": { "ownerReferences": [owner] } }));
        assert_eq!(owned, said("belongs to run/w-1"));
    }
}
