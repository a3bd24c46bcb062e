//! The labels, annotations and finalizers that Heliox gives a meaning.

/// The workflow that an object was made for.
pub const WORKFLOW: &str = "heliox.dev/workflow";
/// The run that an object was made for.
pub const RUN: &str = "heliox.dev/run";
/// The number in the name of a run that was not given a name: of a workflow's runs, no two have the
/// same, also when earlier ones are gone.
pub const RUN_NUMBER: &str = "heliox.dev/run-number";
/// The job that a task belongs to: the Job's name.
pub const JOB: &str = "heliox.dev/job";
/// The revision of what made it.
pub const REVISION: &str = "heliox.dev/revision";
/// Which fields `hctl apply` applied last, as JSON. (Versions before noted what was in them, too.)
pub const LAST_APPLIED: &str = "heliox.dev/last-applied-configuration";
/// Deletion waits for dependents.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
/// Deletion leaves dependents, once they are cut loose.
pub const FINALIZER_ORPHAN: &str = "orphan";
/// Where leader elections keep their Lease objects.
pub const SYSTEM_NAMESPACE: &str = "heliox-system";
/// An annotation of a TaskTemplate whose owner was deleted without it: it goes when the last task
/// that runs it has gone.
pub const ORPHANED: &str = "heliox.dev/orphaned";

/// Labels by which Heliox finds what it made for an owner. Once an object is made they stay as they are:
/// controllers decide by them.
pub const OF_OWNER: [&str; 5] = [WORKFLOW, RUN, RUN_NUMBER, REVISION, JOB];
