//! What `hctl wait` waits for, as a function of the object. Pure.

use api::conditions::UNSCHEDULABLE;
use api::workflow::{NO_RUN, SUSPENDED};
use api::{Kind as _, KindId, Task, WorkflowRun};
use clap::ValueEnum;
use serde_json::Value;

use crate::deletion;

/// What is waited for; also in the words of kubectl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// It succeeded.
    #[value(aliases = ["complete", "condition=complete", "condition=Complete"])]
    Succeeded,
    /// It failed, timed out or was cancelled.
    #[value(aliases = ["condition=failed", "condition=Failed"])]
    Failed,
    /// It has finished: succeeded, failed, timed out or cancelled.
    Done,
    /// It is ready: a node that accepts tasks, a task that runs, any other object that is as
    /// specified.
    #[value(aliases = ["condition=ready", "condition=Ready"])]
    Ready,
    /// It no longer exists.
    #[value(aliases = ["delete"])]
    Deleted,
}

impl Goal {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Goal::Succeeded => "succeeded",
            Goal::Failed => "failed",
            Goal::Done => "done",
            Goal::Ready => "ready",
            Goal::Deleted => "deleted",
        }
    }
}

impl Goal {
    /// That one object, or several, did not reach it: `did not succeed`.
    pub fn missed(self, are_many: bool) -> &'static str {
        match self {
            Goal::Succeeded => "did not succeed",
            Goal::Failed => "did not fail",
            Goal::Done => "did not finish",
            Goal::Ready => "did not become ready",
            Goal::Deleted if are_many => "were not deleted",
            Goal::Deleted => "was not deleted",
        }
    }

    /// As an infinitive: `to succeed`.
    pub fn infinitive(self) -> &'static str {
        match self {
            Goal::Succeeded => "to succeed",
            Goal::Failed => "to fail",
            Goal::Done => "to finish",
            Goal::Ready => "to become ready",
            Goal::Deleted => "to be deleted",
        }
    }
}

/// The relation of an object to a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has reached the goal.
    Met,
    /// It will not reach it; the reason.
    Never(String),
    /// It is a workflow that had no run when its controller looked last, and that starts none by
    /// itself.
    NoRun,
    /// The same for a workflow that would start a run but is suspended.
    Suspended,
    /// It may reach it; its current state.
    NotYet(String),
}

/// The relation of an object of `kind` to `goal`.
pub fn verdict(kind: KindId, goal: Goal, object: &Value) -> Verdict {
    let is_leaving = object["metadata"]["deletionTimestamp"].is_string();
    let verdict = standing_to(kind, goal, object);
    // A deletion is never taken back, and controllers do nothing more for a deleted object. But a
    // task runs until it is stopped, so it may still end well.
    if let Verdict::NotYet(seen) = &verdict
        && is_leaving
        && kind != KindId::Task
        && goal != Goal::Deleted
    {
        return Verdict::Never(format!("{seen}, and it is being deleted"));
    }
    verdict
}

/// Why no object of `kind` can ever reach `goal`, if so: then no request is needed.
pub fn impossible(kind: KindId, goal: Goal) -> Option<String> {
    match goal {
        Goal::Ready | Goal::Deleted => None,
        Goal::Succeeded | Goal::Failed | Goal::Done => {
            let ends = kind == KindId::Task || kind.info().is_observed && kind != KindId::Service;
            let why = || format!("{} never end; wait for ready or deleted", kind.info().plural);
            (!ends).then(why)
        }
    }
}

fn standing_to(kind: KindId, goal: Goal, object: &Value) -> Verdict {
    let seen = standing(object);
    if goal == Goal::Deleted {
        return Verdict::NotYet(seen);
    }
    if !is_handled(kind, object) {
        return Verdict::NotYet(unhandled(kind, object, &seen));
    }
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    match goal {
        Goal::Ready => ready(kind, phase, object, seen),
        Goal::Succeeded | Goal::Failed | Goal::Done => ended(kind, goal, phase, object, seen),
        Goal::Deleted => Verdict::NotYet(seen),
    }
}

/// The state of an object whose controller has not handled its latest change.
fn unhandled(kind: KindId, object: &Value, seen: &str) -> String {
    let controller = format!("the {} controller", crate::target::word(kind));
    if object["status"]["phase"].is_string() {
        format!("{seen}; its latest change waits for {controller}")
    } else {
        format!("waiting for {controller}")
    }
}

/// Whether the controller of an object, if it has one, has handled its latest change.
pub fn is_handled(kind: KindId, object: &Value) -> bool {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let observed = object["status"]["observedGeneration"].as_i64().unwrap_or_default();
    !kind.info().is_observed || observed >= generation
}

fn ended(kind: KindId, goal: Goal, phase: &str, object: &Value, seen: String) -> Verdict {
    if let Some(why) = impossible(kind, goal) {
        return Verdict::Never(why);
    }
    // The phase is that of the run that counts: the workflow's own run of the newest revision, or
    // the newest run that a user started.
    if kind == KindId::Workflow && phase.is_empty() {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let reason =
            conditions.filter(|it| it["type"] == "Ready").find_map(|it| it["reason"].as_str());
        return match reason {
            Some(NO_RUN) => Verdict::NoRun,
            Some(SUSPENDED) => Verdict::Suspended,
            Some(_) | None => Verdict::NotYet("no run yet".to_owned()),
        };
    }
    let (is_good, is_bad) = ends(phase);
    let retried = kind == KindId::Task && is_bad && may_be_tried_again(object);
    match goal {
        Goal::Done if is_good || is_bad && !retried => Verdict::Met,
        Goal::Succeeded if is_good => Verdict::Met,
        Goal::Succeeded if is_bad && !retried => Verdict::Never(seen),
        Goal::Failed if is_bad => Verdict::Met,
        Goal::Failed if is_good => Verdict::Never(seen),
        Goal::Done | Goal::Succeeded | Goal::Failed | Goal::Ready | Goal::Deleted => {
            Verdict::NotYet(seen)
        }
    }
}

/// Whether a workflow shows the state of a run that is not the newest of its revision, because its
/// controller has not noticed that one yet.
pub fn is_behind(workflow: &Value, runs: &[WorkflowRun]) -> bool {
    let status = &workflow["status"];
    let is_of_now = |run: &&WorkflowRun| {
        let revision = run.status.revision.as_str();
        let has_not_begun = revision.is_empty() && !run.status.phase.is_final();
        has_not_begun || status["revision"].as_str() == Some(revision)
    };
    let newest = runs.iter().filter(is_of_now).max_by_key(|run| run.place());
    newest.is_some_and(|run| status["lastRun"].as_str() != Some(run.name()))
}

/// Whether an object has ended, and there is no unhandled change that lets it continue.
pub fn has_ended(kind: KindId, object: &Value) -> bool {
    let (is_good, is_bad) = ends(object["status"]["phase"].as_str().unwrap_or_default());
    (is_good || is_bad) && is_handled(kind, object)
}

/// Whether a phase is a successful end, and whether it is a failed one.
fn ends(phase: &str) -> (bool, bool) {
    match phase {
        "Succeeded" => (true, false),
        "Failed" | "TimedOut" | "Cancelled" | "Skipped" => (false, true),
        _ => (false, false),
    }
}

/// Whether a failed task may be retried: its job may do so until it has recorded the end.
fn may_be_tried_again(task: &Value) -> bool {
    let owners = task["metadata"]["ownerReferences"].as_array();
    let is_owned = owners.is_some_and(|owners| !owners.is_empty());
    let recorded = task["spec"]["recorded"].as_u64();
    is_owned && (recorded.is_none() || recorded != task["spec"]["run"].as_u64())
}

fn ready(kind: KindId, phase: &str, object: &Value, seen: String) -> Verdict {
    let condition = |kind: &str| {
        let list = object["status"]["conditions"].as_array();
        list.into_iter().flatten().any(|it| it["type"] == kind && it["status"] == "True")
    };
    let is_ready = if kind == KindId::Node {
        phase == "Ready"
    } else if kind == KindId::Task {
        object["status"]["ready"] == Value::Bool(true)
    } else if kind == KindId::PartitionSet {
        // An assignment is taken as the actual state.
        phase.is_empty() || condition("Ready")
    } else if kind.info().is_observed {
        condition("Ready")
    } else {
        kind != KindId::Namespace || object["metadata"]["deletionTimestamp"].is_null()
    };
    // A task whose attempt has ended is Stalled, although its job may be about to retry it.
    let is_over = if kind == KindId::Task {
        let (is_good, is_bad) = ends(phase);
        is_good || is_bad && !may_be_tried_again(object)
    } else {
        condition("Stalled")
    };
    if is_ready {
        Verdict::Met
    } else if is_over {
        Verdict::Never(seen)
    } else {
        Verdict::NotYet(seen)
    }
}

/// Whether the object has tasks that fit no node.
pub fn is_unschedulable(kind: KindId, object: &Value) -> bool {
    if kind == KindId::Task {
        let task: Option<Task> = serde_json::from_value(object.clone()).ok();
        return task.is_some_and(|task| task.unschedulable().is_some());
    }
    let list = object["status"]["conditions"].as_array();
    list.into_iter().flatten().any(|it| it["reason"] == UNSCHEDULABLE)
}

/// The state of an object in a few words: `Running, 3 of 8 tasks succeeded: message`.
pub fn standing(object: &Value) -> String {
    let status = &object["status"];
    let mut text = status["phase"].as_str().unwrap_or("still there").to_owned();
    // `0 of 0` before the tasks are counted would mean nothing.
    let total = status["total"].as_u64().filter(|total| *total > 0);
    if let (Some(total), Some(succeeded)) = (total, status["succeeded"].as_u64()) {
        text.push_str(&format!(", {succeeded} of {total} tasks succeeded"));
        if let Some(failed) = status["failed"].as_u64().filter(|failed| *failed > 0) {
            text.push_str(&format!(", {failed} failed"));
        }
    }
    if let Some(why) = deletion::waits_for(object) {
        text.push_str(&format!(": {why}"));
        return text;
    }
    let refused = object["spec"]["unschedulable"]["message"].as_str();
    // A workflow shows its run's message in its conditions only.
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let of_condition = conditions
        .filter(|condition| condition["type"] == "Ready")
        .filter_map(|condition| condition["message"].as_str())
        .find(|message| !message.is_empty());
    // A run whose controller has not seen it yet says so, too.
    let of_run = (object["kind"] == KindId::WorkflowRun.info().kind)
        .then(|| serde_json::from_value::<WorkflowRun>(object.clone()).ok())
        .flatten()
        .map(|run| run.why())
        .filter(|why| !why.is_empty());
    let own = status["message"].as_str().or(refused);
    if let Some(message) = of_run.as_deref().or(own).or(of_condition) {
        text.push_str(&format!(": {message}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(phase: &str, observed: i64) -> Value {
        json!({
            "metadata": {"generation": 2},
            "spec": {},
            "status": {
                "phase": phase, "observedGeneration": observed, "lastRun": "r",
                "conditions": [{"type": "Ready", "status": if phase == "Succeeded" { "True" } else { "False" }}],
            },
        })
    }

    fn word(kind: KindId, goal: Goal, object: &Value) -> &'static str {
        match verdict(kind, goal, object) {
            Verdict::Met => "met",
            Verdict::Never(_) => "never",
            Verdict::NoRun => "no run",
            Verdict::Suspended => "suspended",
            Verdict::NotYet(_) => "not yet",
        }
    }

    #[test]
    fn what_fits_nowhere_is_told_from_what_takes_long() {
        let job = |reason: &str| json!({"status": {"conditions": [{"reason": reason}]}});
        assert!(is_unschedulable(KindId::Job, &job("Unschedulable")));
        assert!(!is_unschedulable(KindId::Job, &job("Running")));
        let task = |attempt: u32| {
            json!({
                "metadata": {"name": "a-0"},
                "spec": {
                    "template": "a", "index": 0, "count": 1, "attempt": attempt,
                    "unschedulable": {"attempt": 1, "message": "0 of 3 nodes"},
                },
            })
        };
        assert!(is_unschedulable(KindId::Task, &task(1)));
        assert!(!is_unschedulable(KindId::Task, &task(2)), "that was said of an earlier attempt");
    }

    #[test]
    fn an_end_decides_by_its_phase() {
        for kind in [KindId::Job, KindId::WorkflowRun, KindId::Workflow] {
            let words = |phase: &str| {
                [Goal::Succeeded, Goal::Failed, Goal::Done, Goal::Deleted]
                    .map(|goal| word(kind, goal, &object(phase, 2)))
            };
            assert_eq!(words("Running"), ["not yet"; 4]);
            assert_eq!(words("Succeeded"), ["met", "never", "met", "not yet"]);
            for bad in ["Failed", "TimedOut", "Cancelled"] {
                assert_eq!(words(bad), ["never", "met", "met", "not yet"], "{bad}");
            }
        }
    }

    #[test]
    fn the_end_of_an_older_generation_is_none() {
        let older = object("Succeeded", 1);
        for goal in [Goal::Succeeded, Goal::Done, Goal::Ready] {
            assert_eq!(word(KindId::Job, goal, &older), "not yet");
        }
    }

    #[test]
    fn a_task_that_is_about_to_be_tried_again_may_still_become_ready() {
        for phase in ["Failed", "TimedOut", "Cancelled"] {
            let mut task = object(phase, 0);
            task["metadata"]["ownerReferences"] = json!([{"kind": "Job"}]);
            task["status"]["conditions"] = json!([{"type": "Stalled", "status": "True"}]);
            task["spec"] = json!({"run": 1});
            assert_eq!(word(KindId::Task, Goal::Ready, &task), "not yet", "{phase}");
            task["spec"]["recorded"] = 1.into();
            assert_eq!(word(KindId::Task, Goal::Ready, &task), "never", "{phase}");
        }
    }

    #[test]
    fn a_failed_task_may_be_tried_again_by_its_job() {
        let mut task = object("Failed", 0);
        assert_eq!(word(KindId::Task, Goal::Succeeded, &task), "never");
        task["metadata"]["ownerReferences"] = json!([{"kind": "Job"}]);
        assert_eq!(word(KindId::Task, Goal::Succeeded, &task), "not yet");
        assert_eq!(word(KindId::Task, Goal::Done, &task), "not yet");
        assert_eq!(word(KindId::Task, Goal::Failed, &task), "met");
        task["spec"] = json!({"run": 2, "recorded": 1});
        assert_eq!(word(KindId::Task, Goal::Succeeded, &task), "not yet", "of an earlier run");
        assert_eq!(word(KindId::Task, Goal::Ready, &task), "not yet");
        task["spec"]["recorded"] = 2.into();
        assert_eq!(word(KindId::Task, Goal::Succeeded, &task), "never");
        assert_eq!(word(KindId::Task, Goal::Ready, &task), "never");
        assert_eq!(word(KindId::Task, Goal::Done, &task), "met");
        task["status"]["phase"] = "Succeeded".into();
        assert_eq!(word(KindId::Task, Goal::Ready, &task), "never");
    }

    #[test]
    fn what_is_being_deleted_goes_no_further() {
        let mut running = object("Running", 2);
        running["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
        let words = [Goal::Succeeded, Goal::Failed, Goal::Done, Goal::Ready, Goal::Deleted]
            .map(|goal| word(KindId::Job, goal, &running));
        assert_eq!(words, ["never", "never", "never", "never", "not yet"]);
        assert_eq!(word(KindId::Task, Goal::Succeeded, &running), "not yet");
        running["status"]["phase"] = "Succeeded".into();
        assert_eq!(word(KindId::Job, Goal::Done, &running), "met", "it ended before");
        let mut namespace = json!({"metadata": {}, "status": {"phase": "Active"}});
        assert_eq!(word(KindId::Namespace, Goal::Ready, &namespace), "met");
        namespace["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
        assert_eq!(word(KindId::Namespace, Goal::Ready, &namespace), "never");
    }

    #[test]
    fn a_workflow_is_waited_for_by_the_run_that_counts() {
        let mut workflow = object("Succeeded", 2);
        workflow["status"]["lastRun"] = Value::Null;
        let word = |workflow: &Value| word(KindId::Workflow, Goal::Done, workflow);
        workflow["status"]["conditions"][0]["reason"] = json!("NoRun");
        assert_eq!(word(&workflow), "met", "a person started it");
        workflow["status"]["phase"] = Value::Null;
        assert_eq!(word(&workflow), "no run");
        workflow["status"]["conditions"][0]["reason"] = json!("Suspended");
        assert_eq!(word(&workflow), "suspended");
        workflow["status"]["conditions"] = Value::Null;
        assert_eq!(word(&workflow), "not yet");
    }

    #[test]
    fn a_workflow_that_has_not_heard_of_its_newest_run_is_behind() {
        let run = |name: &str, second: u32, revision: &str, phase: &str| {
            serde_json::from_value::<WorkflowRun>(json!({
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
                "spec": {"workflow": "w"},
                "status": {"revision": revision, "phase": phase},
            }))
            .unwrap()
        };
        let workflow = json!({"status": {"lastRun": "w-9", "revision": "now"}});
        let seen = run("w-9", 1, "now", "Succeeded");
        let behind = |other: WorkflowRun| is_behind(&workflow, &[seen.clone(), other]);
        assert!(behind(run("w-10", 1, "", "Pending")), "of the same second: by the number");
        assert!(behind(run("w-10", 2, "now", "Failed")), "it has ended already");
        assert!(!behind(run("w-8", 1, "now", "Failed")), "an earlier one");
        assert!(!behind(run("w-10", 2, "before", "Running")), "of another revision");
    }

    #[test]
    fn nodes_are_ready_or_not_and_never_end() {
        assert_eq!(word(KindId::Node, Goal::Ready, &object("Ready", 0)), "met");
        assert_eq!(word(KindId::Node, Goal::Ready, &object("Lost", 0)), "not yet");
        assert_eq!(word(KindId::Node, Goal::Done, &object("Ready", 0)), "never");
    }

    #[test]
    fn what_was_seen_last_is_told() {
        let mut job = object("Running", 2);
        job["status"]["total"] = 8.into();
        job["status"]["succeeded"] = 3.into();
        job["status"]["message"] = "waits".into();
        assert_eq!(standing(&job), "Running, 3 of 8 tasks succeeded: waits");
        job["status"]["failed"] = 2.into();
        assert_eq!(standing(&job), "Running, 3 of 8 tasks succeeded, 2 failed: waits");
        let run = json!({
            "apiVersion": "heliox.dev/v1", "kind": "WorkflowRun", "metadata": {"name": "w-1"},
            "spec": {"workflow": "w"},
            "status": {
                "phase": "Running", "total": 3, "succeeded": 1,
                "waiting": "a: retrying task w-1-a-0: exit 3",
            },
        });
        let retries = "Running, 1 of 3 tasks succeeded: a: retrying task w-1-a-0: exit 3";
        assert_eq!(standing(&run), retries);
        let mut workflow = object("Failed", 2);
        workflow["status"]["conditions"][0]["message"] = "run w-1: job a is Failed".into();
        assert_eq!(standing(&workflow), "Failed: run w-1: job a is Failed");
        assert_eq!(standing(&json!({"metadata": {}})), "still there");
        let leaving = json!({
            "metadata": {
                "deletionTimestamp": "2026-01-02T00:00:00Z",
                "annotations": { "heliox.dev/deletion-waits-for": "1 task still stops on node n1" },
            },
            "status": { "phase": "Running", "message": "exit 1 x2" },
        });
        assert_eq!(standing(&leaving), "Running: 1 task still stops on node n1");
        assert_eq!(
            standing(&json!({"status": {"phase": "Running", "total": 0, "succeeded": 0}})),
            "Running",
            "its tasks are not counted yet"
        );
    }

    #[test]
    fn what_its_controller_has_not_seen_is_said_in_words_that_name_it() {
        let seen = |object: &Value| {
            let verdict = verdict(KindId::Job, Goal::Done, object);
            let Verdict::NotYet(seen) = verdict else { return format!("{verdict:?}") };
            seen
        };
        let new = json!({"metadata": {"generation": 1}, "status": {}});
        assert_eq!(seen(&new), "waiting for the job controller");
        let changed = object("Failed", 1);
        assert_eq!(seen(&changed), "Failed; its latest change waits for the job controller");
    }
}
