//! Why a task, or an object that should have tasks, shows nothing: it has ended or has not started.
//! Pure.

use api::resource::Resource;
use api::task::TaskPhase;
use api::{Job, Kind as _, KindId, Task, Timestamp, WorkflowRun};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Code, Failure};
use crate::target::Target;

/// The state of a task that is not running: `has ended (Succeeded)`, `is Pending: 0 of 3 nodes: 3
/// full`. Nothing if it is running.
pub fn state(task: &Task, now: Timestamp) -> Option<String> {
    let phase = task.phase();
    match phase {
        TaskPhase::Running | TaskPhase::Stopping => None,
        TaskPhase::Succeeded | TaskPhase::Failed | TaskPhase::TimedOut | TaskPhase::Cancelled => {
            Some(format!("has ended ({phase})"))
        }
        TaskPhase::Pending | TaskPhase::Bound | TaskPhase::Starting | TaskPhase::Lost => {
            let why = task.why(now);
            let why = if why.is_empty() { why } else { format!(": {why}") };
            Some(format!("is {phase}{why}"))
        }
    }
}

/// Why no command can be run in an attempt of a task (by default the newest). Nothing if the task
/// does not tell.
pub fn no_command(task: &Task, attempt: Option<u32>, now: Timestamp) -> Option<Failure> {
    let target = Target::new(KindId::Task, task.name());
    let current = task.spec.attempt;
    let (message, hint) = match attempt {
        Some(past) if past < current => (
            format!("attempt {past} of {target} has ended: no command can be run in it"),
            format!("it is in attempt {current} now: leave --attempt out to run the command there"),
        ),
        Some(next) if next > current => (
            format!("{target} has no attempt {next}; its newest is {current}"),
            "leave --attempt out to run the command in that".to_owned(),
        ),
        Some(_) | None => {
            let state = state(task, now)?;
            let message = if task.has_ended() {
                format!("{target} {state}: no command can be run in it")
            } else {
                format!("no command can be run in {target}: it {state}")
            };
            (message, next_step(task, &target))
        }
    };
    Some(Failure::new(message).code(Code::Conflict).hint(hint))
}

fn next_step(task: &Task, target: &Target) -> String {
    match task.phase() {
        TaskPhase::Bound | TaskPhase::Starting => {
            format!("wait until it runs with hctl wait {target} --for ready")
        }
        TaskPhase::Succeeded | TaskPhase::Failed | TaskPhase::TimedOut | TaskPhase::Cancelled => {
            format!("see what it printed with hctl logs {}", target.name)
        }
        TaskPhase::Pending | TaskPhase::Running | TaskPhase::Stopping | TaskPhase::Lost => {
            format!("check its status with hctl describe {target}")
        }
    }
}

/// The message that a task has no output because it has not started, with the reason.
pub fn not_started(task: &Task, now: Timestamp) -> String {
    let (name, why) = (task.name(), task.why(now));
    let why = if why.is_empty() { why } else { format!(": {why}") };
    format!("{name} has not started yet{why}")
}

/// The message that a job or a run has no tasks, with the reason: none was created yet, or all were
/// removed.
pub fn no_tasks(target: &Target, object: &Value, now: Timestamp) -> String {
    let status = &object["status"];
    let count = |field: &str| status[field].as_u64().unwrap_or_default();
    let phase = status["phase"].as_str().unwrap_or("Pending");
    if count("succeeded") + count("failed") + count("cancelled") > 0 {
        return format!(
            "{target} has no tasks now; finished ones are removed after a while (keepTasks)."
        );
    }
    let is_suspended = object["spec"]["suspend"] == Value::Bool(true);
    let why = if target.kind == KindId::Job {
        why::<Job>(object, now)
    } else {
        first_of([why::<WorkflowRun>(object, now), why_of_jobs(object)])
    };
    let why = match (why.is_empty(), is_suspended) {
        (_, true) => format!("it is suspended; to go on: hctl resume {target}"),
        (true, _) => format!("it is {phase}"),
        (false, _) => format!("it is {phase}: {why}"),
    };
    format!("{target} has no tasks yet: {why}")
}

fn first_of(texts: [String; 2]) -> String {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// What the first waiting job of a run waits for: `load: PartitionSet db does not exist`.
fn why_of_jobs(run: &Value) -> String {
    let jobs = run["status"]["jobs"].as_array().into_iter().flatten();
    let said =
        |job: &Value| Some(format!("{}: {}", job["name"].as_str()?, job["message"].as_str()?));
    jobs.filter_map(said).next().unwrap_or_default()
}

/// The WHY cell of its row.
fn why<K: Resource + DeserializeOwned>(object: &Value, now: Timestamp) -> String {
    let typed = serde_json::from_value::<K>(object.clone()).ok();
    typed.and_then(|object| object.row(now).pop()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T12:00:00Z".parse().unwrap()
    }

    fn task(spec: &Value, status: &Value) -> Task {
        let mut task = json!({
            "metadata": { "name": "a-0" },
            "spec": { "template": "a", "index": 0, "count": 1, "attempt": 2 },
        });
        json_patch::merge(&mut task["spec"], spec);
        task["status"] = status.clone();
        serde_json::from_value(task).unwrap()
    }

    fn bound(state: &str, loss: Value) -> Task {
        let at = "2026-01-02T11:59:00Z";
        task(
            &json!({ "binding": { "node": "n1", "attempt": 2, "number": 2, "at": at } }),
            &json!({ "attempt": 2, "binding": 2, "state": state, "startedAt": at, "loss": loss }),
        )
    }

    #[test]
    fn a_command_is_refused_in_the_words_of_the_task() {
        let told = |task: &Task, attempt| match no_command(task, attempt, now()) {
            Some(it) => format!("{}: {}; {}", it.code.number(), it.message, it.hint.unwrap()),
            None => "nothing".to_owned(),
        };
        assert_eq!(
            told(&bound("Succeeded", Value::Null), None),
            "5: task/a-0 has ended (Succeeded): no command can be run in it; see what it printed \
             with hctl logs a-0"
        );
        let full = json!({ "unschedulable": { "attempt": 2, "message": "0 of 3 nodes: 3 full" } });
        assert_eq!(
            told(&task(&full, &json!({})), None),
            "5: no command can be run in task/a-0: it is Pending: 0 of 3 nodes: 3 full; check \
             its status with hctl describe task/a-0"
        );
        assert_eq!(
            told(&bound("Starting", Value::Null), None),
            "5: no command can be run in task/a-0: it is Starting; wait until it runs with hctl \
             wait task/a-0 --for ready"
        );
        let loss = json!({ "attempt": 2, "since": "2026-01-02T11:59:21Z", "replaceable": true });
        assert!(
            told(&bound("Running", loss), None).ends_with("it is Lost: node silent for 39s; to be replaced; check its status with hctl describe task/a-0")
        );
        let runs = bound("Running", Value::Null);
        assert_eq!(told(&runs, None), "nothing");
        assert!(told(&runs, Some(1)).starts_with("5: attempt 1 of task/a-0 has ended: no command"));
        assert!(told(&runs, Some(3)).starts_with("5: task/a-0 has no attempt 3; its newest is 2"));
    }

    #[test]
    fn what_has_no_tasks_yet_is_not_said_to_have_lost_them() {
        let told = |kind, object: Value| no_tasks(&Target::new(kind, "a"), &object, now());
        let object = |spec: Value, status: Value| {
            let mut object = json!({ "metadata": { "name": "a" }, "spec": spec });
            object["status"] = status;
            object
        };
        let run = |spec: Value, status: Value| {
            let mut whole = json!({ "workflow": "w" });
            json_patch::merge(&mut whole, &spec);
            told(KindId::WorkflowRun, object(whole, status))
        };
        assert_eq!(
            run(json!({}), json!({})),
            "run/a has no tasks yet: it is Pending: waiting for the workflow controller"
        );
        assert_eq!(
            run(json!({}), json!({ "phase": "Pending", "message": "waits for run/w-1" })),
            "run/a has no tasks yet: it is Pending: waits for run/w-1"
        );
        assert_eq!(
            run(json!({ "suspend": true }), json!({ "phase": "Suspended" })),
            "run/a has no tasks yet: it is suspended; to go on: hctl resume run/a"
        );
        let jobs = json!([{ "name": "a" }, { "name": "b", "message": "no such set" }]);
        assert_eq!(
            run(json!({}), json!({ "phase": "Running", "observedGeneration": 1, "jobs": jobs })),
            "run/a has no tasks yet: it is Running: b: no such set"
        );
        let job = |status: Value| {
            told(KindId::Job, object(json!({ "template": { "image": "x" } }), status))
        };
        assert_eq!(
            job(json!({ "phase": "Pending", "observedGeneration": 1, "message": "no such set" })),
            "job/a has no tasks yet: it is Pending: no such set"
        );
        assert_eq!(
            job(json!({ "phase": "Succeeded", "total": 2, "succeeded": 2 })),
            "job/a has no tasks now; finished ones are removed after a while (keepTasks)."
        );
    }
}
