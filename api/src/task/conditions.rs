//! The conditions of a task. Like the phase they are computed from its parts and never stored: a
//! hundred thousand tasks are kept in memory, and each is written several times.

use jiff::Timestamp;

use super::{ReportState, Task, TaskState};
use crate::conditions::{CONDITIONS, Condition, Standing, UNSCHEDULABLE};
use crate::object::Kind as _;

impl Task {
    /// Ready, Reconciling and Stalled, as Flux and `kubectl wait` understand them. The same parts
    /// always give the same conditions, whoever reads them and when.
    pub fn conditions(&self) -> Vec<Condition> {
        let stages = self.stages();
        let waits = self.unschedulable().filter(|_| matches!(self.state(), TaskState::Pending));
        let reason = waits.map_or_else(|| self.phase().to_string(), |_| UNSCHEDULABLE.to_owned());
        let said = self.status.message.as_deref().filter(|_| self.report().is_some());
        let message = waits.or(said).unwrap_or_default();
        let condition = |(kind, wanted): (&str, Standing)| {
            let (holds, since) = last_change(&stages, wanted);
            Condition {
                kind: kind.to_owned(),
                status: if holds { "True" } else { "False" }.to_owned(),
                reason: reason.clone(),
                message: message.to_owned(),
                last_transition_time: since,
                observed_generation: self.generation(),
            }
        };
        CONDITIONS.map(condition).into()
    }

    /// The standings that the current attempt has gone through, each with when it began; never
    /// empty. A loss that is over is not among them, because the attempt went on during it.
    fn stages(&self) -> Vec<(Standing, Timestamp)> {
        let last_end = self.status.attempts.last().and_then(|past| past.finished_at);
        let opened = last_end.or(self.created()).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut stages = vec![(Standing::Reconciling, opened)];
        // The times come from the clocks of several machines. None may be before the one that it
        // follows.
        let mut and_then = |standing, at: Option<Timestamp>| {
            let before = stages.last().map_or(opened, |(_, at)| *at);
            stages.push((standing, at.unwrap_or(before).max(before)));
        };
        let report = self.report();
        // What was reported as not ready may have been ready before. Since when it is not is not
        // stored: then it counts as never having been.
        let is_not_ready = report == Some(ReportState::Running) && !self.status.ready;
        let ran = report.is_some_and(|state| state != ReportState::Starting) && !is_not_ready;
        if ran && self.status.started_at.is_some() {
            let since = self.status.ready_since.filter(|_| self.status.ready);
            and_then(Standing::Ready, since.or(self.status.started_at));
        }
        let stopped = self.stop().map(|stop| stop.at);
        let finished = self.status.finished_at.filter(|_| report.is_some());
        match self.state() {
            TaskState::Pending | TaskState::Bound { .. } | TaskState::Starting { .. } => (),
            TaskState::Running { .. } if is_not_ready => (),
            TaskState::Running { .. } => and_then(Standing::Ready, None),
            TaskState::Stopping { .. } => and_then(Standing::Reconciling, stopped),
            TaskState::Lost { since, .. } => and_then(Standing::Reconciling, Some(since)),
            TaskState::Succeeded => and_then(Standing::Ready, finished),
            TaskState::Failed { .. } | TaskState::TimedOut | TaskState::Cancelled { .. } => {
                if stopped.is_some() {
                    and_then(Standing::Reconciling, stopped);
                }
                and_then(Standing::Stalled, finished.or(stopped));
            }
        }
        stages
    }
}

/// Whether the last standing is `wanted`, and since when that has been the case or not.
fn last_change(stages: &[(Standing, Timestamp)], wanted: Standing) -> (bool, Timestamp) {
    let mut holds = false;
    let mut since = stages.first().map_or(Timestamp::UNIX_EPOCH, |(_, at)| *at);
    for (standing, at) in stages {
        if (*standing == wanted) != holds {
            (holds, since) = (*standing == wanted, *at);
        }
    }
    (holds, since)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::task::report::Report;
    use crate::task::transition::{Applied, TaskChange, apply};
    use crate::task::{StopReason, TaskSpec};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report(state: ReportState, (started, finished): (Option<i64>, Option<i64>)) -> TaskChange {
        TaskChange::Report(Box::new(Report {
            binding: 1,
            boot_id: "b".to_owned(),
            state,
            ready: state == ReportState::Running,
            restarts: 0,
            exit_code: None,
            reason: None,
            message: None,
            started_at: started.map(at),
            finished_at: finished.map(at),
            ports: [].into(),
            last_exit: None,
            restart_at: None,
            image_digest: None,
        }))
    }

    /// Changes and when each is made; the conditions after each.
    fn check(life: Vec<(i64, TaskChange)>, expected: Expect) {
        let spec = TaskSpec { template: "t".to_owned(), attempt: 1, run: 1, ..TaskSpec::default() };
        let mut task = Task::new("default", "t-0", spec);
        task.metadata.creation_timestamp = Some(crate::Time(at(0)));
        let mut told = String::new();
        let mut tell = |task: &Task| {
            let conditions = task.conditions();
            let shown = conditions.iter().map(|it| {
                format!("{} {} {}s", it.kind, it.status, it.last_transition_time.as_second())
            });
            let line = shown.collect::<Vec<_>>().join(", ");
            told.push_str(&format!("{}: {line}\n", conditions[0].reason));
        };
        tell(&task);
        for (second, change) in life {
            let attempt = task.spec.attempt;
            if let Applied::Changed(next) = apply(&task, attempt, &change, at(second)).unwrap() {
                task = *next;
            }
            tell(&task);
        }
        expected.assert_eq(&told);
    }

    fn bind() -> TaskChange {
        TaskChange::Bind { node: "n1".to_owned() }
    }

    #[test]
    fn a_condition_tells_since_when_it_is_so() {
        check(
            vec![
                (1, TaskChange::Unschedulable { message: "0 of 1 nodes".to_owned() }),
                (2, bind()),
                (3, report(ReportState::Starting, (None, None))),
                (5, report(ReportState::Running, (Some(4), None))),
                (9, report(ReportState::Succeeded, (Some(4), Some(8)))),
            ],
            expect![[r#"
                Pending: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Unschedulable: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Bound: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Starting: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Running: Ready True 5s, Reconciling False 5s, Stalled False 0s
                Succeeded: Ready True 4s, Reconciling False 4s, Stalled False 0s
            "#]],
        );
        check(
            vec![
                (2, bind()),
                (5, report(ReportState::Running, (Some(4), None))),
                (6, TaskChange::evict(StopReason::Delete)),
                (9, report(ReportState::Cancelled, (Some(4), Some(8)))),
            ],
            expect![[r#"
                Pending: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Bound: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Running: Ready True 5s, Reconciling False 5s, Stalled False 0s
                Stopping: Ready False 6s, Reconciling True 6s, Stalled False 0s
                Cancelled: Ready False 6s, Reconciling False 8s, Stalled True 8s
            "#]],
        );
        check(
            vec![(2, bind()), (5, report(ReportState::Failed, (None, Some(4))))],
            expect![[r#"
                Pending: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Bound: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Failed: Ready False 0s, Reconciling False 4s, Stalled True 4s
            "#]],
        );
        check(
            vec![
                (2, bind()),
                (5, report(ReportState::Running, (Some(4), None))),
                (12, TaskChange::Lose),
                (13, TaskChange::Recover),
            ],
            expect![[r#"
                Pending: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Bound: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Running: Ready True 5s, Reconciling False 5s, Stalled False 0s
                Lost: Ready False 6s, Reconciling True 6s, Stalled False 0s
                Running: Ready True 5s, Reconciling False 5s, Stalled False 0s
            "#]],
        );
    }

    #[test]
    fn a_task_that_runs_and_is_not_ready_is_reconciled() {
        let mut unready = report(ReportState::Running, (Some(4), None));
        if let TaskChange::Report(report) = &mut unready {
            report.ready = false;
        }
        check(
            vec![
                (2, bind()),
                (5, unready.clone()),
                (7, report(ReportState::Running, (Some(4), None))),
                (9, unready),
                (11, report(ReportState::Running, (Some(4), None))),
            ],
            expect![[r#"
                Pending: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Bound: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Running: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Running: Ready True 7s, Reconciling False 7s, Stalled False 0s
                Running: Ready False 0s, Reconciling True 0s, Stalled False 0s
                Running: Ready True 11s, Reconciling False 11s, Stalled False 0s
            "#]],
        );
    }
}
