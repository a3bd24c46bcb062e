//! Promise 2 (Replace): an older attempt changes nothing any more.

use api::task::{ReportState, TaskStatus};
use api::{Kind as _, Task};
use runtime::Any;

use super::raw;
use crate::history::Moment;

/// Checks every task that this revision changed.
pub(super) fn check(moment: &Moment<'_>) {
    for change in moment.changes {
        if let (Some(Any::Task(before)), Some(Any::Task(now))) = (&change.before, &change.now)
            && before.uid() == now.uid()
        {
            follows(before, now);
        }
    }
}

fn follows(before: &Task, now: &Task) {
    let name = now.name();
    let (was, is) = (before.spec.attempt, now.spec.attempt);
    assert!(was <= is, "promise 2: {name} went back from attempt {was} to {is}");
    let (was, is) = (before.status.attempt, now.status.attempt);
    assert!(was <= is, "promise 2: {name}: a report of attempt {is} after one of {was}");
    let numbers = (number(before), number(now));
    assert!(numbers.0 <= numbers.1, "promise 2: the bindings of {name} go {numbers:?}");
    let reports = (report(before), report(now));
    if reports.0 == reports.1 {
        return;
    }
    let current = (now.spec.attempt, numbers.1);
    assert_eq!(
        (now.status.attempt, now.status.binding),
        current,
        "promise 2: {name} took a report that is not of its attempt and binding",
    );
    if let Some(end) = raw::end(before) {
        panic!("promise 2: {name} had ended as {end:?}, and is {:?}", now.status);
    }
    let cancelled = raw::is_recorded(before);
    assert!(!cancelled, "promise 2: {name} was recorded, and is {:?}", now.status);
}

fn number(task: &Task) -> u32 {
    task.spec.binding.as_ref().map_or(0, |binding| binding.number)
}

/// What agents said of it.
fn report(task: &Task) -> (Option<ReportState>, TaskStatus) {
    // Loss is the node controller's, attempts are the owner's.
    let status =
        TaskStatus { loss: None, attempts: Vec::new(), phase: None, ..task.status.clone() };
    (status.state, status)
}
