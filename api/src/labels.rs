//! The labels, annotations and finalizers that have a meaning to Heliox.

/// Label: the workflow that an object was made for.
pub const WORKFLOW: &str = "heliox.dev/workflow";
/// Label: the workflow run that an object was made for.
pub const RUN: &str = "heliox.dev/run";
/// Label: the number in the name of a workflow run whose name Heliox chose. No two runs of a
/// workflow have the same number, even after earlier runs were deleted.
pub const RUN_NUMBER: &str = "heliox.dev/run-number";
/// Label: the Job that a task belongs to.
pub const JOB: &str = "heliox.dev/job";
/// Label: the Service that a task belongs to.
pub const SERVICE: &str = "heliox.dev/service";
/// Label of a task that was started as a canary of its revision: `true`.
pub const CANARY: &str = "heliox.dev/canary";
/// Label: the revision of the object that made this one.
pub const REVISION: &str = "heliox.dev/revision";
/// Annotation of a workflow run that its workflow started by itself: the `metadata.generation` of
/// the workflow that the run was started for.
pub const GENERATION: &str = "heliox.dev/workflow-generation";
/// Annotation: the fields that `hctl apply` applied last, as JSON. Earlier versions stored their
/// values as well.
pub const LAST_APPLIED: &str = "heliox.dev/last-applied-configuration";
/// Finalizer: the deletion waits until the owned objects are gone.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
/// Finalizer: the deletion waits until the owned objects have lost their reference to this owner.
pub const FINALIZER_ORPHAN: &str = "orphan";
/// The namespace of the Lease objects that elect leaders.
pub const SYSTEM_NAMESPACE: &str = "heliox-system";
/// Annotation of an object that is deleted in the foreground: what the deletion waits for, for people.
/// The garbage collector writes it once that takes longer than a few seconds.
pub const DELETION_WAITS_FOR: &str = "heliox.dev/deletion-waits-for";
/// Annotation of a TaskTemplate whose owner was deleted with `propagationPolicy: Orphan`. The
/// template is removed when the last task that runs it is gone.
pub const ORPHANED: &str = "heliox.dev/orphaned";

/// Labels by which Heliox finds what it made for an owner. They cannot be changed after an object
/// was created, because controllers decide by them.
pub const OF_OWNER: [&str; 6] = [WORKFLOW, RUN, RUN_NUMBER, REVISION, JOB, SERVICE];

/// The selector of the objects that have this value of a label.
pub fn selector(label: &str, value: &str) -> String {
    format!("{label}={value}")
}
