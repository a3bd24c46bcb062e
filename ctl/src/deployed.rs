//! What `hctl apply --wait` waits for after it has applied a workflow: the run that the workflow
//! starts by itself for this change. Pure.
//!
//! # Invariants
//!
//! * Runs that users start do not count: a deployment is not judged by a run that somebody started
//!   meanwhile.
//! * A deployment that applies the same again reports the run that the first one started.
//! * What somebody else applies meanwhile does not count: its runs are not those of this
//!   deployment.
//! * Which run was started for what is decided by what the server says. No hash is computed here: a
//!   server of another version may compute another one for the same workflow.

use api::workflow::WorkflowStatus;
use api::{Kind as _, Workflow, WorkflowRun, labels};
use serde_json::Value;

/// Why a suspended workflow is not waited for.
const HELD: &str = "is suspended, and starts no run until it is resumed";

/// What counts for an applied workflow.
#[derive(Debug, Clone, PartialEq)]
pub enum Deployed<'a> {
    /// The run that it started for this change.
    Run(&'a WorkflowRun),
    /// It started a run, which is gone already.
    Gone,
    /// Another change came before it started a run for this one, so it never will.
    Replaced,
    /// There is nothing to wait for. The reason follows the workflow's name.
    Nothing(&'static str),
}

/// Whether `now` would run something else than `applied`. The number of runs to keep, for example,
/// does not matter.
pub fn is_replaced(applied: &Value, now: &Value) -> bool {
    let generation = |it: &Value| it["metadata"]["generation"].as_i64().unwrap_or_default();
    let spec = |it: &Value| {
        let mut spec = it["spec"].clone();
        spec.as_object_mut().and_then(|fields| fields.remove("history"));
        spec
    };
    generation(now) > generation(applied) && spec(now) != spec(applied)
}

/// Whether the controller has started a run between two states of a workflow, the later of which it
/// has handled. It writes the revision and the run's number together with the run.
pub fn has_started(before: &Workflow, now: &Workflow) -> bool {
    let (before, now) = (&before.status, &now.status);
    now.revision != before.revision && now.last_run_number > before.last_run_number
}

/// What counts for a workflow with these `runs`. `applied` is the server's answer to the apply, and
/// `now` the state that the controller has handled; with `is_replaced`, `now` has another spec.
pub fn deployed<'a>(
    applied: &Workflow,
    (now, is_replaced): (&Workflow, bool),
    runs: &'a [WorkflowRun],
) -> Deployed<'a> {
    if !applied.spec.run_on_apply.unwrap_or(true) {
        return Deployed::Nothing("starts no run by itself");
    }
    let was_handled = applied.status.observed_generation >= applied.generation();
    // The revision that was applied, not a later one.
    let known = if is_replaced { applied } else { now };
    let is_handled = was_handled || !is_replaced;
    let is_held = known.spec.suspend.unwrap_or(false);
    let is_new = if is_replaced { !was_handled } else { has_started(applied, now) };
    let is_own = |run: &&WorkflowRun| {
        let number = || run.label(labels::RUN_NUMBER)?.parse::<u32>().ok();
        run.label(labels::REVISION).is_some()
            && run.controller().is_some_and(|owner| owner.uid == applied.uid())
            && (!is_new || number() > Some(applied.status.last_run_number))
    };
    let counts = |run: &&WorkflowRun| {
        if is_handled { is_deployed(run, known) } else { is_started_for(run, applied.generation()) }
    };
    match runs.iter().filter(is_own).filter(counts).max_by_key(|run| run.place()) {
        Some(run) => Deployed::Run(run),
        None if is_held => Deployed::Nothing(HELD),
        None if !is_handled => Deployed::Replaced,
        None if is_new => Deployed::Gone,
        None => Deployed::Nothing("has no run that it started for this revision"),
    }
}

/// Whether a run is the one that the workflow, as it was handled, says that it started by itself.
fn is_deployed(run: &WorkflowRun, workflow: &Workflow) -> bool {
    let WorkflowStatus { deployed_run, revision, .. } = &workflow.status;
    match deployed_run {
        Some(name) => run.name() == name,
        // A version before does not say it, and its runs bear the revision that they were made for.
        // Of one that it holds back it says nothing either.
        None => {
            workflow.spec.suspend != Some(true) && run.label(labels::REVISION) == Some(revision)
        }
    }
}

/// Whether a run was started for this generation of its workflow, of which the status speaks no
/// more, and has not taken over another one before it began.
fn is_started_for(run: &WorkflowRun, generation: i64) -> bool {
    let annotations = run.metadata.annotations.as_ref();
    let of = annotations.and_then(|all| all.get(labels::GENERATION));
    let runs = run.status.revision.as_str();
    of.is_some_and(|of| *of == generation.to_string())
        && (runs.is_empty() || run.label(labels::REVISION) == Some(runs))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As an apply of what has been applied before is answered, by a controller that says which run
    /// it has started for it.
    fn workflow(spec: &Value, deployed: Option<&str>) -> Workflow {
        let mut whole = json!({ "jobs": [{ "name": "a" }] });
        json_patch::merge(&mut whole, spec);
        let object = json!({
            "metadata": { "name": "w", "uid": "w-uid", "generation": 1 }, "spec": whole,
            "status": { "observedGeneration": 1, "revision": "now", "deployedRun": deployed },
        });
        serde_json::from_value(object).unwrap()
    }

    /// How a workflow stands after its controller has handled a change.
    fn stands(
        spec: &Value,
        generation: i64,
        (revision, number): (&str, u32),
        deployed: Option<&str>,
    ) -> Workflow {
        let mut workflow = workflow(spec, deployed);
        workflow.metadata.generation = Some(generation);
        workflow.status.observed_generation = generation;
        workflow.status.revision = revision.to_owned();
        workflow.status.last_run_number = number;
        workflow
    }

    /// The state in the answer to an apply: with the status from before.
    fn applied(spec: &Value, generation: i64, before: (&str, u32)) -> Workflow {
        let mut workflow = stands(spec, generation, before, None);
        workflow.status.observed_generation = generation - 1;
        workflow
    }

    /// `NAME-NUMBER [by-hand] [of=REVISION] [runs=REVISION] [for=GENERATION] [begins] [other]`.
    fn run(text: &str) -> WorkflowRun {
        let has = |word: &str| text.split(' ').any(|it| it == word);
        let said = |word: &str| text.split(' ').find_map(|it| it.strip_prefix(word));
        let of = said("of=").unwrap_or("now");
        let uid = if has("other") { "other" } else { "w-uid" };
        let name = text.split(' ').next().unwrap();
        let owner = json!({
            "apiVersion": "heliox.dev/v1", "kind": "Workflow", "name": "w", "uid": uid, "controller": true,
        });
        let mut run = json!({
            "metadata": {
                "name": name, "ownerReferences": [owner],
                "labels": { labels::REVISION: of, labels::RUN_NUMBER: name.rsplit('-').next() },
                "annotations": { labels::GENERATION: said("for=").unwrap_or_default() },
            },
            "spec": { "workflow": "w" },
            "status": { "revision": said("runs=").unwrap_or(of), "phase": "Running" },
        });
        if has("by-hand") {
            run["metadata"]["labels"] = json!({});
        }
        if has("begins") {
            run["status"]["revision"] = "".into();
        }
        serde_json::from_value(run).unwrap()
    }

    fn told((applied, now): (&Workflow, &Workflow), is_replaced: bool, runs: &[&str]) -> String {
        let runs: Vec<WorkflowRun> = runs.iter().map(|text| run(text)).collect();
        match deployed(applied, (now, is_replaced), &runs) {
            Deployed::Run(run) => run.name().to_owned(),
            Deployed::Nothing(why) => why.to_owned(),
            Deployed::Gone => "gone".to_owned(),
            Deployed::Replaced => "replaced".to_owned(),
        }
    }

    fn counts(spec: &Value, deployed: Option<&str>, runs: &[&str]) -> String {
        let workflow = workflow(spec, deployed);
        told((&workflow, &workflow), false, runs)
    }

    const NONE: &str = "has no run that it started for this revision";

    #[test]
    fn the_run_that_was_started_for_what_is_applied_counts() {
        let runs = ["w-1 of=before", "w-2", "w-3 by-hand", "w-4 by-hand"];
        let w2 = Some("w-2");
        assert_eq!(counts(&json!({}), w2, &runs), "w-2", "not what a person ran after it");
        assert_eq!(counts(&json!({ "suspend": true }), w2, &runs), "w-2", "it is deployed");
        // Its revision is told in other words by now.
        assert_eq!(counts(&json!({}), Some("w-1"), &runs), "w-1");
    }

    #[test]
    fn what_starts_nothing_is_not_waited_for() {
        let by_hand = json!({ "runOnApply": false });
        assert_eq!(counts(&by_hand, None, &["w-1", "w-2 by-hand"]), "starts no run by itself");
        assert_eq!(counts(&json!({}), None, &["w-1 of=before", "w-2 by-hand"]), NONE);
        assert_eq!(counts(&json!({}), None, &["w-1 other"]), NONE, "of one that was deleted");
        assert_eq!(counts(&json!({}), Some("w-1"), &["w-1 other"]), NONE);
        assert_eq!(counts(&json!({ "suspend": true }), None, &["w-1"]), HELD, "w-1 is of before");
    }

    /// It does not say which run it started.
    #[test]
    fn of_a_controller_of_an_earlier_version_the_newest_run_of_the_revision_counts() {
        assert_eq!(counts(&json!({}), None, &["w-9", "w-10", "w-11 of=before"]), "w-10");
        assert_eq!(counts(&json!({}), None, &["w-1 of=before", "w-2 begins"]), "w-2");
    }

    #[test]
    fn a_run_that_is_gone_is_told_from_one_that_was_never_started() {
        let before = applied(&json!({}), 2, ("before", 1));
        let started = stands(&json!({}), 2, ("now", 2), None);
        assert_eq!(told((&before, &started), false, &["w-1 of=before"]), "gone");
        // The same was run earlier: that is not the run of this change.
        assert_eq!(told((&before, &started), false, &["w-1"]), "gone");
        let started = stands(&json!({}), 2, ("now", 2), Some("w-2"));
        assert_eq!(told((&before, &started), false, &["w-1", "w-2 begins"]), "w-2");
        let same = stands(&json!({}), 2, ("before", 2), None);
        assert_eq!(told((&before, &same), false, &["w-2 by-hand"]), NONE, "a person's number");
    }

    #[test]
    fn what_another_change_started_does_not_count() {
        let ours = applied(&json!({}), 2, ("before", 1));
        let theirs = stands(&json!({ "timeout": "1h" }), 3, ("theirs", 3), Some("w-3"));
        let of_theirs = "w-3 of=theirs for=3";
        assert_eq!(told((&ours, &theirs), true, &["w-2 for=2", of_theirs]), "w-2");
        assert_eq!(told((&ours, &theirs), true, &["w-2 for=2 begins", of_theirs]), "w-2");
        // It took over the other change before it began.
        assert_eq!(told((&ours, &theirs), true, &["w-2 for=2 runs=theirs"]), "replaced");
        assert_eq!(told((&ours, &theirs), true, &["w-1 for=1", of_theirs]), "replaced");
        assert_eq!(told((&ours, &theirs), true, &["w-3 of=theirs for=3 begins"]), "replaced");
        let again = stands(&json!({}), 2, ("before", 1), Some("w-1"));
        assert_eq!(told((&again, &theirs), true, &["w-1 of=before", of_theirs]), "w-1");
        assert_eq!(told((&again, &theirs), true, &[of_theirs]), NONE);
    }

    #[test]
    fn another_change_is_one_of_what_runs() {
        let at = |generation: i64, spec: Value| json!({ "metadata": { "generation": generation }, "spec": spec });
        let ours = at(2, json!({ "timeout": "1h" }));
        assert!(is_replaced(&ours, &at(3, json!({ "timeout": "2h" }))));
        assert!(is_replaced(&ours, &at(3, json!({ "timeout": "1h", "suspend": true }))));
        assert!(!is_replaced(
            &ours,
            &at(3, json!({ "timeout": "1h", "history": { "failed": 0 } }))
        ));
        assert!(!is_replaced(&ours, &at(2, json!({ "timeout": "60m" }))), "other words");
    }
}
