//! Which run a workflow starts for what was just applied. Its controller gives the run its name, and says
//! so within a moment: whoever wants to follow the run needs that name.

use std::time::Duration;

use api::watch::WatchEventType;
use api::workflow::revision;
use api::{Kind as _, KindId, Workflow};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::following::{Following, Seen};
use crate::goal;

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

    /// The name of the run that a workflow starts since it was changed from `before` to `after`, or made.
    /// Nothing where it starts none, or that is not known for sure in time.
    pub(super) async fn run(
        &mut self,
        connection: &Connection,
        before: Option<&Value>,
        after: &Value,
    ) -> Option<String> {
        if !starts_run(before, after) || self.left.is_zero() {
            return None;
        }
        let began = Instant::now();
        let name = timeout(self.left, told_by_controller(connection, after)).await;
        self.left = self.left.saturating_sub(began.elapsed());
        name.ok().flatten()
    }
}

/// Whether a change makes a workflow start a run by itself.
fn starts_run(before: Option<&Value>, after: &Value) -> bool {
    let read = |object: &Value| serde_json::from_value::<Workflow>(object.clone()).ok();
    let Some(workflow) = read(after) else { return false };
    let is_free = workflow.spec.run_on_apply.unwrap_or(true)
        && !workflow.spec.suspend.unwrap_or(false)
        && !workflow.is_deleting();
    let is_new = || match before.map(read) {
        None => true,
        Some(before) => {
            before.is_some_and(|before| revision(&before.spec) != revision(&workflow.spec))
        }
    };
    is_free && is_new()
}

/// The run that the controller has made of this very generation: the note of it and the run are one write.
async fn told_by_controller(connection: &Connection, workflow: &Value) -> Option<String> {
    let metadata = &workflow["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let connection = connection.within(text("namespace"));
    let named = format!("metadata.name={}", text("name"));
    let query = connection.query(KindId::Workflow, String::new(), named);
    let mut following = Following::new(connection.client(), query, text("resourceVersion"));
    loop {
        let object = match following.next().await.ok()? {
            Seen::Change(WatchEventType::Deleted, _) | Seen::Broken(_) | Seen::Missed => {
                return None;
            }
            Seen::Change(_, object) => object,
            Seen::Back => continue,
        };
        if goal::is_handled(KindId::Workflow, &object) {
            let is_same = object["metadata"]["generation"] == metadata["generation"]
                && object["metadata"]["uid"] == metadata["uid"];
            let run = object["status"]["lastRun"].as_str().filter(|_| is_same);
            return run.map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_starts_for_another_revision_alone() {
        let workflow = |change: Value| {
            let mut spec = json!({ "jobs": [{ "name": "a" }] });
            json_patch::merge(&mut spec, &change);
            json!({ "metadata": { "name": "w" }, "spec": spec })
        };
        let first = workflow(json!({}));
        assert!(starts_run(None, &first));
        assert!(!starts_run(None, &workflow(json!({ "runOnApply": false }))));
        assert!(!starts_run(None, &workflow(json!({ "suspend": true }))));
        assert!(starts_run(Some(&first), &workflow(json!({ "timeout": "1h" }))));
        assert!(!starts_run(Some(&first), &workflow(json!({ "maxFailedJobs": 0 }))), "other words");
        assert!(!starts_run(Some(&first), &workflow(json!({ "history": { "failed": 1 } }))));
    }
}
