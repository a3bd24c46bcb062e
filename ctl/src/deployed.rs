//! What `hctl apply --wait` waits for in a workflow: the run that the workflow starts by itself for what
//! was applied. Pure.
//!
//! # Invariants
//!
//! * Runs that people start do not count: what is deployed is not judged by who ran something last.
//! * A step that applies the same again reports the run that the first one started.

use api::workflow::{revision, written_revision};
use api::{Kind as _, Workflow, WorkflowRun, labels};

/// What counts in a workflow that was applied, once its controller has handled it.
#[derive(Debug, Clone, PartialEq)]
pub enum Deployed<'a> {
    /// The run that it started for what it says now.
    Run(&'a WorkflowRun),
    /// There is none to wait for. Why, after the workflow's name.
    Nothing(&'static str),
}

/// What counts in `workflow`, of which `runs` are all runs.
pub fn deployed<'a>(workflow: &Workflow, runs: &'a [WorkflowRun]) -> Deployed<'a> {
    if !workflow.spec.run_on_apply.unwrap_or(true) {
        return Deployed::Nothing("starts no run by itself");
    }
    // A run of an upgraded cluster may have the hash that versions before made of the same.
    let now = [revision(&workflow.spec), written_revision(&workflow.spec)];
    let is_own = |run: &&WorkflowRun| {
        run.label(labels::REVISION).is_some()
            && run.controller().is_some_and(|owner| owner.uid == workflow.uid())
    };
    let is_of_now = |run: &&WorkflowRun| match run.status.revision.as_str() {
        // It takes the workflow as it is when it begins.
        "" if !run.status.phase.is_final() => true,
        "" => run.label(labels::REVISION).is_some_and(|of| now.iter().any(|now| now == of)),
        of => now.iter().any(|now| now == of),
    };
    let newest = runs.iter().filter(is_own).filter(is_of_now).max_by_key(|run| run.place());
    match newest {
        Some(run) => Deployed::Run(run),
        None if workflow.spec.suspend.unwrap_or(false) => {
            Deployed::Nothing("is suspended, and starts no run until it is resumed")
        }
        None => Deployed::Nothing("has no run that it started for this revision"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn workflow(spec: &Value) -> Workflow {
        let mut whole = json!({ "jobs": [{ "name": "a" }] });
        json_patch::merge(&mut whole, spec);
        let object = json!({ "metadata": { "name": "w", "uid": "w-uid" }, "spec": whole });
        serde_json::from_value(object).unwrap()
    }

    /// `NAME [by-hand] [of-before] [begins] [ended] [other]`.
    fn run(text: &str) -> WorkflowRun {
        let (now, before) = (
            revision(&workflow(&json!({})).spec),
            revision(&workflow(&json!({ "timeout": "1h" })).spec),
        );
        let has = |word: &str| text.split(' ').any(|it| it == word);
        let of = if has("of-before") { before } else { now };
        let uid = if has("other") { "other" } else { "w-uid" };
        let owner = json!({
            "apiVersion": "heliox.dev/v1", "kind": "Workflow", "name": "w", "uid": uid, "controller": true,
        });
        let mut run = json!({
            "metadata": {
                "name": text.split(' ').next().unwrap(), "ownerReferences": [owner],
                "labels": { labels::REVISION: of },
            },
            "spec": { "workflow": "w" },
            "status": { "revision": of, "phase": if has("ended") { "Failed" } else { "Running" } },
        });
        if has("by-hand") {
            run["metadata"]["labels"] = json!({});
        }
        if has("begins") {
            run["status"]["revision"] = "".into();
        }
        serde_json::from_value(run).unwrap()
    }

    fn counts(spec: &Value, runs: &[&str]) -> String {
        let runs: Vec<WorkflowRun> = runs.iter().map(|text| run(text)).collect();
        match deployed(&workflow(spec), &runs) {
            Deployed::Run(run) => run.name().to_owned(),
            Deployed::Nothing(why) => why.to_owned(),
        }
    }

    #[test]
    fn the_run_that_was_started_for_what_is_applied_counts() {
        let runs = ["w-1 of-before ended", "w-2 ended", "w-3 by-hand ended", "w-4 by-hand"];
        assert_eq!(counts(&json!({}), &runs), "w-2", "not what a person ran after it");
        assert_eq!(counts(&json!({ "suspend": true }), &runs), "w-2", "it is deployed");
        assert_eq!(counts(&json!({}), &["w-9", "w-10"]), "w-10");
        assert_eq!(counts(&json!({}), &["w-1 of-before", "w-2 begins"]), "w-2");
        assert_eq!(counts(&json!({}), &["w-2 begins ended"]), "w-2", "it ended before it began");
    }

    #[test]
    fn what_starts_nothing_is_not_waited_for() {
        let by_hand = json!({ "runOnApply": false });
        let runs = ["w-1", "w-2 by-hand"];
        assert_eq!(counts(&by_hand, &runs), "starts no run by itself");
        let none = "has no run that it started for this revision";
        assert_eq!(counts(&json!({}), &["w-1 of-before ended", "w-2 by-hand"]), none);
        assert_eq!(counts(&json!({}), &["w-1 other"]), none, "of one that was deleted");
        let held = "is suspended, and starts no run until it is resumed";
        assert_eq!(counts(&json!({ "suspend": true }), &["w-1 of-before"]), held);
    }
}
