//! To which run `spec.cancel` applies: the one that exists when it is set.
//!
//! # Invariants
//!
//! * A run that a change begins is not cancelled by a `cancel` that was set for the run before.
//! * A cancel that could have no effect is refused.

use super::change::opens_run;
use super::{Job, JobSpec};
use crate::object::Kind as _;
use crate::violation::Violation;

/// Longest `spec.cancelReason`, in characters.
pub const REASON_CHARS_MAX: usize = 256;

/// Whether `new` still carries the `cancel` of an earlier run: both versions have it, and the
/// change from `old` begins another run. Without this check a job that was cancelled once could
/// never run again, because `cancel` is not in people's manifests and nobody else resets it.
pub fn is_of_earlier_run(new: &Job, old: &Job) -> bool {
    new.spec.cancel && old.spec.cancel && opens_run(new, old)
}

/// The violation of a cancel reason that is too long or has no cancel.
pub(super) fn reason(spec: &JobSpec) -> Option<Violation> {
    let chars = spec.cancel_reason.as_ref()?.chars().count();
    let why = format!("{chars} characters; at most {REASON_CHARS_MAX} are allowed");
    (chars > REASON_CHARS_MAX).then(|| Violation::new("spec.cancelReason", why))
}

/// The violation of a cancel when the job's run has ended: there is nothing left to cancel.
pub(super) fn too_late(new: &Job, old: &Job) -> Option<Violation> {
    let mut otherwise = new.spec.clone();
    otherwise.cancel = old.spec.cancel;
    otherwise.cancel_reason.clone_from(&old.spec.cancel_reason);
    let is_asked_now = new.spec.cancel && !old.spec.cancel && otherwise == old.spec;
    let is_observed = old.status.observed_generation >= old.generation();
    (is_asked_now && is_observed && old.status.phase.is_final()).then(|| {
        let why = format!("the job has ended ({}): nothing to cancel", old.status.phase);
        Violation::new("spec.cancel", why).hint("leave it out")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::job::{JobPhase, revision};

    fn job(spec: Value) -> Job {
        let mut fields = json!({ "template": { "image": "one" } });
        fields.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut job = Job::new("default", "j", serde_json::from_value(fields).unwrap());
        job.metadata.generation = Some(2);
        job.status.run = 1;
        job.status.observed_generation = 2;
        job.status.revision = revision(&job.spec);
        job
    }

    #[test]
    fn a_reason_is_short() {
        let said = |spec| reason(&job(spec).spec).map(|found| found.to_string());
        assert_eq!(said(json!({ "cancel": true, "cancelReason": "w".repeat(256) })), None);
        assert_eq!(said(json!({ "cancel": true })), None);
        let long = said(json!({ "cancel": true, "cancelReason": "w".repeat(257) })).unwrap();
        assert!(long.contains("257 characters; at most 256 are allowed"), "{long}");
        // A client that resets `cancel` need not know of the reason.
        assert_eq!(said(json!({ "cancel": false, "cancelReason": "why not" })), None);
    }

    #[test]
    fn a_cancel_is_of_the_run_that_was_there() {
        let cancelled = job(json!({ "cancel": true }));
        let inherits = |spec: Value| is_of_earlier_run(&job(spec), &cancelled);
        assert!(!inherits(json!({ "cancel": true })));
        assert!(!inherits(json!({ "cancel": true, "count": 3 })), "the same run goes on");
        let two = json!({ "image": "two" });
        assert!(inherits(json!({ "cancel": true, "template": two })));
        assert!(!inherits(json!({ "template": two })), "nothing to take back");
        let ignore = json!({ "cancel": true, "template": two, "onChange": "Ignore" });
        assert!(!inherits(ignore), "no other run");
        assert!(!is_of_earlier_run(
            &job(json!({ "cancel": true, "template": two })),
            &job(json!({}))
        ));
    }

    #[test]
    fn a_change_that_was_ignored_opens_its_run_later() {
        let two = json!({ "image": "two" });
        let mut old = job(json!({ "cancel": true, "template": two, "onChange": "Ignore" }));
        old.status.revision = revision(&job(json!({})).spec);
        assert!(is_of_earlier_run(&job(json!({ "cancel": true, "template": two })), &old));
        old.status.revision = revision(&old.spec);
        assert!(!is_of_earlier_run(&job(json!({ "cancel": true, "template": two })), &old));
    }

    #[test]
    fn what_has_ended_is_not_cancelled() {
        let cancel = |old: &Job, spec: Value| too_late(&job(spec), old).map(|it| it.message);
        let mut old = job(json!({}));
        assert_eq!(cancel(&old, json!({ "cancel": true })), None, "it has not ended");
        old.status.phase = JobPhase::Succeeded;
        let why = "the job has ended (Succeeded): nothing to cancel".to_owned();
        assert_eq!(cancel(&old, json!({ "cancel": true })), Some(why));
        assert_eq!(cancel(&old, json!({ "cancel": true, "count": 3 })), None, "it goes on");
        assert_eq!(cancel(&old, json!({ "suspend": true })), None);
        old.metadata.generation = Some(3);
        assert_eq!(cancel(&old, json!({ "cancel": true })), None, "its newest change is to come");
    }
}
