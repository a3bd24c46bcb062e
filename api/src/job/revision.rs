//! The revision of a job: a hash of what a new run depends on.
//!
//! It is computed from the meaning of the template. Earlier versions hashed the text; the hashes
//! that they stored are still recognised, so that an upgrade does not run anything again.

use serde::Serialize;
use serde_json::Map;

use super::{Job, JobSpec};
use crate::template::Template;
use crate::{meaning, merge, names};

/// The revision of a job with this spec: its template, its target and the kind of its task list.
/// All other fields are changed in place.
pub fn revision(spec: &JobSpec) -> String {
    hash(&(meaning_of(&spec.template), &spec.target, shape(spec)))
}

/// Whether `revision` is the revision of this spec, computed by this version or an earlier one.
pub fn is_revision(spec: &JobSpec, revision: &str) -> bool {
    hash(&(&spec.template, &spec.target, shape(spec))) == revision
        || self::revision(spec) == revision
}

/// The canonical form of a template.
pub(crate) fn meaning_of(template: &Template) -> Map<String, serde_json::Value> {
    let mut document = merge::to_map(template);
    meaning::template(&mut document, &Map::new());
    document
}

/// Whether the templates of two jobs mean the same.
pub(super) fn same_template(new: &Job, old: &Job) -> bool {
    let (new, old) = (&new.spec.template, &old.spec.template);
    new == old || meaning_of(new) == meaning_of(old)
}

/// The kind of task list, and how often a rerun was asked for. Without reruns it is the text that
/// earlier versions hashed.
fn shape(spec: &JobSpec) -> String {
    let shape = if spec.items.is_some() {
        "items"
    } else if spec.tasks.is_empty() {
        "count"
    } else {
        "tasks"
    };
    if spec.reruns == 0 { shape.to_owned() } else { format!("{shape} {}", spec.reruns) }
}

fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("our kinds have text keys and finite numbers");
    names::hash(&text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(template: serde_json::Value) -> JobSpec {
        serde_json::from_value(json!({ "template": template })).unwrap()
    }

    #[test]
    fn a_revision_is_of_what_is_meant() {
        let one = spec(json!({ "image": "x", "resources": { "limits": { "cpu": "1" } } }));
        let other = spec(json!({
            "image": "x", "imagePullPolicy": "IfNotPresent",
            "resources": { "limits": { "cpu": "1000m" } },
        }));
        assert_eq!(revision(&one), revision(&other));
        let more = spec(json!({ "image": "x", "resources": { "limits": { "cpu": "2" } } }));
        assert_ne!(revision(&one), revision(&more));
    }

    #[test]
    fn the_same_once_more_is_another_revision() {
        let once = spec(json!({ "image": "x" }));
        let again = JobSpec { reruns: 1, ..once.clone() };
        assert_ne!(revision(&again), revision(&once));
        assert!(!is_revision(&again, &revision(&once)));
        assert_ne!(revision(&JobSpec { reruns: 2, ..once.clone() }), revision(&again));
    }

    /// What stores hold: were one of these another, each job like it would run again after an upgrade.
    #[test]
    fn what_earlier_versions_stored_still_counts() {
        let usual = spec(json!({ "image": "busybox", "args": ["a"] }));
        assert_eq!(revision(&usual), "800de5abec");
        assert_eq!(hash(&(&usual.template, &usual.target, "count")), "800de5abec");
        let other = spec(json!({ "image": "x", "resources": { "limits": { "cpu": "1000m" } } }));
        assert!(is_revision(&other, &hash(&(&other.template, &other.target, "count"))));
        assert!(is_revision(&other, &revision(&other)));
        assert!(!is_revision(&other, &revision(&usual)));
    }
}
