//! Similar tasks of one owner, created by one operation. They are admitted once, but permission,
//! guards and writes are per task.

use std::sync::Arc;

use api::batch::{Ranges, owner_name};
use api::size::{GROUP_BYTES_MAX, json_bytes};
use api::status::{Refusal, Why};
use api::verb::Verb;
use api::{KindId, ObjectKey, Task, Violation, names};
use serde::Deserialize as _;
use serde_json::Value;

use super::{Asked, identify};
use crate::Server;
use crate::http::change::{Statuses, admitted, refused};
use crate::http::query::bad;
use crate::write::{New, NewTask, Repeatable, Wish};

/// The tasks that the operation is about.
pub(super) fn asked(task: &Value, indexes: &Ranges) -> Result<Vec<Asked>, Refusal> {
    let (kind, like) = identify(task)?;
    if kind != KindId::Task {
        return Err(bad(format!("createTasks makes tasks, not {}", kind.info().plural)));
    }
    let Some(owner) = owner_name(task) else {
        return Err(bad("metadata.ownerReferences names no controller: its tasks are made"));
    };
    // Checked once, before it becomes part of each task's name: it may be as long as the body.
    if let Some(problem) = names::problem(owner) {
        let violation = Violation::new("metadata.ownerReferences.name", problem);
        return Err(refused(KindId::Task, &like.name, &[violation]));
    }
    let ask = |index| {
        let key = ObjectKey::new(&*like.namespace, NewTask::name(owner, index));
        match names::problem(&key.name) {
            None => Ok((Verb::Create, (KindId::Task, None), key)),
            Some(problem) => {
                let violation = Violation::new("metadata.ownerReferences.name", problem);
                Err(refused(KindId::Task, &key.name, &[violation]))
            }
        }
    };
    indexes.iter().map(ask).collect()
}

/// The writes for these tasks, in the order of their indexes.
pub(super) fn wishes(
    server: &Server,
    task: Value,
    indexes: &Ranges,
    asked: Vec<Asked>,
) -> Result<Vec<Wish>, Refusal> {
    let (kind, like) = identify(&task)?;
    let admitted = admitted(server, (kind, &like.namespace), task, Statuses::Dropped)?;
    let like = Task::deserialize(admitted)
        .map_err(|error| refused(kind, &like.name, &[Violation::new("", error.to_string())]))?;
    // The request contains the task once, but it is stored once for each index. This limit is checked
    // before the documents are built.
    let (count, bytes) = (asked.len(), json_bytes(&like));
    if bytes.saturating_mul(count) > GROUP_BYTES_MAX {
        let message = format!(
            "{count} tasks of {bytes} bytes each are too large for a transaction (maximum \
             {GROUP_BYTES_MAX} bytes); create fewer at once"
        );
        return Err(Refusal::new(Why::TooLarge, message));
    }
    let like = Arc::new(like);
    let wish = |(index, (_, _, key)): (u32, Asked)| {
        let task = NewTask::of(&like, (index, &key.name), server.rng.uuid());
        let (object, repeatable) = (New::Task(task), Repeatable::BySameController);
        Wish::Create { kind, key, object, repeatable }
    };
    Ok(indexes.iter().zip(asked).map(wish).collect())
}
