//! What lowering the number of tasks does to a job that runs.

use super::{JobSpec, change};
use crate::task::Task;

/// The sentence for a run whose job has fewer tasks from now on: `scaled down from 10 to 4 tasks; 2
/// running tasks are stopped`.
pub fn scaled_down(before: u32, after: u32, running: usize) -> String {
    let tasks = if after == 1 { "task" } else { "tasks" };
    format!("scaled down from {before} to {after} {tasks}{}", change::stopped(running))
}

/// How many tasks a spec asks for; nothing if its partition set decides that.
pub fn tasks_wanted(spec: &JobSpec) -> Option<u32> {
    let listed = |count: usize| Some(u32::try_from(count).unwrap_or(u32::MAX));
    match (&spec.target, &spec.items) {
        (Some(_), _) => None,
        (None, Some(items)) => listed(items.len()),
        (None, None) if !spec.tasks.is_empty() => listed(spec.tasks.len()),
        (None, None) => Some(spec.count()),
    }
}

/// Whether a task of the current run is in one spec and no longer in another.
pub fn is_left_out(before: &JobSpec, after: &JobSpec, task: &Task) -> bool {
    wants(before, task) && !wants(after, task)
}

fn wants(spec: &JobSpec, task: &Task) -> bool {
    let own = &task.spec.overrides;
    match &spec.items {
        Some(items) => own.item.as_ref().is_some_and(|item| items.contains(item)),
        None if spec.tasks.is_empty() => task.spec.index < spec.count(),
        None => spec.tasks.iter().any(|listed| own.name.as_ref() == Some(&listed.name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(fields: &Value) -> JobSpec {
        let mut spec = json!({ "template": { "image": "a" } });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn task(index: u32, overrides: &Value) -> Task {
        serde_json::from_value(json!({
            "metadata": { "name": "a" },
            "spec": { "template": "a", "index": index, "overrides": overrides },
        }))
        .unwrap()
    }

    #[test]
    fn a_task_is_left_out_by_its_number_its_name_or_its_item() {
        let is_out = |before: Value, after: Value, index, overrides: Value| {
            is_left_out(&spec(&before), &spec(&after), &task(index, &overrides))
        };
        let (four, two) = (json!({ "count": 4 }), json!({ "count": 2 }));
        assert!(is_out(four.clone(), two.clone(), 2, json!({})));
        assert!(!is_out(four.clone(), two, 1, json!({})));
        assert!(
            !is_out(json!({ "count": 2 }), json!({ "count": 1 }), 2, json!({})),
            "it was before"
        );
        let listed = |names: &[&str]| {
            let tasks: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            json!({ "tasks": tasks })
        };
        let b = json!({ "name": "b" });
        assert!(is_out(listed(&["a", "b"]), listed(&["a"]), 1, b.clone()));
        assert!(!is_out(listed(&["a", "b"]), listed(&["b"]), 1, b));
        let items = |items: Value| json!({ "items": items });
        assert!(is_out(items(json!(["x", "y"])), items(json!(["y"])), 0, json!({ "item": "x" })));
    }

    #[test]
    fn how_many_tasks_a_spec_asks_for() {
        let of = |fields| tasks_wanted(&spec(&fields));
        assert_eq!(of(json!({})), Some(1));
        assert_eq!(of(json!({ "count": 0 })), Some(0));
        assert_eq!(of(json!({ "tasks": [{ "name": "a" }, { "name": "b" }] })), Some(2));
        assert_eq!(of(json!({ "items": [] })), Some(0));
        assert_eq!(of(json!({ "target": { "partitionSet": "p" } })), None);
    }
}
