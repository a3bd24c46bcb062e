//! One task of a service, where a command needs one and the service was named.

use std::cmp::Reverse;

use api::task::TaskPhase;
use api::{Kind as _, KindId, Task};

use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::target::Target;
use crate::terminal;

/// A task of the service: a ready one if there is one, of the newest revision. It is named on stderr if
/// there are others, with `more` to see them.
///
/// # Errors
/// The service does not exist, has no task that has begun, or there was no answer.
pub(super) async fn task_of(
    connection: &Connection,
    service: &Target,
    more: &str,
) -> Result<Target, Failure> {
    let _exists: serde_json::Value = connection.get(service).await?;
    let (labels, fields) = service.task_selectors().unwrap_or_default();
    let query = connection.query(KindId::Task, labels, fields);
    let (tasks, _) = connection.list::<Task>(&query).await?;
    let Some(picked) = pick(&tasks) else {
        let hint = format!("see why with hctl describe {service}");
        let failure = Failure::new(format!("no task of {service} is running"));
        return Err(failure.code(Code::Conflict).hint(hint));
    };
    if tasks.len() > 1 {
        terminal::note(&format!("{}, one of {} tasks{more}", picked.name(), tasks.len()));
    }
    Ok(Target::new(KindId::Task, picked.name()))
}

/// The task that says most: one that is ready, or else runs, or else has run; of the newest revision, and
/// of those the first.
fn pick(tasks: &[Task]) -> Option<&Task> {
    let has_begun =
        |task: &&Task| task.status.started_at.is_some() || task.phase() == TaskPhase::Running;
    let order = |task: &&Task| {
        let is_running = task.phase() == TaskPhase::Running;
        (!task.is_ready(), !is_running, Reverse(task.spec.run), task.spec.index)
    };
    tasks.iter().filter(has_begun).min_by_key(order)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ready_task_of_the_newest_revision_is_picked() {
        let task = |name: &str, run: u32, state: &str, ready: bool| -> Task {
            serde_json::from_value(json!({
                "apiVersion": "heliox.dev/v1", "kind": "Task",
                "metadata": { "name": name, "namespace": "default" },
                "spec": {
                    "index": 0, "template": "t", "run": run, "attempt": 1,
                    "binding": {
                        "attempt": 1, "number": 1, "node": "n", "at": "2026-01-02T00:00:00Z",
                    },
                },
                "status": {
                    "attempt": 1, "binding": 1, "state": state, "ready": ready,
                    "startedAt": "2026-01-02T00:00:00Z",
                },
            }))
            .unwrap()
        };
        let name = |tasks: &[Task]| pick(tasks).map(|task| task.name().to_owned());
        let (old, new) = (task("old", 1, "Running", true), task("new", 2, "Running", true));
        let unready = task("unready", 2, "Running", false);
        assert_eq!(name(&[old.clone(), unready.clone()]).as_deref(), Some("old"));
        assert_eq!(name(&[old, unready.clone(), new]).as_deref(), Some("new"));
        assert_eq!(name(&[unready]).as_deref(), Some("unready"));
        assert_eq!(name(&[]), None);
    }
}
