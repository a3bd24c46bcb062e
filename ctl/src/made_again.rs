//! Deleted objects that are created again because their owners still exist. Pure.

use std::collections::BTreeMap;

use api::KindId;
use serde_json::Value;

use crate::goal;
use crate::hints;
use crate::target::Target;

/// Kinds that an owner creates again. A workflow's runs are not: each is one execution.
const MADE_AGAIN: [KindId; 2] = [KindId::Job, KindId::Task];

/// An object with its namespace.
pub type Placed = (String, Target);

/// Those of the deleted objects that their owners will create again, by owner. `deleted` are the
/// objects in their last state. Ended ones are recorded and not created again.
pub fn by_owner(deleted: &[(Placed, Value)]) -> BTreeMap<Placed, Vec<Target>> {
    let mut found: BTreeMap<Placed, Vec<Target>> = BTreeMap::new();
    for ((namespace, target), object) in deleted {
        if !MADE_AGAIN.contains(&target.kind) || goal::has_ended(target.kind, object) {
            continue;
        }
        if let Some(owner) = controller(object) {
            let owner = (namespace.clone(), owner);
            found.entry(owner).or_default().push(target.clone());
        }
    }
    found
}

/// The owner of an object that would create it again.
fn controller(object: &Value) -> Option<Target> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == Value::Bool(true))?;
    let word = |field: &str| owner[field].as_str();
    let kind = KindId::from_manifest(word("apiVersion")?, word("kind")?)?;
    Some(Target::new(kind, word("name")?))
}

/// The message for a user who has deleted `targets`, which belong to `owner`. `object` is the
/// owner's current state; `seen_from` the default namespace of commands. Nothing if it will not
/// create them again.
pub fn told(
    (namespace, owner): &Placed,
    object: &Value,
    targets: &[Target],
    seen_from: &str,
) -> Option<String> {
    let spec = &object["spec"];
    let is_over = object["metadata"]["deletionTimestamp"].is_string()
        || spec["cancel"] == Value::Bool(true)
        || goal::has_ended(owner.kind, object);
    if is_over {
        return None;
    }
    let when = if spec["suspend"] == Value::Bool(true) { " once it is resumed" } else { "" };
    let what = match targets {
        [] => return None,
        [one] => one.to_string(),
        [first, ..] => format!("{} {}", targets.len(), first.kind.info().plural),
    };
    let place = hints::place(namespace, seen_from);
    let whole = crate::target::word(owner.kind);
    // A service is never cancelled: it has no end.
    let verb = if owner.kind == KindId::Service { "suspend" } else { "cancel" };
    Some(format!("{owner} makes {what} again{when}; hctl {verb}{place} {owner} stops the {whole}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn placed(kind: KindId, name: &str) -> Placed {
        ("default".to_owned(), Target::new(kind, name))
    }

    fn owned(kind: KindId, name: &str, owner: (&str, &str), phase: &str) -> (Placed, Value) {
        let owner = json!({ "apiVersion": "heliox.dev/v1", "kind": owner.0, "name": owner.1, "controller": true });
        let object = json!({
            "metadata": { "name": name, "ownerReferences": [owner] },
            "status": { "phase": phase },
        });
        (placed(kind, name), object)
    }

    #[test]
    fn what_has_not_ended_is_made_again_by_its_owner() {
        let run = ("WorkflowRun", "w-1");
        let deleted = [
            owned(KindId::Job, "w-1-a", run, "Running"),
            owned(KindId::Job, "w-1-b", run, "Succeeded"),
            owned(KindId::Job, "w-1-c", run, ""),
            owned(KindId::Job, "x", ("Other", "o"), "Running"),
            owned(KindId::Task, "j-0", ("Job", "j"), "Lost"),
            owned(KindId::WorkflowRun, "w-1", ("Workflow", "w"), "Running"),
        ];
        let found = by_owner(&deleted);
        let names = |targets: &Vec<Target>| {
            targets.iter().map(|target| target.name.clone()).collect::<Vec<_>>()
        };
        let found: Vec<_> =
            found.iter().map(|((_, owner), it)| (owner.to_string(), names(it))).collect();
        assert_eq!(
            found,
            [
                ("run/w-1".to_owned(), vec!["w-1-a".to_owned(), "w-1-c".to_owned()]),
                ("job/j".to_owned(), vec!["j-0".to_owned()]),
            ]
        );
    }

    #[test]
    fn only_an_owner_that_goes_on_makes_anything_again() {
        let owner = placed(KindId::WorkflowRun, "w-1");
        let jobs = ["a", "b"].map(|name| Target::new(KindId::Job, name));
        let one = |object: &Value| told(&owner, object, &jobs[..1], "default");
        let running = json!({ "spec": {}, "status": { "phase": "Running" } });
        assert_eq!(
            one(&running).unwrap(),
            "run/w-1 makes job/a again; hctl cancel run/w-1 stops the run"
        );
        assert_eq!(
            told(&owner, &running, &jobs, "team").unwrap(),
            "run/w-1 makes 2 jobs again; hctl cancel -n default run/w-1 stops the run"
        );
        let suspended = json!({ "spec": { "suspend": true }, "status": { "phase": "Suspended" } });
        assert!(one(&suspended).unwrap().contains("job/a again once it is resumed;"));
        for over in [
            json!({ "status": { "phase": "Failed" } }),
            json!({ "spec": { "cancel": true }, "status": { "phase": "Running" } }),
            json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
        ] {
            assert_eq!(one(&over), None, "{over}");
        }
        let job = placed(KindId::Job, "j");
        let task = [Target::new(KindId::Task, "j-0")];
        assert_eq!(
            told(&job, &running, &task, "default").unwrap(),
            "job/j makes task/j-0 again; hctl cancel job/j stops the job"
        );
    }
}
