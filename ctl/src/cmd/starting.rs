//! Which run a workflow starts for what was just applied. Its controller chooses the name of the
//! run shortly afterwards, and a user who wants to follow the run needs it.

use std::time::Duration;

use api::watch::WatchEventType;
use api::{Kind as _, KindId, Workflow};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::deployed::has_started;
use crate::following::{Following, Seen};
use crate::goal;
use crate::target::Target;

/// How long one command waits for such names in total. Without running controllers no names are
/// printed, which is no failure of the command.
const PATIENCE: Duration = Duration::from_secs(3);

/// Finds the runs that workflows start.
#[derive(Debug)]
pub(super) struct Starting {
    left: Duration,
}

impl Starting {
    pub(super) fn new() -> Self {
        Self { left: PATIENCE }
    }

    /// The run that a changed workflow starts, as text to append to the message: `: run w-2
    /// starts`; empty if there is none.
    pub(super) async fn told(&mut self, connection: &Connection, changed: &Value) -> String {
        let run = self.run(connection, changed).await;
        run.map(|run| format!(": run {run} starts")).unwrap_or_default()
    }

    /// The name of the run that a workflow starts because of a change, which resulted in the given
    /// object. Nothing if it starts none, or if that is not certain in time.
    async fn run(&mut self, connection: &Connection, changed: &Value) -> Option<String> {
        let workflow = read(changed)?;
        if !may_start_run(&workflow) {
            return None;
        }
        let connection = connection.within(workflow.namespace());
        let target = Target::new(KindId::Workflow, workflow.name());
        // With fast controllers it is known at once.
        let now: Value = connection.find(&target).await.ok()??;
        if let Some(told) = told_by_controller(&workflow, &now) {
            return told;
        }
        let began = Instant::now();
        let name = timeout(self.left, followed(&connection, &workflow, &now)).await;
        self.left = self.left.saturating_sub(began.elapsed());
        name.ok().flatten()
    }
}

fn read(object: &Value) -> Option<Workflow> {
    serde_json::from_value(object.clone()).ok()
}

/// Whether a changed workflow may start a run by itself. It does not once its controller has
/// handled its generation, since nothing then changed that runs depend on.
fn may_start_run(workflow: &Workflow) -> bool {
    let spec = &workflow.spec;
    let is_free = spec.run_on_apply.unwrap_or(true)
        && !spec.suspend.unwrap_or(false)
        && !workflow.is_deleting();
    is_free && workflow.status.observed_generation < workflow.generation()
}

/// The run that the controller has started since the change, or `Some(None)` if it started none;
/// nothing while it has not handled the change.
fn told_by_controller(changed: &Workflow, now: &Value) -> Option<Option<String>> {
    if !goal::is_handled(KindId::Workflow, now) {
        return None;
    }
    let is_it = |it: &Workflow| {
        it.uid() == changed.uid()
            && it.generation() == changed.generation()
            && has_started(changed, it)
    };
    Some(read(now).filter(is_it).and_then(|it| it.status.last_run))
}

/// What the controller reports next.
async fn followed(connection: &Connection, changed: &Workflow, now: &Value) -> Option<String> {
    let named = format!("metadata.name={}", changed.name());
    let query = connection.query(KindId::Workflow, String::new(), named);
    let version = now["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let mut following = Following::new(connection.client(), query, version);
    loop {
        match following.next().await.ok()? {
            Seen::Change(WatchEventType::Deleted, _) | Seen::Broken(_) | Seen::Missed => {
                return None;
            }
            Seen::Change(_, object) => {
                if let Some(told) = told_by_controller(changed, &object) {
                    return told;
                }
            }
            Seen::Back => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workflow(change: &Value, last: &Value) -> Workflow {
        let mut spec = json!({ "jobs": [{ "name": "a" }] });
        json_patch::merge(&mut spec, change);
        let metadata = json!({ "name": "w", "uid": "u", "generation": 2 });
        read(&json!({ "metadata": metadata, "spec": spec, "status": last })).unwrap()
    }

    #[test]
    fn a_run_may_start_until_the_controller_has_handled_the_change() {
        let starts = |change: Value, handled: i64| {
            may_start_run(&workflow(&change, &json!({ "observedGeneration": handled })))
        };
        assert!(starts(json!({}), 0));
        assert!(starts(json!({ "timeout": "1h" }), 1));
        assert!(!starts(json!({ "maxFailedJobs": 0 }), 2), "other words");
        assert!(!starts(json!({ "runOnApply": false }), 1));
        assert!(!starts(json!({ "suspend": true }), 1));
    }

    #[test]
    fn the_controller_tells_which_run_it_has_started() {
        let last = json!({ "revision": "a", "lastRunNumber": 1 });
        let changed = workflow(&json!({ "timeout": "1h" }), &last);
        let told = |generation: i64, revision: &str, number: u32| {
            let mut now = serde_json::to_value(&changed).unwrap();
            now["status"] = json!({
                "observedGeneration": generation, "revision": revision, "lastRunNumber": number,
                "lastRun": format!("w-{number}"),
            });
            told_by_controller(&changed, &now)
        };
        assert_eq!(told(1, "a", 1), None);
        assert_eq!(told(2, "b", 2), Some(Some("w-2".to_owned())));
        assert_eq!(told(2, "a", 1), Some(None), "it went back to what ran last");
    }
}
