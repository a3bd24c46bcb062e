//! What is different about a job with many tasks: it keeps few of their objects.

use api::completion::End;
use api::job::SMALL_JOB_TASKS_MAX;

use super::PlanInput;
use super::by_role::Member;
use super::outcome::Verdict;

/// Whether the job keeps only the newest of its ended tasks. The objects of a small job cost
/// little, and users expect to see all of them.
pub(super) fn is_large(input: &PlanInput<'_>) -> bool {
    input.wanted_tasks.total() > SMALL_JOB_TASKS_MAX
}

/// Whether the record has the success of a task that is not marked as recorded, and that need not be
/// marked either. A large job removes most of its tasks soon after they have succeeded, and each mark
/// would be a write more. So its tasks are marked only if they are still there when the run has ended.
/// Until then the record alone says how they ended, and it never takes a success back.
pub(super) fn stays_unmarked(input: &PlanInput<'_>, member: &Member<'_>) -> bool {
    let spec = &member.task.spec;
    let is_success = matches!(member.verdict, Verdict::Done { end: End::Succeeded, .. });
    let is_recorded =
        || spec.run == input.run.number && input.record.get(spec.index) == Some(End::Succeeded);
    let goes_on = input.run.opens || !input.view.job.status.phase.is_final();
    goes_on && is_large(input) && is_success && is_recorded()
}
