//! Which run a workflow starts for what was just applied. Its controller gives the run its name, and says
//! so within a moment: whoever wants to follow the run needs that name.

use std::time::Duration;

use api::watch::WatchEventType;
use api::workflow::{revision, written_revision};
use api::{Kind as _, KindId, Workflow};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::deployed::has_started;
use crate::following::{Following, Seen};
use crate::goal;
use crate::target::Target;

/// How long one command waits for such names in all. Where no controllers are there, nothing is wrong with
/// what was applied: the names are not told then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks for the runs that workflows start.
#[derive(Debug)]
pub(super) struct Starting {
    left: Duration,
}

impl Starting {
    pub(super) fn new() -> Self {
        Self { left: PATIENCE }
    }

    /// The run that a workflow starts since it was changed, to be said after what was done: `: run w-2
    /// starts`, or nothing.
    pub(super) async fn told(&mut self, connection: &Connection, changed: &Value) -> String {
        let run = self.run(connection, changed).await;
        run.map(|run| format!(": run {run} starts")).unwrap_or_default()
    }

    /// The name of the run that a workflow starts since it was changed to what this answer of the server
    /// says. Nothing where it starts none, or that is not known for sure in time.
    async fn run(&mut self, connection: &Connection, changed: &Value) -> Option<String> {
        let workflow = read(changed)?;
        if !may_start_run(&workflow) {
            return None;
        }
        let connection = connection.within(workflow.namespace());
        let target = Target::new(KindId::Workflow, workflow.name());
        // Where controllers are fast it is known at once, however slow this machine is.
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

/// Whether a workflow that was just changed may start a run by itself: one of what it says, unless its last
/// run is known to be of that.
fn may_start_run(workflow: &Workflow) -> bool {
    let (spec, known) = (&workflow.spec, &workflow.status.revision);
    let is_free = spec.run_on_apply.unwrap_or(true)
        && !spec.suspend.unwrap_or(false)
        && !workflow.is_deleting();
    is_free && revision(spec) != *known && written_revision(spec) != *known
}

/// The run that the controller has started since a workflow was `changed`, or that it started none; nothing
/// while it has not come to that change.
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

/// What the controller tells next.
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
    fn a_run_starts_for_another_revision_alone() {
        let of_first = revision(&workflow(&json!({}), &json!({})).spec);
        let starts = |change: Value, last: &str| {
            may_start_run(&workflow(&change, &json!({ "revision": last })))
        };
        assert!(starts(json!({}), ""));
        assert!(!starts(json!({ "runOnApply": false }), ""));
        assert!(!starts(json!({ "suspend": true }), ""));
        assert!(starts(json!({ "timeout": "1h" }), &of_first));
        assert!(!starts(json!({ "maxFailedJobs": 0 }), &of_first), "other words");
        assert!(!starts(json!({ "history": { "failed": 1 } }), &of_first));
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
