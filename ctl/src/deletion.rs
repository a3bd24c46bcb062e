//! What the deletion of an object waits for, as the server says it. Pure.

use api::core::{CONTENT_REMAINING, FINALIZERS_REMAINING};
use api::labels;
use serde_json::Value;

/// What the deletion of an object waits for: the conditions of a namespace, or what the garbage
/// collector has written on another object. `None` if it is not being deleted, or nothing is said.
pub fn waits_for(object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    metadata["deletionTimestamp"].as_str()?;
    let said = metadata["annotations"][labels::DELETION_WAITS_FOR].as_str();
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let remains = conditions.filter(|it| {
        let kind = it["type"].as_str();
        let tells = [CONTENT_REMAINING, FINALIZERS_REMAINING].map(Some).contains(&kind);
        tells && it["status"] == "True"
    });
    let remains = remains.filter_map(|it| it["message"].as_str());
    let all: Vec<&str> = said.into_iter().chain(remains).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_says_of_a_deletion_is_shown() {
        let mut job = json!({ "metadata": { "annotations": {
            "heliox.dev/deletion-waits-for": "1 task still stops on node db-1",
        } } });
        assert_eq!(waits_for(&job), None, "it is not being deleted");
        job["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
        assert_eq!(waits_for(&job).as_deref(), Some("1 task still stops on node db-1"));
        let condition = |kind: &str, status: &str, message: &str| json!({ "type": kind, "status": status, "message": message });
        let mut namespace = json!({
            "metadata": { "deletionTimestamp": "2026-01-02T00:00:00Z" },
            "status": { "phase": "Terminating", "conditions": [
                condition("NamespaceContentRemaining", "True", "still there: 1 job"),
                condition("NamespaceFinalizersRemaining", "True", "finalizer x/y of job/a"),
                condition("Other", "True", "no"),
            ] },
        });
        assert_eq!(
            waits_for(&namespace).as_deref(),
            Some("still there: 1 job; finalizer x/y of job/a")
        );
        namespace["status"]["conditions"][1]["status"] = "False".into();
        assert_eq!(waits_for(&namespace).as_deref(), Some("still there: 1 job"));
        namespace["status"]["conditions"] = json!([]);
        assert_eq!(waits_for(&namespace), None);
    }
}
