//! What happens to a task when its store is restored from a backup.
//!
//! After the backup was taken the lost store may have gone on: it may have bound the task, retried
//! it, or moved it to another node. Agents still hold the results, under attempt numbers that the
//! restored task does not know. One attempt number must never mean two executions, so:
//!
//! # Invariants
//!
//! * An attempt that an agent has reported on keeps its number: it belonged to that agent for good,
//!   and whatever still runs of it is this attempt.
//! * An open attempt that no agent has reported on gets a number that no earlier attempt has: under
//!   the old number it may run on any node by now.
//! * The next attempt of every task gets such a number, too.
//! * So whatever an agent holds under a number that the restored store does not have was started
//!   after the backup and has to be stopped.

use jiff::Timestamp;

use super::Task;

/// The minutes since the beginning of 2026 give attempts their numbers after a restore.
const FIRST_MINUTE: i64 = 1_767_225_600 / 60;
/// Numbers for each minute. On average, no task makes attempts faster than that. The numbers last
/// for eighty years.
const ATTEMPTS_A_MINUTE: u32 = 100;

/// The first number that no attempt can have that was made before `now`, even if one backup is
/// restored twice.
fn first_number(task: &Task, now: Timestamp) -> u32 {
    let minutes = now.as_second() / 60 - FIRST_MINUTE;
    let by_time = u32::try_from(minutes).unwrap_or(0).saturating_mul(ATTEMPTS_A_MINUTE);
    // If the clock is wrong, the numbers must still grow.
    let known = task.spec.attempt.max(task.spec.next_attempt.unwrap_or_default());
    let by_known = (known / ATTEMPTS_A_MINUTE + 1).saturating_mul(ATTEMPTS_A_MINUTE);
    by_time.max(by_known).saturating_add(1)
}

/// The task as a store has it that is restored at `now`.
#[must_use]
pub fn restored(task: &Task, now: Timestamp) -> Task {
    let mut next = task.clone();
    let first = first_number(task, now);
    let is_given_up = task.is_recorded() || task.stop().is_some();
    if !task.has_ended() && !is_given_up && task.report().is_none() {
        next.spec.attempt = first;
        next.spec.next_attempt = None;
    } else {
        next.spec.next_attempt = Some(first);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::report::Report;
    use crate::task::transition::{Applied, Retry, TaskChange, apply};
    use crate::task::{ReportState, StopReason, TaskPhase, TaskSpec};

    /// So many minutes into 2026.
    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + 60 * minute).unwrap()
    }

    fn restored(task: &Task) -> Task {
        super::restored(task, at(705))
    }

    fn task() -> Task {
        let spec = TaskSpec { run: 1, attempt: 2, ..TaskSpec::default() };
        Task::new("default", "t", spec)
    }

    fn changed(task: &Task, change: &TaskChange) -> Task {
        match apply(task, task.spec.attempt, change, Timestamp::UNIX_EPOCH).unwrap() {
            Applied::Changed(next) => *next,
            Applied::Already => panic!("{change:?} is in effect"),
        }
    }

    fn bound() -> Task {
        changed(&task(), &TaskChange::Bind { node: "n1".to_owned() })
    }

    fn reported(task: &Task, state: &str) -> Task {
        let report = serde_json::json!({
            "binding": task.spec.binding.as_ref().unwrap().number, "bootId": "b", "state": state,
        });
        let report: Report = serde_json::from_value(report).unwrap();
        changed(task, &TaskChange::Report(Box::new(report)))
    }

    fn retry(task: &Task) -> Task {
        changed(
            task,
            &TaskChange::Retry(Retry {
                counts: true,
                not_before: None,
                avoid: None,
                image_digest: None,
            }),
        )
    }

    #[test]
    fn what_an_agent_has_spoken_of_stays_and_its_next_attempt_is_new() {
        let running = reported(&bound(), "Running");
        let after = restored(&running);
        assert_eq!((after.phase(), after.spec.attempt), (TaskPhase::Running, 2));
        assert_eq!((after.node(), after.binding()), (Some("n1"), running.binding()));
        let failed = reported(&after, "Failed");
        assert_eq!(failed.report(), Some(ReportState::Failed));
        let again = retry(&failed);
        assert_eq!((again.spec.attempt, again.spec.next_attempt), (70_501, None));
        assert_eq!(retry(&reported(&bound_again(&again), "Failed")).spec.attempt, 70_502);
    }

    fn bound_again(task: &Task) -> Task {
        changed(task, &TaskChange::Bind { node: "n2".to_owned() })
    }

    #[test]
    fn what_may_have_gone_elsewhere_gets_a_new_number() {
        let lost = changed(&bound(), &TaskChange::Lose);
        for open in [task(), bound(), lost] {
            let after = restored(&open);
            assert_eq!((after.phase(), after.spec.attempt), (TaskPhase::Pending, 70_501));
            assert_eq!(bound_again(&after).binding().map(|it| it.attempt), Some(70_501));
        }
    }

    #[test]
    fn what_is_given_up_is_not_opened_anew() {
        let cancelled = changed(&task(), &TaskChange::evict(StopReason::Cancel));
        let stopping = changed(&bound(), &TaskChange::evict(StopReason::Drain));
        let recorded = changed(&reported(&bound(), "Succeeded"), &TaskChange::Record);
        for over in [cancelled, stopping, recorded] {
            let after = restored(&over);
            assert_eq!((after.phase(), after.spec.attempt), (over.phase(), 2));
            assert_eq!(after.spec.next_attempt, Some(70_501));
        }
    }

    #[test]
    fn each_restore_begins_numbers_anew() {
        let running = super::restored(&reported(&bound(), "Running"), at(705));
        let again = super::restored(&running, at(706));
        assert_eq!(again.spec.next_attempt, Some(70_601), "one backup, restored twice");
        let early = super::restored(&again, Timestamp::UNIX_EPOCH);
        assert_eq!(early.spec.next_attempt, Some(70_701), "the clock went wrong");
        let pending = super::restored(&super::restored(&task(), at(705)), at(705));
        assert_eq!(pending.spec.attempt, 70_601);
    }

    #[test]
    fn a_retry_that_is_asked_for_twice_over_a_gap_is_made_once() {
        let failed = restored(&reported(&bound(), "Failed"));
        let change = TaskChange::Retry(Retry {
            counts: true,
            not_before: None,
            avoid: None,
            image_digest: None,
        });
        let again = changed(&failed, &change);
        let asked = apply(&again, 2, &change, Timestamp::UNIX_EPOCH);
        assert_eq!(asked, Ok(Applied::Already));
    }
}
