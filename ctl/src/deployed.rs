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
//! * Whether a run was started is decided by what the server says. A server of another version may
//!   compute another hash for the same workflow.

use api::workflow::{revision, written_revision};
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
    // The revision that was applied, not a later one.
    let known = if is_replaced { applied } else { now };
    let was_handled = applied.status.observed_generation >= applied.generation();
    let is_handled = was_handled || !is_replaced;
    let is_held = known.spec.suspend.unwrap_or(false);
    let is_new = if is_replaced { !was_handled } else { has_started(applied, now) };
    // In an upgraded cluster, a run may have the hash that earlier versions computed for the same
    // spec.
    let mut of_this = vec![revision(&known.spec), written_revision(&known.spec)];
    let stood = &known.status.revision;
    if is_held && is_handled && !stood.is_empty() && !of_this.contains(stood) {
        // It may have run before another revision came, which is not a run of this change.
        return Deployed::Nothing(HELD);
    }
    if is_handled && !is_held {
        of_this.push(stood.clone());
    }
    let is_of_this = |of: &str| !of.is_empty() && of_this.iter().any(|this| this == of);
    let is_own = |run: &&WorkflowRun| {
        let owner = run.controller();
        let number = || run.label(labels::RUN_NUMBER)?.parse::<u32>().ok();
        run.label(labels::REVISION).is_some()
            && owner.is_some_and(|owner| owner.uid == applied.uid())
            && (!is_new || number() > Some(applied.status.last_run_number))
    };
    let counts = |run: &&WorkflowRun| match run.status.revision.as_str() {
        // It copies the workflow when it begins.
        "" if !run.status.phase.is_final() && !is_replaced => true,
        "" => run.label(labels::REVISION).is_some_and(is_of_this),
        of => is_of_this(of),
    };
    match runs.iter().filter(is_own).filter(counts).max_by_key(|run| run.place()) {
        Some(run) => Deployed::Run(run),
        None if is_held => Deployed::Nothing(HELD),
        None if !is_handled => Deployed::Replaced,
        None if is_new => Deployed::Gone,
        None => Deployed::Nothing("has no run that it started for this revision"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As the server answers when nothing has changed; tests change generation and status.
    fn workflow(spec: &Value) -> Workflow {
        let mut whole = json!({ "jobs": [{ "name": "a" }] });
        json_patch::merge(&mut whole, spec);
        let object = json!({
            "metadata": { "name": "w", "uid": "w-uid", "generation": 1 }, "spec": whole,
            "status": { "observedGeneration": 1 },
        });
        serde_json::from_value(object).unwrap()
    }

    /// The state after the controller has handled a change.
    fn stands(spec: &Value, generation: i64, (revision, number): (&str, u32)) -> Workflow {
        let mut workflow = workflow(spec);
        workflow.metadata.generation = Some(generation);
        workflow.status.observed_generation = generation;
        workflow.status.revision = revision.to_owned();
        workflow.status.last_run_number = number;
        workflow
    }

    /// The state in the answer to an apply: with the status from before.
    fn applied(spec: &Value, generation: i64, before: (&str, u32)) -> Workflow {
        let mut workflow = stands(spec, generation, before);
        workflow.status.observed_generation = generation - 1;
        workflow
    }

    /// `NAME-NUMBER [by-hand] [of-before] [of=REVISION] [begins] [ended] [other]`.
    fn run(text: &str) -> WorkflowRun {
        let (now, before) = (
            revision(&workflow(&json!({})).spec),
            revision(&workflow(&json!({ "timeout": "1h" })).spec),
        );
        let has = |word: &str| text.split(' ').any(|it| it == word);
        let said = text.split(' ').find_map(|word| word.strip_prefix("of="));
        let of = said.unwrap_or(if has("of-before") { &before } else { &now });
        let uid = if has("other") { "other" } else { "w-uid" };
        let name = text.split(' ').next().unwrap();
        let owner = json!({
            "apiVersion": "heliox.dev/v1", "kind": "Workflow", "name": "w", "uid": uid, "controller": true,
        });
        let mut run = json!({
            "metadata": {
                "name": name, "ownerReferences": [owner],
                "labels": { labels::REVISION: of, labels::RUN_NUMBER: name.rsplit('-').next() },
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

    fn told((applied, now): (&Workflow, &Workflow), is_replaced: bool, runs: &[&str]) -> String {
        let runs: Vec<WorkflowRun> = runs.iter().map(|text| run(text)).collect();
        match deployed(applied, (now, is_replaced), &runs) {
            Deployed::Run(run) => run.name().to_owned(),
            Deployed::Nothing(why) => why.to_owned(),
            Deployed::Gone => "gone".to_owned(),
            Deployed::Replaced => "replaced".to_owned(),
        }
    }

    fn counts(spec: &Value, runs: &[&str]) -> String {
        let workflow = workflow(spec);
        told((&workflow, &workflow), false, runs)
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

    #[test]
    fn a_run_of_a_revision_that_hctl_computes_otherwise_counts() {
        let (applied, now) =
            (applied(&json!({}), 2, ("newer-1", 1)), stands(&json!({}), 2, ("newer-2", 2)));
        let runs = ["w-1 of=newer-1 ended", "w-2 of=newer-2"];
        assert_eq!(told((&applied, &now), false, &runs), "w-2");
        assert_eq!(told((&now, &now), false, &runs), "w-2", "applied once more");
        let held = stands(&json!({ "suspend": true }), 2, ("newer-1", 1));
        let why = "is suspended, and starts no run until it is resumed";
        assert_eq!(told((&held, &held), false, &runs[..1]), why, "the status is of before");
        let back = stands(&json!({ "suspend": true }), 3, ("other", 2));
        assert_eq!(told((&back, &back), false, &["w-1 ended", "w-2 of=other ended"]), why);
    }

    #[test]
    fn a_run_that_is_gone_is_told_from_one_that_was_never_started() {
        let before = applied(&json!({}), 2, ("before", 1));
        let started = stands(&json!({}), 2, ("now", 2));
        assert_eq!(told((&before, &started), false, &["w-1 of=before ended"]), "gone");
        // The same spec was run earlier, which is not the run of this change.
        assert_eq!(told((&before, &started), false, &["w-1 ended"]), "gone");
        assert_eq!(told((&before, &started), false, &["w-1 ended", "w-2 begins"]), "w-2");
        let none = "has no run that it started for this revision";
        let same = stands(&json!({}), 2, ("before", 2));
        assert_eq!(told((&before, &same), false, &["w-2 by-hand"]), none, "a person's number");
    }

    #[test]
    fn what_another_change_started_does_not_count() {
        let ours = applied(&json!({}), 2, ("before", 1));
        let theirs = stands(&json!({ "timeout": "1h" }), 3, ("theirs", 3));
        let of_theirs = "w-3 of-before";
        assert_eq!(told((&ours, &theirs), true, &["w-2 ended", of_theirs]), "w-2");
        assert_eq!(told((&ours, &theirs), true, &["w-1 ended", of_theirs]), "replaced");
        assert_eq!(told((&ours, &theirs), true, &["w-3 of-before begins"]), "replaced");
        let again = stands(&json!({}), 2, ("before", 1));
        assert_eq!(told((&again, &theirs), true, &["w-1 ended", of_theirs]), "w-1");
        let none = "has no run that it started for this revision";
        assert_eq!(told((&again, &theirs), true, &[of_theirs]), none);
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
