//! The effect of a verb such as `cancel`, as a function of the object. Pure.
//!
//! # Invariants
//!
//! * Nothing is reported as done that will not happen: what has ended cannot be stopped.
//! * A verb whose effect is there already is no error: the same command twice does no harm.

use api::{KindId, Task};
use serde_json::{Value, json};

use crate::failure::{Code, Failure};
use crate::goal;
use crate::target::{self, Target};

/// A verb that changes one property of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Ends it for good.
    Cancel,
    /// Suspends it.
    Suspend,
    /// Resumes it.
    Resume,
    /// Stops a task's attempt.
    Evict,
    /// Makes a node unschedulable.
    Cordon,
    /// Makes it schedulable again.
    Uncordon,
    /// Suspends a service's rollout.
    Pause,
    /// Resumes it.
    Unpause,
}

/// The effect of a verb.
#[derive(Debug)]
pub enum Effect {
    /// It is done now; the text to report.
    Act(&'static str),
    /// It was so already; the text to report.
    Already(&'static str),
    /// It cannot be done; the reason.
    Never(Failure),
}

impl Verb {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Cancel => "cancel",
            Verb::Suspend => "suspend",
            Verb::Resume => "resume",
            Verb::Evict => "evict",
            Verb::Cordon => "cordon",
            Verb::Uncordon => "uncordon",
            Verb::Pause => "rollout pause",
            Verb::Unpause => "rollout resume",
        }
    }

    /// Its participle.
    pub fn participle(self) -> &'static str {
        match self {
            Verb::Cancel => "cancelled",
            Verb::Suspend => "suspended",
            Verb::Resume => "resumed",
            Verb::Evict => "evicted",
            Verb::Cordon => "cordoned",
            Verb::Uncordon => "uncordoned",
            Verb::Pause => "paused",
            Verb::Unpause => "resumed",
        }
    }

    /// Whether it stops running tasks.
    pub fn stops(self) -> bool {
        match self {
            Verb::Cancel | Verb::Suspend | Verb::Evict => true,
            Verb::Resume | Verb::Cordon | Verb::Uncordon | Verb::Pause | Verb::Unpause => false,
        }
    }

    /// Kinds that it applies to.
    pub fn kinds(self) -> &'static [KindId] {
        match self {
            Verb::Cancel => &[KindId::Job, KindId::WorkflowRun],
            Verb::Suspend | Verb::Resume => {
                &[KindId::Job, KindId::Service, KindId::WorkflowRun, KindId::Workflow]
            }
            Verb::Evict => &[KindId::Task],
            Verb::Cordon | Verb::Uncordon => &[KindId::Node],
            Verb::Pause | Verb::Unpause => &[KindId::Service],
        }
    }

    /// The patch that does it; nothing if it is done by another request.
    pub fn patch(self) -> Option<Value> {
        match self {
            Verb::Cancel => Some(json!({ "spec": { "cancel": true } })),
            Verb::Suspend => Some(json!({ "spec": { "suspend": true } })),
            Verb::Resume => Some(json!({ "spec": { "suspend": false } })),
            Verb::Cordon => Some(json!({ "spec": { "unschedulable": true } })),
            Verb::Uncordon => Some(json!({ "spec": { "unschedulable": false, "drain": null } })),
            Verb::Pause => Some(json!({ "spec": { "rollout": { "suspend": true } } })),
            Verb::Unpause => Some(json!({ "spec": { "rollout": { "suspend": false } } })),
            Verb::Evict => None,
        }
    }
}

/// Refuses a verb for kinds that it does not apply to, before anything is sent.
///
/// # Errors
/// One of the targets is of another kind.
pub fn only(verb: Verb, targets: &[Target]) -> Result<(), Failure> {
    let Some(other) = targets.iter().find(|target| !verb.kinds().contains(&target.kind)) else {
        return Ok(());
    };
    let (word, name) = (verb.word(), &other.name);
    let failure = Failure::usage(format!("{other} cannot be {}", verb.participle()));
    Err(failure.hint(match (verb, other.kind) {
        (Verb::Cancel, KindId::Task) => {
            format!("to stop its current attempt: hctl evict {name}; or cancel its job")
        }
        (Verb::Cancel, KindId::Workflow) => format!(
            "cancel its runs (hctl get runs); to start no more of them: hctl suspend {other}"
        ),
        (Verb::Cancel, KindId::Service) => {
            format!("to stop its tasks: hctl suspend {other}; to end it: hctl delete {other}")
        }
        (Verb::Evict, KindId::Job) => format!("its tasks: hctl get tasks --job {name}"),
        (Verb::Suspend, KindId::Node) => format!("to keep new tasks off it: hctl cordon {name}"),
        (Verb::Resume, KindId::Node) => format!("to let it take tasks again: hctl uncordon {name}"),
        _ => {
            let words: Vec<String> =
                verb.kinds().iter().map(|kind| format!("{}s", target::word(*kind))).collect();
            format!("hctl {word} takes {}", words.join(", "))
        }
    }))
}

/// The effect of `verb` on the object.
pub fn effect(verb: Verb, target: &Target, object: &Value) -> Effect {
    let spec = &object["spec"];
    let is = |field: &str| spec[field] == Value::Bool(true);
    let is_paused = spec["rollout"]["suspend"] == Value::Bool(true);
    match verb {
        Verb::Cordon if is("unschedulable") => Effect::Already("is cordoned already"),
        Verb::Cordon => Effect::Act("cordoned"),
        Verb::Uncordon if !is("unschedulable") => Effect::Already("is not cordoned"),
        Verb::Uncordon if !spec["drain"].is_null() => {
            Effect::Act("uncordoned: it is not drained any more")
        }
        Verb::Uncordon => Effect::Act("uncordoned"),
        Verb::Pause | Verb::Unpause => {
            over(verb, target, object).unwrap_or(match (verb, is_paused) {
                (Verb::Pause, true) => Effect::Already("rollouts are paused already"),
                (Verb::Pause, false) => Effect::Act("rollouts are paused"),
                (_, true) => Effect::Act("rollouts are resumed"),
                (_, false) => Effect::Already("rollouts are not paused"),
            })
        }
        Verb::Cancel | Verb::Suspend | Verb::Resume | Verb::Evict => {
            let held_back = over(verb, target, object).or_else(|| owned(verb, target, object));
            held_back.unwrap_or_else(|| match verb {
                Verb::Cancel if is("cancel") => Effect::Already("is being cancelled already"),
                Verb::Cancel => Effect::Act("is being cancelled"),
                Verb::Suspend if is("suspend") => Effect::Already("is suspended already"),
                Verb::Suspend => Effect::Act("suspended"),
                Verb::Resume if !is("suspend") => Effect::Already("is not suspended"),
                Verb::Resume => Effect::Act("resumed"),
                Verb::Evict | Verb::Cordon | Verb::Uncordon | Verb::Pause | Verb::Unpause => {
                    evict(target, object)
                }
            })
        }
    }
}

/// The effect if the object has ended or is being deleted: nothing is left to stop or suspend.
fn over(verb: Verb, target: &Target, object: &Value) -> Option<Effect> {
    let word = verb.word();
    let refuse = |why: String| {
        let failure =
            Failure::new(format!("{target} {why}: nothing to {word}")).code(Code::Conflict);
        Some(Effect::Never(failure.hint(format!("check its status with hctl describe {target}"))))
    };
    if object["metadata"]["deletionTimestamp"].is_string() {
        return refuse("is being deleted".to_owned());
    }
    // A workflow never ends: its next revision has another run.
    if target.kind == KindId::Workflow || !goal::has_ended(target.kind, object) {
        return None;
    }
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    match verb {
        Verb::Cancel if phase == "Cancelled" => Some(Effect::Already("is cancelled already")),
        // An object that was suspended when it ended would also be suspended in its next run.
        Verb::Resume if object["spec"]["suspend"] == Value::Bool(true) => None,
        Verb::Cancel
        | Verb::Suspend
        | Verb::Resume
        | Verb::Evict
        | Verb::Cordon
        | Verb::Uncordon
        | Verb::Pause
        | Verb::Unpause => refuse(format!("has ended ({phase})")),
    }
}

/// The refusal if the object belongs to a run, which would revert the change at once.
fn owned(verb: Verb, target: &Target, object: &Value) -> Option<Effect> {
    if target.kind != KindId::Job || !matches!(verb, Verb::Suspend | Verb::Resume) {
        return None;
    }
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let is_run = |owner: &&Value| {
        owner["controller"] == Value::Bool(true) && owner["kind"] == KindId::WorkflowRun.info().kind
    };
    let name = owners.iter().find(is_run)?["name"].as_str()?;
    let run = Target::new(KindId::WorkflowRun, name);
    let why = format!("{target} belongs to {run}, which suspends and resumes all its jobs");
    let failure = Failure::new(why).code(Code::Conflict);
    Some(Effect::Never(failure.hint(format!("hctl {} {run}", verb.word()))))
}

fn evict(target: &Target, object: &Value) -> Effect {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let task: Option<Task> = serde_json::from_value(object.clone()).ok();
    if phase == "Pending" && task.is_some_and(|task| task.binding().is_none()) {
        let failure = Failure::new(format!("{target} waits for a node: nothing to evict"));
        let hint = format!("see why with hctl describe {target}");
        return Effect::Never(failure.code(Code::Conflict).hint(hint));
    }
    if phase == "Stopping" {
        return Effect::Already("is being stopped already");
    }
    Effect::Act("is being evicted")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::expect;

    use super::*;

    const VERBS: [Verb; 4] = [Verb::Cancel, Verb::Suspend, Verb::Resume, Verb::Evict];

    fn said(verb: Verb, target: &Target, object: &Value) -> String {
        match effect(verb, target, object) {
            Effect::Act(what) => format!("0, done: {target} {what}"),
            Effect::Already(what) => format!("0: {target} {what}"),
            Effect::Never(failure) => format!("{}: {}", failure.code.number(), failure.message),
        }
    }

    fn object(phase: &str, spec: Value) -> Value {
        json!({
            "metadata": { "generation": 2 },
            "spec": spec,
            "status": { "phase": phase, "observedGeneration": 2 },
        })
    }

    #[test]
    fn every_verb_says_what_is_so() {
        let states = [
            ("runs", object("Running", json!({}))),
            ("runs, being cancelled", object("Running", json!({ "cancel": true }))),
            ("suspended", object("Suspended", json!({ "suspend": true }))),
            ("succeeded", object("Succeeded", json!({}))),
            ("failed", object("Failed", json!({}))),
            ("timed out, suspended", object("TimedOut", json!({ "suspend": true }))),
            ("cancelled", object("Cancelled", json!({ "cancel": true }))),
        ];
        let mut shown = String::new();
        for (kind, name) in
            [(KindId::Job, "j"), (KindId::WorkflowRun, "r"), (KindId::Workflow, "w")]
        {
            for (state, object) in &states {
                write!(shown, "{} {state}", kind.info().singular).unwrap();
                for verb in VERBS.iter().filter(|verb| verb.kinds().contains(&kind)) {
                    let target = Target::new(kind, name);
                    let said = said(*verb, &target, object).replace(&target.to_string(), "it");
                    write!(shown, " | {} {said}", verb.word()).unwrap();
                }
                shown.push('\n');
            }
        }
        expect![[r#"
            job runs | cancel 0, done: it is being cancelled | suspend 0, done: it suspended | resume 0: it is not suspended
            job runs, being cancelled | cancel 0: it is being cancelled already | suspend 0, done: it suspended | resume 0: it is not suspended
            job suspended | cancel 0, done: it is being cancelled | suspend 0: it is suspended already | resume 0, done: it resumed
            job succeeded | cancel 5: it has ended (Succeeded): nothing to cancel | suspend 5: it has ended (Succeeded): nothing to suspend | resume 5: it has ended (Succeeded): nothing to resume
            job failed | cancel 5: it has ended (Failed): nothing to cancel | suspend 5: it has ended (Failed): nothing to suspend | resume 5: it has ended (Failed): nothing to resume
            job timed out, suspended | cancel 5: it has ended (TimedOut): nothing to cancel | suspend 5: it has ended (TimedOut): nothing to suspend | resume 0, done: it resumed
            job cancelled | cancel 0: it is cancelled already | suspend 5: it has ended (Cancelled): nothing to suspend | resume 5: it has ended (Cancelled): nothing to resume
            workflowrun runs | cancel 0, done: it is being cancelled | suspend 0, done: it suspended | resume 0: it is not suspended
            workflowrun runs, being cancelled | cancel 0: it is being cancelled already | suspend 0, done: it suspended | resume 0: it is not suspended
            workflowrun suspended | cancel 0, done: it is being cancelled | suspend 0: it is suspended already | resume 0, done: it resumed
            workflowrun succeeded | cancel 5: it has ended (Succeeded): nothing to cancel | suspend 5: it has ended (Succeeded): nothing to suspend | resume 5: it has ended (Succeeded): nothing to resume
            workflowrun failed | cancel 5: it has ended (Failed): nothing to cancel | suspend 5: it has ended (Failed): nothing to suspend | resume 5: it has ended (Failed): nothing to resume
            workflowrun timed out, suspended | cancel 5: it has ended (TimedOut): nothing to cancel | suspend 5: it has ended (TimedOut): nothing to suspend | resume 0, done: it resumed
            workflowrun cancelled | cancel 0: it is cancelled already | suspend 5: it has ended (Cancelled): nothing to suspend | resume 5: it has ended (Cancelled): nothing to resume
            workflow runs | suspend 0, done: it suspended | resume 0: it is not suspended
            workflow runs, being cancelled | suspend 0, done: it suspended | resume 0: it is not suspended
            workflow suspended | suspend 0: it is suspended already | resume 0, done: it resumed
            workflow succeeded | suspend 0, done: it suspended | resume 0: it is not suspended
            workflow failed | suspend 0, done: it suspended | resume 0: it is not suspended
            workflow timed out, suspended | suspend 0: it is suspended already | resume 0, done: it resumed
            workflow cancelled | suspend 0, done: it suspended | resume 0: it is not suspended
        "#]].assert_eq(&shown);
    }

    #[test]
    fn a_job_whose_newest_change_was_not_seen_has_not_ended() {
        let mut job = object("Succeeded", json!({}));
        job["metadata"]["generation"] = 3.into();
        let target = Target::new(KindId::Job, "j");
        assert_eq!(said(Verb::Cancel, &target, &job), "0, done: job/j is being cancelled");
    }

    #[test]
    fn what_is_being_deleted_is_left_alone() {
        let mut job = object("Running", json!({}));
        job["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
        let told = said(Verb::Suspend, &Target::new(KindId::Job, "j"), &job);
        assert_eq!(told, "5: job/j is being deleted: nothing to suspend");
    }

    #[test]
    fn a_job_of_a_run_is_suspended_with_its_run() {
        let mut job = object("Running", json!({}));
        job["metadata"]["ownerReferences"] =
            json!([{ "kind": "WorkflowRun", "name": "w-1", "controller": true }]);
        let target = Target::new(KindId::Job, "w-1-a");
        let why = "5: job/w-1-a belongs to run/w-1, which suspends and resumes all its jobs";
        assert_eq!(said(Verb::Suspend, &target, &job), why);
        assert_eq!(said(Verb::Resume, &target, &job), why);
        assert_eq!(said(Verb::Cancel, &target, &job), "0, done: job/w-1-a is being cancelled");
    }

    #[test]
    fn a_task_is_evicted_from_a_node_that_it_has() {
        let target = Target::new(KindId::Task, "t");
        let task = |phase: &str| {
            let spec = json!({ "template": "a", "index": 0, "count": 1, "attempt": 1 });
            said(
                Verb::Evict,
                &target,
                &json!({
                    "metadata": { "name": "t" }, "spec": spec, "status": { "phase": phase },
                }),
            )
        };
        assert_eq!(task("Pending"), "5: task/t waits for a node: nothing to evict");
        assert_eq!(task("Running"), "0, done: task/t is being evicted");
        assert_eq!(task("Stopping"), "0: task/t is being stopped already");
        assert_eq!(task("Failed"), "5: task/t has ended (Failed): nothing to evict");
    }

    #[test]
    fn nodes_are_closed_once() {
        let node = |spec: Value| {
            let (object, target) = (json!({ "spec": spec }), Target::new(KindId::Node, "n"));
            [Verb::Cordon, Verb::Uncordon].map(|verb| said(verb, &target, &object))
        };
        assert_eq!(node(json!({})), ["0, done: node/n cordoned", "0: node/n is not cordoned"]);
        assert_eq!(
            node(json!({ "unschedulable": true })),
            ["0: node/n is cordoned already", "0, done: node/n uncordoned"]
        );
    }
}
